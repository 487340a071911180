/** What gives way when there is no room, class by class (invariant 5). */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Gap } from "../../src/journal/gaps.ts";
import type { Journal } from "../../src/journal/journal.ts";
import type { JournalSetup } from "../../src/journal/thread.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { append, event, openJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const noise = (bytes: number): Uint8Array => crypto.getRandomValues(new Uint8Array(bytes));
const small = 1 << 20;
const begin = Date.UTC(2026, 0, 1);
const classes = (
  streams: Record<string, JournalSetup["streams"] extends ReadonlyMap<string, infer C> ? C : never>,
): JournalSetup["streams"] => new Map(Object.entries(streams));

async function seqsOf(journal: Journal, stream: string, after = 0): Promise<number[]> {
  const seqs: number[] = [];
  for (let at = after; ;) {
    const { events } = await journal.read(stream, at, 1000, 1 << 20);
    if (events.length === 0) return seqs;
    for (const { seq } of events) seqs.push(seq);
    at = seqs.at(-1) ?? at;
  }
}

async function gapsOf(journal: Journal): Promise<Gap[]> {
  const gaps: Gap[] = [];
  for (let at = 0; ;) {
    const { events } = await journal.read("_gaps", at, 1000, 1 << 20);
    if (events.length === 0) return gaps;
    for (const { payload } of events) gaps.push(JSON.parse(Buffer.from(payload).toString()) as Gap);
    at = events.at(-1)?.seq ?? at;
  }
}

/** One event a second of each of two devices. */
async function fill(
  journal: Journal,
  stream: string,
  count: number,
  from = 0,
  bytes = 300,
): Promise<void> {
  const waiting: Promise<void>[] = [];
  for (let index = from; index < from + count; index++) {
    const receivedAt = begin + index * 1000;
    const one = (key: string) => event(noise(bytes), { key, time: receivedAt, receivedAt });
    waiting.push(append(journal, stream, one("a")), append(journal, stream, one("b")));
    if (waiting.length >= 40) await Promise.all(waiting.splice(0));
  }
  await Promise.all(waiting);
}

test("thin keeps the first event of each key in each interval, tells the rest, and never touches a higher priority", async (t) => {
  const { journal, context } = await openJournal(t, {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "sink", streams: ["telemetry", "alarms", "_gaps"] }],
    streams: classes({
      telemetry: { priority: 2, whenFull: "thin", thinMs: 60_000 },
      alarms: { priority: 9 },
    }),
  });
  for (let round = 0; round < 40; round++) {
    await fill(journal, "telemetry", 100, round * 100);
    await append(journal, "alarms", event(`alarm ${round}`));
  }
  assert.equal((await seqsOf(journal, "alarms")).length, 40, "no alarm gave way");
  const kept = await seqsOf(journal, "telemetry");
  assert.ok(kept.length < 5000 && kept.length > 1000, String(kept.length));
  const dropped = context.sums.get(
    'holdfast_journal_dropped_total{stream="telemetry",reason="thinned"}',
  );
  assert.equal(dropped, 8000 - kept.length, "each is counted once");
  const { first = 0, thinned, head } = journal.status().streams.get("telemetry") ?? {};
  assert.equal(first, 1);
  assert.equal(head, 8000);
  const thin = kept.filter((seq) => seq <= (thinned?.to ?? 0));
  assert.equal(thinned?.missing, (thinned?.to ?? 0) - thin.length);
  // Event n is of second (n - 1) / 2: of each minute the first two stay, one of each device.
  const expected = thin.filter((seq) => (seq - 1) % 120 < 2);
  assert.equal(thin.length, expected.length, "one of each device and minute, no more");
  assert.equal(expected.length, 2 * Math.ceil((thinned?.to ?? 0) / 120), "and no less");
  assert.ok(journal.status().usedBytes <= small);
});

test("one for each interval stays one where passes and chunks end amid it", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "sink", streams: ["telemetry"] }],
    streams: classes({ telemetry: { whenFull: "thin", thinMs: 300_000 } }),
  });
  // Two of 3 KB are kept of each five minutes: a chunk of what is kept is full after six intervals.
  await fill(journal, "telemetry", 6000, 0, 3000);
  const { first, thinned } = journal.status().streams.get("telemetry") ?? {};
  assert.equal(first, 1);
  const kept = (await seqsOf(journal, "telemetry")).filter((seq) => seq <= (thinned?.to ?? 0));
  const intervals = Math.ceil((thinned?.to ?? 0) / 600);
  assert.ok(intervals > 12, String(intervals));
  assert.deepEqual(
    kept,
    Array.from({ length: intervals }, (_, index) => [index * 600 + 1, index * 600 + 2]).flat(),
  );
});

