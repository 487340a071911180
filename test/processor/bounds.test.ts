/** What each step that remembers does when its bound is reached, and what it leaves of what it was. */
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ChainRun, type Written } from "../support/chain-run.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const start = Date.UTC(2026, 0, 1);

const bounded: readonly Written[] = [
  { deadband: { field: "n", delta: 0, keys: 100 } },
  { throttle: { every: "1h", keys: 100 } },
  { sample: { oneOf: 2, keys: 100 } },
  { dedupe: { by: "n", within: "1d", keys: 100 } },
  { alert: { field: "n", above: -1, keys: 100 } },
  { join: { stream: "in", as: "x", keys: 100 } },
];

test("every step that remembers forgets the key that rested longest past its bound, and counts it", () => {
  for (const step of bounded) {
    const run = new ChainRun([step]);
    for (let n = 0; n < 250; n++) run.put({ key: `k${n}`, time: start + n, payload: { n } });
    assert.deepEqual(
      run.chain.figures().map(({ rows }) => rows),
      [100],
    );
    run.commit();
    const name = Object.keys(step)[0] ?? "";
    assert.equal(run.counts.get(`${name} evicted`), 150);
    assert.equal(run.state.get(`proc/${name}`)?.size, 100);
    // A bound that was lowered holds from the next start on.
    const settings = { ...(step[name] as object), keys: 10 };
    run.restart([{ [name]: settings }]);
    assert.equal(run.chain.figures()[0]?.rows, 10);
    run.commit();
    assert.equal(run.state.get(`proc/${name}`)?.size, 10);
  }
});

test("dedupe forgets what has had its time without being asked", () => {
  const run = new ChainRun([{ dedupe: { by: "n", within: "1s" } }]);
  for (let n = 0; n < 1000; n++) {
    run.put({ time: start + n * 100, receivedAt: start + n * 100, payload: { n } });
  }
  assert.ok((run.chain.figures()[0]?.rows ?? 0) <= 10);
  run.commit();
  assert.equal(run.counts.get("dedupe evicted"), undefined);
});

test("dedupe remembers live events beside a backlog that is uploaded, and whatever a wrong clock says", () => {
  const run = new ChainRun([{ dedupe: { by: "n", within: "1h" } }]);
  const put = (n: number, time: number, at: number): number =>
    run.put({ time: start + time, receivedAt: start + at, payload: { n } }).length;
  for (let n = 0; n < 100; n++) assert.equal(put(n, n, n), 1);
  // From a day before and from ten years ahead, received a minute later.
  for (let n = 0; n < 100; n++) assert.equal(put(1000 + n, n - 86_400_000, 60_000 + n), 1);
  for (let n = 0; n < 100; n++) assert.equal(put(2000 + n, n + 3e11, 60_000 + n), 1);
  for (let n = 0; n < 100; n++) assert.equal(put(n, n, 120_000 + n), 0, `${n}`);
});

test("alert does not count the time before a late event as held", () => {
  const run = new ChainRun([{ alert: { field: "v", above: 80, hold: "30s" } }]);
  const put = (seconds: number): unknown[] =>
    run.payloads({ time: start + seconds * 1000, payload: { v: 90 } });
  assert.deepEqual([...put(100), ...put(10), ...put(15), ...put(101), ...put(129)], []);
  const [told] = put(130) as Record<string, unknown>[];
  assert.deepEqual([told?.["state"], told?.["since"]], ["firing", start + 100_000]);
});

test("alert holds in the time that a clock was set back to", () => {
  const run = new ChainRun([{ alert: { field: "v", above: 80, hold: "30s" } }]);
  const put = (seconds: number): unknown[] =>
    run.payloads({ time: start + seconds * 1000, payload: { v: 90 } });
  assert.deepEqual([...put(100), ...put(10), ...put(39)], []);
  const [told] = put(40) as Record<string, unknown>[];
  assert.deepEqual([told?.["state"], told?.["since"]], ["firing", start + 10_000]);
});

