import assert from "node:assert/strict";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { compileTemplate, templatePattern } from "../../src/core/template.ts";
import { storedEvent } from "../support/stored-event.ts";

const event = storedEvent({
  stream: "readings",
  seq: 7,
  key: "esp-3",
  headers: { topic: "greenhouse/3/env", room: "north" },
});

test("textFor() puts each of the event's values in its place", () => {
  const template = compileTemplate("{device}/{stream}/{seq}/{key}/{topic}/{header:room}/{epoch}!");
  assert.equal(
    template.textFor(event, "box"),
    `box/readings/7/esp-3/greenhouse/3/env/north/${event.epoch}!`,
  );
});

test("textFor() refuses an event that lacks a value, and names it", () => {
  const keyless = { ...event, key: null };
  for (const [text, lacks] of [
    ["a/{key}", "{key}"],
    ["{header:floor}", "{header:floor}"],
  ] as const) {
    const refused = compileTemplate(text).textFor(keyless, "box");
    assert.ok(refused instanceof HoldfastError);
    assert.equal(refused.code, "SINK_REFUSED");
    assert.ok(refused.message.includes(lacks), refused.message);
  }
});

test("templatePattern() knows the names and refuses misspellings, open braces and forbidden text", () => {
  const pattern = templatePattern(["device", "stream", "header:NAME"], "+#");
  for (const good of ["a", "{device}", "a/{stream}/{header:x-y}"]) assert.match(good, pattern);
  for (const bad of ["", "{steam}", "{key}", "{device", "device}", "{}", "a/+/b", "a/#"]) {
    assert.doesNotMatch(bad, pattern);
  }
});

test("compileTemplate() fails an assertion on text that no option has checked", () => {
  assert.throws(() => compileTemplate("{steam}"), { name: "AssertionError" });
});
