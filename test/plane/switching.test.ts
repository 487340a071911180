import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import { SwitchingPlane, type OwnServer, type ServerPlane } from "../../src/plane/switching.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvents } from "../support/stored-event.ts";

const never = new AbortController().signal;

/** A server that is there, silent, full, or holds something else under a key, as it is told. */
class MoodyServer extends MemoryPlane implements ServerPlane {
  readonly description = "unix:///there";
  mood: "there" | "silent" | "full" | "away" = "there";
  foreign = "";
  opened = 0;

  override open(): Promise<void> {
    this.opened += 1;
    if (this.mood === "silent") return new Promise(() => undefined);
    return this.probe();
  }

  probe(): Promise<void> {
    const isThere = this.mood === "there" || this.mood === "full";
    return isThere ? Promise.resolve() : Promise.reject(failure("no answer"));
  }

  override resume(stream: string, head: number): Promise<number | null> {
    return this.#check(stream) ?? super.resume(stream, head);
  }

  override append(stream: string, events: readonly StoredEvent[]): Promise<void> {
    if (this.mood === "full") return Promise.reject(failure("OOM"));
    return this.#check(stream) ?? super.append(stream, events);
  }

  override attach(stream: string, group: string, after: number): Promise<void> {
    return this.#check(stream) ?? super.attach(stream, group, after);
  }

  #check(stream: string): Promise<never> | undefined {
    if (this.mood !== "there") return Promise.reject(failure("no answer"));
    if (stream !== this.foreign) return undefined;
    return Promise.reject(new HoldfastError("STREAM_INVALID", `Key ${stream} holds theirs`));
  }
}

function failure(why: string): HoldfastError {
  return new HoldfastError("STREAM_UNREACHABLE", `Server does not answer: ${why}`);
}

class Bench {
  readonly clock = new FakeClock();
  readonly context = recordingContext("plane", this.clock);
  readonly server = new MoodyServer({ clock: this.clock });
  readonly memory = new MemoryPlane({ clock: this.clock, isRead: (stream) => stream === "in" });
  restarts = 0;
  anew = 0;
  readonly own: OwnServer = {
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    restart: () => (this.restarts += 1),
  };
  readonly plane = new SwitchingPlane({
    context: this.context,
    server: this.server,
    own: this.own,
    memory: this.memory,
  });

  async open(t: TestContext): Promise<this> {
    t.after(async () => {
      this.server.mood = "there";
      await this.pass(0, this.plane.close());
    });
    this.plane.onAnew(() => (this.anew += 1));
    await this.pass(3_000, this.plane.open());
    return this;
  }

  /** Lets time pass in small steps; gives what `work` gives. */
  async pass<T>(ms: number, work?: Promise<T>): Promise<T | undefined> {
    for (let passed = 0; passed <= ms; passed += 50) {
      for (let turns = 0; turns < 5; turns++) await turn();
      if (passed < ms) this.clock.advance(50);
    }
    return work;
  }
}

test("open() takes a server that answers, and memory when none does within 3 s", async (t) => {
  const there = await new Bench().open(t);
  assert.equal(there.plane.isOnServer, true);
  assert.equal(there.context.sums.get("holdfast_plane_connected{}"), 1);
  const silent = new Bench();
  silent.server.mood = "silent";
  await silent.open(t);
  assert.equal(silent.plane.isOnServer, false);
  assert.equal(silent.context.sums.get('holdfast_plane_info{kind="memory"}'), 1);
  assert.match(silent.context.now().detail ?? "", /memory.*within 3000 ms/);
  silent.server.mood = "there";
  await silent.pass(10_000);
  assert.equal(silent.plane.isOnServer, true);
  assert.equal(silent.context.now().status, "ok");
});

test("a server that is silent for less than 2 s is kept, for longer it is left, and taken again", async (t) => {
  const bench = await new Bench().open(t);
  const { plane, server } = bench;
  await plane.attach("in", "g", 0);
  server.mood = "away";
  await bench.pass(1_500);
  server.mood = "there";
  await bench.pass(5_000);
  assert.equal(plane.isOnServer, true);
  server.mood = "away";
  const reading = plane.read("in", "g", 10, 60_000, never);
  await bench.pass(3_500);
  assert.equal(plane.isOnServer, false);
  assert.equal(await reading, "behind", "who waits is told");
  assert.equal(bench.anew, 1);
  assert.equal(await plane.resume("in", 5), 5);
  assert.equal(await plane.resume("unread", 5), null);
  await plane.attach("in", "g", 5);
  await plane.append("in", storedEvents(6, 1));
  assert.equal((await plane.read("in", "g", 10, 0, never)).length, 1);
  server.mood = "there";
  await bench.pass(10_000);
  assert.equal(plane.isOnServer, true);
  assert.equal(bench.anew, 2);
  assert.equal(await plane.read("in", "g", 10, 0, never), "behind");
  assert.deepEqual(bench.memory.held(), { events: 0, bytes: 0 });
});

test("a server that answers and takes nothing is left too", async (t) => {
  const bench = await new Bench().open(t);
  bench.server.mood = "full";
  for (let time = 0; time < 6 && bench.plane.isOnServer; time++) {
    await assert.rejects(bench.plane.append("in", storedEvents(1, 1)), /OOM/);
    await bench.pass(500);
  }
  assert.equal(bench.plane.isOnServer, false);
  assert.match(bench.context.now().detail ?? "", /OOM/);
});

test("a server that comes and goes is returned to after ever longer pauses", async (t) => {
  const bench = await new Bench().open(t);
  const pauses: number[] = [];
  for (let fall = 0; fall < 5; fall++) {
    bench.server.mood = "away";
    while (bench.plane.isOnServer) await bench.pass(100);
    bench.server.mood = "there";
    const from = bench.clock.monotonicMs();
    while (!bench.plane.isOnServer) await bench.pass(100);
    pauses.push(bench.clock.monotonicMs() - from);
  }
  for (const [index, pause] of pauses.slice(1).entries()) {
    assert.ok(pause > (pauses[index] ?? 0) * 1.3, pauses.join());
  }
});

test("an own server that is silent for 30 s is started again", async (t) => {
  const bench = await new Bench().open(t);
  bench.server.mood = "silent";
  bench.server.probe = () => Promise.reject(failure("no answer"));
  await bench.pass(25_000);
  assert.equal(bench.restarts, 0);
  await bench.pass(25_000);
  assert.equal(bench.restarts, 1);
});

test("a stream whose key is theirs is read from memory alone, said, and tried again", async (t) => {
  const bench = await new Bench().open(t);
  const { plane, server } = bench;
  server.foreign = "in";
  assert.equal(await plane.resume("in", 3), 3);
  assert.match(bench.context.now().detail ?? "", /Stream in is read from memory: Key in holds/);
  await plane.attach("in", "g", 3);
  await plane.append("in", storedEvents(4, 2));
  await plane.append("other", storedEvents(1, 2, { stream: "other" }));
  assert.equal((await plane.read("in", "g", 10, 0, never)).length, 2);
  assert.equal(server.held().events, 2, "the other one is on the server");
  assert.equal(plane.isOnServer, true);
  await bench.pass(31_000);
  assert.equal(bench.context.now().status, "degraded");
  server.foreign = "";
  await bench.pass(31_000);
  assert.equal(bench.context.now().status, "ok");
  assert.equal(await plane.read("in", "g", 10, 0, never), "behind");
});
