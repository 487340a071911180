import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { createProjection } from "../../src/flow/project.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import type { Plane } from "../../src/plane/plane.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { MortalJournal } from "../support/mortal-journal.ts";
import { jsonEvent } from "../support/processing-line.ts";
import { recordingContext } from "../support/recording-context.ts";

function bench() {
  const clock = new FakeClock();
  const context = recordingContext("plane", clock);
  const journal = new MortalJournal();
  const plane = new MemoryPlane({ clock });
  const projection = createProjection({ context, journal, plane, streams: ["in", "also"] });
  return { clock, context, journal, plane, projection };
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 50; turns++) await turn();
}

const seqs = (found: readonly StoredEvent[] | "behind"): number[] | "behind" =>
  found === "behind" ? found : found.map(({ seq }) => seq);

function put(journal: MortalJournal, stream: string, count: number): void {
  for (let n = 0; n < count; n++) journal.append(stream, jsonEvent({ n }), () => undefined);
}

test("createProjection() gives the plane what is committed after it started, of the streams it was told", async () => {
  const { journal, plane, projection } = bench();
  put(journal, "in", 3);
  await settle();
  projection.start();
  await plane.attach("in", "g", 3);
  await plane.attach("also", "g", 0);
  put(journal, "in", 2);
  put(journal, "also", 1);
  put(journal, "other", 5);
  await settle();
  const signal = new AbortController().signal;
  assert.deepEqual(seqs(await plane.read("in", "g", 10, 0, signal)), [4, 5]);
  assert.deepEqual(seqs(await plane.read("also", "g", 10, 0, signal)), [1]);
  assert.equal(plane.held().events, 3);
  await projection.stop();
  await projection.stop();
  assert.equal(journal.listeners, 0);
});

test("createProjection() reads pages of at most 1,024 events, and leaves out what the plane could not hold", async () => {
  const { journal, plane, projection } = bench();
  projection.start();
  put(journal, "in", 12_000);
  await settle();
  assert.equal(journal.largestRead, 1024);
  assert.equal(plane.held().events, 10_000);
  await plane.attach("in", "g", 1999);
  assert.equal(await plane.read("in", "g", 10, 0, new AbortController().signal), "behind");
  await projection.stop();
});

test("createProjection() says when it cannot read, tries again, and heals", async () => {
  const { clock, context, journal, plane, projection } = bench();
  projection.start();
  const refusal = new HoldfastError("JOURNAL_DISK", "Cannot read: I/O error");
  journal.readFailures.push(refusal, refusal);
  put(journal, "in", 3);
  await settle();
  assert.equal(context.now().status, "degraded");
  for (let time = 0; time < 5; time++) {
    clock.advance(1000);
    await settle();
  }
  assert.equal(plane.held().events, 3);
  assert.equal(context.now().status, "ok");
  await projection.stop();
  assert.equal(clock.waiting, 0);
});

test("createProjection() resumes every stream of a plane that was lost, at once and without an event", async () => {
  const { clock, context, journal, plane } = bench();
  let anew = (): void => undefined;
  const from = new Map([
    ["in", 2],
    ["also", 0],
  ]);
  const given: string[] = [];
  let isGone = false;
  const lossy: Plane = {
    open: () => plane.open(),
    close: () => plane.close(),
    resume: (stream) => Promise.resolve(from.get(stream) ?? null),
    onAnew: (listener) => (anew = listener),
    append: (stream, events) => {
      if (isGone) return Promise.reject(new HoldfastError("STREAM_UNREACHABLE", "Gone"));
      given.push(`${stream} ${events[0]?.seq}-${events.at(-1)?.seq}`);
      return Promise.resolve();
    },
    attach: () => Promise.resolve(),
    read: () => Promise.resolve([]),
    acknowledge: () => Promise.resolve(),
  };
  put(journal, "in", 5);
  put(journal, "also", 3);
  put(journal, "unwanted", 3);
  await settle();
  const streams = ["in", "also", "unwanted"];
  const projection = createProjection({ context, journal, plane: lossy, streams });
  projection.start();
  await settle();
  assert.deepEqual(given.splice(0), ["in 3-5", "also 1-3"]);
  from.set("in", 4);
  from.set("also", 3);
  anew();
  await settle();
  assert.deepEqual(given.splice(0), ["in 5-5"]);
  // While it fails it waits; another plane ends that.
  isGone = true;
  put(journal, "in", 1);
  await settle();
  assert.equal(context.now().status, "degraded");
  isGone = false;
  from.set("in", 0);
  anew();
  await settle();
  assert.deepEqual(given.splice(0), ["in 1-6"]);
  assert.equal(context.now().status, "ok");
  await projection.stop();
  assert.equal(clock.waiting, 0);
});
