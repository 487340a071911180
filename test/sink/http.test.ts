import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { loadConfigText } from "../../src/config/load.ts";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { Secret } from "../../src/core/secret.ts";
import { createHttpSink, type HttpSinkSettings } from "../../src/sink/http.ts";
import type { Position, SendResult, Sink } from "../../src/sink/sink.ts";
import { range } from "../support/archive-names.ts";
import { assertSettled } from "../support/assert-settled.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { httpFarSide, linesOf, type Fate, type HttpFarSide } from "../support/http-far-side.ts";
import { httpSettings } from "../support/http-settings.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const never = new AbortController().signal;

interface Scene {
  readonly far: HttpFarSide;
  readonly sink: Sink;
  readonly clock: FakeClock;
  readonly sums: ReadonlyMap<string, number>;
  readonly send: (events: readonly StoredEvent[], signal?: AbortSignal) => Promise<SendResult>;
}

/** An open sink on a server. */
async function opened(t: TestContext, given: Partial<HttpSinkSettings> = {}): Promise<Scene> {
  const far = await httpFarSide(t);
  const clock = new FakeClock();
  const context = recordingContext("api", clock);
  const settings = { ...httpSettings(`${far.url}/v1/events`), ...given };
  const sink = createHttpSink(context, settings, { device: "box" });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  const send = (events: readonly StoredEvent[], signal = never): Promise<SendResult> =>
    sink.send({ device: "box", stream: "readings", events, format: "json" }, signal);
  return { far, sink, clock, sums: context.sums, send };
}

const takenSeqs = (far: HttpFarSide): unknown[] => linesOf(far.taken).map(({ seq }) => seq);

/** Refuses a request that holds one of these. */
const refusing =
  (status: number, ...seqs: readonly number[]) =>
  (request: { readonly body: Buffer }): Fate =>
    linesOf([request as never]).some(({ seq }) => seqs.includes(seq as number))
      ? { status, body: "bad event" }
      : "take";

test("send() posts a batch as lines, compressed, under a key that names its span", async (t) => {
  for (const compression of ["gzip", "zstd", "none"] as const) {
    const { far, send } = await opened(t, { compression });
    assertSettled(await send(storedEvents(1, 200)), 200);
    const [request] = far.requests;
    assert.ok(request !== undefined);
    assert.equal(request.path, "/v1/events");
    assert.equal(request.headers["content-type"], "application/x-ndjson");
    assert.equal(
      request.headers["content-encoding"],
      compression === "none" ? undefined : compression,
    );
    assert.equal(request.key, `box:${testEpoch}:readings:1-200`);
    assert.deepEqual(takenSeqs(far), range(1, 200));
    assert.equal(request.wireBytes < request.body.length / 5, compression !== "none");
  }
});

test("send() posts one JSON array, or a batch of CloudEvents", async (t) => {
  const events = [
    storedEvent({ seq: 1, key: "a", payload: Buffer.from('{"n":\n 1.50}') }),
    storedEvent({
      seq: 2,
      payload: Buffer.from([0xff, 0]),
      headers: { traceparent: "00-ab-cd-01" },
    }),
  ];
  const json = await opened(t, { format: "json" });
  await json.send(events);
  assert.equal(json.far.requests[0]?.headers["content-type"], "application/json");
  const list = JSON.parse(json.far.requests[0]?.body.toString() ?? "") as { payload: unknown }[];
  assert.deepEqual(
    list.map(({ payload }) => payload),
    [{ n: 1.5 }, { base64: "/wA=" }],
  );
  assert.match(json.far.requests[0]?.body.toString() ?? "", /"n": {2}1\.50/, "digits as they were");

  const cloud = await opened(t, { format: "cloudevents" });
  await cloud.send(events);
  assert.match(
    cloud.far.requests[0]?.headers["content-type"] ?? "",
    /^application\/cloudevents-batch\+json/,
  );
  assert.deepEqual(JSON.parse(cloud.far.requests[0]?.body.toString() ?? ""), [
    {
      specversion: "1.0",
      id: "1",
      source: `/box/${testEpoch}/readings`,
      type: "holdfast.readings",
      subject: "a",
      time: "2026-01-01T00:00:00.001Z",
      receivedtime: "2026-01-01T00:00:00.006Z",
      datacontenttype: "application/json",
      data: { n: 1.5 },
    },
    {
      specversion: "1.0",
      id: "2",
      source: `/box/${testEpoch}/readings`,
      type: "holdfast.readings",
      time: "2026-01-01T00:00:00.002Z",
      receivedtime: "2026-01-01T00:00:00.007Z",
      traceparent: "00-ab-cd-01",
      data_base64: "/wA=",
    },
  ]);
});

