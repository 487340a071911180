import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { Secret } from "../../src/core/secret.ts";
import { createAdmin } from "../../src/host/admin.ts";
import { createHealthBook } from "../../src/host/health.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { noGroups, noneAbsent, servedAdmin } from "../support/served-admin.ts";
import { deadLetter, shelfJournal } from "../support/shelf-journal.ts";
import { storedEvent, storedEvents } from "../support/stored-event.ts";
import { until } from "../support/until.ts";

type Row = Record<string, unknown>;

async function linesOf(url: string): Promise<Row[]> {
  const response = await fetch(url);
  assert.equal(response.status, 200, await response.clone().text());
  const lines = (await response.text()).split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Row);
}

const never = (): never => assert.fail("Nobody asked for a replay");

function admin(listen: string, token?: Secret): () => unknown {
  const clock = new FakeClock();
  const health = createHealthBook({ clock, version: "0.1.0", device: () => "pi" });
  const parts = { context: recordingContext("admin", clock), journal: shelfJournal(), health };
  const redelivery = { replay: never, replayThese: never };
  const rest = {
    sinks: new Map(),
    paused: noGroups,
    absent: noneAbsent,
    formats: new Map(),
    processors: new Map(),
    redelivery,
    version: "0.1.0",
    ...(token !== undefined && { token }),
  };
  return () => createAdmin({ ...parts, ...rest, listen });
}

test("createAdmin() without a token listens on loopback or a socket only", () => {
  const refused = (error: unknown): boolean =>
    error instanceof HoldfastError && error.code === "LISTEN_FAILED" && error.kind === "config";
  assert.throws(admin("0.0.0.0:8001"), refused);
  assert.throws(admin("192.168.1.5:8001"), refused);
  assert.throws(admin("[::]:8001"), refused);
  admin("127.0.0.1:8001")();
  admin("unix:/run/holdfast/admin.sock")();
  admin("0.0.0.0:8001", new Secret({ text: "s3cret" }))();
});

test("open() fails when the token cannot be read", async () => {
  const made = admin("127.0.0.1:0", new Secret({ file: "/no/such/token" }))() as ReturnType<
    typeof createAdmin
  >;
  await assert.rejects(made.open(), { code: "SECRET_UNREADABLE" });
  await made.close();
});

test("every route asks for the token, and tells nothing without it", async (t) => {
  const { url } = await servedAdmin(t, { token: "s3cret" });
  for (const path of [
    "/health",
    "/streams",
    "/streams/readings/events",
    "/nothing",
    "/openapi.json",
  ]) {
    for (const authorization of [
      undefined,
      "Bearer wrong",
      "Bearer s3cretx",
      "Basic s3cret",
      "Bearer ",
    ]) {
      const headers = authorization === undefined ? {} : { authorization };
      const response = await fetch(url + path, { headers });
      assert.equal(response.status, 401, `${path} ${authorization}`);
      assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
      assert.doesNotMatch(await response.text(), /s3cret/);
    }
  }
  const headers = { authorization: "Bearer s3cret" };
  assert.equal((await fetch(`${url}/streams`, { headers })).status, 200);
  assert.equal((await fetch(`${url}/nothing`, { headers })).status, 404);
});

test("GET /streams lists the streams of the configuration and of the journal", async (t) => {
  const { url, journal } = await servedAdmin(t);
  journal.put(...storedEvents(41, 10), storedEvent({ stream: "derived", seq: 1 }));
  journal.letters.push(deadLetter());
  const { streams } = (await (await fetch(`${url}/streams`)).json()) as { streams: Row[] };
  assert.deepEqual(
    streams.map((row) => row["name"]),
    ["derived", "frames", "notes", "readings"],
  );
  assert.deepEqual(streams[3], {
    name: "readings",
    format: "json",
    first: 41,
    head: 50,
    events: 10,
    bytes: 80,
    deadLetters: 1,
  });
  assert.deepEqual([streams[1]?.["events"], streams[1]?.["head"]], [0, 0]);
});

test("GET /streams/{stream}/events starts at a seq, or so many from the end", async (t) => {
  const { url, journal } = await servedAdmin(t);
  journal.put(...storedEvents(1, 600));
  const seqs = async (query: string): Promise<unknown[]> =>
    (await linesOf(`${url}/streams/readings/events${query}`)).map((line) => line["seq"]);
  assert.deepEqual(await seqs("?from=-3"), [598, 599, 600]);
  assert.deepEqual(await seqs("?from=599"), [599, 600]);
  assert.deepEqual(await seqs("?from=5&limit=2"), [5, 6]);
  assert.deepEqual(await seqs("?from=601"), []);
  assert.equal((await seqs("")).length, 100);
  assert.deepEqual(
    await seqs("?from=-1000&limit=1000"),
    storedEvents(1, 600).map((event) => event.seq),
  );
  assert.equal(journal.largestRead(), 256, "read page by page");
  for (const query of ["?from=x", "?limit=0", "?limit=1.5", "?limit=2000000"]) {
    assert.equal((await fetch(`${url}/streams/readings/events${query}`)).status, 400, query);
  }
  const unknown = await fetch(`${url}/streams/redings/events`);
  assert.equal(unknown.status, 404);
  assert.match(await unknown.text(), /frames, notes, readings/);
});

