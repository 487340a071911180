import assert from "node:assert/strict";
import { test } from "node:test";
import { formatProblem, loadConfigText } from "../../src/config/load.ts";

const problemsOf = (text: string): string[] => {
  const loaded = loadConfigText(text, "agent.yaml");
  return "problems" in loaded ? loaded.problems.map(formatProblem) : [];
};
const least = "sources: { board: { type: system, stream: system } }\n";
const broker = (listen: string): string =>
  `sources: { b: { type: broker, stream: s, listen: "${listen}" } }\n`;

test("checkConsistency() finds processors that lead back to where they read, each loop once", () => {
  assert.deepEqual(
    problemsOf(`${least}processors:\n  p: { from: system, to: b }\n  q: { from: b, to: system }\n`),
    [
      'agent.yaml:4:21 processors.q.to: found "system", which leads back to q by p, allowed: a stream from which no processor leads back',
    ],
  );
  assert.deepEqual(problemsOf(`${least}processors: { p: { from: [system], to: system } }\n`), [
    'agent.yaml:2:40 processors.p.to: found "system", which leads back to p, allowed: a stream from which no processor leads back',
  ]);
  const chain = `${least}processors:\n  p: { from: system, to: b }\n  q: { from: [system, b], to: c }\n  r: { from: c, to: d }\n`;
  assert.deepEqual(problemsOf(chain), []);
});

test("checkConsistency() finds a processor that keeps nothing", () => {
  assert.deepEqual(problemsOf(`${least}processors: { p: { from: system } }\n`), [
    "agent.yaml:2:15 processors.p.to: missing, allowed: a stream; without one there must be a handler that emits",
  ]);
  assert.deepEqual(
    problemsOf(`${least}processors: { p: { from: system, handler: ./h.js } }\n`),
    [],
  );
});

test("checkConsistency() finds a stream that is read twice by one group", () => {
  assert.deepEqual(
    problemsOf(`${least}sinks: { c: { type: console, from: [system, system] } }\n`),
    ['agent.yaml:2:45 sinks.c.from[1]: found "system" a second time, allowed: each stream once'],
  );
});

test("checkConsistency() asks names of streams to be names, and leaves _gaps to the agent", () => {
  assert.deepEqual(problemsOf("sources: { b: { type: system, stream: ../etc } }\n"), [
    'agent.yaml:1:39 sources.b.stream: found "../etc", allowed: a name of letters, digits, _ . and -, at most 64',
  ]);
  assert.match(
    problemsOf(`${least}streams: { _gaps: { format: text } }\n`).join("\n"),
    /^agent\.yaml:2:12 streams\._gaps: found the agent's own stream, allowed: another name$/,
  );
});

test("checkConsistency() finds rules for JSON in a stream that is none", () => {
  const told = problemsOf(
    `${least}streams:\n  t:\n    format: text\n    schema: { a: string }\n    time: ts\n    key: a\n  u: { format: bytes, key: topic }\n`,
  );
  assert.deepEqual(told, [
    'agent.yaml:5:5 streams.t.schema: found beside format "text", allowed: with format json',
    'agent.yaml:6:5 streams.t.time: found beside format "text", allowed: with format json',
    'agent.yaml:7:5 streams.t.key: found beside format "text", allowed: topic, or with format json a path',
  ]);
});

test("checkConsistency() finds columns of a file that has none", () => {
  const sink = (rest: string): string =>
    `${least}sinks:\n  a: { type: file, path: /tmp/a, from: [system], columns: { load: load1 }${rest} }\n`;
  assert.deepEqual(problemsOf(sink("")), [
    'agent.yaml:3:50 sinks.a.columns: found beside format "ndjson", allowed: with format csv',
  ]);
  assert.deepEqual(problemsOf(sink(", format: csv")), []);
});

test("checkConsistency() asks for the interval of thin, and finds one that nothing uses", () => {
  const told = problemsOf(
    `${least}streams:\n  a:\n    whenFull: thin\n  b:\n    thin: 1m\n  c: { whenFull: reject, thin: 1m }\n  d: { whenFull: thin, thin: 1m }\n`,
  );
  assert.deepEqual(told, [
    "agent.yaml:3:3 streams.a.thin: missing, allowed: the interval of which one event of each key stays, such as 1m",
    "agent.yaml:6:5 streams.b.thin: found without whenFull, allowed: with whenFull: thin",
    'agent.yaml:7:26 streams.c.thin: found beside whenFull "reject", allowed: with whenFull: thin',
  ]);
});

