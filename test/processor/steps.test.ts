/** Every kind of step, as it is written in the file: what goes in and what comes out. One line and more for each. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { stepOptions } from "../../src/processor/kinds.ts";
import type { Event } from "../../src/processor/processor.ts";
import { ChainRun, type Written } from "../support/chain-run.ts";

const start = Date.UTC(2026, 0, 1);
const seconds = (n: number): number => start + n * 1000;

interface Row {
  readonly steps: readonly Written[];
  readonly given: readonly Partial<Event>[];
  /** The payloads of what comes out, in order. */
  readonly gives: readonly unknown[];
}

/** Values of one field, a second apart. */
const values = (field: string, ...list: readonly (number | null)[]): Partial<Event>[] =>
  list.map((value, index) => ({ time: seconds(index), key: "k", payload: { [field]: value } }));
const of = (field: string, ...list: readonly number[]): unknown[] =>
  list.map((value) => ({ [field]: value }));

const table: Readonly<Record<string, readonly Row[]>> = {
  filter: [
    { steps: [{ filter: "payload.n > 1" }], given: values("n", 1, 2, 3), gives: of("n", 2, 3) },
  ],
  map: [
    {
      steps: [
        {
          map: {
            f: "payload.c * 1.8 + 32",
            where: "key",
            n: "seq + 1",
            at: "time",
            list: "[1, 'a', null]",
            deep: '{"x": payload.c > 20 ? 1 : 2}',
            age: 'duration("1500ms")',
          },
        },
      ],
      given: [{ seq: 1, key: "k", time: start, payload: { c: 100 } }],
      gives: [
        {
          f: 212,
          where: "k",
          n: 2,
          at: "2026-01-01T00:00:00.000Z",
          list: [1, "a", null],
          deep: { x: 1 },
          age: 1500,
        },
      ],
    },
    {
      steps: [{ map: 'merge(payload, {"f": round(payload.c * 1.8 + 32, 1)})' }],
      given: [{ payload: { c: 21.37, d: "a" } }],
      gives: [{ c: 21.37, d: "a", f: 70.5 }],
    },
  ],
  select: [
    {
      steps: [{ select: ["a", "b.c", "gone"] }],
      given: [{ payload: { a: 1, b: { c: 2, d: 3 }, e: 4 } }],
      gives: [{ a: 1, b: { c: 2 } }],
    },
  ],
  rename: [
    {
      steps: [{ rename: { a: "b", b: "a", "deep.x": "y", gone: "z" } }],
      given: [{ payload: { a: 1, b: 2, deep: { x: 3, w: 4 } } }],
      gives: [{ b: 1, a: 2, deep: { w: 4 }, y: 3 }],
    },
  ],
  scale: [
    {
      steps: [{ scale: { field: "t", from: "F", to: "C", round: 2 } }],
      given: values("t", 212, -40, null),
      gives: [{ t: 100 }, { t: -40 }, { t: null }],
    },
    {
      steps: [{ scale: { field: "raw", factor: 0.5, offset: -10, as: "level.m" } }],
      given: values("raw", 30),
      gives: [{ raw: 30, level: { m: 5 } }],
    },
    {
      steps: [{ scale: { field: "p", from: "bar", to: "hPa" } }],
      given: values("p", 1.5),
      gives: of("p", 1500),
    },
  ],
  deadband: [
    {
      steps: [{ deadband: { field: "t", delta: 0.5 } }],
      given: values("t", 20, 20.5, 20.6, 20.2, 20),
      gives: of("t", 20, 20.6, 20),
    },
    {
      steps: [{ deadband: { field: "t", percent: 10, atLeastEvery: "3s" } }],
      given: values("t", 100, 110, 111, 111, 111, 111),
      gives: of("t", 100, 111, 111),
    },
  ],
  throttle: [
    {
      steps: [{ throttle: { every: "2s", max: 1 } }],
      given: values("n", 1, 2, 3, 4, 5),
      gives: of("n", 1, 3, 5),
    },
    {
      steps: [{ throttle: { every: "3s", max: 2 } }],
      given: values("n", 1, 2, 3, 4),
      gives: of("n", 1, 2, 4),
    },
  ],
  sample: [
    {
      steps: [{ sample: { oneOf: 3 } }],
      given: values("n", 1, 2, 3, 4, 5, 6, 7),
      gives: of("n", 1, 4, 7),
    },
  ],
  dedupe: [
    {
      steps: [{ dedupe: { by: "id", within: "3s" } }],
      given: [...values("id", 1, 2, 1, 1, 2), { time: seconds(9), payload: {} }],
      gives: [...of("id", 1, 2, 1, 2), {}],
    },
  ],
  enrich: [
    {
      steps: [{ enrich: { table: "sensors.csv", by: "device", column: "device" } }],
      given: [{ payload: { device: "007" } }, { payload: { device: "7" } }],
      gives: [{ device: "007", place: "attic, north", floor: 2 }, { device: "7" }],
    },
    {
      steps: [{ enrich: { table: "sensors.json", by: "d", as: "s", fields: ["floor"] } }],
      given: [{ payload: { d: "b" } }],
      gives: [{ d: "b", s: { floor: 1 } }],
    },
    {
      steps: [{ enrich: { table: "sensors.csv", by: "d", column: "device", missing: "drop" } }],
      given: [{ payload: { d: "b" } }],
      gives: [],
    },
  ],
  split: [
    {
      steps: [{ split: { field: "list" } }],
      given: [{ payload: { d: "a", list: [{ t: 1 }, { t: 2, d: "b" }, 3] } }, { payload: {} }],
      gives: [{ d: "a", t: 1 }, { d: "b", t: 2 }, { d: "a", list: 3 }, {}],
    },
    {
      steps: [{ split: {} }],
      given: [{ payload: [1, { a: 2 }] }],
      gives: [{ value: 1 }, { a: 2 }],
    },
  ],
  flatten: [
    {
      steps: [{ flatten: {} }],
      given: [{ payload: { a: { b: [1, { c: 2 }], d: {} }, e: null } }],
      gives: [{ "a.b.0": 1, "a.b.1.c": 2, "a.d": {}, e: null }],
    },
    {
      steps: [{ flatten: { separator: "_", arrays: false } }],
      given: [{ payload: { a: { b: [1] } } }],
      gives: [{ a_b: [1] }],
    },
  ],
  alert: [
    {
      steps: [
        { alert: { name: "hot", field: "t", above: 80, clear: 75, hold: "2s", clearHold: "1s" } },
        { map: { s: "payload.state", v: "payload.value", at: "payload.since" } },
      ],
      // Beyond for too short a time, then long enough; between the two thresholds nothing changes.
      given: values("t", 81, 82, 70, 81, 82, 83, 84, 78, 74, 76, 75, 74, 60),
      gives: [
        { s: "firing", v: 83, at: seconds(3) },
        { s: "cleared", v: 74, at: seconds(10) },
      ],
    },
    {
      steps: [{ alert: { field: "t", below: 2 } }, { select: ["state", "threshold"] }],
      given: values("t", 3, 2, 1, 0, 2, 3, 1),
      gives: [
        { state: "firing", threshold: 2 },
        { state: "cleared", threshold: 2 },
        { state: "firing", threshold: 2 },
      ],
    },
  ],
  join: [
    {
      steps: [{ join: { stream: "weather", as: "outside", within: "10s", missing: "drop" } }],
      given: [
        { key: "a", payload: { n: 1 } },
        { stream: "weather", key: "a", time: seconds(1), payload: { t: 5 } },
        { key: "a", time: seconds(2), payload: { n: 2 } },
        { key: "b", time: seconds(2), payload: { n: 3 } },
        { key: "a", time: seconds(20), payload: { n: 4 } },
      ],
      gives: [{ n: 2, outside: { t: 5 } }],
    },
  ],
  window: [
    {
      steps: [
        { window: { tumbling: "2s", aggregate: { mean: "avg(t)", most: "max(t)", p: "rate()" } } },
      ],
      given: values("t", 1, 3, 5, 7, 9),
      gives: [
        { start: start, end: seconds(2), key: "k", count: 2, mean: 2, most: 3, p: 1 },
        { start: seconds(2), end: seconds(4), key: "k", count: 2, mean: 6, most: 7, p: 1 },
      ],
    },
    {
      steps: [{ window: { count: 2, aggregate: { first: "first(t)", sum: "sum(t)" } } }],
      given: values("t", 1, 2, 3, 4, 5),
      gives: [
        { start: start, end: seconds(1), key: "k", count: 2, first: 1, sum: 3 },
        { start: seconds(2), end: seconds(3), key: "k", count: 2, first: 3, sum: 7 },
      ],
    },
    {
      steps: [
        { window: { sliding: { size: "4s", every: "2s" } } },
        { map: { s: "payload.start", n: "payload.count" } },
      ],
      given: values("t", 1, 2, 3, 4, 5),
      gives: [
        { s: seconds(-2), n: 2 },
        { s: seconds(0), n: 4 },
      ],
    },
    {
      steps: [{ window: { session: "2s", aggregate: { n: "count(t)" } } }],
      given: [...values("t", 1, 2), { key: "k", time: seconds(3), payload: { t: 1 } }],
      gives: [{ start: start, end: seconds(1), key: "k", count: 2, n: 2 }],
    },
  ],
};