test("send() carries headers, token or password, and fills in the path", async (t) => {
  const secret = (text: string): Secret => new Secret({ text });
  const base = await opened(t);
  const url = `${base.far.url.replace("//", "//edge:p%40ss@")}/{device}/{stream}`;
  for (const [given, authorization] of [
    [{ token: secret("t0ken") }, "Bearer t0ken"],
    [{ username: "u", password: secret("w") }, `Basic ${Buffer.from("u:w").toString("base64")}`],
    [{ url }, `Basic ${Buffer.from("edge:p@ss").toString("base64")}`],
  ] as const) {
    const settings = {
      ...httpSettings(`${base.far.url}/{device}/{stream}`),
      headers: { "X-Api-Key": secret("k") },
      ...given,
    };
    const sink = createHttpSink(recordingContext("api", base.clock), settings, { device: "box" });
    await sink.open(new Map(), never);
    const batch = { device: "box", stream: "readings", events: storedEvents(1, 1) };
    assert.equal((await sink.send(batch, never)).settled, 1);
    await sink.close();
    const { path, headers } = base.far.requests.at(-1) ?? assert.fail();
    assert.equal(path, "/box/readings");
    assert.equal(headers["x-api-key"], "k");
    assert.equal(headers.authorization, authorization);
  }
});

test("send() keeps one connection, and sends again at once what met its end", async (t) => {
  const { far, send } = await opened(t);
  for (const first of [1, 11, 21]) await send(storedEvents(first, 10));
  assert.equal(far.connections(), 1);
  // The server closes the idle connection as the next request comes.
  far.fate = (_request, number) => (number === 4 ? "cut" : "take");
  assert.equal((await send(storedEvents(31, 10))).failure, undefined);
  assert.deepEqual(takenSeqs(far), range(1, 40));
  assert.equal(far.connections(), 2);
});

test("send() halves what is refused until the culprits stand alone, and says why", async (t) => {
  for (const status of [400, 422, 409]) {
    const { far, send } = await opened(t);
    await send(storedEvents(1, 1));
    far.fate = refusing(status, 7, 500, 501, 1001);
    const { settled, refused, failure } = await send(storedEvents(2, 1000));
    assert.equal(settled, 1000);
    assert.equal(failure, undefined);
    assert.deepEqual(
      refused.map(({ index }) => index + 2),
      [7, 500, 501, 1001],
    );
    assert.equal(refused[0]?.error.code, "SINK_REFUSED");
    assert.match(refused[0]?.error.message ?? "", new RegExp(`answered ${status}: bad event`));
    const wanted = range(1, 1001).filter((seq) => ![7, 500, 501, 1001].includes(seq));
    assert.deepEqual(takenSeqs(far), wanted, "the rest in order, each once");
    assert.ok(far.requests.length <= 2 + 2 * 4 * Math.ceil(Math.log2(1000)), "bounded");
  }
});

test("send() cuts what is too large, remembers that, and refuses one event that is", async (t) => {
  const { far, send } = await opened(t);
  far.fate = ({ body }) => (linesOf([{ body } as never]).length > 60 ? { status: 413 } : "take");
  assert.equal((await send(storedEvents(1, 200))).settled, 200);
  far.requests.length = 0;
  assert.equal((await send(storedEvents(201, 200))).settled, 200);
  assert.equal(far.requests.length, 4, "it tries no large one again");
  assert.deepEqual(takenSeqs(far), range(1, 400));
  far.fate = () => ({ status: 413 });
  const { settled, refused } = await send(storedEvents(401, 2));
  assert.deepEqual([settled, refused.length], [2, 2]);
});

test("send() dead-letters nothing for what is no event's fault", async (t) => {
  for (const [status, kind] of [
    [401, "config"],
    [403, "config"],
    [404, "config"],
    [407, "config"],
    [415, "config"],
    [301, "config"],
    [501, "config"],
    [302, "transient"],
    [408, "transient"],
    [429, "transient"],
    [500, "transient"],
    [503, "transient"],
    [511, "transient"],
  ] as const) {
    const { far, send } = await opened(t);
    far.fate = () => ({ status, headers: { location: "https://elsewhere.example/" }, body: "no" });
    const { settled, refused, failure } = await send(storedEvents(1, 4));
    assert.deepEqual([settled, refused], [0, []]);
    assert.equal(failure?.kind, kind, String(status));
    assert.match(failure.message, new RegExp(`answered ${status}`));
    assert.equal(far.requests.length, 1, "redirects are not followed");
  }
});

