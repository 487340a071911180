/** What waits because one stream finds no room, while others go on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesByStream, divided } from "../../src/journal/intaken.ts";
import { Outbox, waitingEventsMax } from "../../src/journal/outbox.ts";
import type { Moment } from "../../src/journal/protocol.ts";
import { decodeSections } from "../../src/journal/section.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { event } from "../support/test-journal.ts";

const now: Moment = { wallMs: 0, monotonicMs: 0, clock: "synced" };

class Bench {
  readonly outbox = new Outbox(
    new FakeClock(),
    () => 1000,
    1 << 30,
    (stream) => stream.startsWith("held"),
  );
  readonly told: string[] = [];
  #sent = 0;

  /** As a source would, until there is no room; gives back how many it was. */
  offer(stream: string, most: number, bytes = 20): number {
    let count = 0;
    for (; count < most && this.outbox.hasRoom(stream); count++) {
      const text = `${stream} ${++this.#sent}`;
      this.outbox.append(stream, event(text.padEnd(bytes)), () => this.told.push(text));
    }
    return count;
  }

  /** One turn in which these streams find no room; gives back the streams that it brought. */
  turn(refused: readonly string[], meanwhile: () => void = () => undefined): string[] {
    const sent = this.outbox.take(now);
    const brought = [...bytesByStream(sent.turn.intake).keys()];
    meanwhile();
    const { held } = divided(sent.turn.intake, new Set(refused));
    const { told, waiting } = sent.divided(new Set(refused));
    if (waiting.settled.length > 0) this.outbox.hold(sent, held, waiting);
    else this.outbox.landed();
    for (const settled of told) settled();
    return brought;
  }
}

test("hold() keeps one stream back, in its order, and lets the others go on", () => {
  const bench = new Bench();
  bench.offer("held", 3);
  bench.offer("alarms", 2);
  bench.turn(["held"]);
  assert.deepEqual(bench.told, ["alarms 4", "alarms 5"]);
  assert.deepEqual(bench.outbox.heldStreams, ["held"]);
  assert.ok(!bench.outbox.hasRoom("held") && !bench.outbox.hasRoom());
  assert.equal(bench.offer("alarms", 1), 1);
  assert.deepEqual(bench.turn(["held"]), ["held", "alarms"]);
  assert.equal(bench.told.at(-1), "alarms 6");
  const sent = bench.outbox.take(now);
  const texts = sent.turn.intake.sections.flatMap(({ bytes }) =>
    decodeSections(bytes, {
      stream: "",
      epoch: "",
      clock: "synced",
      first: 1,
      bootOffsetMs: null,
    }).map(({ payload }) => Buffer.from(payload).toString().trim()),
  );
  assert.deepEqual(texts, ["held 1", "held 2", "held 3"]);
});

test("hasRoom() says no for what is held also while it is tried again, and yes when it is on disk", () => {
  const bench = new Bench();
  bench.offer("held", 3);
  bench.turn(["held"]);
  bench.turn(["held"], () => assert.equal(bench.offer("held", 10), 0));
  bench.turn([], () => assert.equal(bench.offer("held", 10), 0));
  assert.deepEqual(bench.told, ["held 1", "held 2", "held 3"]);
  assert.equal(bench.offer("held", 1), 1);
});

test("hasRoom() gives a stream that may be held a quarter of the bounds, in events and in bytes", () => {
  const bench = new Bench();
  assert.equal(bench.offer("held", 10_000), waitingEventsMax / 4);
  assert.equal(bench.offer("alarms", 10_000), (waitingEventsMax * 3) / 4, "others have the rest");
  bench.turn([]);
  const large = bench.offer("held", 10_000, 64 * 1024);
  assert.ok(large >= 31 && large <= 33, `${large} of 64 KiB in 2 MiB`);
});

test("hasRoom() ends at three times the bounds however many streams are held", () => {
  const bench = new Bench();
  let waiting = 0;
  const names: string[] = [];
  for (let index = 0; index < 40; index++) {
    const name = `held-${index}`;
    const count = bench.offer(name, 10_000);
    waiting += count;
    names.push(name);
    if (count > 0) bench.turn(names);
  }
  assert.ok(waiting >= 3 * waitingEventsMax && waiting <= 3.25 * waitingEventsMax, `${waiting}`);
  assert.equal(bench.offer("alarms", 1), 0);
});
