/** What a handler keeps: values with an end, keys by their beginning, and the bound of all together. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Handler } from "../../src/processor/processor.ts";
import { ProcessingLine, type LineOptions } from "../support/processing-line.ts";

const policy = { attempts: 1, baseMs: 100, maxMs: 100, onFailure: "dead-letter" } as const;
const lineOf = (handler: Handler, options: LineOptions = {}): ProcessingLine =>
  new ProcessingLine({ handler, policy, ...options }).start();
const stateKeys = (line: ProcessingLine): string[] =>
  [...line.disk.state.keys()].map((name) => name.split("\0")[1] ?? "");

test("state.put() with a time to live is gone after it, also in another process, and leaves the disk", async () => {
  const handler: Handler = async (event, context) => {
    const { n } = event.payload as { n: number };
    const seen = (await context.state.get("seen")) ?? null;
    if (n === 1) context.state.put("seen", { n }, { ttlMs: 60_000 });
    return { n, seen, within: (await context.state.get("seen")) ?? null };
  };
  const line = lineOf(handler);
  line.put({ n: 1 });
  await line.drained();
  line.restart(false);
  line.put({ n: 2 });
  await line.drained();
  line.clock.advance(60_000);
  line.put({ n: 3 });
  await line.drained();
  assert.deepEqual(line.values(), [
    { n: 1, seen: null, within: { n: 1 } },
    { n: 2, seen: { n: 1 }, within: { n: 1 } },
    { n: 3, seen: null, within: null },
  ]);
  // What has had its time is looked for every five minutes, and goes with a batch.
  line.clock.advance(300_000);
  line.put({ n: 4 });
  await line.drained();
  assert.deepEqual(stateKeys(line), []);
  await line.stop();
});

test("a value that is written anew is not taken for one that has had its time", async () => {
  const line = lineOf((event, context) => {
    const { n } = event.payload as { n: number };
    if (n === 1) context.state.put("a", n, { ttlMs: 1000 });
    if (n === 2) context.state.put("a", n);
  });
  line.put({ n: 1 });
  await line.drained();
  line.clock.advance(400_000);
  line.put({ n: 2 });
  await line.drained();
  line.clock.advance(400_000);
  line.put({ n: 3 });
  await line.drained();
  assert.deepEqual(JSON.parse(Buffer.from(line.disk.state.get("proc\0a") ?? []).toString()), 2);
  await line.stop();
});

test("state.scan() gives keys by their beginning, with what the batch and the event have written", async () => {
  const line = lineOf(async (event, context) => {
    const { n } = event.payload as { n: number };
    if (n === 1) {
      for (const key of ["a", "b/1", "b/2", "c"]) context.state.put(key, key);
      return undefined;
    }
    if (n === 3) context.state.delete("b/1");
    if (n === 3) context.state.put("b/3", n);
    return { found: (await context.state.scan("b/")).map(({ key, value }) => [key, value]) };
  });
  line.put({ n: 1 });
  await line.drained();
  for (const n of [2, 3, 4]) line.put({ n });
  await line.drained();
  const before = [
    ["b/1", "b/1"],
    ["b/2", "b/2"],
  ];
  const after = [
    ["b/2", "b/2"],
    ["b/3", 3],
  ];
  assert.deepEqual(
    line.values().map(({ found }) => found),
    [before, after, after],
  );
  await line.stop();
});

test("a handler's state has a bound: new keys fail their event, known ones are written, and room comes back", async () => {
  const line = lineOf(
    async (event, context) => {
      const { key, gone } = event.payload as { key: string; gone?: string };
      if (gone !== undefined) context.state.delete(gone);
      else
        context.state.put(key, (((await context.state.get(key)) as number | undefined) ?? 0) + 1);
    },
    { stateBound: { maxKeys: 10, maxBytes: 1 << 20 }, batch: { max: 1, waitMs: 10 } },
  );
  for (let n = 0; n < 15; n++) line.put({ key: `k${n}` });
  await line.drained();
  assert.equal(line.disk.letters.length, 5);
  assert.match(line.disk.letters[0]?.reason ?? "", /The state holds 10 keys: at most 10/);
  line.put({ key: "k3" });
  line.put({ gone: "k4" });
  line.put({ key: "new" });
  await line.drained();
  assert.equal(line.disk.letters.length, 5);
  assert.equal(stateKeys(line).length, 10);
  assert.equal(line.context.sums.get('holdfast_state_keys{processor="proc"}'), 10);
  await line.stop();
});