test("checkConsistency() finds two parts that listen on one address", () => {
  const clash = /^agent\.yaml:\d+:\d+ (\S+): found "(\S+)", allowed: another address than (\S+)$/;
  const parts = (text: string): string[] => clash.exec(problemsOf(text).join("\n"))?.slice(1) ?? [];
  assert.deepEqual(parts(`${least}http: { listen: "127.0.0.1:8001" }\n`), [
    "http.listen",
    "127.0.0.1:8001",
    "admin.listen",
  ]);
  assert.deepEqual(parts(broker("127.0.0.1:8000")), [
    "sources.b.listen",
    "127.0.0.1:8000",
    "http.listen",
  ]);
  assert.deepEqual(parts(`${least}http: { listen: "0.0.0.0:8001" }\n`), [
    "http.listen",
    "0.0.0.0:8001",
    "admin.listen",
  ]);
  // Two loopback addresses are two addresses, and port 0 is any that is free.
  assert.deepEqual(problemsOf(`${least}http: { listen: "127.0.0.2:8001" }\n`), []);
  const free = `${least}http: { listen: "127.0.0.1:0" }\nadmin: { listen: "127.0.0.1:0" }\n`;
  assert.deepEqual(problemsOf(free), []);
});

test("checkConsistency() finds two file sinks in one folder, and two clients of one name", () => {
  assert.deepEqual(
    problemsOf(
      `${least}sinks:\n  a: { type: file, path: /x, from: [system] }\n  b: { type: file, path: /x/, from: [system] }\n`,
    ),
    ['agent.yaml:4:26 sinks.b.path: found "/x/", allowed: another folder than sinks.a'],
  );
  const client = (name: string, url: string): string =>
    `  ${name}: { type: mqtt, url: "${url}", topics: [a], stream: s, clientId: z }\n`;
  assert.deepEqual(
    problemsOf(`sources:\n${client("a", "mqtt://x")}${client("b", "mqtt://x:1883")}`),
    [
      'agent.yaml:3:76 sources.b.clientId: found "z", allowed: another name than sources.a has at that broker',
    ],
  );
  assert.deepEqual(
    problemsOf(`sources:\n${client("a", "mqtt://x")}${client("b", "mqtt://y")}`),
    [],
  );
});

test("checkConsistency() lists the first of many streams, not all", () => {
  const many = Array.from({ length: 500 }, (_, i) => `  s${i}: { type: system, stream: s${i} }\n`);
  const [told] = problemsOf(
    `sources:\n${many.join("")}sinks: { c: { type: console, from: [zz] } }\n`,
  );
  assert.match(told ?? "", /^agent\.yaml:502:37 sinks\.c\.from\[0\]: found "zz", which no source/);
  assert.match(told ?? "", /and 481 more$/);
  assert.ok((told ?? "").length < 400);
});

test("checkConsistency() finds a server that is described beside kind memory", () => {
  assert.deepEqual(
    problemsOf(`${least}plane: { kind: memory, valkey: { url: "unix:///s", maxMemory: 8MiB } }\n`),
    [
      "agent.yaml:2:34 plane.valkey.url: found beside kind memory, allowed: with kind auto or valkey",
      "agent.yaml:2:52 plane.valkey.maxMemory: found beside kind memory, allowed: with kind auto or valkey",
    ],
  );
  assert.deepEqual(
    problemsOf(`${least}plane: { kind: valkey, valkey: { url: "unix:///s" } }\n`),
    [],
  );
});

test("checkConsistency() knows the stream of the agent's own metrics where a sink asks for them", () => {
  const remote = "r: { type: remote-write, url: http://p/api/v1/write }";
  const archive = "a: { type: file, path: /tmp/a, from: [_metrics] }";
  assert.deepEqual(problemsOf(`${least}sinks: { ${remote}, ${archive} }\n`), []);
  assert.match(
    problemsOf(`${least}sinks: { ${archive} }\n`)[0] ?? "",
    /found "_metrics", which no source/,
  );
  const own = "sources: { board: { type: system, stream: _metrics } }\n";
  assert.match(problemsOf(own)[0] ?? "", /the agent itself writes this one/);
});
