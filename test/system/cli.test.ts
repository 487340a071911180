/** The command line as a user types it: what it prints, where, and its exit codes. */
import assert from "node:assert/strict";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { connectAsync } from "mqtt";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { holdfast, startHoldfast } from "../support/command-line.ts";
import { freePort } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const commandNames = [
  "run",
  "check",
  "init",
  "status",
  "streams",
  "tail",
  "groups",
  "dlq-inspect",
  "dlq-purge",
];

test("--version prints package.json's, --help every command, and wrong usage exits with 2", async (t) => {
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
  const told = await holdfast(t, ["--version"]);
  assert.deepEqual([told.code, told.out, told.err], [0, `${version}\n`, ""]);
  const help = await holdfast(t, ["--help"]);
  assert.equal(help.code, 0);
  for (const name of commandNames) assert.match(help.out, new RegExp(`^  ${name} ?`, "m"));
  for (const args of [
    [],
    ["stauts"],
    ["tail"],
    ["status", "--colour"],
    ["tail", "a", "--from", "x"],
  ]) {
    const wrong = await holdfast(t, args);
    assert.equal(wrong.code, 2, `holdfast ${args.join(" ")}: ${wrong.err}`);
    assert.equal(wrong.out, "");
    assert.doesNotMatch(wrong.err, /\n\s+at /, "no stack trace");
  }
  assert.match((await holdfast(t, ["stauts"])).err, /did you mean status\?/);
});

test("init writes a file that check finds right, and never over one that is there", async (t) => {
  const cwd = tempDir(t);
  const file = join(cwd, "agent.yaml");
  const first = await holdfast(t, ["init"], { cwd });
  assert.equal(first.code, 0, first.err);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const checked = await holdfast(t, ["check", "--config", file]);
  assert.equal(checked.code, 0, checked.out + checked.err);
  writeFileSync(file, "mine\n");
  const again = await holdfast(t, ["init"], { cwd });
  assert.equal(again.code, 1);
  assert.match(again.err, /^holdfast: Cannot write .*agent\.yaml: it is there already.*\n$/);
  assert.equal(readFileSync(file, "utf8"), "mine\n");
});

/** Each of the ten lines that are marked is one mistake, named by its path. */
const tenMistakes = `journal:
  linger: 1 s econd # journal.linger
  maxByts: 1GiB # journal.maxByts
  onFull: drop # journal.onFull
sources:
  in: { type: mqqt, stream: a } # sources.in.type
  up: { type: mqtt, url: "http://x", topics: [a], stream: a } # sources.up.url
  board: { type: system, stream: "a b" } # sources.board.stream
processors:
  hot: { from: a, steps: [{ filter: "payload. >" }], to: b } # processors.hot.steps[0].filter
sinks:
  out: { type: file, from: [a] } # sinks.out.path
http: { listen: nowhere } # http.listen
log: { level: loud } # log.level
`;

test("check names each of ten mistakes with its line, and run refuses with the same and 78", async (t) => {
  const file = join(tempDir(t), "agent.yaml");
  writeFileSync(file, tenMistakes);
  const lines = tenMistakes.split("\n");
  const expected = lines.flatMap((line, index) => {
    const path = / # (\S+)$/.exec(line)?.[1];
    return path === undefined ? [] : [{ line: index + 1, path }];
  });
  assert.equal(expected.length, 10);
  const checked = await holdfast(t, ["check", "--config", file]);
  assert.equal(checked.code, 1);
  const ran = await holdfast(t, ["run", "--config", file]);
  assert.equal(ran.code, 78);
  for (const text of [checked.out, ran.err]) {
    for (const { line, path } of expected) {
      const told = text
        .split("\n")
        .filter((one) => one.startsWith(`${file}:${line}:`) && one.includes(path));
      assert.equal(told.length, 1, `${path} in line ${line} is told ${told.length} times\n${text}`);
    }
  }
  assert.match(checked.out, /has 10 problems\n$/);
  assert.match(checked.out, /maxBytes/, "the nearest key for a misspelling");
});

