/** The whole agent on one disk that others fill: journal, archive and log; and on one whose quota is used up. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { untilPartIs } from "../support/figures.ts";
import { loadedAgent } from "../support/loaded-agent.ts";
import { sicken } from "../support/sick-disk.ts";
import { diskKinds, smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp-dir.ts";

for (const kind of diskKinds) {
  test(`the agent with journal, archive and log on one full ${kind} lives, says so, and goes on without loss`, async (t) => {
    const count = 8_000;
    const disk = smallDisk(t, 96 << 20, kind);
    const logFile = join(disk.folder, "holdfast.log");
    const { agent, publisher, arrived } = await loadedAgent(t, disk.folder, {
      count,
      rate: 2_000,
      size: 600,
      stream: ", whenFull: reject",
      sink: ", maxBytes: 1MiB",
      agent: { logFile, configFolder: tempDir(t) },
    });
    const rssBefore = agent.rssKiB();
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
    const rss = agent.rssKiB();
    t.diagnostic(`RSS ${rssBefore} KiB before, ${rss} KiB with the disk full for 4 s`);
    assert.ok(rss < rssBefore + 64 * 1024, `${rssBefore} to ${rss} KiB`);
    disk.empty();
    await arrived();
    await untilPartIs(agent, "journal", "ok");
    await untilPartIs(agent, "files", "ok");
    assert.equal((await agent.stop()).code, 0);
  });
}

test("a quota of the disk that is used up (EDQUOT) is a full disk, and heals without loss", async (t) => {
  const load = { count: 6_000, rate: 2_000, size: 600, stream: ", whenFull: reject" };
  const { agent, arrived } = await loadedAgent(t, tempDir(t), load);
  const heal = await sicken(t, agent.pid(), "pwrite64:error=EDQUOT");
  const { components } = await untilPartIs(agent, "journal", "degraded");
  assert.equal(components["journal"]?.["trouble"], "disk-full");
  await heal();
  await arrived();
  await untilPartIs(agent, "journal", "ok");
});