test("window closes the one that rested longest past its bound, tells so, and loses no event", () => {
  const run = new ChainRun([{ window: { tumbling: "1h", windows: 120 } }]);
  const found: Record<string, unknown>[] = [];
  for (let n = 0; n < 600; n++) {
    for (const { payload } of run.put({ key: `k${n % 200}`, time: start + n, payload: {} }))
      found.push(payload as Record<string, unknown>);
  }
  assert.ok(found.every(({ evicted }) => evicted === true));
  assert.equal(run.chain.figures()[0]?.rows, 121);
  run.commit();
  assert.equal(run.counts.get("window evicted"), found.length);
  found.push(...run.silence().map(({ payload }) => payload as Record<string, unknown>));
  const total = found.reduce((sum, { count }) => sum + (count as number), 0);
  assert.equal(total, 600);
});

test("window loses no event where its watermark has rested longer than its windows", () => {
  // By count the watermark is never written again, and events of one moment do not move it.
  for (const shape of [{ count: 1000 }, { tumbling: "1h" }, { session: "1h" }]) {
    const run = new ChainRun([{ window: { ...shape, windows: 120 } }]);
    const counts = Array.from(
      { length: 300 },
      (_, n) => run.payloads({ key: `k${n}`, time: start, payload: {} }).length,
    );
    assert.deepEqual(counts, [...Array(120).fill(0), ...Array(180).fill(1)]);
    run.commit();
    assert.equal(run.counts.get("window evicted"), 180);
    assert.equal(run.chain.figures()[0]?.rows, 121);
  }
});

test("window closes at most 1,000 with one event, and the rest behind it", () => {
  const run = new ChainRun([{ window: { tumbling: "1s" } }]);
  for (let n = 0; n < 2_500; n++) run.put({ key: `k${n}`, time: start, payload: {} });
  assert.equal(run.put({ key: "x", time: start + 5_000 }).length, 1000);
  assert.equal(run.chain.idleAfterMs("in"), 0);
  assert.equal(run.silence().length, 1000);
  assert.equal(run.put({ key: "x", time: start + 5_001 }).length, 500);
});

test("window refuses an event whose time lies past its receipt: it would close what is not over", () => {
  const run = new ChainRun([{ window: { tumbling: "1m", ahead: "1h" } }]);
  run.put({ time: start, receivedAt: start, payload: {} });
  const far = start + 3_600_001;
  assert.throws(() => run.put({ time: far, receivedAt: start, payload: {} }), {
    code: "HANDLER_FAILED",
    message: /3600001 ms ahead of its receipt/,
  });
  assert.equal(run.put({ time: start + 1, payload: {} }).length, 0);
  // While the clock was not set its receipt says nothing.
  const clock = "unsynced" as const;
  const [closed] = run.put({ time: far, receivedAt: 0, clock, payload: {} });
  assert.deepEqual(closed?.payload, { start, end: start + 60_000, key: null, count: 2 });
});

test("window marks what came while the clock was not set", () => {
  const run = new ChainRun([{ window: { tumbling: "1s" } }]);
  run.put({ time: start, clock: "provisional", payload: {} });
  run.put({ time: start + 1, payload: {} });
  const payloads = [
    ...run.payloads({ time: start + 1500 }),
    ...run.payloads({ time: start + 2500 }),
  ];
  assert.deepEqual(
    payloads.map((each) => (each as { provisional?: true }).provisional),
    [true, undefined],
  );
});

