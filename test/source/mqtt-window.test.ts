import assert from "node:assert/strict";
import { test } from "node:test";
import { AckWindow } from "../../src/source/mqtt-window.ts";

/** A broker with `size` places: fills them in `fillMs`, waits for a commit each `lingerMs`, goes on at once. */
function stall(window: AckWindow, size: number, from: number, lingerMs = 1000): number {
  let nowMs = from;
  for (let outstanding = 1; outstanding <= size; outstanding++)
    window.arrived(outstanding, (nowMs += 0.1));
  nowMs += lingerMs;
  window.flushed(size, nowMs);
  return nowMs + 1;
}

test("AckWindow learns from two stalls at the same number how many a broker sends", () => {
  const window = new AckWindow(20, 1024);
  let nowMs = stall(window, 10, 0);
  nowMs = stall(window, 10, nowMs);
  assert.equal(window.size, 20);
  window.arrived(1, nowMs);
  assert.equal(window.size, 10);
});

test("AckWindow forgets a number that was exceeded, and remembers the largest it learnt", () => {
  const window = new AckWindow(20, 1024);
  let nowMs = stall(window, 10, 0);
  nowMs = stall(window, 10, nowMs);
  // A slow sender, one message a second, looks like a window of one.
  for (let count = 0; count < 3; count++) nowMs = stall(window, 1, nowMs);
  window.arrived(1, nowMs);
  assert.equal(window.size, 1);
  window.arrived(2, nowMs);
  assert.equal(window.size, 10);
  window.arrived(11, nowMs);
  assert.equal(window.size, 20);
  window.arrived(21, nowMs);
  assert.equal(window.size, 1024);
});

test("AckWindow never grows beyond its ceiling, half of what was offered", () => {
  const window = new AckWindow(1024, 1024);
  assert.equal(window.size, 1024);
  window.arrived(1500, 0);
  assert.equal(window.size, 1024);
  const small = new AckWindow(20, 4);
  assert.equal(small.size, 4);
});

test("AckWindow learns nothing where messages come without regard to acknowledgements", () => {
  const window = new AckWindow(20, 1024);
  let nowMs = 0;
  for (let count = 0; count < 50; count++) {
    window.arrived(1, nowMs);
    window.arrived(2, nowMs + 100);
    window.flushed(2, nowMs + 110);
    nowMs += 200;
  }
  assert.equal(window.size, 20);
});
