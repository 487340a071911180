/** What a person pauses stands still, over restarts, until a person resumes it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { fedAgent } from "../support/fed-agent.ts";
import { untilPartIs } from "../support/figures.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

test("a paused sink and a paused processor wait, after a kill as well, and go on without a loss", async (t) => {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const fed = await fedAgent(
    t,
    folder,
    `
processors:
  copy: { from: load, steps: [{ filter: "true" }], to: copied }
sinks:
  files: { type: file, path: ${archive}, from: [load, copied] }
`,
  );
  const { agent } = fed;
  const ask = async (group: string, verb: string): Promise<void> => {
    const answer = await fetch(`${agent.adminUrl}/groups/${group}/${verb}`, { method: "POST" });
    assert.equal(answer.status, 200, await answer.text());
  };
  const archived = (stream: string): number => readArchive(archive, stream).length;
  const publish = (count: number): Promise<number> => fed.publish({ count, window: 100 }).done;
  await publish(100);
  await until("both", () => archived("load") === 100 && archived("copied") === 100);
  await ask("copy", "pause");
  await publish(100);
  await until("the rest", () => archived("load") === 200);
  await ask("files", "pause");
  assert.match(
    String((await untilPartIs(agent, "files", "degraded")).components["files"]?.detail),
    /Paused by a person.*`holdfast resume files`/,
  );
  await publish(100);
  await agent.kill();
  await agent.start();
  await untilPartIs(agent, "copy", "degraded");
  await delay(500);
  assert.deepEqual([archived("load"), archived("copied")], [200, 100]);
  await ask("files", "resume");
  await until("what waited", () => archived("load") === 300);
  assert.equal(archived("copied"), 100);
  await ask("copy", "resume");
  await until("its copies", () => archived("copied") === 300);
  await untilPartIs(agent, "copy", "ok");
  await untilPartIs(agent, "files", "ok");
  // The processor goes back: its effects happen again, and nothing else moves.
  const again = `${agent.adminUrl}/groups/copy/replay?stream=load&from=291`;
  assert.equal((await fetch(again, { method: "POST" })).status, 200);
  await until("the replay", () => archived("copied") === 310);
  const refused = await fetch(again.replace("copy", "files"), { method: "POST" });
  assert.equal(refused.status, 422);
  assert.match(await refused.text(), /keeps its own place/);
});