test("send() gives up no more than 32 events to a server that has never confirmed one", async (t) => {
  const { far, send } = await opened(t);
  far.fate = () => ({ status: 400, body: "not what I take" });
  const { settled, refused, failure } = await send(storedEvents(1, 100));
  assert.deepEqual([settled, refused.length], [32, 32]);
  assert.equal(failure?.kind, "config");
  assert.match(failure.message, /refused 32 events before this one/);
  assert.equal((await send(storedEvents(33, 68))).settled, 0);
  far.fate = refusing(400, ...range(40, 80));
  const later = await send(storedEvents(33, 68));
  assert.deepEqual([later.settled, later.refused.length], [68, 41], "one that has is believed");
});

test("send() tells how long a busy server wants to be left alone, an hour at the most", async (t) => {
  const { far, send } = await opened(t);
  const date = "Thu, 01 Jan 2026 00:00:00 GMT";
  const cases: [number, Record<string, string>, number | undefined][] = [
    [429, { "retry-after": "7" }, 7000],
    [503, { "retry-after": "7" }, 7000],
    [403, { "retry-after": "7" }, 7000],
    [413, { "retry-after": "7" }, 7000],
    [503, { "retry-after": "999999" }, 3_600_000],
    [503, { "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT", date }, 30_000],
    [503, { "retry-after": "Thursday, 01-Jan-26 00:00:30 GMT", date }, 30_000],
    [503, { "retry-after": "Thu Jan  1 00:00:30 2026", date }, 30_000],
    [503, { "retry-after": "Thu, 01 Jan 2025 00:00:00 GMT", date }, 0],
    [503, { "retry-after": "soon" }, undefined],
    [503, {}, undefined],
  ];
  for (const [status, headers, wanted] of cases) {
    far.fate = () => ({ status, headers });
    const { failure } = await send(storedEvents(1, 1));
    assert.equal(failure?.kind, "transient");
    assert.equal(failure.retryAfterMs, wanted, JSON.stringify(headers));
  }
});

test("send() takes no web page for a confirmation, as a captive portal answers", async (t) => {
  const { far, send } = await opened(t);
  const headers = { "content-type": "text/html; charset=utf-8" };
  far.fate = () => ({ status: 200, headers, body: " \n<!doctype html><title>Log in</title>" });
  const { settled, failure } = await send(storedEvents(1, 1));
  assert.equal(settled, 0);
  assert.match(failure?.message ?? "", /captive portal/);
  // Simple frameworks call any text so.
  far.fate = () => ({ status: 200, headers, body: "ok" });
  assert.equal((await send(storedEvents(1, 1))).settled, 1);
});

test("send() takes the head of an answer for the answer, and reads a bounded body", async (t) => {
  const { far, send } = await opened(t);
  far.fate = () => ({ status: 200, takes: true, body: "x".repeat(100), isCut: true });
  assert.equal((await send(storedEvents(1, 1))).settled, 1);
  far.fate = () => ({ status: 500, body: "y".repeat(50_000_000) });
  const { failure } = await send(storedEvents(2, 1));
  assert.ok((failure?.message.length ?? 0) < 400);
});

test("send() gives up a server that does not answer, and a delivery that is stopped", async (t) => {
  const { far, clock, send } = await opened(t, { answerTimeout: 5000 });
  far.fate = () => "hang";
  const sending = send(storedEvents(1, 3));
  await until("the request", () => far.requests.length === 1);
  clock.advance(5000);
  assert.match((await sending).failure?.message ?? "", /did not answer within 5 s/);
  const stop = new AbortController();
  const stopped = send(storedEvents(1, 3), stop.signal);
  await until("the request", () => far.requests.length === 2);
  stop.abort();
  assert.match((await stopped).failure?.message ?? "", /stopped/);
  assert.equal(clock.waiting, 0, "no timer is left");
});

