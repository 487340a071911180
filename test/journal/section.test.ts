import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeSections, SectionEncoder } from "../../src/journal/section.ts";
import { event } from "../support/test-journal.ts";

test("decodeSections() gives back a header called __proto__ as a header, and nobody's prototype changes", () => {
  const headers = JSON.parse('{"topic":"a/__proto__","__proto__":"x","constructor":"y"}') as Record<
    string,
    string
  >;
  const encoder = new SectionEncoder(0, 0);
  encoder.add(event("a", { headers }));
  const [found] = decodeSections(encoder.finish(), {
    stream: "s",
    epoch: "e",
    clock: "synced",
    first: 1,
    bootOffsetMs: null,
  });
  assert.deepEqual(Object.entries(found?.headers ?? {}), Object.entries(headers));
  assert.equal(Object.getPrototypeOf(found?.headers), Object.prototype);
});
