import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { Secret } from "../../src/core/secret.ts";
import { createLog, type LogLevel, type LogRoot } from "../../src/host/log.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { until } from "../support/until.ts";

async function opened(level: LogLevel = "info"): Promise<{
  log: LogRoot;
  clock: FakeClock;
  lines: () => Record<string, unknown>[];
  raw: () => string;
}> {
  const clock = new FakeClock();
  let raw = "";
  const destination = { write: (text: string) => void (raw += text) };
  const log = await createLog(level, "agent", { clock, destination });
  const lines = (): Record<string, unknown>[] =>
    raw
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, clock, lines, raw: () => raw };
}

test("createLog() writes one JSON line with level, time, part, message and fields", async () => {
  const { log, lines } = await opened();
  log.part("journal").warn("The disk is slow", { tookMs: 812 });
  assert.deepEqual(lines(), [
    {
      level: "warn",
      time: "2026-01-01T00:00:00.000Z",
      part: "journal",
      tookMs: 812,
      message: "The disk is slow",
    },
  ]);
});

test("createLog() leaves out what is below its level", async () => {
  const { log, lines } = await opened("warn");
  log.info("told");
  log.debug("told");
  log.warn("heard");
  assert.deepEqual(
    lines().map((line) => line["message"]),
    ["heard"],
  );
});

test("createLog() shows no secret: by field name, in a URL, in an error, of the class Secret", async () => {
  const { log, raw } = await opened();
  const cause = new Error("connect mqtt://edge:hunter2@broker failed");
  log.error("Cannot reach mqtts://edge:hunter2@broker.local:8883", {
    password: "hunter2",
    nested: { adminToken: "hunter2", url: "redis://u:hunter2@host" },
    held: new Secret({ text: "hunter2" }),
    error: new HoldfastError("SINK_UNREACHABLE", "Cannot reach x://a:hunter2@b", { cause }),
  });
  assert.doesNotMatch(raw(), /hunter2/);
  assert.match(raw(), /mqtts:\/\/edge:\[secret\]@broker\.local:8883/);
  assert.match(raw(), /SINK_UNREACHABLE/);
});

test("createLog() lets no escape sequence of a device through to a terminal", async () => {
  const { log, lines } = await opened();
  log.warn("Topic \u001b[2J\u009b31m cleared\nthe screen");
  assert.equal(lines()[0]?.["message"], "Topic �[2J�31m cleared the screen");
});

test("createLog() tells a repeated message once in 10 s, then how often it came", async () => {
  const { log, clock, lines } = await opened();
  for (let i = 0; i < 1000; i += 1) log.warn("The disk refused a write", { attempt: i });
  assert.equal(lines().length, 1);
  clock.advance(10_000);
  assert.equal(lines().length, 2);
  assert.deepEqual([lines()[1]?.["repeats"], lines()[1]?.["attempt"]], [999, 999]);
  clock.advance(10_000);
  assert.equal(lines().length, 2, "no repetition, no line");
  log.warn("The disk refused a write");
  assert.equal(lines().length, 3, "after a quiet window it is told at once");
});

test("createLog() keeps the parts' messages apart", async () => {
  const { log, lines } = await opened();
  log.part("cloud").warn("Cannot connect");
  log.part("bus").warn("Cannot connect");
  assert.equal(lines().length, 2);
});

test("createLog() counts repetitions of 256 messages at the most, and tells what it pushes out", async () => {
  const { log, clock, lines } = await opened();
  log.warn("first");
  log.warn("first");
  for (let i = 0; i < 256; i += 1) log.warn(`message ${i}`);
  const first = lines().filter((line) => line["message"] === "first");
  assert.deepEqual(
    first.map((line) => line["repeats"]),
    [undefined, 1],
  );
  assert.ok(clock.waiting <= 256);
  log.warn("first");
  assert.equal(lines().at(-1)?.["message"], "first", "it was forgotten, so it is told again");
});

test("flush() tells what was held back", async () => {
  const { log, lines } = await opened();
  log.error("again");
  log.error("again");
  log.flush();
  log.flush();
  assert.deepEqual(
    lines().map((line) => line["repeats"]),
    [undefined, 1],
  );
});

test("createLog() loses no line when the process ends at once", () => {
  const program = `
    import { createLog } from "./src/host/log.ts";
    const log = await createLog("info", "agent");
    for (let i = 0; i < 5000; i += 1) log.info("line " + i, { filler: "x".repeat(100) });
    process.exit(74);`;
  const ended = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  assert.equal(ended.status, 74, ended.stderr);
  const lines = ended.stdout.trim().split("\n");
  assert.equal(lines.length, 5000);
  const seen = lines.map((line) =>
    Number((JSON.parse(line) as { message: string }).message.slice(5)),
  );
  assert.deepEqual(new Set(seen).size, 5000);
});

test("createLog() loses no line to an uncaught error", () => {
  const program = `
    import { createLog } from "./src/host/log.ts";
    const log = await createLog("info", "agent");
    log.error("The last words");
    throw new Error("our own mistake");`;
  const ended = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", program], {
    encoding: "utf8",
  });
  assert.match(ended.stdout, /The last words/);
  assert.notEqual(ended.status, 0);
});

test("createLog() is not held up by a reader that stalls, and tells what was lost", async () => {
  const program = `
    import { createLog } from "./src/host/log.ts";
    const log = await createLog("info", "agent");
    for (let i = 0; i < 30_000; i += 1) log.info("line " + i, { filler: "x".repeat(100) });
    setTimeout(() => process.stderr.write("alive"), 50);
    process.stdin.once("data", () => process.exit(0));`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program]);
  const [alive] = (await once(child.stderr, "data")) as [Buffer];
  assert.equal(alive.toString(), "alive", "5 MB were logged, and nobody has read a byte");
  let text = "";
  child.stdout.on("data", (data: Buffer) => (text += data.toString()));
  await until("the word about lost lines", () => text.includes("were lost"));
  child.stdin.write("end\n");
  const [code] = (await once(child, "close")) as [number];
  assert.equal(code, 0);
  const lost = Number(/"lines":(\d+)/.exec(text)?.[1]);
  assert.equal(text.match(/"message":"line /g)?.length, 30_000 - lost);
});

test("createLog() is not held up by what a stranger names itself", async () => {
  const { log, lines } = await opened();
  // The longest MQTT text: a client that was not admitted chooses its identifier.
  const names = [`${"a".repeat(65_532)}://`, " ".repeat(65_535)];
  const startMs = performance.now();
  for (const name of names) log.warn(`Refused client ${name}: wrong password`);
  assert.equal(lines().length, 2);
  // Quadratic, each took seconds; the bound is far from what a busy machine needs for it.
  assert.ok(performance.now() - startMs < 1000);
});

test("createLog() shows nothing of a password that holds an @", async () => {
  const { log, raw } = await opened();
  log.warn("Cannot reach mqtt://edge:hun@ter2@broker.local:1883");
  assert.match(raw(), /mqtt:\/\/edge:\[secret\]@broker\.local:1883/);
});
