import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { builtInConfig, stateFolder } from "../../src/config/built-in.ts";
import type { Config } from "../../src/config/config.ts";
import { formatProblem, loadConfig, loadConfigText } from "../../src/config/load.ts";
import { HoldfastError } from "../../src/core/errors.ts";
import { tempDir } from "../support/temp-dir.ts";

const problemsOf = (text: string): string[] => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};
const configOf = (text: string): Config => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "config" in loaded
    ? loaded.config
    : assert.fail(loaded.problems.map(formatProblem).join("\n"));
};

const tenMistakes = `journal:
  durabilty: crash
  linger: 5
streams:
  readings:
    schema: { temperature: nubmer }
sources:
  greenhouse:
    type: mqt
    stream: readings
  roof:
    type: mqtt
    ulr: mqtt://broker.local
    topics: []
    stream: readings
sinks:
  cloud:
    type: mqtt
    url: ftp://edge:hunter2@up.example
    from: [readngs]
  greenhouse:
    type: console
log: { level: warning }
`;

test("loadConfigText() names all ten mistakes of a file, each once, with its line", () => {
  const told = problemsOf(tenMistakes);
  assert.deepEqual(
    told.map((line) => line.replace(/, allowed: .*?( \(did you mean .*\))?$/, "$1")),
    [
      "agent.yaml:2:3 journal.durabilty: unknown key (did you mean durability?)",
      "agent.yaml:3:11 journal.linger: found 5",
      'agent.yaml:6:28 streams.readings.schema.temperature: found "nubmer" (did you mean number?)',
      'agent.yaml:9:11 sources.greenhouse.type: found "mqt" (did you mean mqtt?)',
      "agent.yaml:13:5 sources.roof.ulr: unknown key (did you mean url?)",
      "agent.yaml:14:13 sources.roof.topics: found an empty list",
      'agent.yaml:19:10 sinks.cloud.url: found "ftp://…@up.example"',
      'agent.yaml:20:12 sinks.cloud.from[0]: found "readngs", which no source, processor or entry of streams gives (did you mean readings?)',
      "agent.yaml:21:3 sinks.greenhouse.from: missing",
      'agent.yaml:23:15 log.level: found "warning"',
    ],
  );
  assert.equal(
    told[6],
    'agent.yaml:19:10 sinks.cloud.url: found "ftp://…@up.example", allowed: a URL with mqtt:// or mqtts://',
  );
});

const least = "sources: { board: { type: system, stream: system } }\n";

test("loadConfigText() takes a file that names only sources, and gives every default", () => {
  const config = configOf(least);
  assert.equal(config.journal.durability, "power-loss");
  assert.equal(config.journal.linger, 1000);
  assert.equal(config.clock.wait, 300_000);
  assert.deepEqual(config.sinks, {});
  assert.equal(config.http.listen, "127.0.0.1:8000");
});

test("loadConfigText() takes a section with nothing in it as left out", () => {
  assert.equal(configOf(`journal:\n  # linger: 2s\n${least}`).journal.linger, 1000);
});

test("loadConfigText() fills in the environment, as text or number as the option asks", (t) => {
  process.env["HOLDFAST_TEST_NUMBER"] = "1234";
  t.after(() => delete process.env["HOLDFAST_TEST_NUMBER"]);
  const { sources } = configOf(
    `sources:
  a:
    type: mqtt
    url: mqtt://\${HOLDFAST_TEST_NONE:-broker}:1883
    topics: ["a/$\${x"]
    stream: a
    clientId: \${HOLDFAST_TEST_NUMBER}
    receiveMaximum: \${HOLDFAST_TEST_NUMBER}
    password: \${HOLDFAST_TEST_NUMBER}
`.replace('"a/$${x"', '"a/b"'),
  );
  const source = sources["a"];
  assert.ok(source?.type === "mqtt");
  assert.equal(source.url, "mqtt://broker:1883");
  assert.equal(source.clientId, "1234");
  assert.equal(source.receiveMaximum, 1234);
  assert.equal(source.password?.reveal(), "1234");
});

test("loadConfigText() knows an option's kind when the type comes from the environment, too", (t) => {
  process.env["HOLDFAST_TEST_TYPE"] = "mqtt";
  process.env["HOLDFAST_TEST_NUMBER"] = "1234";
  t.after(() => {
    delete process.env["HOLDFAST_TEST_TYPE"];
    delete process.env["HOLDFAST_TEST_NUMBER"];
  });
  const { sources } = configOf(
    "sources:\n  a:\n    url: mqtt://x\n    topics: [a]\n    stream: s\n    password: ${HOLDFAST_TEST_NUMBER}\n    type: ${HOLDFAST_TEST_TYPE}\n",
  );
  const source = sources["a"];
  assert.ok(source?.type === "mqtt");
  assert.equal(source.password?.reveal(), "1234");
});

test("loadConfigText() takes $${ for a plain ${", () => {
  const text = `${least}journal: { path: "/tmp/$\${x}" }\n`;
  assert.equal(configOf(text).journal.path, "/tmp/${x}");
});

