/** The projection into a real server: repeatable whatever happens, readable by others, and nobody else's is touched. */
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import fc from "fast-check";
import { any } from "superstruct";
import { HoldfastError } from "../../src/core/errors.ts";
import { ValkeyPlane, type ValkeyPlaneOptions } from "../../src/plane/valkey.ts";
import { Stream } from "../../src/stream/stream.ts";
import { ValkeyBackend } from "../../src/stream/valkey.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

function planeOf(over: Partial<ValkeyPlaneOptions> = {}): ValkeyPlane {
  const options = { url: server.url, device: "d1", epoch: testEpoch, maxBytes: 64 * 1024 * 1024 };
  return new ValkeyPlane({ ...options, ...over });
}

async function opened(
  t: TestContext,
  over: Partial<ValkeyPlaneOptions> = {},
): Promise<ValkeyPlane> {
  const plane = planeOf(over);
  t.after(() => plane.close());
  await plane.open();
  return plane;
}

/** Every entry as the command-line client prints it, by ID. */
function entries(stream = "readings"): Map<string, string> {
  const found = new Map<string, string>();
  let id = "";
  for (const line of server.cli("XRANGE", stream, "-", "+").split("\n")) {
    if (/^\d{13}-\d+$/.test(line)) {
      id = line;
      assert.ok(!found.has(id));
      found.set(id, "");
    } else if (id !== "") {
      found.set(id, `${found.get(id) ?? ""}${line}\n`);
    }
  }
  return found;
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ append: fc.nat(60), count: fc.integer({ min: 1, max: 20 }) }),
  },
  { weight: 1, arbitrary: fc.constantFrom("flush", "crash", "stray", "unmark") },
);

const strayScript = `
if redis.call('HEXISTS', 'holdfast:plane', 'readings') == 1 then
  redis.call('XADD', 'readings', '*', 'not', 'ours')
end`;

test("append() of the same events makes the same entries, whatever became of server and agent between", async (t) => {
  let plane = planeOf();
  t.after(() => plane.close());
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      server.cli("FLUSHALL");
      const known = new Map<string, string>();
      plane = planeOf();
      await plane.open();
      let head = 0;
      for (const each of steps) {
        if (each === "flush") server.cli("FLUSHALL");
        else if (each === "unmark") server.cli("DEL", "holdfast:plane", "readings");
        // Into a stream of ours: one that is not would be theirs for good.
        else if (each === "stray") server.cli("EVAL", strayScript, "0");
        else if (each === "crash") {
          await plane.close();
          plane = planeOf();
          await plane.open();
        } else {
          head = Math.max(head, each.append + each.count);
          // As the projection does: from where the plane says, after a loss once more.
          for (let again = 0; again < 2; again++) {
            await plane.probe();
            const from = await plane.resume("readings", head);
            const first = Math.min(from, each.append) + 1;
            await plane.append("readings", storedEvents(first, head - first + 1));
          }
        }
        if (typeof each === "string") continue;
        const found = [...entries()];
        assert.equal(found.at(-1)?.[0], `${1e12 + head}-0`);
        for (const [index, [id, text]] of found.entries()) {
          assert.equal(Number(id.slice(0, 13)), Number(found[0]?.[0].slice(0, 13)) + index);
          assert.equal(text, known.get(id) ?? text, id);
          known.set(id, text);
        }
      }
      await plane.close();
    }),
    { numRuns: 25 },
  );
});

test("append() writes what PSPF reads: its fields first, seq, and only valid UTF-8", async (t) => {
  server.cli("FLUSHALL");
  const plane = await opened(t, { formats: new Map([["raw", "bytes"]]) });
  const payload = Buffer.from('{"sensor": "a", "celsius": 21.50, "ok": true, "code": "12"}');
  await plane.append("readings", [storedEvent({ payload, key: "a" })]);
  await plane.append("raw", [storedEvent({ stream: "raw", payload: Buffer.from([0xff, 0]) })]);
  const pairs = `event_id ${testEpoch}:readings:1 event_type readings timestamp 2026-01-01T00:00:00.001Z
    sensor a celsius 21.5 ok true code "12" seq 1`;
  assert.deepEqual(
    server.cli("XRANGE", "readings", "-", "+").split("\n").slice(0, 17),
    ["1000000000001-0"].concat(pairs.split(/\s+/)),
  );
  assert.match(server.cli("XRANGE", "raw", "-", "+"), /\nbase64\n\/wA=$/);
});

test("Stream reads a device's stream: payloads as they were sent, without what is ours", async (t) => {
  server.cli("FLUSHALL");
  const plane = await opened(t);
  const texts = ['{"celsius":21.50,"code":"12","seq":"theirs"}', "21.5", "[1,2]"];
  await plane.append(
    "readings",
    texts.map((text, index) =>
      storedEvent({ seq: index + 1, payload: Buffer.from(text), key: `k${index}` }),
    ),
  );
  const got: unknown[] = [];
  const stream = new Stream({
    topic: "readings",
    group: "others",
    schema: any(),
    backend: new ValkeyBackend({ url: server.url }),
    from: "start",
  });
  t.after(() => stream.stop());
  stream.subscribe((event) => {
    got.push(event.payload);
  });
  const running = stream.runForever();
  await until("all to arrive", () => got.length === texts.length);
  await stream.stop();
  await running;
  assert.deepEqual(
    got,
    texts.map((text) => JSON.parse(text) as unknown),
  );
});

