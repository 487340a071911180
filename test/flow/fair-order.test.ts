import assert from "node:assert/strict";
import { test } from "node:test";
import { FairOrder, passesMax } from "../../src/flow/fair-order.ts";

test("next() takes the first stream that has something", () => {
  const order = new FairOrder(["alarms", "readings", "system"]);
  assert.equal(
    order.next(() => false),
    null,
  );
  assert.equal(
    order.next(() => true),
    "alarms",
  );
  assert.equal(
    order.next((stream) => stream !== "alarms"),
    "readings",
  );
});

test("next() lets a stream wait through at most passesMax turns, and the first keeps most of them", () => {
  const order = new FairOrder(["alarms", "readings", "system"]);
  const turns = Array.from({ length: 300 }, () => order.next(() => true) ?? "");
  for (const stream of ["readings", "system"]) {
    let gap = 0;
    for (const turn of turns) {
      gap = turn === stream ? 0 : gap + 1;
      assert.ok(gap <= passesMax + 2, `${stream} waited ${gap} turns`);
    }
  }
  assert.ok(turns.filter((turn) => turn === "alarms").length > 200);
});
