import assert from "node:assert/strict";
import { test } from "node:test";
import { runCommandLine } from "../../src/cli/commands.ts";
import { recordingIo } from "../support/recording-io.ts";

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = recordingIo();
  const code = await runCommandLine(argv, io, "0.1.0");
  return { code, out: io.stdout(), err: io.stderr() };
}

test("--version prints the version", async () => {
  assert.deepEqual(await run("--version"), { code: 0, out: "0.1.0\n", err: "" });
});

test("--help lists every command with its usage", async () => {
  const { code, out } = await run("--help");
  assert.equal(code, 0);
  for (const name of [
    "run",
    "check",
    "test",
    "init",
    "status",
    "streams",
    "tail",
    "groups",
    "dlq-inspect",
    "dlq-replay",
    "dlq-export",
    "dlq-import",
    "dlq-purge",
    "replay",
    "state",
  ]) {
    assert.match(out, new RegExp(`^  ${name}( |$)`, "m"), name);
  }
});

test("no command at all is wrong usage, told on stderr", async () => {
  const { code, out, err } = await run();
  assert.deepEqual([code, out], [2, ""]);
  assert.match(err, /^Usage: holdfast COMMAND/m);
});

test("an unknown command names the nearest", async () => {
  const slip = await run("statsu");
  assert.equal(slip.code, 2);
  assert.equal(slip.err, "holdfast: There is no command statsu: did you mean status?\n");
  const other = await run("frobnicate");
  assert.equal(other.code, 2);
  assert.match(other.err, /`holdfast --help` lists them/);
  assert.equal((await run("toString")).code, 2);
});

test("a command's --help shows how to use it", async () => {
  const { code, out } = await run("tail", "--help");
  assert.equal(code, 0);
  assert.match(out, /^Usage: holdfast tail STREAM/);
  assert.match(out, /--url URL/);
});

test("wrong usage ends with 2 and the usage", async () => {
  const wrong: string[][] = [
    ["tail"],
    ["tail", "a", "b"],
    ["tail", "a", "--from", "x"],
    ["status", "--frm"],
    ["status", "extra"],
    ["dlq-inspect", "a", "--limit", "0"],
    ["dlq-purge", "a"],
  ];
  for (const argv of wrong) {
    const { code, out, err } = await run(...argv);
    assert.deepEqual([code, out], [2, ""], argv.join(" "));
    assert.match(
      err,
      new RegExp(`^holdfast ${argv[0]}: .+\nUsage: holdfast ${argv[0]}`),
      argv.join(" "),
    );
  }
});
