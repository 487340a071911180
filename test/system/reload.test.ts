/** A running agent whose configuration is changed: by command and by signal, under load. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { readArchive } from "../support/archive.ts";
import type { ChildAgent } from "../support/child-agent.ts";
import { holdfast } from "../support/command-line.ts";
import { fedAgent, type FedAgent } from "../support/fed-agent.ts";
import { freePort } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Started extends FedAgent {
  readonly archived: (stream: string) => number[];
  readonly reload: () => ReturnType<typeof holdfast>;
}

async function started(t: TestContext): Promise<Started> {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const sink = `sinks:\n  files: { type: file, path: ${archive}, from: [load] }\n`;
  const fed = await fedAgent(t, folder, sink);
  return {
    ...fed,
    archived: (stream) => readArchive(archive, stream).map(({ payload }) => Number(payload["n"])),
    reload: () => holdfast(t, ["reload", "--url", fed.agent.adminUrl]),
  };
}

function change({ configFile }: ChildAgent, from: string | RegExp, to: string): void {
  const before = readFileSync(configFile, "utf8");
  const after = before.replace(from, to);
  assert.notEqual(after, before);
  writeFileSync(configFile, after);
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

test("reload takes a new configuration under load: nothing is lost, nothing is archived twice", async (t) => {
  const { agent, publish, archived, reload } = await started(t);
  const count = 6_000;
  const publisher = publish({ count, rate: 1_000, window: 100, resilient: true });
  await until("the load to run", () => publisher.acknowledged() > 1_000);
  const pid = agent.pid();
  change(agent, "sinks:", "processors:\n  all: { from: load, steps: [], to: copies }\nsinks:");
  change(agent, "from: [load]", "from: [load, copies]");
  const { code, out, err } = await reload();
  assert.deepEqual(
    [code, err, out],
    [0, "", "The agent runs with the configuration as it is now\n"],
  );
  assert.ok(publisher.acknowledged() < count, "the reload fell behind the load");
  assert.equal(await publisher.done, count);
  await until("all to be archived", () => new Set(archived("copies")).size === count, 30_000);
  for (const stream of ["load", "copies"]) {
    // What was sent again when its connection ended may be there twice, each under a seq of its own.
    assert.deepEqual(
      [...new Set(archived(stream))].sort((a, b) => a - b),
      numbers(count),
    );
  }
  assert.equal(agent.pid(), pid);
  assert.equal((await agent.health()).status, "ok");
});

test("reload refuses a configuration with mistakes, or one that cannot be run, and the old one goes on", async (t) => {
  const { agent, publish, archived, reload } = await started(t);
  const right = readFileSync(agent.configFile, "utf8");
  change(agent, "from: [load]", "from: [load], maxFileByts: 1MiB");
  const mistaken = await reload();
  assert.equal(mistaken.code, 1);
  assert.match(mistaken.err, /agent\.yaml:\d+:\d+ sinks\.files\.maxFileByts: .*maxFileBytes/);
  assert.match(mistaken.err, /The old configuration goes on\n$/);
  writeFileSync(agent.configFile, right);
  const port = await freePort();
  const taken = createServer().listen(port, "127.0.0.1");
  await once(taken, "listening");
  t.after(() => taken.close());
  change(agent, /http: \{ listen: \S+ \}/, `http: { listen: 127.0.0.1:${port} }`);
  const blocked = await reload();
  assert.equal(blocked.code, 1);
  assert.ok(blocked.err.includes(`127.0.0.1:${port}`), blocked.err);
  await publish({ count: 100, window: 100 }).done;
  await until("what came after it", () => archived("load").length === 100);
  assert.equal((await agent.health()).status, "ok");
});

test("a sink that is renamed is a new group; the old one is told, keeps its place, and can be dropped", async (t) => {
  const { agent, publish, archived } = await started(t);
  await publish({ count: 100, window: 100 }).done;
  await until("the archive", () => archived("load").length === 100);
  change(agent, "files:", "disk:");
  process.kill(agent.pid(), "SIGHUP");
  await until("it to be told", () =>
    agent.output().includes("Group files is not in the configuration"),
  );
  const groups = (): ReturnType<typeof holdfast> =>
    holdfast(t, ["groups", "--url", agent.adminUrl]);
  await until("the new group", async () => /^disk +load +0 +100 /m.test((await groups()).out));
  assert.match((await groups()).out, /^files +load +0 +100 +not configured$/m);
  const drop = (name: string): ReturnType<typeof holdfast> =>
    holdfast(t, ["groups", "drop", name, "--url", agent.adminUrl]);
  const present = await drop("disk");
  assert.equal(present.code, 1);
  assert.match(present.err, /disk is in the configuration: take it out of it first/);
  assert.equal((await drop("files")).out, "Group files is forgotten\n");
  assert.doesNotMatch((await groups()).out, /^files/m);
  const again = await drop("files");
  assert.equal(again.code, 1);
  assert.match(again.err, /no such group files/);
});