test("loadConfigText() names a variable that is not set", () => {
  assert.deepEqual(problemsOf(`${least}journal:\n  path: \${HOLDFAST_TEST_NONE}\n`), [
    "agent.yaml:3:9 journal.path: environment variable HOLDFAST_TEST_NONE is not set, allowed: a variable that is set, or ${HOLDFAST_TEST_NONE:-default}",
  ]);
});

test("loadConfigText() tells broken YAML once, where it breaks", () => {
  assert.deepEqual(problemsOf("sources:\n  a: { type: system\n  b: 1\n").length, 1);
  assert.match(problemsOf("a:\n\t- b\n")[0] ?? "", /^agent\.yaml:2:1 found a tab/);
});

test("loadConfigText() tells duplicate keys and goes on", () => {
  assert.deepEqual(problemsOf(`${least}log: { level: info, level: loud }\n`), [
    "agent.yaml:2:21 log.level: found a second time, allowed: each key once",
    'agent.yaml:2:28 log.level: found "loud", allowed: one of debug, info, warn, error',
  ]);
});

test("loadConfigText() refuses a file above 1 MiB unread", () => {
  assert.match(problemsOf(`#${"x".repeat(1024 * 1024)}`)[0] ?? "", /at most 1 MiB$/);
});

test("loadConfigText() survives aliases that grow, hold themselves, or are deep", () => {
  const bomb = `a: &a [x, x, x, x, x, x, x, x, x]\n${Array.from("bcdefghi")
    .map((name, i) => `${name}: &${name} [${`*${"abcdefgh"[i] ?? ""}, `.repeat(9)}]`)
    .join("\n")}\n`;
  for (const text of [bomb, "a: &x [*x]\n", "[".repeat(5000), "a: *b\n", "? [a]\n: b\n"]) {
    assert.notDeepEqual(problemsOf(text), [], text.slice(0, 20));
  }
});

test("loadConfigText() survives a value that cannot be printed", () => {
  assert.match(problemsOf(`${least}log: { level: [{ toString: [] }] }\n`).join("\n"), /toString/);
  assert.match(problemsOf(`${least}sinks: [{ toString: [] }]\n`).join("\n"), /toString/);
});

test("loadConfigText() follows an alias to its line", () => {
  const text = `sources:\n  a: &a { type: system, stream: s, evry: 1s }\n  b: *a\n`;
  assert.ok(problemsOf(text).some((line) => line.startsWith("agent.yaml:2:36 sources.a.evry:")));
});

test("loadConfigText() checks the parts against each other", () => {
  const told = problemsOf(`sources:
  listen: { type: broker, listen: "0.0.0.0:1883", stream: _gaps }
processors:
  loop: { from: a, to: a }
sinks:
  loop: { type: console, from: [_gaps] }
http: { listen: "127.0.0.1:9000" }
admin: { listen: "0.0.0.0:8001" }
`);
  assert.deepEqual(
    told.map((line) => line.replace(/ found.*/, "")),
    [
      "agent.yaml:2:35 sources.listen.listen:",
      "agent.yaml:2:59 sources.listen.stream:",
      "agent.yaml:4:24 processors.loop.to:",
      "agent.yaml:6:3 sinks.loop:",
      "agent.yaml:8:18 admin.listen:",
    ],
  );
  assert.match(
    problemsOf(`${least}http: { listen: "127.0.0.1:8001" }\n`)[0] ?? "",
    /^agent\.yaml:2:17 http\.listen: found "127\.0\.0\.1:8001", allowed: another address/,
  );
});

test("loadConfigText() tells one mistake once, though others follow from it", () => {
  const told = (text: string): string[] => problemsOf(text).map((line) => line.split(" ")[1] ?? "");
  assert.deepEqual(told(`${least}admin: { listen: 0.0.0.0 }\n`), ["admin.listen:"]);
  const sinks = "sinks: { c: { type: console, from: [s, system] } }\n";
  assert.deepEqual(told(`sources: { b: { type: system, straem: s } }\n${sinks}`), [
    "sources.b.straem:",
  ]);
  assert.deepEqual(told(`${least}procesors: { p: { from: system, to: s } }\n${sinks}`), [
    "procesors:",
  ]);
  assert.deepEqual(told(`${least}processors: { p: { from: system, too: s } }\n${sinks}`), [
    "processors.p.too:",
  ]);
});

test("loadConfigText() asks for at least one source", () => {
  assert.deepEqual(problemsOf(""), [
    "agent.yaml:1:1 sources: missing, allowed: a map with at least one source",
  ]);
});

test("loadConfigText() lets the broker judge its own options", () => {
  const told = problemsOf("sources: { b: { type: broker, stream: s, acl: { eve: {} } } }\n");
  assert.deepEqual(told, ["agent.yaml:1:12 sources.b: acl names eve, who is not among users"]);
});