const tenYearsMs = 3e11;
/** How an event came to lie ten years ahead, and what those that come when the clock is right have for a time. */
const ahead = {
  "a clock that was set there and back": {
    clock: "synced",
    receivedAt: start + tenYearsMs,
    age: 0,
  },
  "its sender, before the clock was set": { clock: "unsynced", receivedAt: 0, age: 5 },
  "its sender, and was closed by a silence": { clock: "unsynced", receivedAt: 0, age: 5 },
} as const;
for (const [how, { clock, receivedAt, age }] of Object.entries(ahead)) {
  const isSilent = how.endsWith("silence");
  test(`window's time begins anew after an event that lay far ahead by ${how}`, () => {
    const run = new ChainRun([{ window: { tumbling: "1m" } }]);
    const put = (at: number): unknown[] => {
      run.clock.wall = start + at;
      return run.payloads({ time: start + at - age, receivedAt: start + at });
    };
    assert.equal(run.put({ time: start + tenYearsMs, receivedAt, clock }).length, 0);
    if (isSilent) assert.equal(run.silence().length, 1);
    run.commit();
    run.restart();
    const told = put(10) as Record<string, unknown>[];
    const early = told.map((payload) => [payload["evicted"], payload["count"]]);
    assert.deepEqual(early, isSilent ? [] : [[true, 1]]);
    assert.match(run.context.lines.at(-1)?.message ?? "", /lay in the future: it begins anew/);
    assert.deepEqual(put(20), []);
    const closed = [{ start, end: start + 60_000, key: null, count: 2 }];
    assert.deepEqual(put(60_010), closed);
    // What lay there is gone: the silence does not go there again.
    assert.equal(run.silence().length, 1);
    assert.deepEqual(put(120_010), []);
    assert.deepEqual(run.late, []);
    run.commit();
    assert.equal(run.counts.get("window evicted") ?? 0, isSilent ? 0 : 1);
  });
}

test("window's time stands when the clock steps back and its events have a time of their own", () => {
  const run = new ChainRun([{ window: { tumbling: "1m" } }]);
  run.put({ time: start, receivedAt: start + 1 });
  run.put({ time: start + 60_000, receivedAt: start + 60_001 });
  run.clock.wall = start - 2 * 86_400_000;
  run.put({ time: run.clock.wall - 5, receivedAt: run.clock.wall });
  assert.deepEqual(
    run.late.map(({ time }) => time),
    [run.clock.wall - 5],
  );
});

test("window drops what is open when its options are others, tells so, and begins anew", () => {
  const run = new ChainRun([{ window: { tumbling: "1s" } }]);
  run.put({ time: start, payload: {} });
  run.commit();
  run.restart([{ window: { tumbling: "2s" } }]);
  assert.match(run.context.lines.at(-1)?.message ?? "", /what was open is dropped/);
  run.commit();
  assert.equal(run.counts.get("window evicted"), 1);
  assert.equal(run.state.get("proc/window")?.size, 0);
  assert.equal(run.put({ time: start, payload: {} }).length, 0);
});

test("a window that reads two streams waits for the slower one until that has gone silent", () => {
  const run = new ChainRun([{ window: { tumbling: "1s" } }]);
  const put = (stream: string, at: number): number =>
    run.put({ stream, time: start + at, payload: {} }).length;
  assert.equal(put("fast", 0) + put("slow", 0), 0);
  assert.equal(put("fast", 5_000), 0);
  assert.equal(run.chain.idleAfterMs("slow"), 1000);
  assert.equal(run.silence("slow").length, 1);
  assert.equal(run.chain.idleAfterMs("slow"), null);
  assert.equal(put("fast", 6_000), 1);
});

test("a window does not wait for a stream that is read no more", () => {
  const window: Written = { window: { tumbling: "1s" } };
  const run = new ChainRun([window], ".", ["in", "old"]);
  run.put({ stream: "old", time: start, payload: {} });
  run.put({ stream: "in", time: start + 5_000, payload: {} });
  run.commit();
  run.restart([window], ["in"]);
  assert.equal(run.put({ stream: "in", time: start + 6_500, payload: {} }).length, 2);
  assert.equal(run.silence("in").length, 1);
  // Nor does it for one that another configuration reads again, until it speaks.
  run.commit();
  run.restart([window], ["in", "old"]);
  run.put({ stream: "in", time: start + 20_000, payload: {} });
  assert.equal(run.put({ stream: "in", time: start + 30_000, payload: {} }).length, 1);
});