test("send() repeats a request whose answer was lost as it was, whatever has come since", async (t) => {
  const { far, clock, send } = await opened(t, { answerTimeout: 5000 });
  far.honoursKeys = true;
  far.fate = (_request, number) => (number === 1 ? "take-and-hang" : "take");
  const sending = send(storedEvents(1, 10));
  await until("the request", () => far.requests.length === 1);
  clock.advance(5000);
  assert.equal((await sending).settled, 0);
  assertSettled(await send(storedEvents(1, 50)), 10);
  assert.equal((await send(storedEvents(11, 40))).settled, 40);
  assert.deepEqual(takenSeqs(far), range(1, 50));
  assert.deepEqual(
    far.requests.map(({ key }) => key.split(":").at(-1)),
    ["1-10", "1-10", "11-50"],
  );
});

test("send() repeats the half that was under way, as it was", async (t) => {
  const { far, send } = await opened(t);
  far.honoursKeys = true;
  let cuts = 0;
  const bad = refusing(400, 3, 90);
  far.fate = (request) => {
    if (request.key.endsWith(":51-75") && ++cuts < 3) return "take-and-cut";
    return bad(request);
  };
  const first = await send(storedEvents(1, 100));
  assert.ok(first.failure !== undefined);
  assert.equal(first.settled, 50);
  const second = await send(storedEvents(51, 200));
  assert.equal(second.settled, 50);
  assert.deepEqual(
    second.refused.map(({ index }) => index + 51),
    [90],
  );
  const wanted = range(1, 100).filter((seq) => seq !== 3 && seq !== 90);
  assert.deepEqual(takenSeqs(far), wanted, "each once");
});

test("announce() names the span that a crash must not change, and open() takes it up", async (t) => {
  const { far, sink } = await opened(t, { idempotency: "crash" });
  far.honoursKeys = true;
  const batch = { device: "box", stream: "readings", events: storedEvents(1, 10) };
  const mark = sink.announce?.(batch).mark ?? assert.fail();
  far.fate = () => "take-and-cut";
  assert.ok((await sink.send(batch, never)).failure !== undefined);
  await sink.close();
  // Another process: it knows the mark alone.
  const settings = { ...httpSettings(`${far.url}/v1/events`), idempotency: "crash" as const };
  const next = createHttpSink(recordingContext("api", new FakeClock()), settings, {
    device: "box",
  });
  t.after(() => next.close());
  const positions = new Map<string, Position>([["readings", { seq: 0, mark }]]);
  await next.open(positions, never);
  far.fate = () => "take";
  const more = { ...batch, events: storedEvents(1, 30) };
  assert.deepEqual(next.announce?.(more), { upTo: 10, mark }, "nothing new to keep");
  assert.equal((await next.send(more, never)).settled, 10);
  const rest = { ...batch, events: storedEvents(11, 20) };
  assert.notEqual(next.announce?.(rest).mark, mark);
  assert.equal((await next.send(rest, never)).settled, 20);
  assert.deepEqual(takenSeqs(far), range(1, 30));
  const forgetful = (await opened(t)).sink;
  assert.deepEqual(forgetful.announce?.(batch), { upTo: 10 });
});

test("send() puts no two epochs into one request", async (t) => {
  const { far, send } = await opened(t);
  const events = [...storedEvents(1, 3), ...storedEvents(4, 2, { epoch: "other" })];
  assert.equal((await send(events)).settled, 3);
  assert.equal((await send(events.slice(3))).settled, 2);
  assert.deepEqual(
    far.requests.map(({ key }) => key),
    [`box:${testEpoch}:readings:1-3`, "box:other:readings:4-5"],
  );
});

test("send() tells the bytes on the wire, repetitions counted, and what they were before", async (t) => {
  const { far, send, sums } = await opened(t);
  const { wireBytes = 0, plainBytes } = await send(storedEvents(1, 500));
  const [request] = far.requests;
  assert.equal(plainBytes, request?.body.length);
  const head = wireBytes - (request?.wireBytes ?? 0);
  assert.ok(head > 100 && head < 600, `the head is counted: ${head}`);
  assert.equal(sums.get('holdfast_sink_requests_total{sink="api",outcome="confirmed"}'), 1);
  far.fate = refusing(400, 501);
  const halved = await send(storedEvents(501, 2));
  assert.ok((halved.wireBytes ?? 0) > 2 * head, "three requests");
  assert.equal(sums.get('holdfast_sink_requests_total{sink="api",outcome="refused"}'), 2);
});

