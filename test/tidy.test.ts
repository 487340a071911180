/** The house rules. If a rule is not checked, it is a wish. */
import assert from "node:assert/strict";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { errorTable } from "../src/core/errors.ts";
import { metricTable } from "../src/core/metrics.ts";

const sources = globSync("src/**/*.ts").sort();
const tests = globSync("test/**/*.ts").sort();
const text = new Map([...sources, ...tests].map((file) => [file, readFileSync(file, "utf8")]));
const read = (file: string): string => text.get(file) ?? readFileSync(file, "utf8");
const imports = (file: string): string[] =>
  [...read(file).matchAll(/(?:\bfrom\s+|(?<!-)\bimport\s*\(?\s*)"([^"]+)"/g)].map(
    (match) => match[1] ?? "",
  );

/** What each room may import from: rooms, or single files. Its own room always. */
const mayImport: Record<string, readonly string[]> = {
  core: [],
  source: ["core"],
  journal: ["core"],
  schema: ["core"],
  valkey: ["core"],
  wire: ["core"],
  stream: ["core", "valkey", "wire", "state/state.ts", "state/effects.ts", "state/sqlite.ts"],
  plane: ["core", "valkey/connection.ts", "wire/projected.ts"],
  state: ["core"],
  processor: ["core", "state/state.ts", "state/effects.ts"],
  sink: ["core", "valkey/connection.ts", "wire/encodings.ts"],
  flow: [
    "core",
    "journal/journal.ts",
    "source/source.ts",
    "sink/sink.ts",
    "plane/plane.ts",
    "processor/batch-processor.ts",
    "state/state.ts",
    "processor/processor.ts",
  ],
  config: [
    "core",
    "journal/options.ts",
    "plane/options.ts",
    "source/kinds.ts",
    "source/broker-options.ts",
    "sink/kinds.ts",
    "processor/options.ts",
    "schema/schema.ts",
  ],
  host: ["core", "journal/journal.ts"],
  cli: [
    "core",
    "config",
    "host",
    "agent.ts",
    "rehearsal.ts",
    "journal/journal.ts",
    "journal/compact-file.ts",
    "journal/inspection.ts",
    "processor/handler.ts",
    "processor/enrich.ts",
  ],
};

/** The one file that may import each package. */
const doors: Record<string, readonly string[]> = {
  "better-sqlite3": ["src/journal/sqlite.ts", "src/state/sqlite-file.ts"],
  iovalkey: ["src/valkey/connection.ts"],
  "rocksdb-native": ["src/state/rocksdb-package.ts"],
  "@opentelemetry/api": ["src/stream/tracing.ts"],
  "mqtt-packet": ["src/source/mqtt-connection.ts"],
  mqtt: ["src/sink/mqtt.ts"],
  aedes: ["src/source/broker.ts"],
  yaml: ["src/config/draft.ts", "src/config/cases.ts"],
  pino: ["src/host/log.ts"],
  "pino-pretty": ["src/host/log.ts"],
  "prom-client": ["src/host/metrics.ts"],
  "@marcbachmann/cel-js": ["src/processor/cel.ts"],
  superstruct: [
    "src/core/field.ts",
    "src/core/field-by-key.ts",
    "src/core/field-structs.ts",
    "src/schema/schema.ts",
    "src/stream/event-schema.ts",
    "src/config/judge.ts",
  ],
};

