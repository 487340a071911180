import assert from "node:assert/strict";
import { once } from "node:events";
import { request, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { connect } from "node:net";
import { hostname } from "node:os";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { json, type Answer } from "../../src/host/answer.ts";
import { createHttpServer, type Route } from "../../src/host/http.ts";
import { parseListen } from "../../src/host/listen.ts";
import { recordingContext } from "../support/recording-context.ts";
import { until } from "../support/until.ts";

interface Served {
  readonly port: number;
  readonly context: ReturnType<typeof recordingContext>;
  readonly close: () => Promise<void>;
  /** Streams that were ended by their client's leaving. */
  readonly left: () => number;
}

async function served(t: TestContext, requestTimeoutMs = 10_000): Promise<Served> {
  const context = recordingContext("http");
  let left = 0;
  const fails = (error: Error) => (): Answer => {
    throw error;
  };
  const get = (path: string, handle: Route["handle"]): Route => ({
    method: "GET",
    path,
    summary: path,
    handle,
  });
  const routes: Route[] = [
    get("/things", () => json({ things: [] })),
    get("/things/{name}", ({ parameters, query }) => json({ ...parameters, q: query.get("q") })),
    { method: "DELETE", path: "/things/{name}", summary: "", handle: () => json({}) },
    {
      method: "POST",
      path: "/things",
      summary: "",
      handle: async (asked) => json({ bytes: (await asked.body()).length }),
    },
    get("/broken", fails(new Error("a secret inner thing"))),
    get("/away", fails(new HoldfastError("JOURNAL_DISK", "The disk refused a write"))),
    get("/flood", () => ({
      status: 200,
      headers: {},
      async body(write, signal) {
        signal.addEventListener("abort", () => (left += 1));
        for (;;) await write("x".repeat(16_384));
      },
    })),
  ];
  const listen = parseListen("127.0.0.1:0");
  const server = createHttpServer({
    log: context.log,
    listen,
    routes,
    hosts: ["box.example"],
    requestTimeoutMs,
  });
  await server.open();
  t.after(() => server.close());
  return {
    port: Number(server.address().split(":")[1]),
    context,
    close: () => server.close(),
    left: () => left,
  };
}

interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

async function ask(
  port: number,
  path: string,
  options: { method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<Reply> {
  const { body, ...rest } = options;
  const asked = request({ host: "127.0.0.1", port, path, agent: false, ...rest });
  asked.end(body);
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode ?? 0, headers: response.headers, body: text };
}

test("a route gets its parameters and its query, decoded", async (t) => {
  const { port } = await served(t);
  const { status, headers, body } = await ask(port, "/things/a%2Fb%20c?q=1%262");
  assert.equal(status, 200);
  assert.deepEqual(JSON.parse(body), { name: "a/b c", q: "1&2" });
  assert.equal(headers["cache-control"], "no-store");
  assert.equal(headers["x-content-type-options"], "nosniff");
});

test("HEAD answers as GET without a body", async (t) => {
  const { port } = await served(t);
  const whole = await ask(port, "/things");
  const head = await ask(port, "/things", { method: "HEAD" });
  assert.deepEqual([head.status, head.body], [200, ""]);
  assert.equal(head.headers["content-length"], whole.headers["content-length"]);
});

test("what goes wrong is told as a problem (RFC 9457)", async (t) => {
  const { port, context } = await served(t);
  const cases: [string, string, number, RegExp][] = [
    ["GET", "/nothing", 404, /There is nothing at \/nothing/],
    ["GET", "/things/%ff", 400, /percent-encoded/],
    ["PATCH", "/things/a", 405, /PATCH is not possible here/],
    ["GET", "/away", 503, /The disk refused a write/],
    ["GET", "/broken", 500, /its log tells more/],
  ];
  for (const [method, path, status, detail] of cases) {
    const reply = await ask(port, path, { method });
    const problem = JSON.parse(reply.body) as Record<string, unknown>;
    assert.equal(reply.status, status, path);
    assert.equal(reply.headers["content-type"], "application/problem+json");
    assert.equal(problem["status"], status);
    assert.match(String(problem["detail"]), detail);
    assert.doesNotMatch(reply.body, /secret inner/);
  }
  const refused = await ask(port, "/things/a", { method: "PATCH" });
  assert.equal(refused.headers.allow, "GET, HEAD, DELETE");
  const away = JSON.parse((await ask(port, "/away")).body) as Record<string, unknown>;
  assert.equal(away["code"], "JOURNAL_DISK");
  assert.ok(
    context.lines.some((line) => line.level === "error"),
    "our own mistake is logged",
  );
});

test("Host must be ours: a name that somebody else's DNS points here is refused", async (t) => {
  const { port } = await served(t);
  const ours = [
    "localhost",
    "x.localhost:80",
    "127.0.0.1",
    "192.168.1.7:8000",
    "[::1]:8000",
    hostname(),
    "BOX.example",
  ];
  for (const host of ours) {
    assert.equal((await ask(port, "/things", { headers: { host } })).status, 200, host);
  }
  for (const host of [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "a:b:c",
  ]) {
    assert.equal((await ask(port, "/things", { headers: { host } })).status, 421, host);
  }
});

test("a web page of another site cannot change anything", async (t) => {
  const { port } = await served(t);
  const headers = { origin: "https://evil.example" };
  assert.equal((await ask(port, "/things/a", { method: "DELETE", headers })).status, 403);
  assert.equal((await ask(port, "/things", { method: "POST", headers, body: "{}" })).status, 403);
  assert.equal((await ask(port, "/things/a", { method: "DELETE" })).status, 200);
});

test("a body has at most 64 KiB", async (t) => {
  const { port } = await served(t);
  const fits = await ask(port, "/things", { method: "POST", body: "x".repeat(65_536) });
  assert.deepEqual(JSON.parse(fits.body), { bytes: 65_536 });
  const large = await ask(port, "/things", { method: "POST", body: "x".repeat(65_537) });
  assert.equal(large.status, 413);
});

test("headers have at most 8 KiB", async (t) => {
  const { port } = await served(t);
  const reply = await ask(port, "/things", { headers: { cookie: "x".repeat(9_000) } });
  assert.equal(reply.status, 431);
});

test("a request that does not arrive in time is ended", async (t) => {
  const { port } = await served(t, 200);
  const socket = connect(port, "127.0.0.1");
  socket.write("GET /things HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
  let answer = "";
  socket.on("data", (data: Buffer) => (answer += data.toString()));
  await once(socket, "close");
  assert.match(answer, /^HTTP\/1\.1 408 /);
});

test("the 65th connection is dropped", async (t) => {
  const { port } = await served(t);
  const sockets = Array.from({ length: 64 }, () => connect(port, "127.0.0.1"));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  const extra = connect(port, "127.0.0.1");
  extra.on("error", () => undefined);
  await once(extra, "close");
  const [first] = sockets;
  first?.write("GET /things HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const [data] = (await once(first as never, "data")) as [Buffer];
  assert.match(data.toString(), /^HTTP\/1\.1 200 /);
});

test("a stream waits for its client, and ends when the client leaves", async (t) => {
  const { port, left } = await served(t);
  const socket = connect(port, "127.0.0.1");
  socket.pause();
  socket.write("GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await new Promise((resolve) => setTimeout(resolve, 100));
  const { heapUsed, external } = process.memoryUsage();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const now = process.memoryUsage();
  const grown = now.heapUsed + now.external - heapUsed - external;
  assert.ok(grown < 8 * 1024 * 1024, `grown by ${grown}`);
  assert.equal(left(), 0);
  socket.destroy();
  await until("the stream's end", () => left() === 1);
});

test("close() ends what is under way, and may be called twice", async (t) => {
  const { port, close } = await served(t);
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write("GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await once(socket, "data");
  const gone = once(socket, "close");
  await close();
  await close();
  await gone;
});

test("body() of a client that hangs up in the middle is no mistake of ours", async (t) => {
  const { port, context } = await served(t);
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  socket.write(
    `POST /things HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: 100\r\n\r\nhalf`,
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(context.lines, []);
});