test("GET /streams/{stream}/events shows payloads as their format has them", async (t) => {
  const { url, journal } = await servedAdmin(t);
  const exact = '{"big":12345678901234567890,"spaced": [1, 2]}';
  journal.put(
    storedEvent({ seq: 1, payload: Buffer.from(exact), key: "e1", headers: { topic: "a/b" } }),
    storedEvent({ seq: 2, payload: Buffer.from('{\n  "a": 1\r\n}') }),
    storedEvent({ seq: 3, payload: Buffer.from("not json") }),
    storedEvent({ seq: 4, time: 9e15 }),
    storedEvent({ stream: "notes", payload: Buffer.from('say "hi"\n') }),
    storedEvent({ stream: "frames", payload: Uint8Array.of(0, 255) }),
  );
  const text = await (await fetch(`${url}/streams/readings/events`)).text();
  const [first] = text.split("\n");
  assert.ok(first?.endsWith(`"payload":${exact}}`), "as its sender wrote it");
  const [one, two, three, four] = await linesOf(`${url}/streams/readings/events`);
  assert.deepEqual(
    { ...one, payload: null },
    {
      device: "greenhouse-1",
      epoch: "5eed0000-0000-4000-8000-00000000000a",
      stream: "readings",
      seq: 1,
      time: "2026-01-01T00:00:00.001Z",
      receivedAt: "2026-01-01T00:00:00.006Z",
      clock: "synced",
      key: "e1",
      headers: { topic: "a/b" },
      payload: null,
    },
  );
  assert.deepEqual(two?.["payload"], { a: 1 });
  assert.deepEqual(three?.["payload"], { base64: "bm90IGpzb24=" });
  assert.equal(four?.["time"], "9000000000000000");
  assert.equal((await linesOf(`${url}/streams/notes/events`))[0]?.["payload"], 'say "hi"\n');
  assert.deepEqual((await linesOf(`${url}/streams/frames/events`))[0]?.["payload"], {
    base64: "AP8=",
  });
});

/** Follows a stream; what came so far can be read at any time. */
async function follow(
  t: TestContext,
  url: string,
): Promise<{ text: () => string; leave: () => void }> {
  const controller = new AbortController();
  t.after(() => controller.abort());
  const response = await fetch(url, { signal: controller.signal });
  assert.equal(response.status, 200);
  let text = "";
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) text += decoder.decode(chunk as Uint8Array);
  };
  void read().catch(() => undefined);
  return { text: () => text, leave: () => controller.abort() };
}

test("GET /streams/{stream}/events?follow goes on with what comes, and ends when the client leaves", async (t) => {
  const { url, journal, clock } = await servedAdmin(t);
  journal.put(...storedEvents(1, 3));
  const { text, leave } = await follow(t, `${url}/streams/readings/events?from=-1&follow=true`);
  await until("what is there", () => text().includes('"seq":3'));
  await until("the follower to wait", () => journal.listeners() === 1);
  journal.put(storedEvent({ stream: "notes", seq: 1, payload: Buffer.from("other") }));
  journal.put(...storedEvents(4, 2));
  await until("what comes", () => text().includes('"seq":5'));
  await until("the follower to wait", () => journal.listeners() === 1);
  assert.equal(text().match(/"seq":/g)?.length, 3);
  const before = text().length;
  clock.advance(25_000);
  await until("a sign of life", () => text().length > before);
  assert.equal(text().slice(before), "\n");
  leave();
  await until("no listener", () => journal.listeners() === 0);
});

test("GET /streams/{stream}/events?follow waits for a stream's first event, up to its limit", async (t) => {
  const { url, journal } = await servedAdmin(t);
  const { text } = await follow(t, `${url}/streams/readings/events?follow&limit=2`);
  await until("the follower to wait", () => journal.listeners() === 1);
  journal.put(...storedEvents(1, 5));
  await until("the end", () => journal.listeners() === 0);
  await until("two lines", () => text().split("\n").length === 3);
});

test("the 17th follower is sent away", async (t) => {
  const { url, journal } = await servedAdmin(t);
  for (let i = 0; i < 16; i += 1) await follow(t, `${url}/streams/readings/events?follow=true`);
  await until("16 followers", () => journal.listeners() === 16);
  const response = await fetch(`${url}/streams/readings/events?follow=true`);
  assert.equal(response.status, 503);
  assert.equal(response.headers.get("retry-after"), "10");
  assert.equal((await fetch(`${url}/health`)).status, 200);
});

