/** How a server that cannot be used says so: at once, by its code, with what to do about it, and no secret. */
import assert from "node:assert/strict";
import { createServer, connect, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { Stream, ValkeyBackend } from "../../src/index.ts";
import type { ValkeyOptions } from "../../src/valkey/connection.ts";
import { backendKinds, startServers, type BackendServers } from "../support/backend-kinds.ts";
import { freePort } from "../support/mosquitto.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

const folder = tempDirAll(after);
let servers: BackendServers;
before(async () => {
  servers = await startServers(folder);
});
after(() => servers.stop());

const never = new AbortController().signal;

function made(t: TestContext, options: ValkeyOptions): ValkeyBackend {
  const backend = new ValkeyBackend(options);
  t.after(() => backend.close());
  return backend;
}

async function listening(t: TestContext, server: Server): Promise<number> {
  const port = await freePort();
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return port;
}

test("open() is denied at once with a wrong password, and the message does not hold it", async (t) => {
  const { single } = servers;
  const url = `redis://worker:wrong-one@127.0.0.1:${single.port}`;
  const isTold = (error: Error): boolean => {
    assert.equal((error as { code?: string }).code, "STREAM_DENIED");
    assert.match(error.message, /WRONGPASS/);
    assert.doesNotMatch(error.message, /wrong-one/);
    return true;
  };
  await assert.rejects(made(t, { url }).open(), isTold);
  const own = { url: single.url, username: "worker", password: "wrong-one" };
  await assert.rejects(made(t, own).open(), isTold);
  const stream = new Stream({ topic: "denied", backend: made(t, { url }), log: quiet });
  t.after(() => stream.stop());
  stream.subscribe(() => undefined);
  await assert.rejects(stream.start(), isTold);
  await assert.rejects(stream.emit({ n: 1 }), isTold);
});

test("open() is denied where a password is asked for and none was given, on a cluster too", async (t) => {
  for (const node of [servers.single, ...servers.cluster.nodes]) {
    node.cli("CONFIG", "SET", "requirepass", "sesame");
    t.after(() => node.cli("-a", "sesame", "CONFIG", "SET", "requirepass", ""));
  }
  const denied = { code: "STREAM_DENIED" };
  await assert.rejects(made(t, { url: servers.single.url }).open(), denied);
  const cluster = { url: servers.cluster.url, mode: "cluster" } as const;
  await assert.rejects(made(t, cluster).open(), denied);
  await made(t, { url: servers.single.url, password: "sesame" }).open();
  await made(t, { ...cluster, password: "sesame" }).open();
});

test("a worker whose password is changed while it runs ends with STREAM_DENIED", async (t) => {
  const { single } = servers;
  single.cli("ACL", "SETUSER", "passing", "on", ">one", "~*", "+@all");
  const backend = made(t, { url: single.url, username: "passing", password: "one" });
  const stream = new Stream({ topic: "passing", backend, state: "valkey", log: quiet });
  t.after(() => stream.stop());
  stream.subscribe(() => undefined);
  await stream.start();
  const ended = stream.runForever();
  single.cli("ACL", "SETUSER", "passing", "resetpass", ">two");
  single.cli("CLIENT", "KILL", "USER", "passing");
  await assert.rejects(ended, { code: "STREAM_DENIED" });
});

test("append() is denied to a user without the rights, and says which command", async (t) => {
  const { single } = servers;
  single.cli(
    "ACL",
    "SETUSER",
    "reader",
    "on",
    ">r",
    "~*",
    "+@read",
    "+@connection",
    "+@scripting",
    "+info",
  );
  const backend = made(t, { url: single.url, username: "reader", password: "r" });
  await backend.open();
  await assert.rejects(backend.append("x", [["n", "1"]]), { code: "STREAM_DENIED" });
  await assert.rejects(backend.remove("x", ["1-1"]), { code: "STREAM_DENIED", message: /xdel/ });
});

test("open() refuses a database that the server does not have", async (t) => {
  await assert.rejects(made(t, { url: `${servers.single.url}/99` }).open(), {
    code: "STREAM_INVALID",
    message: /no such database/,
  });
});

test("open() refuses a server that is too old, and a URL that is none", async (t) => {
  const old = createServer((socket) => {
    const info = "# Server\r\nredis_version:6.0.16\r\nloading:0\r\n";
    socket.on("data", (data) => {
      for (const [word] of String(data).matchAll(/\binfo\b|\bclient\b/gi)) {
        socket.write(word.toLowerCase() === "info" ? `$${info.length}\r\n${info}\r\n` : "+OK\r\n");
      }
    });
    socket.on("error", () => undefined);
  });
  const port = await listening(t, old);
  await assert.rejects(made(t, { url: `redis://127.0.0.1:${port}` }).open(), {
    code: "STREAM_INVALID",
    message: /version 6\.0: streams need Valkey, or Redis 6\.2 or later/,
  });
  for (const url of ["http://localhost", "redis://localhost/seven", "redis://[", ""]) {
    await assert.rejects(made(t, { url }).open(), { code: "STREAM_INVALID" }, url);
  }
});

test("open() says why nobody answers: no server, no socket, a certificate that is not trusted", async (t) => {
  const port = await freePort();
  const cases: [ValkeyOptions, RegExp][] = [
    [{ url: `redis://127.0.0.1:${port}` }, /ECONNREFUSED/],
    [{ url: `unix://${join(folder, "none.sock")}` }, /ENOENT/],
    [{ url: `valkeys://localhost:${servers.tlsPort}` }, /self-signed certificate/],
    [{ url: `redis://127.0.0.1:${port}`, mode: "cluster" }, /127\.0\.0\.1/],
  ];
  for (const [options, message] of cases) {
    await assert.rejects(made(t, options).open(), { code: "STREAM_UNREACHABLE", message });
  }
});

test("on a cluster a topic without a hash tag is refused, and the remedy named", async (t) => {
  const backend = made(t, { url: servers.cluster.url, mode: "cluster" });
  await backend.open();
  const told = { code: "STREAM_INVALID", message: /has no hash tag.*name it \{readings\}/ };
  await assert.rejects(backend.append("readings", [["n", "1"]]), told);
  const membership = { topic: "readings", group: "g", from: "start", leaseMs: 1_000 } as const;
  await assert.rejects(backend.join(membership), told);
  const stream = new Stream({ topic: "readings", backend, log: quiet });
  t.after(() => stream.stop());
  await assert.rejects(stream.emit({ n: 1 }), told);
});

test("on a cluster a unit that emits into another slot is refused as a whole, and the remedy named", async (t) => {
  const backend = made(t, { url: servers.cluster.url, mode: "cluster" });
  await backend.open();
  const member = await backend.join({ topic: "{a}", group: "g", from: "start", leaseMs: 1_000 });
  await backend.append("{a}", [["n", "1"]]);
  const done = (await member.read(1, 1_000, never)).deliveries.map(({ id }) => id);
  const effects = { reads: [], writes: [], emits: [{ topic: "{b}", fields: ["n", "1"] }] };
  await assert.rejects(member.settle({ done, failed: [], moved: [], effects }), {
    code: "STREAM_INVALID",
    message: /one hash tag/,
  });
  assert.equal((await member.lag()).pending, 1);
});

test("a connection that is dead without a word is given up for a new one", async (t) => {
  const { single } = servers;
  const dead = new Set<Socket>();
  let isHung = false;
  const proxy = createServer((near) => {
    const far = connect(single.port, "127.0.0.1");
    const wasHung = isHung;
    if (wasHung) dead.add(near);
    near.on("data", (data) => (isHung && !wasHung ? undefined : far.write(data)));
    far.on("data", (data) => (isHung && !wasHung ? undefined : near.write(data)));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("error", () => undefined);
      one.on("close", () => other.destroy());
    }
  });
  const port = await listening(t, proxy);
  const backend = made(t, { url: `redis://127.0.0.1:${port}` });
  await backend.open();
  const member = await backend.join({ topic: "half", group: "g", from: "start", leaseMs: 1_000 });
  isHung = true;
  const reading = member.read(1, 4_000, never);
  await Promise.all(
    [reading, backend.length("half")].map((asked) =>
      assert.rejects(asked, { code: "STREAM_UNREACHABLE" }),
    ),
  );
  const seen: string[] = [];
  await until(
    "both connections anew",
    async () => {
      try {
        await backend.append("half", [["n", "1"]]);
        const batch = await member.read(1, 100, never);
        seen.push(...batch.deliveries.map(({ id }) => id));
      } catch {
        return false;
      }
      return seen.length > 0;
    },
    40_000,
  );
  assert.ok(dead.size >= 2);
});

for (const kind of Object.keys(backendKinds)) {
  test(`description says where it is and nothing secret: ${kind}`, () => {
    const { description } = (backendKinds[kind] as (of: BackendServers) => ValkeyBackend)(servers);
    assert.doesNotMatch(description, /secret|worker/);
    assert.match(description, kind === "memory" ? /^memory$/ : /^server \w+:\/\//);
  });
}