test("enrich reads its table anew when the file changes, and keeps it while the file is wrong", async (t) => {
  const folder = tempDir(t);
  const write = (text: string): void => {
    writeFileSync(join(folder, "new"), text);
    renameSync(join(folder, "new"), join(folder, "t.csv"));
  };
  const run = new ChainRun([{ enrich: { table: "t.csv" } }], folder);
  await assert.rejects(run.chain.open(), { code: "CONFIG_INVALID", message: /no such file/ });
  write("key,place\na,hall\n");
  await run.chain.open();
  const place = (): unknown => {
    run.clock.advance(5_000);
    return (run.payloads({ key: "a" })[0] as { place?: string }).place;
  };
  assert.equal(place(), "hall");
  write("key,place\na,attic\n");
  await until("the new table", () => place() === "attic");
  for (const wrong of [
    "key,place\na\n",
    'key,place\na,"b\n',
    "key,place\na,b\na,c\n",
    "place\nb\n",
  ]) {
    const lines = run.context.lines.length;
    write(wrong);
    await until("a word about the wrong table", () => {
      assert.equal(place(), "attic");
      return run.context.lines.length > lines;
    });
    assert.match(run.context.lines.at(-1)?.message ?? "", /what it said before stands/);
  }
});

const text = (length: number, of = "x"): string => of.repeat(length);

/** What of a payload of at most 1 MiB would be more than memory can hold: the step, the event, why it is refused. */
const oversized: readonly (readonly [Written, Parameters<ChainRun["put"]>[0], RegExp])[] = [
  [
    { split: { field: "of" } },
    { payload: { of: Array.from({ length: 10_001 }, () => 0) } },
    /^Step split makes 10000 events of one at most: the array has 10001$/,
  ],
  [
    { split: { field: "of" } },
    {
      payload: {
        of: Array.from({ length: 10_000 }, () => 0),
        ...Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`f${n}`, n])),
      },
    },
    /^Step split makes 1000000 fields of one event at most: 10000 items have 101 beside them$/,
  ],
  [
    { flatten: {} },
    {
      payload: {
        [text(10_000)]: Object.fromEntries(Array.from({ length: 200 }, (_, n) => [n, n])),
      },
    },
    /^Step flatten makes names of 1048576 characters in all at most$/,
  ],
  [
    { window: { tumbling: "1h", aggregate: { newest: "last(t)" } } },
    { payload: { t: text(1_025) } },
    /^Step window keeps 1024 characters at most: t has 1025$/,
  ],
  ...[
    { deadband: { field: "n", delta: 0, by: "k" } },
    { throttle: { every: "1h", by: "k" } },
    { sample: { oneOf: 2, by: "k" } },
    { dedupe: { by: "k", within: "1d" } },
    { alert: { field: "n", above: -1, by: "k" } },
    { join: { stream: "in", as: "x", on: "k" } },
    { window: { tumbling: "1h", by: "k" } },
  ].map((step) => {
    const why = /^What a step goes by has 512 characters at most: k has 513$/;
    return [step, { payload: { n: 1, k: text(513) } }, why] as const;
  }),
  [
    { throttle: { every: "1h" } },
    { key: text(513), payload: {} },
    /^What a step goes by has 512 characters at most: key has 513$/,
  ],
];

test("an event of which a step would make, or keep, more than memory can hold fails by itself", () => {
  for (const [step, given, why] of oversized) {
    const run = new ChainRun([step]);
    assert.throws(() => run.chain.process(run.event({ time: start, ...given })), {
      code: "HANDLER_FAILED",
      message: why,
    });
    run.chain.undo();
    assert.deepEqual(
      run.chain.figures().flatMap(({ rows }) => rows),
      run.chain.figures().length === 0 ? [] : [0],
      "nothing is kept of it",
    );
  }
});

test("what is just within those bounds passes", () => {
  const items = Array.from({ length: 10_000 }, (_, n) => n);
  const beside = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`f${n}`, n]));
  assert.equal(
    new ChainRun([{ split: { field: "of" } }]).put({ payload: { of: items, ...beside } }).length,
    10_000,
  );
  const nested = { [text(1_000)]: Object.fromEntries(items.slice(0, 1_000).map((n) => [n, n])) };
  const [flat] = new ChainRun([{ flatten: {} }]).put({ payload: nested });
  assert.equal(Object.keys(flat?.payload as object).length, 1_000);
  assert.equal(
    new ChainRun([{ throttle: { every: "1h", by: "k" } }]).put({ payload: { k: text(512) } })
      .length,
    1,
  );
});
