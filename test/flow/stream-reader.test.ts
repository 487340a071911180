import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { StreamReader } from "../../src/flow/stream-reader.ts";
import type { Plane } from "../../src/plane/plane.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MortalJournal } from "../support/mortal-journal.ts";
import { jsonEvent } from "../support/processing-line.ts";
import { recordingContext } from "../support/recording-context.ts";

class Bench {
  readonly clock = new FakeClock();
  readonly context = recordingContext("proc", this.clock);
  readonly journal = new MortalJournal();
  readonly memory = new MemoryPlane({ clock: this.clock });
  readonly reader: StreamReader;

  /** `over` takes the place of some of the plane's methods. */
  constructor(over: (memory: MemoryPlane) => Partial<Plane> = () => ({}), eventsMax = 10) {
    const { context, journal, memory } = this;
    const plane: Plane = {
      open: () => memory.open(),
      close: () => memory.close(),
      resume: (stream, head) => memory.resume(stream, head),
      onAnew: () => undefined,
      append: (stream, events) => memory.append(stream, events),
      attach: (stream, group, after) => memory.attach(stream, group, after),
      read: (...args) => memory.read(...args),
      acknowledge: (stream, group, seq) => memory.acknowledge(stream, group, seq),
      ...over(memory),
    };
    this.reader = new StreamReader({
      context,
      journal,
      plane,
      group: "proc",
      stream: "in",
      eventsMax,
      waitMs: 100,
      onReady: () => undefined,
    });
  }

  add(count: number, bytes = 0): void {
    for (let n = 0; n < count; n++)
      this.journal.disk.append("in", jsonEvent({ x: "x".repeat(bytes) }));
  }

  /** The next batch as [from, seqs, to], once it is there. */
  async next(): Promise<[number, number[], number]> {
    for (let turns = 0; turns < 1000; turns++) {
      const batch = this.reader.take();
      if (batch !== undefined) return [batch.from, batch.events.map(({ seq }) => seq), batch.to];
      await turn();
      this.clock.advance(20);
    }
    throw new Error("No batch came");
  }
}

const unreachable = new HoldfastError("SINK_UNREACHABLE", "Cannot reach Valkey");

test("take() gives batches from the journal's cursor on, each beginning where the one before it ended", async () => {
  const bench = new Bench();
  bench.add(25);
  bench.journal.disk.cursors.set("proc\0in", { seq: 3, mark: null });
  const reading = bench.reader.start();
  assert.deepEqual(await bench.next(), [3, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13], 13]);
  assert.deepEqual(await bench.next(), [13, [14, 15, 16, 17, 18, 19, 20, 21, 22, 23], 23]);
  assert.deepEqual(await bench.next(), [23, [24, 25], 25]);
  await bench.reader.stop();
  await reading;
  assert.equal(bench.clock.waiting, 0);
});

test("take() loses nothing of a batch whose reading failed midway", async () => {
  let failures = 2;
  const bench = new Bench((memory) => ({
    attach: async (...args) => {
      if (failures-- > 0) throw unreachable;
      await memory.attach(...args);
    },
  }));
  bench.add(3);
  void bench.reader.start();
  assert.deepEqual(await bench.next(), [0, [1, 2, 3], 3]);
  assert.equal(bench.context.lines.length, 1);
  await bench.reader.stop();
});

test("take() goes by the journal when the plane skips an event, or keeps silent about one", async () => {
  let hasLost = false;
  const bench = new Bench((memory) => ({
    read: async (...args) => {
      const found = await memory.read(...args);
      if (hasLost || found === "behind" || found.length < 2) return found;
      hasLost = true;
      return found.slice(1);
    },
  }));
  bench.add(1);
  const reading = bench.reader.start();
  assert.deepEqual(await bench.next(), [0, [1], 1]);
  bench.add(4);
  await bench.memory.append("in", bench.journal.disk.events("in"));
  assert.deepEqual(await bench.next(), [1, [2, 3, 4, 5], 5]);
  assert.equal(hasLost, true);
  // Nobody tells the plane of these.
  bench.add(2);
  assert.deepEqual(await bench.next(), [5, [6, 7], 7]);
  await bench.reader.stop();
  await reading;
});

test("take() passes over what was trimmed, also when nothing is left to read", async () => {
  const bench = new Bench();
  bench.add(30);
  bench.journal.disk.trim("in", 12);
  const reading = bench.reader.start();
  assert.deepEqual(await bench.next(), [0, [13, 14, 15, 16, 17, 18, 19, 20, 21, 22], 22]);
  bench.journal.disk.trim("in", 30);
  assert.deepEqual(await bench.next(), [22, [], 30]);
  await bench.reader.stop();
  await reading;
});

test("take() goes over what was thinned, and says so once", async () => {
  const bench = new Bench();
  bench.add(40);
  bench.journal.disk.thin("in", 35, 5);
  const reading = bench.reader.start();
  assert.deepEqual(await bench.next(), [0, [1, 6, 11, 16, 21, 26, 31, 36, 37, 38], 38]);
  assert.deepEqual(await bench.next(), [38, [39, 40], 40]);
  const said = bench.context.lines.filter(({ message }) => message.includes("were trimmed"));
  assert.deepEqual(
    said.map(({ fields }) => fields),
    [{ stream: "in", from: 1, to: 38, events: 28 }],
  );
  await bench.reader.stop();
  await reading;
});

test("take() ends a batch at about 1 MiB", async () => {
  const bench = new Bench(() => ({}), 1000);
  bench.add(30, 100_000);
  const reading = bench.reader.start();
  const [, seqs] = await bench.next();
  assert.ok(seqs.length >= 10 && seqs.length <= 12, `${seqs.length} events`);
  await bench.reader.stop();
  await reading;
});

test("stop() ends a reader that waits for the disk, and takes nothing from the plane after it", async () => {
  const bench = new Bench();
  bench.add(1);
  void bench.reader.start();
  await bench.next();
  await bench.reader.stop();
  bench.add(3);
  await bench.memory.append("in", bench.journal.disk.events("in"));
  await turn();
  await bench.memory.attach("in", "proc", 1);
  const found = await bench.memory.read("in", "proc", 10, 0, new AbortController().signal);
  assert.equal(found.length, 3);
});

test("start() rejects when the journal is gone for good", async () => {
  const bench = new Bench();
  bench.journal.readFailures.push(new HoldfastError("JOURNAL_UNAVAILABLE", "Gone"));
  await assert.rejects(bench.reader.start(), /Gone/);
});