test("what was thinned reads the same after a reopening, from any seq", async (t) => {
  const options = {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "sink", streams: ["telemetry"] }],
    streams: classes({ telemetry: { whenFull: "thin", thinMs: 60_000 } }),
  } as const;
  const one = await openJournal(t, options);
  await fill(one.journal, "telemetry", 3000);
  const before = await seqsOf(one.journal, "telemetry");
  const status = one.journal.status().streams.get("telemetry");
  assert.ok((status?.thinned?.missing ?? 0) > 1000);
  await one.journal.close();
  const { journal } = await openJournal(t, { ...options, folder: one.folder });
  assert.deepEqual(journal.status().streams.get("telemetry"), status);
  assert.deepEqual(await seqsOf(journal, "telemetry"), before);
  for (const after of [1, 2, 3, 119, 120, 121, 1000, before.at(-1) ?? 0]) {
    const { events } = await journal.read("telemetry", after, 3, 1 << 20);
    assert.deepEqual(
      events.map(({ seq }) => seq),
      before.filter((seq) => seq > after).slice(0, events.length),
    );
    const [one] = events;
    if (one === undefined) assert.equal(after, before.at(-1));
    else assert.equal(one.receivedAt, begin + Math.floor((one.seq - 1) / 2) * 1000);
  }
});

test("what was thinned is dropped at last, oldest first, before a higher priority gives anything", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "sink", streams: ["telemetry", "alarms", "_gaps"] }],
    streams: classes({
      telemetry: { priority: 2, whenFull: "thin", thinMs: 1000 },
      alarms: { priority: 9 },
    }),
  });
  await append(journal, "alarms", event("first"));
  // One a second of each device, and one a second is kept: thinning frees nothing.
  await fill(journal, "telemetry", 3000);
  const { first = 0, head } = journal.status().streams.get("telemetry") ?? {};
  assert.ok(first > 2000, String(first));
  assert.equal(head, 6000);
  assert.deepEqual(await seqsOf(journal, "alarms"), [1]);
  assert.deepEqual((await seqsOf(journal, "telemetry"))[0], first);
});

test("among equal priorities the oldest goes, and none above the one that needs the room", async (t) => {
  const { journal, context } = await openJournal(t, {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "sink", streams: ["low", "high"] }],
    streams: classes({ low: { priority: 1 }, high: { priority: 8 } }),
  });
  for (let index = 0; index < 1500; index++) await append(journal, "high", event(noise(700)));
  const { first = 0 } = journal.status().streams.get("high") ?? {};
  assert.ok(first > 100, "with nothing below, its own oldest goes");
  let isSettled = false;
  journal.append("low", event(noise(20_000)), () => (isSettled = true));
  await until("the low one to be held", () => journal.status().full);
  assert.equal(journal.status().streams.get("high")?.first, first, "high gave nothing for low");
  assert.equal(context.now().status, "degraded");
  assert.ok(!journal.hasRoom("low"));
  assert.ok(journal.hasRoom("high"));
  await append(journal, "high", event("goes on"));
  const { head = 0 } = journal.status().streams.get("high") ?? {};
  assert.equal(isSettled, false);
  const cursors = [{ stream: "high", from: 0, to: head }];
  assert.equal(await journal.commit({ group: "sink", cursors }, "soon"), "committed");
  await until("the low one to be taken", () => isSettled);
  assert.ok(journal.hasRoom("low"));
});

