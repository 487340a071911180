/** What every plane promises (src/plane/plane.ts), of memory and of a real server. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test, type TestContext } from "node:test";
import type { PayloadFormat, StoredEvent } from "../../src/core/event.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import type { Plane } from "../../src/plane/plane.ts";
import { ValkeyPlane } from "../../src/plane/valkey.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";
import { tempDirAll } from "../support/temp-dir.ts";

const never = new AbortController().signal;
let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

interface PlaneOptions {
  readonly maxBytes?: number;
  readonly formats?: ReadonlyMap<string, PayloadFormat>;
}

const planes: Record<string, (options: PlaneOptions) => Plane> = {
  memory: ({ maxBytes = 8 * 1024 * 1024 }) => new MemoryPlane({ bytesMax: maxBytes }),
  valkey: ({ maxBytes = 8 * 1024 * 1024, formats = new Map<string, PayloadFormat>() }) =>
    new ValkeyPlane({
      url: server.url,
      device: "d1",
      epoch: testEpoch,
      maxBytes: maxBytes * 2,
      formats,
    }),
};

for (const [name, create] of Object.entries(planes)) {
  async function opened(t: TestContext, options: PlaneOptions = {}): Promise<Plane> {
    server.cli("FLUSHALL");
    const plane = create(options);
    t.after(() => plane.close());
    await plane.open();
    return plane;
  }

  async function readNow(
    plane: Plane,
    group: string,
    max = 10,
    stream = "readings",
  ): Promise<number[] | "behind"> {
    const found = await plane.read(stream, group, max, 0, never);
    return found === "behind" ? found : found.map(({ seq }) => seq);
  }

  test(`${name}: read() hands out each event once to each group, in order`, async (t) => {
    const plane = await opened(t);
    await plane.append("readings", storedEvents(1, 5));
    await plane.attach("readings", "a", 0);
    await plane.attach("readings", "b", 3);
    assert.deepEqual(await readNow(plane, "a", 3), [1, 2, 3]);
    assert.deepEqual(await readNow(plane, "b"), [4, 5]);
    assert.deepEqual(await readNow(plane, "a", 3), [4, 5]);
    assert.deepEqual(await readNow(plane, "a"), []);
  });

  test(`${name}: read() gives events as they were, whatever they hold`, async (t) => {
    const formats = new Map<string, PayloadFormat>([
      ["text", "text"],
      ["bytes", "bytes"],
    ]);
    const plane = await opened(t, { formats });
    const texts = [
      '{"temperature": 21.50, "n": 12345678901234567890, "seq": 7, "event_type": 5}',
      '{"payload": 3, "partition": "x", "__proto__": 1, "":"", "_raw": "r"}',
      "21.5",
      '[1, "zwei"]',
      JSON.stringify({ long: "ж".repeat(500_000) }),
      '"text"',
      "null",
      `{${Array.from({ length: 1_100 }, (_, n) => `"k${n}":${n}`).join(",")}}`,
    ];
    for (const [stream, payloads] of [
      ["readings", texts.map((text) => Buffer.from(text))],
      ["text", ["plain", "12", "", "\ufeff{", "ä\u0000\n"].map((text) => Buffer.from(text))],
      ["bytes", [Buffer.from([0xff, 0xfe, 0, 10]), Buffer.from("ok"), Buffer.alloc(0)]],
    ] as const) {
      const events = payloads.map((payload, index) =>
        storedEvent({
          stream,
          seq: index + 1,
          payload,
          key: index % 2 === 0 ? null : "ключ",
          time: index === 0 ? 1e16 : 1_700_000_000_123.5,
          headers: { topic: `t/${index}`, traceparent: "00-1-2-01" },
          clock: "provisional",
        }),
      );
      await plane.append(stream, events);
      await plane.attach(stream, "g", 0);
      const found: StoredEvent[] = [];
      while (found.length < events.length) {
        const some = await plane.read(stream, "g", 100, 0, never);
        assert.ok(some !== "behind" && some.length > 0);
        found.push(...some);
      }
      // By its digest: one is long.
      const plain = (event: StoredEvent): unknown => ({
        ...event,
        payload: createHash("sha256").update(event.payload).digest("hex"),
      });
      assert.deepEqual(found.map(plain), events.map(plain));
    }
  });

  test(`${name}: read() loses nothing of a burst of 3,000 events`, async (t) => {
    const plane = await opened(t);
    await plane.attach("readings", "a", 0);
    const appending = (async () => {
      for (let first = 1; first <= 3_000; first += 300)
        await plane.append("readings", storedEvents(first, 300));
    })();
    const got: number[] = [];
    while (got.length < 3_000) {
      const found = await plane.read("readings", "a", 70, 1000, never);
      assert.notEqual(found, "behind");
      got.push(...(found as StoredEvent[]).map(({ seq }) => seq));
      await plane.acknowledge("readings", "a", got.length);
    }
    await appending;
    assert.deepEqual(
      got,
      Array.from({ length: 3_000 }, (_, index) => index + 1),
    );
  });

  test(`${name}: read() waits for an append, and ends when it is aborted or told to`, async (t) => {
    const plane = await opened(t);
    await plane.attach("readings", "a", 0);
    const waiting = plane.read("readings", "a", 10, 60_000, never);
    await plane.append("readings", storedEvents(1, 1));
    assert.equal((await waiting).length, 1);
    const controller = new AbortController();
    const aborted = plane.read("readings", "a", 10, 60_000, controller.signal);
    controller.abort();
    assert.deepEqual(await aborted, []);
    assert.deepEqual(await plane.read("readings", "a", 10, 5, never), []);
    const closed = plane.read("readings", "a", 10, 60_000, never);
    await plane.close();
    assert.equal(await closed, "behind");
  });

  test(`${name}: read() says behind to who is not attached, or needs what is not here`, async (t) => {
    const plane = await opened(t);
    await plane.append("readings", storedEvents(10, 2));
    assert.equal(await readNow(plane, "a"), "behind");
    await plane.attach("readings", "a", 8);
    assert.equal(await readNow(plane, "a"), "behind");
    await plane.attach("readings", "a", 9);
    assert.deepEqual(await readNow(plane, "a"), [10, 11]);
  });

  test(`${name}: attach() sets a group back, and ahead of what is here`, async (t) => {
    const plane = await opened(t);
    await plane.append("readings", storedEvents(1, 3));
    await plane.attach("readings", "a", 0);
    await readNow(plane, "a");
    await plane.attach("readings", "a", 1);
    assert.deepEqual(await readNow(plane, "a"), [2, 3]);
    await plane.attach("readings", "a", 4);
    await plane.append("readings", storedEvents(4, 2));
    assert.deepEqual(await readNow(plane, "a"), [5]);
  });

  test(`${name}: append() skips what is there, and a hole leaves who needs it behind`, async (t) => {
    const plane = await opened(t);
    await plane.attach("readings", "a", 0);
    await plane.append("readings", storedEvents(1, 3));
    await plane.append("readings", storedEvents(1, 2));
    await plane.append("readings", storedEvents(2, 3));
    assert.deepEqual(await readNow(plane, "a"), [1, 2, 3, 4]);
    await plane.append("readings", storedEvents(9, 2));
    assert.equal(await readNow(plane, "a"), "behind");
    await plane.attach("readings", "a", 8);
    assert.deepEqual(await readNow(plane, "a"), [9, 10]);
  });

  test(`${name}: append() keeps its bound, and who needed what has left is behind`, async (t) => {
    const plane = await opened(t, { maxBytes: 256 * 1024 });
    await plane.attach("readings", "slow", 0);
    const payload = Buffer.from(JSON.stringify({ text: "x".repeat(1_000) }));
    for (let first = 1; first <= 2_000; first += 50)
      await plane.append("readings", storedEvents(first, 50, { payload }));
    assert.equal(await readNow(plane, "slow"), "behind");
    await plane.attach("readings", "slow", 1_990);
    assert.equal((await readNow(plane, "slow", 100)).length, 10);
    await plane.attach("readings", "slow", 1_500);
    assert.equal(await readNow(plane, "slow"), "behind");
  });
}
