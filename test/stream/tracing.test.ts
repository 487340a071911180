/** W3C trace context through streams, with OpenTelemetry's own SDK and without one. */
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { context, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from "@opentelemetry/sdk-trace-base";
import {
  MemoryBackend,
  MemoryStore,
  Stream,
  ValkeyBackend,
  type StreamBackend,
  type StreamOptions,
} from "../../src/index.ts";
import { decodeEntry } from "../../src/wire/encodings.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

type Reading = { n: number };

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

const exporter = new InMemorySpanExporter();
let count = 0;

/** OpenTelemetry as a user sets it up; undone after the test. */
function withSdk(t: TestContext): void {
  const spanProcessors = [new SimpleSpanProcessor(exporter)];
  const manager = new AsyncLocalStorageContextManager();
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors }));
  context.setGlobalContextManager(manager.enable());
  exporter.reset();
  t.after(() => {
    trace.disable();
    context.disable();
  });
}

function streamOf(t: TestContext, over: Partial<StreamOptions<Reading>>): Stream<Reading> {
  const stream = new Stream<Reading>({
    topic: over.topic ?? `traced-${++count}`,
    group: "g",
    state: new MemoryStore({ wallMs: () => Date.now() }),
    log: quiet,
    retry: { attempts: 2, backoffMs: 5, maxBackoffMs: 5 },
    ...over,
  });
  t.after(() => stream.stop());
  return stream;
}

const spans = (name: string): ReadableSpan[] =>
  exporter.getFinishedSpans().filter((span) => span.name === name);

function only(name: string): ReadableSpan {
  const [first, ...others] = spans(name);
  assert.ok(first !== undefined, `no span ${name}`);
  assert.equal(others.length, 0, `more than one span ${name}`);
  return first;
}

const idOf = (span: ReadableSpan): string => span.spanContext().spanId;
const traceOf = (span: ReadableSpan): string => span.spanContext().traceId;

const backends: Record<string, () => StreamBackend> = {
  memory: () => new MemoryBackend(),
  "a server": () => new ValkeyBackend({ url: server.url }),
};

for (const [kind, backend] of Object.entries(backends)) {
  test(`Stream carries a trace from emit through a handler into a second topic: ${kind}`, async (t) => {
    withSdk(t);
    const [topic, second] = [`first-${++count}`, `second-${count}`];
    const stream = streamOf(t, { topic, backend: backend() });
    const seen: string[] = [];
    stream.subscribe((event, { emit }) => emit(second, { n: event.payload.n + 1 }));
    stream.subscribe((event) => void seen.push(event.id), { topic: second });
    const root = trace.getTracer("test").startSpan("root");
    await context.with(trace.setSpan(context.active(), root), () => stream.emit({ n: 1 }));
    root.end();
    await stream.start();
    await until("the second event", () => seen.length === 1);
    await stream.stop();
    const names = [`send ${topic}`, `process ${topic}`, `create ${second}`, `process ${second}`];
    const chain = [only("root"), ...names.map(only)];
    for (const [at, span] of chain.entries()) {
      assert.equal(traceOf(span), traceOf(chain[0] as ReadableSpan));
      if (at > 0) assert.equal(span.parentSpanContext?.spanId, idOf(chain[at - 1] as ReadableSpan));
    }
    const [, send, process, create, last] = chain;
    assert.deepEqual(
      [send, process, create, last].map((span) => span?.kind),
      [SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.PRODUCER, SpanKind.CONSUMER],
    );
    assert.deepEqual(process?.attributes, {
      "messaging.system": "holdfast",
      "messaging.operation.name": "process",
      "messaging.operation.type": "process",
      "messaging.destination.name": topic,
      "messaging.consumer.group.name": "g",
      "messaging.message.id": send?.attributes["messaging.message.id"],
    });
    assert.equal(create?.attributes["messaging.message.id"], seen[0]);
    assert.deepEqual(
      process?.links.map((link) => link.context.spanId),
      [idOf(send as ReadableSpan)],
    );
  });

  test(`Stream carries a trace into a dead letter and back by its replay, each failure on its span: ${kind}`, async (t) => {
    withSdk(t);
    const stream = streamOf(t, { backend: backend() });
    let isMended = false;
    let done = 0;
    stream.subscribe(() => {
      if (!isMended) throw new RangeError("not yet");
      done += 1;
    });
    await stream.emit({ n: 1 });
    await stream.start();
    const letters = stream.deadLetters();
    await until("the dead letter", async () => (await letters.count()) === 1);
    const sent = only(`send traced-${count}`);
    const [letter] = await letters.list();
    assert.match(letter?.event?.trace.traceparent ?? "", new RegExp(idOf(sent)));
    isMended = true;
    await letters.replay();
    await until("the replayed one", () => done === 1);
    await stream.stop();
    const processed = spans(`process traced-${count}`);
    assert.equal(processed.length, 3);
    for (const span of processed) assert.equal(span.parentSpanContext?.spanId, idOf(sent));
    for (const failed of processed.slice(0, 2)) {
      assert.equal(failed.status.code, SpanStatusCode.ERROR);
      assert.equal(failed.attributes["error.type"], "RangeError");
      assert.equal(failed.events[0]?.attributes?.["exception.message"], "not yet");
    }
    assert.equal(processed[2]?.status.code, SpanStatusCode.UNSET);
  });

  test(`Stream links a batch's span to what each of its events came with: ${kind}`, async (t) => {
    withSdk(t);
    const [topic, second] = [`batched-${++count}`, `batched-out-${count}`];
    const own = backend();
    const stream = streamOf(t, { topic, backend: own });
    let done = 0;
    stream.subscribeBatch((events, { emit }) => {
      done += events.length;
      emit(second, { n: events.length });
    });
    for (const n of [1, 2]) await stream.emit({ n });
    await stream.emit([{ n: 3 }, { n: 4 }]);
    await stream.start();
    await until("four", () => done === 4);
    await until("what they became", async () => (await own.length(second)) === 1);
    await stream.stop();
    const span = only(`process ${topic}`);
    const sends = spans(`send ${topic}`);
    assert.deepEqual(
      sends.map(({ attributes }) => attributes["messaging.batch.message_count"]),
      [undefined, undefined, 2],
    );
    assert.equal(span.parentSpanContext, undefined);
    assert.equal(span.attributes["messaging.batch.message_count"], 4);
    assert.equal(span.attributes["messaging.message.id"], undefined);
    const [one, two, list] = sends.map(idOf);
    assert.deepEqual(
      span.links.map((link) => link.context.spanId),
      [one, two, list, list],
    );
    const created = only(`create ${second}`);
    assert.equal(created.parentSpanContext?.spanId, idOf(span));
  });
}