test("every kind of step has its lines here", () => {
  assert.deepEqual(Object.keys(table).sort(), Object.keys(stepOptions.about.fields ?? {}).sort());
});

for (const [name, rows] of Object.entries(table)) {
  test(`${name} gives what it says`, async () => {
    for (const { steps, given, gives } of rows) {
      const run = new ChainRun(steps, "test/processor/tables");
      await run.chain.open();
      const found = given.flatMap((one) => run.payloads(one));
      assert.deepEqual(found, gives, JSON.stringify(steps));
      run.chain.close();
    }
  });

  test(`${name} goes on after a crash where the last commit was, and leaves nothing of what failed`, async () => {
    for (const { steps, given, gives } of rows) {
      const run = new ChainRun(steps, "test/processor/tables");
      await run.chain.open();
      const found: unknown[] = [];
      for (const one of given) {
        // What a crash took, and what failed behind the chain, is as if it had not been there.
        run.put(one);
        run.restart();
        await run.chain.open();
        run.failed(one);
        found.push(...run.payloads(one));
        run.commit();
      }
      assert.deepEqual(found, gives, JSON.stringify(steps));
    }
  });

  test(`${name} leaves the event that it is given as it was`, async () => {
    for (const { steps, given } of rows) {
      const run = new ChainRun(steps, "test/processor/tables");
      await run.chain.open();
      for (const one of given) {
        const event = run.event(one);
        const before = structuredClone(event);
        run.chain.process(event);
        assert.deepEqual(event, before);
        run.chain.keep();
      }
    }
  });
}
