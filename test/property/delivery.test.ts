/** The delivery loop, live-first and strict, through breaks, ends and crashes: nothing is missing, each lane in order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Delivery } from "../../src/flow/delivery.ts";
import { range } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { FlakySink, unreachable } from "../support/flaky-sink.ts";
import { ListJournal } from "../support/list-journal.ts";
import { recordingContext } from "../support/recording-context.ts";

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("append" as const), count: fc.nat(600) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("time" as const), ms: fc.nat(20_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("away" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("stop" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const) }) },
);

/** So few turns that a backlog does not drain in them. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 12; turn++) await new Promise(setImmediate);
}

/** Breaks at about one in so many events. */
class Scene {
  readonly clock = new FakeClock();
  readonly journal = new ListJournal();
  readonly sinks: FlakySink[] = [];
  crashes = 0;
  readonly #share: number | null;
  readonly #breaks: () => boolean;
  #delivery: Delivery | undefined;

  constructor(share: number | null, breaks: () => boolean) {
    this.#share = share;
    this.#breaks = breaks;
  }

  start(): void {
    const sink = new FlakySink();
    // Each send takes a turn of the event loop.
    Object.defineProperty(sink, "gate", { get: () => new Promise(setImmediate) });
    sink.fate = () => (this.#breaks() ? "break" : "take");
    this.sinks.push(sink);
    const context = recordingContext("cloud", this.clock);
    const { journal } = this;
    this.#delivery = createDelivery({
      context,
      journal,
      sink,
      streams: ["readings"],
      formats: new Map(),
      device: "box",
      pace: {
        bounds: { events: 20, bytes: 100_000, waitMs: 0 },
        ...(this.#share !== null && { backlogShare: this.#share }),
      },
    });
    this.#delivery.start();
  }

  async beAway(): Promise<void> {
    const sink = this.sinks.at(-1);
    if (sink === undefined) return;
    sink.openError = unreachable();
    sink.lose();
    await settle();
  }

  async beBack(): Promise<void> {
    const sink = this.sinks.at(-1);
    if (sink !== undefined) sink.openError = null;
    this.clock.advance(90_000);
    await settle();
  }

  async stop(): Promise<void> {
    await this.#delivery?.stop(1_000);
  }

  /** What was confirmed and not committed is forgotten. */
  async crash(): Promise<void> {
    this.crashes++;
    this.journal.lose();
    await this.#delivery?.stop(0);
    this.journal.land();
    await settle();
  }
}

const runs = fc.record({
  share: fc.option(fc.constantFrom(0.3, 0.5, 0.8), { nil: null }),
  steps: fc.array(step, { minLength: 3, maxLength: 25 }),
  breakEvery: fc.integer({ min: 40, max: 400 }),
});

test("the delivery loop loses nothing, keeps each lane in order, and repeats only what a crash forgot", async () => {
  await fc.assert(
    fc.asyncProperty(runs, async ({ share, steps, breakEvery }) => {
      let asked = 0;
      const scene = new Scene(share, () => ++asked % breakEvery === 0);
      let head = 0;
      scene.start();
      for (const one of steps) {
        await settle();
        if (one.kind === "append") {
          scene.journal.append("readings", one.count, { receivedAt: scene.clock.wallMs() });
          head += one.count;
        } else if (one.kind === "away") {
          // Events that come meanwhile are a backlog when it is back; fresh ones follow at once.
          await scene.beAway();
          scene.journal.append("readings", 200, { receivedAt: scene.clock.wallMs() });
          await scene.beBack();
          scene.journal.append("readings", 30, { receivedAt: scene.clock.wallMs() });
          head += 230;
        } else if (one.kind === "time") scene.clock.advance(one.ms);
        else {
          await (one.kind === "stop" ? scene.stop() : scene.crash());
          scene.clock.advance(10_000);
          scene.start();
        }
      }
      for (
        let turn = 0;
        turn < 2_000 && scene.journal.cursor("cloud", "readings").seq < head;
        turn++
      ) {
        scene.clock.advance(60_000);
        await settle();
        scene.journal.commitSoon();
      }
      await scene.stop();
      assert.deepEqual(scene.journal.cursor("cloud", "readings"), { seq: head, mark: null });
      const taken = scene.sinks.flatMap((sink) => sink.taken.map(({ seq }) => seq));
      assert.deepEqual(
        [...new Set(taken)].toSorted((a, b) => a - b),
        range(1, head),
      );
      if (scene.crashes === 0) assert.equal(taken.length, head, "none twice");
      for (const sink of scene.sinks) checkLanes(sink);
    }),
    { numRuns: 40 },
  );
});

/** In each connection; a batch that breaks is sent again from where it broke. */
function checkLanes(sink: FlakySink): void {
  for (const lane of [true, false]) {
    const seqs = sink.batches.filter(({ backfill }) => backfill === lane);
    const firsts = [...new Set(seqs.flatMap(({ events }) => events.map(({ seq }) => seq)))];
    assert.deepEqual(
      firsts,
      firsts.toSorted((a, b) => a - b),
      `lane ${lane ? "backlog" : "live"}`,
    );
  }
}