/** What of the outside world has one door, and which it is. (status-script.ts runs in the browser.) */
const outside: readonly { what: RegExp; doors: readonly string[] }[] = [
  {
    what: /\bDate\.now\(|\bnew Date\(\)|\bperformance\.now\(|process\.hrtime/,
    doors: ["src/core/clock.ts", "src/host/status-script.ts"],
  },
  {
    what: /\bsetTimeout\(|\bsetInterval\(/,
    doors: ["src/core/clock.ts", "src/host/status-script.ts"],
  },
  { what: /\bMath\.random\b/, doors: ["src/core/random.ts"] },
  { what: /\bprocess\.env\b/, doors: ["src/core/environment.ts"] },
  { what: /(?<![./])\bconsole\./, doors: [] },
  {
    what: /\bprocess\.std(out|err)\b/,
    doors: ["src/main.ts", "src/host/log.ts", "src/sink/console.ts"],
  },
];

test("the top level has no folder but those of the house", () => {
  const known = ["src", "device", "systemd", "cross-build", "test", "node_modules", "dist"];
  const found = readdirSync(".", { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("."))
    .map((entry) => entry.name);
  assert.deepEqual(
    found.filter((name) => !known.includes(name)),
    [],
  );
});

test("files are kebab-case nouns, at most 400 lines", () => {
  for (const file of [...sources, ...tests]) {
    const name = file.split("/").at(-1) ?? "";
    assert.match(name, /^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/, file);
    assert.doesNotMatch(name, /^(utils?|helpers?|common|manager|types)\.ts$/, file);
    const lines = read(file).split("\n").length - 1;
    if (file.startsWith("src/")) assert.ok(lines <= 400, `${file} has ${lines} lines`);
  }
});

test("rooms import only what the table allows", () => {
  for (const file of sources) {
    const room = file.split("/").length > 2 ? (file.split("/")[1] ?? "") : "";
    if (room === "") continue;
    const allowed = [room, ...(mayImport[room] ?? assert.fail(`${file}: room ${room} has no row`))];
    for (const specifier of imports(file).filter((name) => name.startsWith("."))) {
      const target = normalize(join(dirname(file), specifier)).replace(/^src\//, "");
      const fits = allowed.some((rule) => target === rule || target.startsWith(`${rule}/`));
      assert.ok(fits, `${file} must not import ${target}`);
      assert.match(specifier, /\.ts$/, `${file}: ${specifier} lacks its extension`);
    }
  }
});

test("each package has one door", () => {
  for (const file of sources) {
    for (const specifier of imports(file)) {
      if (specifier.startsWith(".") || specifier.startsWith("node:")) continue;
      const rule = doors[specifier];
      assert.ok(rule !== undefined, `${file}: package ${specifier} has no door in the table`);
      assert.ok(
        rule.includes(file),
        `${file} must not import ${specifier}: its door is ${rule.join()}`,
      );
    }
  }
  const { dependencies: own, peerDependencies: optional } = JSON.parse(
    readFileSync("package.json", "utf8"),
  ) as { dependencies: object; peerDependencies: object };
  const dependencies = [...Object.keys(own), ...Object.keys(optional)];
  assert.deepEqual(dependencies.sort(), Object.keys(doors).sort(), "dependencies and doors differ");
});

test("time, randomness, environment and console have one door each", () => {
  for (const file of sources) {
    const code = read(file).replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
    for (const { what, doors: allowed } of outside) {
      if (!allowed.includes(file)) assert.doesNotMatch(code, what, file);
    }
  }
});

test("only index.ts re-exports", () => {
  for (const file of sources) {
    if (file === "src/index.ts") continue;
    assert.doesNotMatch(read(file), /^export\s+(\*|\{[^}]*\}|type\s+\{[^}]*\})\s+from/m, file);
  }
});

test("no suite is skipped or narrowed", () => {
  for (const file of tests) {
    if (file === "test/tidy.test.ts") continue;
    assert.doesNotMatch(read(file), /\b(it|test|describe|suite)\.(skip|todo|only)\b|\bskip:/, file);
  }
});

test("README shows every error code and every metric, and none that is gone", () => {
  const readme = readFileSync("README.md", "utf8");
  const shown = (pattern: RegExp): string[] => [
    ...new Set([...readme.matchAll(pattern)].map((match) => match[1] ?? "")),
  ];
  assert.deepEqual(shown(/^\| `([A-Z]+_[A-Z_]+)` \|/gm).sort(), Object.keys(errorTable).sort());
  assert.deepEqual(
    shown(/^\| `((?:stream|holdfast)_[a-z_]+)/gm).sort(),
    Object.keys(metricTable).sort(),
  );
});

test("every error code is used", () => {
  const all = sources
    .filter((file) => file !== "src/core/errors.ts")
    .map(read)
    .join("\n");
  for (const code of Object.keys(errorTable))
    assert.ok(all.includes(`"${code}"`), `${code} is not used`);
});