const parent = "4bf92f3577b34da6a3ce929d0e0e4736";
const valid = `00-${parent}-00f067aa0ba902b7-01`;

/** What goes out of a handler when an entry with these headers comes in. */
async function passedOn(t: TestContext, headers: Record<string, string>): Promise<unknown> {
  const backend = new MemoryBackend();
  const [topic, second] = [`in-${++count}`, `out-${count}`];
  const stream = streamOf(t, { topic, backend });
  stream.subscribe((event, { emit }) => emit(second, { n: event.payload.n }));
  await backend.append(topic, [["event_type", "x", "n", "1", ...Object.entries(headers).flat()]]);
  await stream.start();
  await until("what it became", async () => (await backend.length(second)) === 1);
  await stream.stop();
  const [entry] = await backend.range(second, "-", 1);
  return decodeEntry(entry?.fields ?? []).trace;
}

test("Stream sends on the headers that came as they came where there is no SDK", async (t) => {
  const as = { traceparent: valid, tracestate: "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7" };
  assert.deepEqual(await passedOn(t, as), as);
  const flags = { traceparent: `00-${parent}-00f067aa0ba902b7-03` };
  assert.deepEqual(await passedOn(t, flags), flags);
  const later = { traceparent: `cc-${parent}-00f067aa0ba902b7-01-what-comes` };
  assert.deepEqual(await passedOn(t, later), later);
});

test("Stream keeps what all events of a batch came with, and nothing of several, where there is no SDK", async (t) => {
  const backend = new MemoryBackend();
  const [topic, second] = [`in-${++count}`, `out-${count}`];
  const stream = streamOf(t, { topic, backend, batch: { max: 2 } });
  stream.subscribeBatch((events, { emit }) => emit(second, { n: events.length }));
  const other = `00-${parent}-1111111111111111-01`;
  const entry = (traceparent: string) => ["event_type", "x", "n", "1", "traceparent", traceparent];
  await backend.append(topic, [valid, valid, valid, other].map(entry));
  await stream.start();
  await until("both", async () => (await backend.length(second)) === 2);
  const traces = (await backend.range(second, "-", 2)).map(({ fields }) => decodeEntry(fields));
  assert.deepEqual(
    traces.map(({ trace: headers }) => headers),
    [{ traceparent: valid }, {}],
  );
});

const malformed: Record<string, string> = {
  "no hex": `00-${parent.replace("4", "g")}-00f067aa0ba902b7-01`,
  "capital letters": `00-${parent.toUpperCase()}-00f067aa0ba902b7-01`,
  "a trace of zeros": `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
  "a parent of zeros": `00-${parent}-${"0".repeat(16)}-01`,
  "a version that is none": `ff-${parent}-00f067aa0ba902b7-01`,
  "more than its version has": `${valid}-more`,
  "too little": `00-${parent}-01`,
};

for (const [what, traceparent] of Object.entries(malformed)) {
  test(`Stream begins a new trace where the header is malformed: ${what}`, async (t) => {
    const headers = { traceparent, tracestate: "rojo=1" };
    assert.deepEqual(await passedOn(t, headers), {});
    withSdk(t);
    await passedOn(t, headers);
    const span = only(`process in-${count}`);
    assert.equal(span.parentSpanContext, undefined);
    assert.deepEqual(span.links, []);
    assert.notEqual(traceOf(span), parent);
  });
}

test("Stream takes a tracestate along below an SDK's spans", async (t) => {
  withSdk(t);
  const out = (await passedOn(t, { traceparent: valid, tracestate: "rojo=1,congo=2" })) as {
    traceparent: string;
    tracestate: string;
  };
  const created = only(`create out-${count}`);
  assert.equal(out.traceparent, `00-${parent}-${idOf(created)}-01`);
  assert.equal(out.tracestate, "rojo=1,congo=2");
});
