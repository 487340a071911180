/** What waits to be stored: its order, its batches and its bound. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "../../src/core/clock.ts";
import { AppendQueue, queueMax } from "../../src/stream/append-queue.ts";
import type { Producer } from "../../src/stream/backend.ts";
import type { EncodedFields } from "../../src/wire/wire.ts";
import { MemoryBackend } from "../../src/stream/memory.ts";

/** A backend that answers when it is told to, and keeps no more than what it was asked. */
class Held extends MemoryBackend {
  readonly asked: { readonly values: readonly string[]; readonly first: number }[] = [];
  readonly #answers: (() => void)[] = [];
  isOpen = false;

  override append(
    _topic: string,
    entries: readonly EncodedFields[],
    { producer }: { producer?: Producer } = {},
  ): Promise<readonly string[]> {
    const values = entries.map(([, value]) => String(value));
    this.asked.push({ values, first: producer?.first ?? 0 });
    if (this.isOpen) return Promise.resolve(values);
    return new Promise((resolve) => this.#answers.push(() => resolve(values)));
  }

  answer(): void {
    this.isOpen = true;
    for (const answer of this.#answers.splice(0)) answer();
  }
}

function queueOf(backend: Held): AppendQueue {
  const clock = systemClock(() => "synced");
  return new AppendQueue({ backend, topic: "t", clock, random: () => 0.5 });
}

test("append() stores in the order of the calls, in batches of at most 512 events and 1 MiB, numbered without a gap", async () => {
  const backend = new Held();
  const queue = queueOf(backend);
  const stored: Promise<string | null>[] = [];
  for (let n = 0; n < 3_000; n += 1) {
    // Every thousandth is large: three of them do not fit into one append.
    stored.push(queue.append(["n", String(n)], n % 1_000 < 3 ? 400_000 : 20));
    if (n === 1_500) setImmediate(() => backend.answer());
  }
  assert.deepEqual(
    await Promise.all(stored),
    Array.from({ length: 3_000 }, (_, n) => String(n)),
  );
  await queue.drained();
  let next = 0;
  for (const { values, first } of backend.asked) {
    assert.ok(values.length <= 512);
    assert.equal(first, next + 1);
    const bytes = values.reduce((sum, n) => sum + (Number(n) % 1_000 < 3 ? 400_000 : 20), 0);
    assert.ok(bytes <= 1024 * 1024, `an append of ${bytes} bytes`);
    for (const value of values) assert.equal(value, String(next++));
  }
});

test("append() refuses what is beyond its bound, and takes more when there is room again", async () => {
  const backend = new Held();
  const queue = queueOf(backend);
  const stored: Promise<string | null>[] = [];
  // The first batch is on its way, and waits no more in the queue.
  stored.push(queue.append(["n", "first"], 1));
  await new Promise((resolve) => setImmediate(resolve));
  for (let n = 0; n < queueMax; n += 1) stored.push(queue.append(["n", String(n)], 1));
  await assert.rejects(queue.append(["n", "beyond"], 1), { code: "STREAM_FULL" });
  backend.answer();
  await Promise.all(stored);
  await queue.append(["n", "again"], 1);
  assert.equal(backend.asked.at(-1)?.values[0], "again");
});
