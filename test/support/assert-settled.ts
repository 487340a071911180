/** A batch that the far side took as a whole. */
import assert from "node:assert/strict";
import type { SendResult } from "../../src/sink/sink.ts";

export function assertSettled({ settled, refused, failure }: SendResult, events: number): void {
  assert.equal(failure, undefined);
  assert.deepEqual([settled, refused], [events, []]);
}
