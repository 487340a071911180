import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { createConsoleSink } from "../../src/sink/console.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent, storedEvents } from "../support/stored-event.ts";

const never = new AbortController().signal;

async function watched(t: TestContext, columns?: number) {
  let text = "";
  let stuck: (() => void) | null = null;
  let isStuck = false;
  const output = Object.assign(
    new Writable({
      highWaterMark: 64,
      write(chunk: Buffer, _encoding, done) {
        text += chunk.toString();
        if (isStuck) stuck = done;
        else done();
      },
    }),
    columns === undefined ? {} : { columns },
  );
  const clock = new FakeClock();
  const options = { from: ["readings"], linesPerSecond: 20 };
  const sink = createConsoleSink(recordingContext("screen", clock), options, {
    device: "box",
    output,
  });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  return {
    sink,
    clock,
    output,
    send: (events: readonly StoredEvent[], signal = never) =>
      sink.send({ device: "box", stream: "readings", events }, signal),
    text: () => text,
    lines: () => text.split("\n").slice(0, -1),
    block: () => (isStuck = true),
    unblock: () => {
      isStuck = false;
      stuck?.();
    },
  };
}

test("send() writes time, stream, key or topic, and payload of each event on a line", async (t) => {
  const { send, lines } = await watched(t);
  await send([
    storedEvent({ key: "esp-3" }),
    storedEvent({ seq: 2, headers: { topic: "greenhouse/3" } }),
    storedEvent({ seq: 3, payload: Buffer.from("21.5") }),
  ]);
  const shown = lines().map((line) => line.replace(/^\d\d:\d\d:\d\d\.\d{3}/, "T"));
  assert.deepEqual(shown, [
    'T  readings  esp-3  {"n":1}',
    'T  readings  greenhouse/3  {"n":2}',
    "T  readings  21.5",
  ]);
});

test("send() lets no event move the cursor, forge a line or turn the writing", async (t) => {
  const { send, text } = await watched(t);
  const payload = Buffer.from("a\n\u001b[2Jb\u009bc\u202ed\u2028e\u0000");
  await send([storedEvent({ payload, key: "k\r\nforged" })]);
  assert.ok(
    text().endsWith(String.raw`k\x0d\x0aforged  a\x0a\x1b[2Jb\x9bc\u202ed\u2028e\x00` + "\n"),
  );
  assert.equal(text().split("\n").length, 2);
});

test("send() cuts a line to the terminal's width, between characters, and looks at no more than it shows", async (t) => {
  const { send, lines } = await watched(t, 60);
  await send([storedEvent({ payload: Buffer.from("😀".repeat(300_000)) })]);
  const [line = ""] = lines();
  assert.equal(Array.from(line).length, 60);
  assert.ok(line.endsWith("😀…"));
  assert.equal((await watched(t)).output.columns, undefined);
});

test("send() folds what goes beyond 20 lines in a second, and unfolds once a second", async (t) => {
  const { send, lines, clock } = await watched(t);
  await send(storedEvents(1, 500));
  await send(storedEvents(501, 754));
  assert.equal(lines().length, 20);
  clock.advance(1000);
  assert.equal(lines().length, 21);
  assert.match(
    lines()[20] ?? "",
    /readings {2}\+1,234 events \(seq 21–1254\), last: \{"n":1254\}$/,
  );
  // A busy second is followed by folded ones until one is quiet.
  await send(storedEvents(1255, 3));
  assert.equal(lines().length, 21);
  clock.advance(1000);
  assert.match(lines()[21] ?? "", /\+3 events \(seq 1255–1257\)/);
  clock.advance(1000);
  await send(storedEvents(1258, 2));
  assert.equal(lines().length, 24);
  assert.match(lines().at(-1) ?? "", /readings {2}\{"n":1259\}$/);
  clock.advance(10_000);
  assert.equal(lines().length, 24);
  assert.equal(clock.waiting, 0, "no timer runs while nothing comes");
});

test("close() says what was folded and leaves no timer and no listener", async (t) => {
  const { sink, send, lines, clock, output } = await watched(t);
  await send(storedEvents(1, 25));
  await sink.close();
  await sink.close();
  assert.match(lines().at(-1) ?? "", /\+5 events \(seq 21–25\)/);
  assert.equal(clock.waiting, 0);
  assert.equal(output.listenerCount("error"), 0);
});

test("send() waits for a slow reader, and gives up when it is stopped", async (t) => {
  const { send, block, unblock } = await watched(t);
  block();
  let done = false;
  const sending = send(storedEvents(1, 3)).then((result) => {
    done = true;
    return result;
  });
  await new Promise(setImmediate);
  assert.equal(done, false);
  unblock();
  assert.equal((await sending).settled, 3);
  block();
  const stop = new AbortController();
  const stopped = send(storedEvents(4, 1), stop.signal);
  stop.abort();
  await assert.rejects(stopped, { code: "SINK_UNREACHABLE" });
  unblock();
});

test("send() reports a reader that has gone, without a crash, and open() does so again", async (t) => {
  const gone = Object.assign(new Error("write EPIPE"), { code: "EPIPE" });
  const output = new Writable({ write: (_chunk, _encoding, done) => done(gone) });
  const context = recordingContext("screen", new FakeClock());
  const options = { from: ["readings"], linesPerSecond: 20 };
  const sink = createConsoleSink(context, options, { device: "box", output });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  const isDenied = (error: unknown): boolean =>
    error instanceof HoldfastError &&
    error.code === "SINK_DENIED" &&
    /nobody reads/.test(error.message);
  const batch = { device: "box", stream: "readings", events: storedEvents(1, 2) };
  await assert.rejects(sink.send(batch, never), isDenied);
  await sink.close();
  await assert.rejects(sink.open(new Map(), never), isDenied);
});