test("a stream that rejects at its own maxBytes holds back nobody else, and loses nothing", async (t) => {
  const { journal, context } = await openJournal(t, {
    maxBytes: 8 * small,
    linger: 0,
    groups: [{ group: "sink", streams: ["telemetry", "alarms"] }],
    streams: classes({
      telemetry: { whenFull: "reject", maxBytes: 200_000 },
      alarms: { priority: 9 },
    }),
  });
  let settled = 0;
  let sent = 0;
  const offer = (): void => {
    for (let burst = 0; burst < 20 && sent < 1000 && journal.hasRoom("telemetry"); burst++) {
      sent++;
      journal.append("telemetry", event(noise(1000)), () => settled++);
    }
  };
  const timer = setInterval(offer, 1);
  t.after(() => clearInterval(timer));
  await until("telemetry to be held back", () => journal.status().full);
  clearInterval(timer);
  assert.ok(!journal.hasRoom("telemetry"));
  assert.ok(settled < sent, `${settled} of ${sent}`);
  const stood = settled;
  for (let index = 0; index < 50; index++) await append(journal, "alarms", event(`alarm ${index}`));
  assert.equal(settled, stood, "telemetry waits meanwhile");
  assert.ok((journal.status().streams.get("telemetry")?.bytes ?? 0) <= 200_000);
  assert.match(context.now().detail ?? "", /telemetry/);
  const again = setInterval(offer, 1);
  t.after(() => clearInterval(again));
  const seen: number[] = [];
  await until("telemetry to be drained", async () => {
    const { events } = await journal.read("telemetry", seen.at(-1) ?? 0, 500, 1 << 20);
    if (events.length === 0) return seen.length === 1000;
    const cursors = [{ stream: "telemetry", from: seen.at(-1) ?? 0, to: events.at(-1)?.seq ?? 0 }];
    seen.push(...events.map(({ seq }) => seq));
    await journal.commit({ group: "sink", cursors }, "soon");
    return false;
  });
  assert.deepEqual(
    seen,
    Array.from({ length: 1000 }, (_, index) => index + 1),
  );
  await until("all to be told", () => settled === 1000);
  assert.equal(
    context.sums.get('holdfast_journal_dropped_total{stream="telemetry",reason="stream-bytes"}'),
    undefined,
  );
});

test("a stream's time to live drops what nobody has passed, tells it as expired, and counts only synced time", async (t) => {
  const clock = new FakeClock();
  clock.clockQuality = "unsynced";
  const { journal, context } = await openJournal(t, {
    clock,
    maxAge: 86_400_000,
    groups: [{ group: "sink", streams: ["s", "other", "_gaps"] }],
    streams: classes({ s: { maxAgeMs: 60_000 } }),
  });
  const add = async (stream: string): Promise<void> => {
    const done = append(journal, stream, event("x", { receivedAt: clock.wall }));
    journal.commitSoon();
    await done;
  };
  await add("s");
  await add("other");
  clock.advance(120_000);
  await add("s");
  assert.deepEqual(await seqsOf(journal, "s"), [1, 2], "an unsynced clock ages nothing");
  clock.clockQuality = "synced";
  await until("the first to expire", () => {
    clock.advance(6_000);
    return journal.status().streams.get("s")?.first === 2;
  });
  assert.deepEqual(await seqsOf(journal, "s"), [2]);
  assert.deepEqual(await seqsOf(journal, "other"), [1], "the journal's maxAge drops nothing");
  assert.equal(context.sums.get('holdfast_journal_dropped_total{stream="s",reason="expired"}'), 1);
  await until("the gap to be told", async () => {
    clock.advance(6_000);
    return (await gapsOf(journal)).length > 0;
  });
  assert.deepEqual((await gapsOf(journal))[0], {
    stream: "s",
    from: 1,
    to: 1,
    kept: 0,
    reason: "expired",
  });
});

test("thinned events keep their key, headers and times, also those that a sync of the clock puts right", async (t) => {
  const clock = new FakeClock();
  clock.clockQuality = "unsynced";
  clock.wall = 0;
  const { journal } = await openJournal(t, {
    clock,
    maxBytes: small,
    groups: [{ group: "sink", streams: ["s"] }],
    streams: classes({ s: { whenFull: "thin", thinMs: 10_000, maxBytes: 65_536 } }),
  });
  const headers = { topic: "a/b" };
  for (let index = 0; index < 200; index++) {
    const receivedAt = clock.wall;
    const time = index % 2 === 0 ? receivedAt : begin + index;
    const done = append(journal, "s", event(noise(1000), { key: "k", headers, receivedAt, time }));
    journal.commitSoon();
    await done;
    clock.advance(1000);
  }
  const { thinned } = journal.status().streams.get("s") ?? {};
  assert.ok((thinned?.missing ?? 0) > 100);
  const offset = begin - clock.wall;
  clock.wall = begin;
  clock.clockQuality = "synced";
  const done = append(journal, "s", event("synced"));
  journal.commitSoon();
  await done;
  const { events } = await journal.read("s", 0, 1000, 1 << 20);
  for (const one of events.slice(0, -1)) {
    const received = offset + (one.seq - 1) * 1000;
    assert.ok(Math.abs(one.receivedAt - received) <= 20, `${one.receivedAt} is not ${received}`);
    if (one.seq % 2 === 0) assert.equal(one.time, begin + one.seq - 1, "the sender's own stays");
    else assert.equal(one.time, one.receivedAt);
    assert.deepEqual([one.key, one.headers, one.clock], ["k", headers, "synced"]);
    assert.equal(one.payload.length, 1000);
  }
});