test("send() keeps spans of fresh events and of a backlog apart, each as it was begun", async (t) => {
  const { far, sink, send } = await opened(t, { idempotency: "crash" });
  far.honoursKeys = true;
  const batch = (first: number, count: number) => ({
    device: "box",
    stream: "readings",
    events: storedEvents(first, count),
  });
  far.fate = () => "take-and-cut";
  await send(storedEvents(1, 10));
  const { mark } = sink.announce?.(batch(101, 10)) ?? assert.fail();
  await send(storedEvents(101, 10));
  await sink.close();
  const settings = { ...httpSettings(`${far.url}/v1/events`), idempotency: "crash" as const };
  const next = createHttpSink(recordingContext("api", new FakeClock()), settings, {
    device: "box",
  });
  t.after(() => next.close());
  await next.open(new Map([["readings", { seq: 0, mark: mark ?? null }]]), never);
  far.fate = () => "take";
  // One lane now: it meets the span of the backlog, goes up to that of the fresh events, and meets that.
  for (const [first, last] of [
    [1, 10],
    [11, 100],
    [101, 110],
    [111, 150],
  ] as const) {
    const all = batch(first, 151 - first);
    assert.equal(next.announce?.(all).upTo, last);
    assert.equal((await next.send(all, never)).settled, last - first + 1);
  }
  assert.deepEqual(
    takenSeqs(far).toSorted((a, b) => Number(a) - Number(b)),
    range(1, 150),
  );
});

test("open() says who cannot be reached, without the URL's password", async (t) => {
  const far = await httpFarSide(t);
  const url = far.url.replace("//", "//edge:hidden@");
  await far.goAway();
  const context = recordingContext("api", new FakeClock());
  const sink = createHttpSink(context, httpSettings(`${url}/secret-path`), { device: "box" });
  await assert.rejects(sink.open(new Map(), never), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "SINK_UNREACHABLE");
    assert.match(
      error.message,
      /^Cannot deliver to http:\/\/127\.0\.0\.1:\d+: connect ECONNREFUSED/,
    );
    return true;
  });
  await sink.close();
});

test("open() says that a header's secret cannot be a header", async (t) => {
  const { send } = await opened(t, { token: new Secret({ text: "two\nlines" }) });
  const { failure } = await send(storedEvents(1, 1));
  assert.equal(failure?.kind, "config");
  assert.doesNotMatch(failure.message, /two/);
});

test("open() shows our certificate to a server that asks for one, and trusts none that it does not know", async (t) => {
  requireProgram("openssl", "openssl");
  const folder = tempDir(t);
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const request = [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
  ];
  const subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", key, "-out", cert, "-days", "2"];
  execFileSync("openssl", [...request, ...subject, ...files], { stdio: "ignore" });
  const [certPem, keyPem] = [readFileSync(cert), readFileSync(key)];
  const far = await httpFarSide(t, {
    cert: certPem,
    key: keyPem,
    ca: certPem,
    requestCert: true,
    rejectUnauthorized: true,
  });
  const sinkWith = (tls: Partial<HttpSinkSettings["tls"]>): Sink => {
    const settings = { ...httpSettings(far.url), tls: { ...httpSettings(far.url).tls, ...tls } };
    const sink = createHttpSink(recordingContext("api", new FakeClock()), settings, {
      device: "box",
    });
    t.after(() => sink.close());
    return sink;
  };
  const batch = { device: "box", stream: "readings", events: storedEvents(1, 10) };
  const known = sinkWith({ ca: cert, cert, key });
  await known.open(new Map(), never);
  for (let round = 0; round < 3; round++) assertSettled(await known.send(batch, never), 10);
  assert.equal(far.connections(), 1);

  await assert.rejects(sinkWith({ cert, key }).open(new Map(), never), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "SINK_DENIED");
    assert.match(error.message, /self-signed/);
    return true;
  });
  // TLS 1.3: the server says so only after its handshake is done for us.
  const nobody = sinkWith({ ca: cert });
  await nobody.open(new Map(), never);
  assert.equal((await nobody.send(batch, never)).failure?.code, "SINK_UNREACHABLE");
  assert.equal(far.taken.length, 3);
});

test("the configuration says which places a URL has", () => {
  const problems = (sink: string): string => {
    const loaded = loadConfigText(
      `sources: { board: { type: system } }\nsinks: { up: { from: [system], ${sink} } }`,
      "a.yaml",
    );
    return "problems" in loaded ? JSON.stringify(loaded.problems) : "";
  };
  assert.equal(problems('type: http, url: "https://a/{device}/{stream}"'), "");
  assert.match(problems('type: http, url: "https://a/{devise}"'), /not \{devise\}/);
});
