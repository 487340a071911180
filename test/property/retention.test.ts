/**
 * Random classes, events, cursors and crashes against the rules of retention, looked at from outside: what is
 * neither kept nor passed is told in `_gaps`, what is counted is what went, no class gives before one below it, and
 * the file stays within its bounds.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Gap } from "../../src/journal/gaps.ts";
import { keptAfter, type Journal } from "../../src/journal/journal.ts";
import type { StreamQuota } from "../../src/journal/protocol.ts";
import { event, openJournal, append, type TestJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const names = ["a", "b", "c"] as const;
type Name = (typeof names)[number];
const maxBytes = 1 << 20;
const begin = Date.UTC(2026, 0, 1);
const thinMs = 10_000;
/** The largest chunk that one append can make here. */
const chunkBytes = 130_000;

const quota = fc.record({
  priority: fc.constantFrom(2, 5, 8),
  whenFull: fc.constantFrom("drop-oldest", "thin", "thin", "reject"),
  maxBytes: fc.constantFrom(undefined, undefined, 150_000, 400_000),
});
type Quota = typeof quota extends fc.Arbitrary<infer Q> ? Q : never;
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("append" as const),
      stream: fc.constantFrom(...names),
      count: fc.integer({ min: 10, max: 60 }),
      size: fc.constantFrom(1_500, 4_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("pass" as const),
      stream: fc.constantFrom(...names),
      share: fc.constantFrom(0.1, 0.5, 1),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reopen" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("crash" as const) }) },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** What a stream looks like from outside. */
interface View {
  readonly head: number;
  readonly kept: readonly number[];
  readonly cursor: number;
  readonly quotaDrops: number;
  readonly drops: number;
}

class Bench {
  readonly #test: TestContext;
  readonly #quotas: Readonly<Record<Name, Quota>>;
  readonly #root = mkdtempSync(join(tmpdir(), "holdfast-test-"));
  #opened: TestJournal | undefined;
  #folders = 0;
  #clockMs = begin;
  /** What earlier runs counted. */
  readonly #sums = new Map<string, number>();
  readonly sent: Record<Name, number> = { a: 0, b: 0, c: 0 };
  readonly settled: Record<Name, number> = { a: 0, b: 0, c: 0 };
  /** Key and bucket by stream and seq; what was never settled may be overwritten by what comes after a crash. */
  readonly buckets: Record<Name, string[]> = { a: [], b: [], c: [] };
  readonly cursors: Record<Name, number> = { a: 0, b: 0, c: 0 };

  readonly #readsGaps: boolean;

  constructor(test: TestContext, quotas: Readonly<Record<Name, Quota>>, readsGaps: boolean) {
    this.#readsGaps = readsGaps;
    this.#test = test;
    this.#quotas = quotas;
  }

  get journal(): Journal {
    return this.#opened?.journal ?? assert.fail("The journal is not open");
  }

  async open(isCrash = false): Promise<void> {
    const before = this.#opened;
    const folder = mkdtempSync(join(this.#root, `${++this.#folders}-`));
    if (before !== undefined) {
      if (!isCrash) await before.journal.close();
      for (const file of ["journal.db", "journal.db-wal"]) {
        const path = join(before.folder, file);
        if (existsSync(path)) copyFileSync(path, join(folder, file));
      }
      for (const [name, sum] of before.context.sums)
        this.#sums.set(name, (this.#sums.get(name) ?? 0) + sum);
      // What waited for room when it crashed was never acknowledged, and what is acknowledged now does not count.
      for (const name of names) this.sent[name] = this.settled[name];
      this.#opened = undefined;
      await before.journal.close();
      for (const name of names) this.settled[name] = this.sent[name];
    }
    const streams = new Map<string, StreamQuota>();
    for (const name of names) {
      const { priority, whenFull, maxBytes: own } = this.#quotas[name];
      streams.set(name, {
        priority,
        whenFull,
        thinMs,
        ...(own !== undefined && { maxBytes: own }),
      });
    }
    const read = this.#readsGaps ? [...names, "_gaps"] : names;
    const groups = [{ group: "sink", streams: read }];
    this.#opened = await openJournal(this.#test, { folder, maxBytes, linger: 0, groups, streams });
    // What came in while it closed is there as well.
    for (const name of names) {
      const head = this.journal.status().streams.get(name)?.head ?? 0;
      assert.ok(head >= this.settled[name], "what was acknowledged is there");
      this.sent[name] = head;
      this.settled[name] = head;
    }
  }

  async end(): Promise<void> {
    await this.#opened?.journal.close();
    rmSync(this.#root, { recursive: true, force: true });
  }

  counted(stream: Name, reason?: string): number {
    let sum = 0;
    for (const sums of [this.#sums, this.#opened?.context.sums ?? new Map<string, number>()]) {
      for (const [name, count] of sums) {
        const isOurs = name.startsWith(`holdfast_journal_dropped_total{stream="${stream}"`);
        if (isOurs && (reason === undefined || name.includes(`reason="${reason}"`))) sum += count;
      }
    }
    return sum;
  }

  dropped(): number {
    return names.reduce((sum, name) => sum + this.counted(name), 0);
  }

  async perform(one: Step): Promise<void> {
    if (one.do === "reopen" || one.do === "crash") return this.open(one.do === "crash");
    if (one.do === "pass") return this.#pass(one.stream, one.share);
    const { stream, count, size } = one;
    for (let index = 0; index < count && this.journal.hasRoom(stream); index++) {
      this.#clockMs += 1_000;
      const receivedAt = this.#clockMs;
      const key = index % 3 === 0 ? "x" : "y";
      const payload = crypto.getRandomValues(new Uint8Array(size));
      const seq = ++this.sent[stream];
      this.buckets[stream][seq] = `${key} ${Math.floor(receivedAt / thinMs)}`;
      const one = event(payload, { key, time: receivedAt, receivedAt });
      this.journal.append(stream, one, () => this.settled[stream]++);
    }
    // A stream that is held back has little waiting.
    this.journal.commitSoon();
    await until("all to be taken or held", () => this.#isQuiet());
  }

  #isQuiet(): boolean {
    return (
      names.every((name) => this.settled[name] === this.sent[name]) || this.journal.status().full
    );
  }

  async #pass(stream: Name, share: number): Promise<void> {
    const from = this.journal.cursor("sink", stream).seq;
    const kept = (await this.seqs(stream)).filter((seq) => seq > from);
    const to = kept[Math.ceil(kept.length * share) - 1];
    if (to === undefined) return;
    const cursors = [{ stream, from, to }];
    assert.equal(await this.journal.commit({ group: "sink", cursors }, "soon"), "committed");
    this.cursors[stream] = to;
    await until("all to be taken or held", () => this.#isQuiet());
  }

  async seqs(stream: string): Promise<number[]> {
    return (await this.#events(stream)).map(({ seq }) => seq);
  }

  async gaps(): Promise<Gap[]> {
    const events = await this.#events("_gaps");
    return events.map(({ payload }) => JSON.parse(Buffer.from(payload).toString()) as Gap);
  }

  async #events(stream: string): Promise<{ seq: number; payload: Uint8Array }[]> {
    const found: { seq: number; payload: Uint8Array }[] = [];
    for (;;) {
      const { events } = await this.journal.read(stream, found.at(-1)?.seq ?? 0, 1000, 1 << 20);
      if (events.length === 0) return found;
      found.push(...events);
    }
  }

  /** Of one moment: what is held is tried again now and then. */
  async view(): Promise<Record<Name, View>> {
    const moment = (): string => JSON.stringify([...this.journal.status().streams]);
    for (;;) {
      const before = moment();
      const view = await this.#view();
      if (moment() === before) return view;
    }
  }

  async #view(): Promise<Record<Name, View>> {
    const of = async (name: Name): Promise<View> => ({
      head: this.journal.status().streams.get(name)?.head ?? 0,
      kept: await this.seqs(name),
      cursor: this.cursors[name],
      quotaDrops: this.counted(name, "quota"),
      drops: this.counted(name),
    });
    return { a: await of("a"), b: await of("b"), c: await of("c") };
  }
}

function checkBounds(journal: Journal, quotas: Readonly<Record<Name, Quota>>): void {
  const { usedBytes, streams } = journal.status();
  assert.ok(usedBytes <= maxBytes, `${usedBytes} bytes`);
  for (const name of names) {
    const own = quotas[name].maxBytes ?? maxBytes;
    const bytes = streams.get(name)?.bytes ?? 0;
    assert.ok(bytes <= own + chunkBytes, `${name} holds ${bytes}`);
  }
}

/** Higher priorities give nothing while a lower one has something, nor for the events of a lower one. */
function checkOrder(
  before: Record<Name, View>,
  after: Record<Name, View>,
  quotas: Readonly<Record<Name, Quota>>,
): void {
  const grown = names.filter((name) => after[name].head > before[name].head);
  const most = Math.max(0, ...grown.map((name) => quotas[name].priority));
  for (const name of names) {
    if (after[name].quotaDrops === before[name].quotaDrops) continue;
    const { priority } = quotas[name];
    assert.ok(priority <= most, `${name} gave way for events below it`);
    for (const lower of names) {
      const { whenFull, priority: its } = quotas[lower];
      if (its >= priority || whenFull === "reject" || grown.includes(lower)) continue;
      const left = after[lower].kept.filter((seq) => seq > after[lower].cursor);
      assert.deepEqual(left, [], `${name} gave way while ${lower} had something`);
    }
  }
}

function checkTold(name: Name, view: View, gaps: readonly Gap[], bench: Bench, quota: Quota): void {
  const { head, kept, cursor, drops } = view;
  const isKept = new Set(kept);
  const last: (Gap | undefined)[] = [];
  for (const gap of gaps.filter(({ stream }) => stream === name)) {
    assert.ok(gap.from <= gap.to && gap.kept <= gap.to - gap.from + 1);
    for (let seq = gap.from; seq <= gap.to; seq++) last[seq] = gap;
  }
  let [missing, told] = [0, 0];
  const seen = new Set<string>();
  for (let seq = 1; seq <= head; seq++) {
    const gap = last[seq];
    const bucket = bench.buckets[name][seq] ?? "";
    if (isKept.has(seq)) {
      assert.ok(gap === undefined || gap.reason === "thinned", `${name} ${seq} is kept and told`);
      seen.add(bucket);
      continue;
    }
    missing += 1;
    if (gap !== undefined) told += 1;
    else assert.ok(seq <= cursor, `${name} ${seq} is neither kept nor passed nor told`);
    // A first one that was kept may have been passed and gone since.
    if (seq <= cursor) seen.add(bucket);
    const isFirst = !seen.has(bucket) && seq > cursor;
    if (gap?.reason === "thinned" && isFirst)
      assert.fail(`${name} ${seq} was the first of ${bucket}`);
    if (gap !== undefined && gap.reason !== "thinned") seen.add(bucket);
  }
  assert.ok(drops <= told, `${name}: ${drops} counted, ${told} told`);
  if (cursor === 0) assert.equal(drops, missing, `${name}: counted and missing`);
  if (quota.whenFull === "reject") assert.equal(drops, 0, `${name} rejects`);
}

test("what is neither kept nor passed is told, counted, and of the lowest class, through any work and any crash", async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({ a: quota, b: quota, c: quota }),
      // What tells of drops stays whether or not a group reads it.
      fc.boolean(),
      fc.array(step, { minLength: 25, maxLength: 50 }),
      async (quotas, readsGaps, steps) => {
        const bench = new Bench(t, quotas, readsGaps);
        try {
          await bench.open();
          let before = await bench.view();
          for (const one of steps) {
            await bench.perform(one);
            const after = await bench.view();
            checkBounds(bench.journal, quotas);
            if (one.do === "append" || one.do === "pass") checkOrder(before, after, quotas);
            before = after;
            for (const name of names) {
              const { kept, head } = after[name];
              const { seq: cursor } = bench.journal.cursor("sink", name);
              // A group that has never moved begins, after a reopening, before the oldest that is kept.
              if (bench.cursors[name] === 0) assert.ok(cursor < (kept[0] ?? head + 1));
              else assert.equal(cursor, bench.cursors[name]);
              const status = bench.journal.status().streams.get(name);
              if (status === undefined || status.head > head) continue;
              assert.equal(keptAfter(status, 0), kept.length, `${name}: events kept`);
              assert.equal(
                keptAfter(status, status.thinned?.to ?? status.first - 1),
                kept.filter((seq) => seq > (status.thinned?.to ?? 0)).length,
              );
              if (kept.length > 0) assert.equal(status.first, kept[0]);
            }
          }
          // Ranges of an earlier run are sealed by the first turn; one that this turn opens, by the next run's.
          for (let dropped = -1; dropped !== bench.dropped();) {
            dropped = bench.dropped();
            await bench.open();
            await append(bench.journal, "other", event("x"));
          }
          const [view, gaps] = [await bench.view(), await bench.gaps()];
          for (const name of names) checkTold(name, view[name], gaps, bench, quotas[name]);
        } finally {
          await bench.end();
        }
      },
    ),
    {
      numRuns: 8,
      endOnFailure: true,
      interruptAfterTimeLimit: 15_000,
      markInterruptAsFailure: false,
    },
  );
});
