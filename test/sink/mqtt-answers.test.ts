import assert from "node:assert/strict";
import { test } from "node:test";
import { connectionError, publishError, topicProblem } from "../../src/sink/mqtt-answers.ts";

test("connectionError() tells what passes from what a person must mend", () => {
  const kindOf = (code: unknown): string => connectionError("mqtt://up", "reason", code).kind;
  for (const code of [
    undefined,
    "ECONNREFUSED",
    "ENOTFOUND",
    "CERT_NOT_YET_VALID",
    3,
    0x88,
    0x8e,
    0x97,
  ]) {
    assert.equal(kindOf(code), "transient", String(code));
  }
  for (const code of [
    2,
    4,
    5,
    0x85,
    0x86,
    0x87,
    0x8a,
    "CERT_HAS_EXPIRED",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
  ]) {
    assert.equal(kindOf(code), "config", String(code));
  }
});

test("publishError() makes one event's trouble a refusal, a quota transient, a missing right a person's business", () => {
  const kindOf = (code: number): string => publishError("a/b", "reason", code).kind;
  for (const code of [0x80, 0x83, 0x90, 0x99]) assert.equal(kindOf(code), "refused");
  for (const code of [0x91, 0x97]) assert.equal(kindOf(code), "transient");
  assert.equal(kindOf(0x87), "config");
});

test("topicProblem() finds what MQTT does not allow in a topic to publish to", () => {
  assert.equal(topicProblem("a/b c/ü"), null);
  assert.equal(topicProblem("ü".repeat(32_767)), null);
  for (const topic of ["", "a/+/b", "a/#", "a\0b", "ü".repeat(32_768)]) {
    assert.notEqual(topicProblem(topic), null, topic.slice(0, 10));
  }
});
