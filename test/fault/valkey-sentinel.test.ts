/**
 * A master that dies while sentinels watch. Replication is asynchronous, so what was stored last may be gone with it;
 * what is promised: workers go on with the new master by themselves, nothing emitted from then on is lost, and state,
 * emitted events and acknowledgements of a group never part.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ValkeyBackend } from "../../src/index.ts";
import { masterName, startSentinels } from "../support/redis-sentinel.ts";
import { startLine } from "../support/stream-line.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

for (const fault of ["is killed", "hangs"] as const) {
  for (const key of [undefined, "key"]) {
    const how = key === undefined ? "any order" : "by key";
    test(`workers follow the sentinels when the master ${fault} (${how})`, async (t) => {
      const sentinels = await startSentinels(tempDir(t));
      t.after(() => sentinels.stop());
      const mode = `sentinel:${masterName}` as const;
      const backend = (): ValkeyBackend => new ValkeyBackend({ url: sentinels.url, mode });
      const options = key === undefined ? {} : { key };
      const line = await startLine(t, { backend, state: "valkey", workers: 2, options });
      await line.emit(0, 200);
      assert.deepEqual(await line.all(0, 200), []);
      const [master, replica] = sentinels.servers;
      const during = line.emit(200, 1_000);
      if (fault === "is killed") await master.kill();
      else {
        process.kill(master.pid(), "SIGSTOP");
        t.after(() => master.pid() > 0 && process.kill(master.pid(), "SIGCONT"));
      }
      await until("the failover", () => sentinels.masterPort() === replica.port, 30_000);
      await during;
      await line.emit(1_000, 1_200);
      assert.deepEqual(await line.all(1_000, 1_200), []);
      const settled = async (): Promise<string[]> =>
        replica.cli("XPENDING", line.topic, "g").split("\n");
      await until("all to be dealt with", async () => (await settled())[0] === "0");
      // What is in the state is what came out, event by event, whatever was lost.
      const [outcome, state] = [
        await line.outcome(),
        replica.cli("HLEN", `holdfast:state:g:${line.topic}`),
      ];
      t.diagnostic(`${1_200 - outcome.size} of 1,200 lost`);
      assert.equal(Number(state), outcome.size);
      assert.ok([...outcome.values()].every((times) => times === 1));
    });
  }
}