test("resume() leaves alone what is not ours, and says whose it is", async (t) => {
  server.cli("FLUSHALL");
  server.cli("XADD", "readings", "*", "theirs", "1");
  server.cli("SET", "text", "theirs");
  const plane = await opened(t);
  const isRefusal = (thrown: unknown): boolean =>
    thrown instanceof HoldfastError && thrown.code === "STREAM_INVALID";
  for (const stream of ["readings", "text"]) {
    await assert.rejects(plane.resume(stream, 10), isRefusal);
    await assert.rejects(plane.attach(stream, "g", 0), isRefusal);
  }
  assert.equal(server.cli("XLEN", "readings"), "1");
  assert.equal(server.cli("XINFO", "GROUPS", "readings"), "");
  await plane.append("free", storedEvents(1, 3, { stream: "free" }));
  const other = await opened(t, { device: "d2" });
  await assert.rejects(other.resume("free", 10), /entries of device d1/);
  await assert.rejects(other.attach("free", "g", 0), /entries of device d1/);
  assert.equal(server.cli("XLEN", "free"), "3");
});

test("resume() of another history begins anew and keeps the groups of other programs", async (t) => {
  server.cli("FLUSHALL");
  const plane = await opened(t);
  await plane.append("readings", storedEvents(1, 50));
  server.cli("XGROUP", "CREATE", "readings", "far", `${1e12 + 40}-0`);
  server.cli("XGROUP", "CREATE", "readings", "near", `${1e12 + 3}-0`);
  const next = await opened(t, { epoch: "another" });
  assert.equal(await next.resume("readings", 10), 0);
  await next.append("readings", storedEvents(1, 10, { epoch: "another" }));
  assert.equal(server.cli("XLEN", "readings"), "10");
  const first = (group: string): string | undefined =>
    server
      .cli("XREADGROUP", "GROUP", group, "c", "COUNT", "1", "STREAMS", "readings", ">")
      .split("\n")[1];
  assert.equal(first("far"), `${1e12 + 1}-0`);
  assert.equal(first("near"), `${1e12 + 4}-0`);
});

test("attach() leaves nothing pending, and acknowledge() follows what was handed out", async (t) => {
  server.cli("FLUSHALL");
  const plane = await opened(t);
  const never = new AbortController().signal;
  await plane.append("readings", storedEvents(1, 20));
  await plane.attach("readings", "g", 0);
  await plane.read("readings", "g", 10, 0, never);
  assert.equal(server.cli("XPENDING", "readings", "g").split("\n")[0], "10");
  await plane.acknowledge("readings", "g", 4);
  assert.equal(server.cli("XPENDING", "readings", "g").split("\n")[0], "6");
  await plane.attach("readings", "g", 4);
  assert.equal(server.cli("XPENDING", "readings", "g").split("\n")[0], "0");
  const again = await plane.read("readings", "g", 10, 0, never);
  assert.equal(again === "behind" ? again : again[0]?.seq, 5);
  await plane.acknowledge("readings", "g", 1_000_000_000);
  assert.equal(server.cli("XPENDING", "readings", "g").split("\n")[0], "0");
});

test("append() makes room where the server has no memory, out of what our groups have passed first", async (t) => {
  const small = await startRedis(
    tempDirAll((end) => t.after(end)),
    {
      args: ["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"],
    },
  );
  t.after(() => small.stop());
  const plane = planeOf({ url: small.url });
  t.after(() => plane.close());
  await plane.open();
  await plane.attach("slow", "g", 0);
  const payload = Buffer.from(JSON.stringify({ text: "x".repeat(400) }));
  await plane.append("slow", storedEvents(1, 100, { stream: "slow", payload }));
  // A script of its own for each, as when commits are small.
  for (let first = 1; first <= 10_000; first += 100)
    await plane.append("fast", storedEvents(first, 100, { stream: "fast", payload }));
  assert.ok(Number(small.cli("XLEN", "fast")) < 5_000);
  assert.equal(small.cli("XLEN", "slow"), "100");
  assert.match(small.cli("XREVRANGE", "fast", "+", "-", "COUNT", "1"), /^1000000010000-0/);
});

test("read() takes few large entries at a time", async (t) => {
  server.cli("FLUSHALL");
  const plane = await opened(t);
  const payload = Buffer.from(JSON.stringify({ text: "x".repeat(300_000) }));
  await plane.append("readings", storedEvents(1, 20, { payload }));
  for (const each of [plane, await opened(t)]) {
    await each.resume("readings", 20);
    await each.attach("readings", "g", 0);
    let next = 1;
    while (next <= 20) {
      const found = await each.read("readings", "g", 500, 0, new AbortController().signal);
      assert.ok(found !== "behind" && found.length > 0 && found.length <= 4, String(found.length));
      assert.equal(found[0]?.seq, next);
      next += found.length;
    }
  }
});
