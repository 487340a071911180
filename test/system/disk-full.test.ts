/** The whole agent on one disk that others fill: journal, archive and log; and on one whose quota is used up. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { untilPartIs } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher, type Publisher } from "../support/publishing.ts";
import { sicken } from "../support/sick-disk.ts";
import { diskKinds, smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Started {
  readonly agent: ChildAgent;
  readonly publisher: Publisher;
  readonly archived: () => number[];
}

async function started(
  t: TestContext,
  folder: string,
  count: number,
  options: Parameters<typeof childAgent>[2] = {},
): Promise<Started> {
  const port = await freePort();
  const archive = join(folder, "archive");
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms, whenFull: reject }
sinks:
  files: { type: file, path: ${archive}, from: [load], maxBytes: 1MiB }
`,
    options,
  );
  t.after(() => agent.kill());
  await agent.start();
  const publisher = startPublisher({
    url: `mqtt://127.0.0.1:${port}`,
    topic: "load/d1",
    count,
    rate: 2_000,
    qos: 1,
    window: 500,
    size: 600,
    noise: true,
  });
  t.after(() => publisher.end());
  await until("the load to run", () => publisher.acknowledged() > 500);
  return {
    agent,
    publisher,
    archived: () => readArchive(archive, "load").map(({ payload }) => Number(payload["n"])),
  };
}

async function assertAllOnce({ publisher, archived }: Started, count: number): Promise<void> {
  assert.equal(await publisher.done, count);
  await until("all to be archived", () => archived().length >= count, 30_000);
  assert.deepEqual(
    archived(),
    Array.from({ length: count }, (_, index) => index),
  );
}

for (const kind of diskKinds) {
  test(`the agent with journal, archive and log on one full ${kind} lives, says so, and goes on without loss`, async (t) => {
    const count = 8_000;
    const disk = smallDisk(t, 96 << 20, kind);
    const logFile = join(disk.folder, "holdfast.log");
    const all = await started(t, disk.folder, count, { logFile, configFolder: tempDir(t) });
    const { agent, publisher } = all;
    disk.fill();
    const { components } = await untilPartIs(agent, "journal", "degraded");
    assert.equal(components["journal"]?.["trouble"], "disk-full");
    const sink = await untilPartIs(agent, "files", "degraded");
    assert.match(sink.components["files"]?.detail ?? "", /full|ENOSPC|room/);
    await delay(3_000);
    const stoodAt = publisher.acknowledged();
    assert.ok(stoodAt < count, "All was taken before the disk was full");
    await delay(1_000);
    assert.equal(publisher.acknowledged(), stoodAt, "nothing is acknowledged");
    assert.ok((await agent.metrics()).includes('holdfast_journal_trouble{cause="disk-full"} 1'));
    disk.empty();
    await assertAllOnce(all, count);
    await untilPartIs(agent, "journal", "ok");
    await untilPartIs(agent, "files", "ok");
    assert.equal((await agent.stop()).code, 0);
  });
}

test("a quota of the disk that is used up (EDQUOT) is a full disk, and heals without loss", async (t) => {
  const count = 6_000;
  const all = await started(t, tempDir(t), count);
  const heal = await sicken(t, all.agent.pid(), "pwrite64:error=EDQUOT");
  const { components } = await untilPartIs(all.agent, "journal", "degraded");
  assert.equal(components["journal"]?.["trouble"], "disk-full");
  await heal();
  await assertAllOnce(all, count);
  await untilPartIs(all.agent, "journal", "ok");
});
