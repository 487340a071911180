/**
 * Windows against a batch computation over the same events: in any order within the lateness, cut by crashes, tried
 * twice where something behind them failed, on a wall clock that jumps, what closes is what the whole list says, once
 * each. Later events are told apart, one by one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Event } from "../../src/processor/processor.ts";
import { ChainRun, type Written } from "../support/chain-run.ts";

const start = Date.UTC(2026, 0, 1);
const latenessMs = 5_000;
const keys = ["a", "b", null] as const;

interface Reading {
  readonly key: (typeof keys)[number];
  /** Event time, ms since the start. */
  readonly at: number;
  readonly v: number | null;
}

const aggregate = {
  n: "count(v)",
  sum: "sum(v)",
  avg: "avg(v)",
  min: "min(v)",
  max: "max(v)",
  first: "first(v)",
  last: "last(v)",
  sd: "stddev(v)",
  mid: "median(v)",
  p90: "p90(v)",
  all: "rate()",
  up: "rate(v)",
  level: "timeWeightedAvg(v)",
};

const shapes: readonly Written[] = [
  { tumbling: "3s" },
  { sliding: { size: "6s", every: "2s" } },
  { sliding: { size: "5s", every: "2s" } },
  { session: "2s" },
];

/** An order in which no event comes later than `latenessMs` after a newer one: sorted by time plus a delay. */
const readings = fc
  .array(
    fc.record({
      key: fc.constantFrom(...keys),
      at: fc.integer({ min: 0, max: 40_000 }),
      // Distinct moments: which of two of one moment came last is a matter of order.
      v: fc.option(fc.integer({ min: -50, max: 50 }), { freq: 8 }),
      delay: fc.integer({ min: 0, max: latenessMs }),
    }),
    { maxLength: 120, size: "max" },
  )
  .map((list) => {
    const distinct = [...new Map(list.map((each) => [each.at, each])).values()];
    return distinct.toSorted((a, b) => a.at + a.delay - (b.at + b.delay));
  });

const blows = fc.infiniteStream(
  fc.constantFrom("nothing", "nothing", "nothing", "commit", "crash", "fail", "jump"),
);

test("windows are what a batch over all events says, in any order within the lateness, whatever crashes", () => {
  fc.assert(
    fc.property(fc.constantFrom(...shapes), readings, blows, (shape, list, hits) => {
      const run = new ChainRun([
        { window: { ...shape, lateness: `${latenessMs}ms`, aggregate, ahead: "1d" } },
      ]);
      const found = drive(run, list, hits);
      assert.deepEqual(run.late, []);
      assertSame(found, batch(shape, list));
    }),
    { numRuns: 400 },
  );
});

test("what is later than the lateness goes to the late stream, one event for one event, and into no window", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...shapes.slice(0, 3)),
      fc.array(
        fc.record({ key: fc.constantFrom(...keys), at: fc.integer({ min: 0, max: 60_000 }) }),
        {
          maxLength: 80,
          size: "max",
        },
      ),
      (shape, list) => {
        const run = new ChainRun([{ window: { ...shape, lateness: "2s" } }]);
        const found = drive(
          run,
          list.map((each) => ({ ...each, v: 1 })),
          "nothing",
        );
        const { size, every } = lengths(shape);
        let newest = Number.NEGATIVE_INFINITY;
        const lates: number[] = [];
        const counts = new Map<string, number>();
        for (const { key, at } of list) {
          const open = spans(at, size, every).filter(([, end]) => end > newest - 2_000);
          if (open.length === 0) lates.push(start + at);
          for (const [from] of open) {
            const name = `${key} ${start + from}`;
            counts.set(name, (counts.get(name) ?? 0) + 1);
          }
          newest = Math.max(newest, at);
        }
        assert.deepEqual(
          run.late.map(({ time }) => time),
          lates,
        );
        assert.equal(run.counts.get("window late") ?? 0, lates.length);
        const told = found.map(({ key, payload }) => [
          `${key} ${String(payload["start"])}`,
          payload["count"],
        ]);
        assert.deepEqual(Object.fromEntries(told), Object.fromEntries(counts));
        assert.equal(told.length, counts.size);
      },
    ),
    { numRuns: 300 },
  );
});

interface Result extends Event {
  readonly payload: Record<string, unknown>;
}

/** Puts all in, then lets the stream be silent. */
function drive(
  run: ChainRun,
  list: readonly Reading[],
  hits: Iterable<string> | "nothing",
): Result[] {
  const blow = hits === "nothing" ? null : hits[Symbol.iterator]();
  /** What came of events since the last commit dies with the process. */
  let fresh: Event[] = [];
  let pending: Reading[] = [];
  const kept: Event[] = [];
  const put = ({ key, at, v }: Reading): Event[] => {
    const time = start + at;
    return run.put({ key, time, receivedAt: time + 1, payload: { v } });
  };
  const commit = (): void => {
    run.commit();
    kept.push(...fresh);
    [fresh, pending] = [[], []];
  };
  for (const one of list) {
    pending.push(one);
    fresh.push(...put(one));
    const hit = blow?.next().value ?? "commit";
    if (hit === "commit") commit();
    if (blow === null) run.restart();
    if (hit === "jump") run.clock.wall += 1_000 * 86_400 * (run.clock.wall > start ? -30 : 40);
    if (hit === "fail") run.failed({ key: one.key, time: start + one.at + 90_000 });
    if (hit !== "crash") continue;
    const late = run.late.length;
    run.restart();
    run.late.length = late;
    fresh = pending.flatMap(put);
  }
  commit();
  run.clock.wall = start + 100_000;
  for (let turns = 0; turns < 10 && run.chain.idleAfterMs("in") !== null; turns++) {
    fresh.push(...run.silence());
    commit();
    run.restart();
  }
  return kept as Result[];
}

