/** Dead letters and replays as an operator has them: the commands against a running agent. */
import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { ChildAgent } from "../support/child-agent.ts";
import { holdfast } from "../support/command-line.ts";
import { fedAgent } from "../support/fed-agent.ts";
import { untilFigure } from "../support/figures.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

/** Counts in its state, and fails on each tenth event while there is a file `broken`. */
const handler = `
import { existsSync } from "node:fs";
const broken = new URL("./broken", import.meta.url);
export default async (event, context) => {
  const { n } = event.payload;
  if (n % 10 === 3 && existsSync(broken)) throw new Error("Broken");
  const count = ((await context.state.get("all")) ?? 0) + 1;
  context.state.put("all", count);
  return { n, count };
};
`;

interface Out {
  readonly n: number;
  readonly count: number;
}

async function out(agent: ChildAgent): Promise<Out[]> {
  const answer = await fetch(`${agent.adminUrl}/streams/out/events?from=1&limit=100000`);
  const lines = (await answer.text()).split("\n").filter((line) => line !== "");
  return lines.map((line) => (JSON.parse(line) as { payload: Out }).payload);
}

async function started(t: TestContext): Promise<{ agent: ChildAgent; folder: string }> {
  const folder = tempDir(t);
  mkdirSync(join(folder, "handlers"));
  writeFileSync(join(folder, "handlers", "handler.mjs"), handler);
  writeFileSync(join(folder, "handlers", "broken"), "");
  const { agent, publish } = await fedAgent(
    t,
    folder,
    `
processors:
  count:
    from: load
    handler: ./handlers/handler.mjs
    to: out
    batch: { wait: 20ms }
    retry: { attempts: 1 }
`,
    { stream: ", schema: { n: { type: number, max: 89 } }" },
  );
  await publish({ count: 100, window: 100 }).done;
  await untilFigure(agent, 'holdfast_dlq_events{stream="load"}', (value) => value === 19);
  return { agent, folder };
}

test("dead letters go back once each, those that fail again stay, and edited ones take their place", async (t) => {
  const { agent, folder } = await started(t);
  const run = (...args: string[]) => holdfast(t, [...args, "--url", agent.adminUrl]);
  const vain = await run("dlq-replay", "load");
  assert.equal(vain.code, 1, vain.err);
  assert.equal(vain.out, "Replayed 9 dead letters of stream load, 10 stay\n");
  assert.match(vain.err, /^\d+: EVENT_INVALID: Payload does not fit: n: found 90/m);
  await untilFigure(agent, 'holdfast_dlq_events{stream="load"}', (value) => value === 19);
  rmSync(join(folder, "handlers", "broken"));

  const exported = await run("dlq-export", "load");
  const letters = exported.out.trim().split("\n");
  assert.equal(letters.length, 19);
  const edited = letters.map((line) => {
    const letter = JSON.parse(line) as { payload: { n: number } };
    if (letter.payload.n < 90) return line;
    return JSON.stringify({
      ...letter,
      payload: { ...letter.payload, n: letter.payload.n - 90.5 },
    });
  });
  const file = join(folder, "letters.ndjson");
  writeFileSync(file, `${edited.join("\n")}\n`);
  // Cut off amid it, and begun again: what went back is not sent twice.
  writeFileSync(join(folder, "first"), `${edited.slice(0, 7).join("\n")}\n`);
  assert.equal((await run("dlq-import", "load", join(folder, "first"))).code, 0);
  const taken = await run("dlq-import", "load", file);
  assert.equal(taken.out, "Replayed 12 dead letters of stream load\n", taken.err);
  assert.equal(
    (await run("dlq-import", "load", file)).out,
    "Replayed 0 dead letters of stream load\n",
  );
  await until("all events", async () => (await out(agent)).length === 100);
  const numbers = (await out(agent)).map(({ n }) => n).sort((a, b) => a - b);
  const expected = [
    ...Array.from({ length: 90 }, (_, n) => n),
    ...Array.from({ length: 10 }, (_, n) => n - 0.5),
  ];
  assert.deepEqual(
    numbers,
    expected.sort((a, b) => a - b),
  );
});

test("a replay says what becomes of the state, gives everything again, and survives a kill amid it", async (t) => {
  const { agent, folder } = await started(t);
  rmSync(join(folder, "handlers", "broken"));
  const run = (...args: string[]) => holdfast(t, [...args, "--url", agent.adminUrl]);
  await run("dlq-purge", "load", "--yes");
  await until("the first 81", async () => (await out(agent)).length === 81);
  const spaces = JSON.parse((await run("state", "ls", "--json")).out) as { spaces: unknown[] };
  assert.deepEqual(spaces.spaces, [{ space: "count", keys: 1, bytes: 5 }]);
  assert.equal((await run("state", "get", "count", "all")).out, "81\n");

  const silent = await run("replay", "count", "load", "--from", "1");
  assert.equal(silent.code, 1);
  assert.match(silent.err, /Cannot replay: count remembers 1 keys: say whether/);
  const ahead = await run("replay", "count", "load", "--from", "91", "--state", "keep");
  assert.match(ahead.err, /has not come to seq 91/);

  const kept = await run("replay", "count", "load", "--from", "81", "--state", "keep");
  assert.equal(
    kept.out,
    "count goes back to seq 81 of load: 10 events again\nIt remembers what it did\n",
  );
  await until("ten again", async () => (await out(agent)).length === 91);
  assert.deepEqual((await out(agent)).at(-1)?.count, 91);

  const reset = await run(
    "replay",
    "count",
    "load",
    "--from",
    "2000-01-01T00:00:00Z",
    "--state",
    "reset",
  );
  assert.match(reset.out, /goes back to seq 1 of load: 90 events again\nIt remembers nothing/);
  await agent.kill();
  await agent.start();
  await until("all again", async () => (await out(agent)).length === 181);
  const last = (await out(agent)).slice(91);
  assert.deepEqual(
    last.map(({ n, count }) => [n, count]),
    Array.from({ length: 90 }, (_, n) => [n, n + 1]),
  );
  assert.equal((await run("state", "rm", "count", "all")).out, "Removed 1 key of count\n");
  assert.equal((await run("state", "get", "count", "all")).code, 1);
});
