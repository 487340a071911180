import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { expressionProblem } from "../../src/processor/cel.ts";
import { filterStep } from "../../src/processor/filter.ts";
import type { Event } from "../../src/processor/processor.ts";

const event: Event = {
  stream: "readings",
  seq: 5,
  key: "e1",
  time: Date.UTC(2026, 0, 1, 9, 30),
  receivedAt: Date.UTC(2026, 0, 1, 9, 31),
  headers: { topic: "greenhouse/e1/env" },
  payload: {
    temperature: 21,
    humidity: 55.5,
    name: "north",
    list: [1, 2.5],
    place: { floor: 2 },
    off: null,
    ok: true,
  },
};

/** What an expression says of `event`. */
const says = (expression: string, given: Partial<Event> = {}): boolean =>
  filterStep(expression).process({ ...event, ...given }).length === 1;

/** Numbers in JSON are of one kind, and mean what they say whichever way they are written. */
const holds: readonly string[] = [
  "has(payload.temperature)",
  "!has(payload.pressure)",
  "payload.temperature > 20",
  "payload.temperature > 20.5",
  "payload.temperature == 21",
  "payload.temperature == 21.0",
  "payload.humidity >= 55",
  "payload.humidity * 2 == 111",
  "2 * payload.humidity == 111",
  "payload.temperature + 1 == 22",
  "1 + payload.temperature == 22",
  "payload.temperature / 2 == 10.5",
  "payload.temperature % 2 == 1",
  "22 - payload.temperature == 1.0",
  "(payload.temperature * 9 / 5) + 32 > 69",
  "-payload.temperature < 0",
  "payload.temperature in [20, 21]",
  "payload.list.exists(x, x > 2)",
  "payload.place.floor == 2",
  "payload.off == null",
  "payload.ok",
  "payload.name.startsWith('nor')",
  "headers.topic.endsWith('/env')",
  "!has(headers.dup)",
  "key == 'e1'",
  "stream == 'readings'",
  "seq % 2 == 1",
  "seq > 4",
  "time.getHours() == 9",
  "time > timestamp('2025-12-31T00:00:00Z')",
  "has(payload.pressure) && payload.pressure > 1 || true",
];

test("filter lets an event pass while its expression is true, and drops it while it is false", () => {
  for (const expression of holds) {
    assert.equal(says(expression), true, expression);
    assert.equal(says(`!(${expression})`), false, expression);
  }
});

test("filter gives back the event as it is", () => {
  assert.equal(filterStep("true").process(event)[0], event);
});

test("filter reads text and bytes, and an event without a key", () => {
  assert.equal(says("payload.contains('warn')", { payload: "a warning" }), true);
  assert.equal(says("size(payload) == 3", { payload: new Uint8Array(3) }), true);
  assert.equal(says("key == null", { key: null }), true);
});

test("filter fails an event that it cannot judge", () => {
  const fails: readonly [string, RegExp][] = [
    ["payload.pressure > 1", /No such key: pressure/],
    ["payload.name > 3", /no such overload/],
    ["payload.temperature", /it gave number/],
    ["headers['nope'] == 'x'", /No such key/],
  ];
  for (const [expression, reason] of fails) {
    assert.throws(
      () => says(expression),
      (error) =>
        error instanceof HoldfastError &&
        error.code === "HANDLER_FAILED" &&
        error.kind === "refused" &&
        reason.test(error.message) &&
        error.message.includes(JSON.stringify(expression)),
      expression,
    );
  }
});

test("expressionProblem() says in one line what does not compile", () => {
  assert.equal(expressionProblem("has(payload.temperature)"), null);
  const wrong: readonly [string, RegExp][] = [
    ["payload.temperature >", /Unexpected token: EOF$/],
    ["temperature > 3", /Unknown variable: temperature$/],
    ["seq", /it gives int, not true or false$/],
    ["stream > 3", /no such overload: string > int$/],
    ["nope(payload)", /nope/],
  ];
  for (const [expression, reason] of wrong) {
    const problem = expressionProblem(expression, "bool");
    assert.match(problem ?? "", reason);
    assert.doesNotMatch(problem ?? "", /\n/);
  }
});

test("expressionProblem() shortens a long expression", () => {
  const problem = expressionProblem(`${"payload.a + ".repeat(100)} `) ?? "";
  assert.ok(problem.length < 250, problem);
});
