/** README's examples of the library, run as they stand. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDir, tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Example {
  /** In this order, other lines between them. */
  readonly prints: readonly string[];
  readonly text: string;
}

let server: RedisServer;
before(async () => {
  server = await startRedis(tempDirAll(after));
});
after(() => server.stop());

/** Within the checkout, so that "holdfast" is this package (Node's self-reference by package.json's exports). */
const folder = mkdtempSync(resolve(".readme-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const section =
  /^## The library\n([\s\S]*?)^## /m.exec(readFileSync("README.md", "utf8"))?.[1] ?? "";
const examples: Example[] = [
  ...section.matchAll(/<!-- prints: (.*) -->\n+```ts\n([\s\S]*?)```/g),
].map(([, prints = "", text = ""]) => ({ prints: prints.split("; "), text }));

test("README has an example of each thing, and says of each what it prints", () => {
  assert.equal(examples.length, 6);
  assert.equal(section.match(/```ts/g)?.length, examples.length);
});

interface Started {
  readonly process: ChildProcess;
  readonly output: () => string;
}

function start(t: TestContext, text: string, url: string, state: string): Started {
  const file = join(folder, `example-${crypto.randomUUID()}.ts`);
  writeFileSync(file, text);
  const env = { ...process.env, VALKEY_URL: url, XDG_STATE_HOME: state };
  const started = spawn(process.execPath, [file], { env, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => started.kill("SIGKILL"));
  let output = "";
  for (const stream of [started.stdout, started.stderr]) {
    stream.on("data", (data: Buffer) => (output += data.toString()));
  }
  return { process: started, output: () => output };
}

function hasPrinted(output: string, lines: readonly string[]): boolean {
  let from = 0;
  for (const line of lines) {
    const at = output.indexOf(`${line}\n`, from);
    if (at < 0) return false;
    from = at + line.length;
  }
  return true;
}

async function ended({ process: running, output }: Started): Promise<void> {
  running.kill("SIGTERM");
  if (running.exitCode === null) await once(running, "exit");
  assert.equal(running.exitCode, 0, output());
}

for (const { prints, text } of examples) {
  const title = prints[0] ?? "";
  for (const kind of ["memory", "a server"]) {
    test(`README's example that prints "${title}" runs as it stands: ${kind}`, async (t) => {
      // Nothing listens on port 1: memory takes its place, and says so.
      const url = kind === "memory" ? "valkey://127.0.0.1:1" : server.url;
      const started = start(t, text, url, tempDir(t));
      const isInMemory = (): boolean => started.output().includes("are kept in memory");
      await until(`all of ${prints.join("; ")}`, () => {
        const isDone = hasPrinted(started.output(), prints);
        return (isDone && (kind !== "memory" || isInMemory())) || started.process.exitCode !== null;
      });
      assert.ok(hasPrinted(started.output(), prints), started.output());
      assert.equal(isInMemory(), kind === "memory");
      await ended(started);
    });
  }
}

test("README's two workers in two terminals have each event once", async (t) => {
  const text = examples[1]?.text ?? "";
  server.cli("FLUSHALL");
  const state = tempDir(t);
  const both = [start(t, text, server.url, state), start(t, text, server.url, state)];
  const lines = (): string[] => both.flatMap(({ output }) => output().match(/^d\d \d$/gm) ?? []);
  await until("eighteen lines", () => lines().length >= 18);
  const pending = (): string => server.cli("XPENDING", "readings", "sharing");
  await until("all to be acknowledged", () => pending().startsWith("0"));
  for (const each of both) await ended(each);
  // Each of the two emitted each.
  const wanted = Array.from({ length: 18 }, (_, n) => `d${(n >> 1) % 3} ${n >> 1}`);
  assert.deepEqual(lines().sort(), wanted.sort());
});
