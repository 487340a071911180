/** The whole agent on one disk that others fill: journal, archive and log; and on one whose quota is used up. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { untilPartIs } from "../support/figures.ts";
import { loadedAgent } from "../support/loaded-agent.ts";
import { sicken } from "../support/sick-disk.ts";
import type { Publisher } from "../support/publishing.ts";
import { diskKinds, smallDisk } from "../support/small-disk.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

for (const kind of diskKinds) {
  test(`the agent with journal, archive and log on one full ${kind} lives, says so, and goes on without loss`, async (t) => {
    const count = 40_000;
    const disk = smallDisk(t, 128 << 20, kind);
    const logFile = join(disk.folder, "holdfast.log");
    const { agent, publisher, arrived } = await loadedAgent(t, disk.folder, {
      count,
      rate: 4_000,
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
    await untilNothingIsTaken(publisher);
    t.diagnostic(`${publisher.acknowledged()} of ${count} taken`);
    assert.ok(publisher.acknowledged() < count, "All was taken before the disk was full");
    assert.ok((await agent.metrics()).includes('holdfast_journal_trouble{cause="disk-full"} 1'));
    const rss = agent.rssKiB();
    t.diagnostic(`RSS ${rssBefore} KiB before, ${rss} KiB with the disk full`);
    assert.ok(rss < rssBefore + 64 * 1024, `${rssBefore} to ${rss} KiB`);
    disk.empty();
    await arrived();
    await untilPartIs(agent, "journal", "ok");
    await untilPartIs(agent, "files", "ok");
    assert.equal((await agent.stop()).code, 0);
  });
}

/** The sink, tried again, may find room that the journal had given up for itself: that lets some more in. */
async function untilNothingIsTaken(publisher: Publisher): Promise<void> {
  let stoodAt = -1;
  await until("the acknowledgements to be withheld for a second", async () => {
    stoodAt = publisher.acknowledged();
    await delay(1_000);
    return publisher.acknowledged() === stoodAt;
  });
}

test("a disk that was full for one write alone is a full disk, not the journal's quota", async (t) => {
  const load = { count: 4_000, rate: 2_000, size: 600, stream: ", whenFull: reject" };
  const { agent, arrived } = await loadedAgent(t, tempDir(t), load);
  const heal = await sicken(t, agent.pid(), "pwrite64:error=ENOSPC:when=1");
  await until("the disk's trouble to be told", () => agent.output().includes("JOURNAL_FULL"));
  await heal();
  await arrived();
  await untilPartIs(agent, "journal", "ok");
  assert.match(agent.output(), /The disk under \S+ is full/);
  assert.doesNotMatch(agent.output(), /The journal \(.*\) has no room/);
});

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