function lengths(shape: Written): { size: number; every: number } {
  const ms = (text: unknown): number => Number.parseFloat(String(text)) * 1000;
  const sliding = shape["sliding"] as { size: string; every: string } | undefined;
  const size = ms(sliding?.size ?? shape["tumbling"] ?? shape["session"]);
  return { size, every: sliding === undefined ? size : ms(sliding.every) };
}

/** Relative to the start, which every size here divides. */
function spans(at: number, size: number, every: number): [from: number, end: number][] {
  const found: [number, number][] = [];
  for (let from = -60_000; from <= at; from += 1_000) {
    if ((start + from) % every === 0 && from + size > at) found.push([from, from + size]);
  }
  return found;
}

/** The naive way: all events of a key, sorted, cut into windows, each computed from its list. */
function batch(shape: Written, list: readonly Reading[]): Record<string, unknown>[] {
  const { size, every } = lengths(shape);
  return keys.flatMap((key) => {
    const mine = list.filter((each) => each.key === key).toSorted((a, b) => a.at - b.at);
    const groups = new Map<number, Reading[]>();
    if ("session" in shape) {
      let session: Reading[] = [];
      for (const each of mine) {
        if (each.at - (session.at(-1)?.at ?? Number.NEGATIVE_INFINITY) >= size) session = [];
        session.push(each);
        groups.set(session[0]?.at ?? 0, session);
      }
    } else {
      for (const each of mine) {
        for (const [from] of spans(each.at, size, every)) {
          groups.set(from, [...(groups.get(from) ?? []), each]);
        }
      }
    }
    return [...groups].map(([from, events]) => {
      const end = "session" in shape ? (events.at(-1)?.at ?? 0) : from + size;
      const count = events.length;
      return { start: start + from, end: start + end, key, count, ...told(events, from, end) };
    });
  });
}

function told(events: readonly Reading[], from: number, end: number): Record<string, unknown> {
  const given = events.flatMap(({ at, v }) => (v === null ? [] : [{ at, v }]));
  const list = given.map(({ v }) => v);
  const n = list.length;
  const sum = list.reduce((total, v) => total + v, 0);
  const mean = sum / n;
  const squares = list.reduce((total, v) => total + (v - mean) ** 2, 0);
  const sorted = list.toSorted((a, b) => a - b);
  const at = (share: number): number | null => {
    const rank = share * (n - 1);
    const [low, high] = [sorted[Math.floor(rank)], sorted[Math.ceil(rank)]];
    return low === undefined || high === undefined ? null : low + (high - low) * (rank % 1);
  };
  let [area, up] = [0, 0];
  given.forEach(({ at: time, v }, index) => {
    area += v * ((given[index + 1]?.at ?? end) - time);
    const next = given[index + 1]?.v;
    if (next !== undefined) up += next >= v ? next - v : next;
  });
  const [first, last] = [given[0], given.at(-1)];
  const span = end - (first?.at ?? 0);
  const moved = (last?.at ?? 0) - (first?.at ?? 0);
  const orNull = (value: number): number | null => (n === 0 ? null : value);
  return {
    n,
    sum: orNull(sum),
    avg: orNull(mean),
    min: orNull(Math.min(...list)),
    max: orNull(Math.max(...list)),
    first: first?.v ?? null,
    last: last?.v ?? null,
    sd: n < 2 ? null : Math.sqrt(squares / (n - 1)),
    mid: at(0.5),
    p90: at(0.9),
    all: end > from ? (events.length * 1000) / (end - from) : null,
    up: moved > 0 ? (up * 1000) / moved : null,
    level: first === undefined ? null : span > 0 ? area / span : (last?.v ?? null),
  };
}

function assertSame(found: readonly Result[], expected: readonly Record<string, unknown>[]): void {
  const name = (payload: Record<string, unknown>): string =>
    `${String(payload["start"])} ${String(payload["key"])}`;
  const byName = (list: readonly Record<string, unknown>[]): [string, Record<string, unknown>][] =>
    list
      .map((each): [string, Record<string, unknown>] => [name(each), each])
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const mine = byName(found.map(({ payload }) => payload));
  const theirs = byName(expected);
  assert.deepEqual(
    mine.map(([each]) => each),
    theirs.map(([each]) => each),
  );
  theirs.forEach(([each, values], index) => {
    for (const [field, value] of Object.entries(values)) {
      const got = mine[index]?.[1][field];
      const isNear = typeof value === "number" && Math.abs(Number(got) - value) < 1e-6;
      assert.ok(got === value || isNear, `${each} ${field}: ${String(got)}, not ${String(value)}`);
    }
  });
}
