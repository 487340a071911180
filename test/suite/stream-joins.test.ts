/** Workers of a group that come and go under load: with order by key, what a living one has under way is nobody else's. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { SqliteStore, Stream, ValkeyBackend } from "../../src/index.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDir, tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

type Reading = { device: string; n: number };
const devices = 20;

for (const state of ["sqlite", "valkey"] as const) {
  test(`workers that come and go have each event handled once, and each key in order (${state})`, async (t) => {
    const topic = `{joins-${state}}`;
    const path = join(tempDir(t), "state.db");
    const create = (): Stream<Reading> =>
      new Stream<Reading>({
        topic,
        group: "g",
        key: "device",
        batch: { max: 20 },
        backend: new ValkeyBackend({ url: server.url }),
        state: state === "valkey" ? "valkey" : new SqliteStore({ path }),
        log: quiet,
      });
    const handled: Reading[] = [];
    const workers = new Map<Stream<Reading>, number>();
    let underWay = 0;
    let most = 0;
    const come = async (): Promise<void> => {
      const worker = create();
      workers.set(worker, 0);
      worker.subscribe(async ({ payload }) => {
        workers.set(worker, (workers.get(worker) ?? 0) + 1);
        most = Math.max(most, ++underWay);
        await delay(Math.random() * 4);
        underWay -= 1;
        handled.push(payload);
      });
      await worker.start();
    };
    t.after(() => Promise.all([...workers.keys()].map((worker) => worker.stop())));

    const emitter = create();
    t.after(() => emitter.stop());
    let emitted = 0;
    const end = new AbortController();
    const emitting = (async () => {
      while (!end.signal.aborted) {
        const events = Array.from({ length: 50 }, () => {
          const n = emitted++;
          return { device: `d${n % devices}`, n };
        });
        await emitter.emit(events);
        await delay(20);
      }
    })();
    for (let turn = 0; turn < 4; turn += 1) {
      await come();
      await delay(400);
    }
    for (let turn = 0; turn < 2; turn += 1) {
      const [oldest] = workers.keys();
      await oldest?.stop();
      workers.delete(oldest as Stream<Reading>);
      await delay(200);
      await come();
      await delay(200);
    }
    end.abort();
    await emitting;
    await until("all to be handled", () => new Set(handled.map(({ n }) => n)).size === emitted);
    await until("all to be acknowledged", () => server.cli("XPENDING", topic, "g").startsWith("0"));

    assert.equal(handled.length, emitted, "some were handled twice");
    const last = new Map<string, number>();
    for (const { device, n } of handled) {
      assert.ok((last.get(device) ?? -1) < n, `${device}: ${n} came behind ${last.get(device)}`);
      last.set(device, n);
    }
    assert.ok(most > 1, "never were two at work at a time");
    assert.ok(
      [...workers.values()].every((count) => count > 0),
      "one that joined had nothing",
    );
    const left = server.cli("HKEYS", `holdfast:members:g:${topic}`).split("\n");
    assert.ok(left.includes("g"), left.join(" "));
    assert.ok(!left.some((field) => /^[br]:/.test(field)), left.join(" "));
  });
}