test("no problem ever shows a secret", (t) => {
  process.env["HOLDFAST_TEST_SECRET"] = "hunter2";
  t.after(() => delete process.env["HOLDFAST_TEST_SECRET"]);
  const source = (line: string): string =>
    `sources:\n  a:\n    type: mqtt\n    url: mqtt://x\n    topics: [a]\n    stream: s\n    ${line}\n`;
  const texts = [
    source("password: [hunter2]"),
    source("{ password:hunter2 }"),
    source("qos: 1\n      password:hunter2"),
    source("qos: 1\n      token=hunter2"),
    source("clientId: x").replace("mqtt://x", "http://x?token=hunter2"),
    source("password: { fil: hunter2 }"),
    source("password: { file: [hunter2] }"),
    source("password: *hunter2"),
    source("password: !hunter2 x"),
    source("password: &hunter2"),
    source("password: @hunter2"),
    source("password: %hunter2"),
    source('password: "hunter2'),
    source("password: hunter2: hunter2"),
    source("pasword: hunter2"),
    source("password: x\n    password: hunter2"),
    source("qos: ${HOLDFAST_TEST_SECRET}"),
    source("tls: hunter2"),
    source("tls: { verify: ${HOLDFAST_TEST_SECRET} }")
      .replace("{ verify", "\n      verify")
      .replace(" }", ""),
    source("clientId: x").replace("mqtt://x", "ftp://u:hunter2@x"),
    source("clientId: x").replace("mqtt://x", "ftp://u:p/hunter2@x"),
    source("clientId: x").replace("mqtt://x", "${HOLDFAST_TEST_SECRET}"),
    source("clientId: x").replace("type: mqtt\n", "type: ${HOLDFAST_TEST_SECRET}\n"),
    `${least}sinks: { c: { type: console, from: ["\${HOLDFAST_TEST_SECRET}"] } }`,
    `${least}admin: { token: [hunter2] }`,
    `${least}admin: hunter2`,
    `${least}admin: { listen: "\${HOLDFAST_TEST_SECRET}" }`,
    "sources: { b: { type: broker, stream: s, users: hunter2 } }",
    "sources: { b: { type: broker, stream: s, users: { esp: [hunter2] } } }",
    "sources: hunter2",
  ];
  for (const text of texts) {
    const told = problemsOf(text).join("\n");
    const isRight = text.includes("&hunter2");
    if (!isRight) assert.notEqual(told, "", text);
    assert.doesNotMatch(told, /hunter2/, text);
  }
});

test("loadConfig() says which file it cannot read, and reads one that it can", async (t) => {
  const folder = tempDir(t);
  const file = join(folder, "agent.yaml");
  await assert.rejects(
    loadConfig(file),
    (error) => error instanceof HoldfastError && error.code === "CONFIG_UNREADABLE",
  );
  writeFileSync(file, least);
  assert.ok("config" in (await loadConfig(file)));
});

test("builtInConfig() passes its own check", () => {
  const config = builtInConfig();
  assert.deepEqual(Object.keys(config.sources), ["broker", "board"]);
  assert.equal(config.streams["messages"]?.format, "text");
});

test("stateFolder() follows systemd, then XDG, then the home folder", (t) => {
  const before = { ...process.env };
  t.after(() => {
    for (const name of ["STATE_DIRECTORY", "XDG_STATE_HOME"]) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });
  process.env["XDG_STATE_HOME"] = "/x";
  process.env["STATE_DIRECTORY"] = "/var/lib/holdfast:/var/lib/other";
  assert.equal(stateFolder(), "/var/lib/holdfast");
  delete process.env["STATE_DIRECTORY"];
  assert.equal(stateFolder(), "/x/holdfast");
  process.env["XDG_STATE_HOME"] = "relative";
  assert.match(stateFolder(), /^\/.*\/\.local\/state\/holdfast$/);
});

test("a sink's pace is checked: its rate, its hours, and an order where there is one", () => {
  const sink = (text: string): string[] =>
    problemsOf(`sources:\n  in: { type: system, stream: a }\nsinks:\n  s: { ${text} }\n`);
  const cloud = "type: valkey, url: redis://up.example, from: [a]";
  const good = `${cloud}, order: live-first, backfillShare: 0.3, rateLimit: 200KiB/s, schedule: { hours: "22:00-06:00", interfaces: [wifi] }, batch: { max: 100, bytes: 8KiB, wait: 1s }`;
  assert.deepEqual(sink(good), []);
  for (const [wrong, said] of [
    ["rateLimit: 50B/s", /rateLimit.*at least 100B\/s/],
    ["rateLimit: fast", /rateLimit.*200KiB\/s/],
    ["backfillShare: 1", /backfillShare.*0\.05 to 0\.95/],
    ['schedule: { hours: "22-06" }', /hours.*22:00-06:00/],
    ["order: newest", /order.*strict, live-first/],
    ["mode: sentinel", /mode.*sentinel:NAME/],
    ['stream: "{seq}"', /stream.*\{device\} and \{stream\}/],
  ] as const) {
    const [problem, ...more] = sink(`${cloud}, ${wrong}`);
    assert.match(problem ?? "", said);
    assert.equal(more.length, 0);
  }
  const [unknown] = sink("type: file, path: /tmp/a, from: [a], order: live-first");
  assert.match(unknown ?? "", /order/);
});