test("GET /groups shows lag, cursor and rate; what was trimmed is not before a group any more", async (t) => {
  const { url, journal, clock } = await servedAdmin(t);
  journal.put(...storedEvents(101, 100));
  journal.groups.push({ group: "cloud", stream: "readings", cursor: 150 });
  journal.groups.push({ group: "late", stream: "readings", cursor: 20 });
  journal.groups.push({ group: "cloud", stream: "empty", cursor: 0 });
  clock.advance(10_000);
  journal.groups[0] = { group: "cloud", stream: "readings", cursor: 190 };
  clock.advance(5_000);
  const { groups } = (await (await fetch(`${url}/groups`)).json()) as { groups: Row[] };
  assert.deepEqual(groups[0], {
    group: "cloud",
    stream: "readings",
    cursor: 190,
    head: 200,
    lag: 10,
    paused: false,
    configured: true,
    absentSince: null,
    perSecond: 8,
  });
  assert.deepEqual([groups[1]?.["lag"], groups[2]?.["lag"]], [100, 0]);
});

test("GET /streams/{stream}/dlq shows dead letters with reason, origin and payload", async (t) => {
  const { url, journal } = await servedAdmin(t);
  journal.letters.push(
    deadLetter({ id: 7 }),
    deadLetter({ id: 8, payload: Buffer.from("half a {") }),
    deadLetter({ id: 9, payload: Uint8Array.of(0xff, 0) }),
    deadLetter({ id: 10, payload: Buffer.alloc(2_000_000, "x") }),
    deadLetter({ id: 11, stream: "notes" }),
  );
  const read = async (query: string): Promise<{ total: number; deadLetters: Row[] }> =>
    (await (await fetch(`${url}/streams/readings/dlq${query}`)).json()) as never;
  const { total, deadLetters } = await read("");
  assert.equal(total, 4);
  assert.deepEqual(
    deadLetters.map((letter) => [letter["id"], letter["truncated"], letter["payloadBytes"]]),
    [
      [7, false, 22],
      [8, false, 8],
      [9, false, 2],
      [10, true, 2_000_000],
    ],
  );
  assert.deepEqual(deadLetters[0]?.["payload"], { temperature: "warm" });
  assert.equal(deadLetters[1]?.["payload"], "half a {");
  assert.deepEqual(deadLetters[2]?.["payload"], { base64: "/wA=" });
  assert.equal(String(deadLetters[3]?.["payload"]).length, 16_384);
  assert.match(String(deadLetters[0]?.["reason"]), /expected a number/);
  assert.equal((await read("?limit=2")).deadLetters.length, 2);
  assert.equal((await fetch(`${url}/streams/readings/dlq?limit=1001`)).status, 400);
});

test("DELETE /streams/{stream}/dlq removes those named, or all", async (t) => {
  const { url, journal } = await servedAdmin(t);
  journal.letters.push(...[1, 2, 3].map((id) => deadLetter({ id })));
  const purge = async (query: string): Promise<[number, unknown]> => {
    const response = await fetch(`${url}/streams/readings/dlq${query}`, { method: "DELETE" });
    return [response.status, ((await response.json()) as Row)["purged"]];
  };
  assert.deepEqual(await purge("?id=x"), [400, undefined]);
  assert.deepEqual(await purge(`?${"id=1&".repeat(1001)}`), [400, undefined]);
  assert.deepEqual(await purge("?id=1&id=3"), [200, 2]);
  assert.deepEqual(await purge(""), [200, 1]);
  assert.deepEqual(await purge(""), [200, 0]);
});

test("GET /openapi.json names every route", async (t) => {
  const { url } = await servedAdmin(t);
  const api = (await (await fetch(`${url}/openapi.json`)).json()) as {
    openapi: string;
    paths: Row;
  };
  assert.equal(api.openapi, "3.1.0");
  assert.deepEqual(Object.keys(api.paths).sort(), [
    "/groups",
    "/groups/{group}",
    "/groups/{group}/pause",
    "/groups/{group}/replay",
    "/groups/{group}/resume",
    "/health",
    "/journal",
    "/journal/check",
    "/journal/compact",
    "/openapi.json",
    "/sinks",
    "/sinks/{sink}",
    "/sinks/{sink}/sync",
    "/state",
    "/state/{space}",
    "/streams",
    "/streams/{stream}/dlq",
    "/streams/{stream}/dlq/export",
    "/streams/{stream}/dlq/import",
    "/streams/{stream}/dlq/replay",
    "/streams/{stream}/events",
  ]);
  assert.deepEqual(Object.keys(api.paths["/streams/{stream}/dlq"] as Row), ["get", "delete"]);
});

test("close() ends followers and leaves no timer", async (t) => {
  const { url, journal, clock, ...served } = await servedAdmin(t);
  await follow(t, `${url}/streams/readings/events?follow=true`);
  await until("the follower to wait", () => journal.listeners() === 1);
  await served.close();
  await until("no listener", () => journal.listeners() === 0);
  assert.equal(clock.waiting, 0);
});
