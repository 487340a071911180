import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { onStopSignals } from "../../src/core/signals.ts";

test("onStopSignals() asks to stop once, and ends the process at the second signal", () => {
  const target = new EventEmitter();
  const stops: string[] = [];
  const codes: number[] = [];
  const parts = { target: target as never, exit: (code: number) => void codes.push(code) };
  const signals = onStopSignals((signal) => stops.push(signal), parts);
  target.emit("SIGTERM", "SIGTERM");
  assert.deepEqual([stops, codes], [["SIGTERM"], []]);
  target.emit("SIGINT", "SIGINT");
  target.emit("SIGTERM", "SIGTERM");
  assert.deepEqual([stops, codes], [["SIGTERM"], [130, 143]]);
  signals.dispose();
  assert.deepEqual(target.eventNames(), []);
});