async function startAgent(t: TestContext): Promise<{ agent: ChildAgent; port: number }> {
  const folder = tempDir(t);
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
device: { id: box }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/#"], stream: load }
streams:
  load: { linger: 20ms }
sinks:
  archive: { type: file, path: ${folder}/archive, from: [load] }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  return { agent, port };
}

test("status, streams, groups and tail show a running agent, for people and for programs", async (t) => {
  const { agent, port } = await startAgent(t);
  const client = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  const publish = (n: number) => client.publishAsync("load/d1", `{"n":${n}}`, { qos: 1 });
  for (let n = 1; n <= 5; n++) await publish(n);
  // The cursor is noted on disk a moment after the sink has passed.
  await until("the sink's cursor", async () => {
    const text = await (await fetch(`${agent.adminUrl}/groups`)).text();
    return text.includes('"cursor":5');
  });
  const config = ["--config", agent.configFile];

  const status = await holdfast(t, ["status", ...config]);
  assert.equal(status.code, 0, status.err);
  assert.match(status.out, /^OK  box, up \S+, holdfast /);
  assert.match(status.out, /^archive +sink +ok/m);
  const statusJson = await holdfast(t, ["status", "--json", ...config]);
  assert.equal((JSON.parse(statusJson.out) as { status: string }).status, "ok");

  const streams = await holdfast(t, ["streams", ...config]);
  assert.match(streams.out, /^load +json +5 +1–5 /m);
  const streamsJson = await holdfast(t, ["streams", "--json", ...config]);
  const { streams: rows } = JSON.parse(streamsJson.out) as {
    streams: { name: string; head: number }[];
  };
  assert.equal(rows.find(({ name }) => name === "load")?.head, 5);

  assert.match((await holdfast(t, ["groups", ...config])).out, /^archive +load +0 +5/m);
  const groupsJson = await holdfast(t, ["groups", "--json", ...config]);
  assert.match(groupsJson.out, /"group":"archive".*"lag":0/);

  const tail = await holdfast(t, ["tail", "load", "--from", "-3", ...config]);
  assert.deepEqual(
    tail.out.split("\n").map((line) => /\{.*$/.exec(line)?.[0]),
    ['{"n":3}', '{"n":4}', '{"n":5}', undefined],
  );
  const tailJson = await holdfast(t, ["tail", "load", "--from", "2", "--json", ...config]);
  assert.deepEqual(
    tailJson.out
      .trim()
      .split("\n")
      .map((line) => (JSON.parse(line) as { seq: number }).seq),
    [2, 3, 4, 5],
  );

  const following = startHoldfast(t, ["tail", "load", "--follow", "--from", "5", ...config]);
  await following.shows('{"n":5}');
  await publish(6);
  await following.shows('{"n":6}');
  await agent.stop();
  const ended = await following.ended;
  assert.ok(ended.code === 0 || ended.code === 1, `${ended.code} ${ended.err}`);
  assert.doesNotMatch(ended.err, /\n\s+at /);
});

test("commands for an agent that is not there exit with 1 and one line", async (t) => {
  const url = `http://127.0.0.1:${await freePort()}`;
  for (const args of [["status"], ["streams"], ["groups"], ["tail", "a"], ["dlq-inspect", "a"]]) {
    const { code, out, err } = await holdfast(t, [...args, "--url", url]);
    assert.equal(code, 1, err);
    assert.equal(out, "");
    assert.match(err, /^holdfast: [^\n]+\n$/, args.join(" "));
    assert.ok(err.includes(url), err);
  }
});

test("tail of a stream that nobody knows exits with 1 and says so", async (t) => {
  const { agent } = await startAgent(t);
  const { code, err } = await holdfast(t, ["tail", "laod", "--url", agent.adminUrl]);
  assert.equal(code, 1);
  assert.match(err, /^holdfast: [^\n]*laod[^\n]*\n$/);
});
