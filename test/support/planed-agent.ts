/**
 * A running agent whose processor counts the events of each key in its state and says each count twice: what its plane
 * loses or doubles is seen by what arrives in the archive.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { processMark } from "../../src/plane/server-program.ts";
import { readArchive } from "./archive.ts";
import { childAgent, type ChildAgent } from "./child-agent.ts";
import { untilFigure } from "./figures.ts";
import { freePort } from "./mosquitto.ts";
import { startPublisher, type Publisher } from "./publishing.ts";
import { serverProgram } from "./redis-server.ts";
import { tempDir } from "./temp-dir.ts";
import { until } from "./until.ts";

const counting = `
export default async (event, context) => {
  const count = ((await context.state.get(event.key)) ?? 0) + 1;
  context.state.put(event.key, count);
  context.emit("audit", { key: event.key, count, n: event.payload.n }, { key: event.key });
  return { key: event.key, count, n: event.payload.n };
};
`;

export interface PlanedAgentOptions {
  /** What follows `plane:`. */
  readonly plane?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface PlanedAgent {
  readonly agent: ChildAgent;
  /** Of the agent's own server. */
  readonly socket: string;
  readonly folder: string;
  /** Runs a command on it by its command-line client. */
  cli(...words: readonly string[]): string;
  publish(count: number, rate?: number): Publisher;
  /** The figures of component `plane`. */
  plane(): Promise<Record<string, unknown> & { status: string }>;
  untilPlane(kind: "valkey" | "memory", timeoutMs?: number): Promise<void>;
  /** Until the newest event of each stream is on the server, in its place. */
  untilProjected(): Promise<void>;
  /** Until everything was processed and archived; then each event has had its effects once, in order. */
  assertOnce(): Promise<void>;
}

export async function planedAgent(
  t: TestContext,
  options: PlanedAgentOptions = {},
): Promise<PlanedAgent> {
  serverProgram();
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const socket = join(folder, "valkey.sock");
  const port = await freePort();
  mkdirSync(join(folder, "handlers"));
  writeFileSync(join(folder, "handlers", "handler.mjs"), counting);
  const agent = await childAgent(
    folder,
    `
plane: ${options.plane ?? "{ kind: auto }"}
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms, key: temperature }
  audit: {}
processors:
  count:
    from: load
    handler: ./handlers/handler.mjs
    to: counts
    batch: { max: 200, wait: 20ms }
sinks:
  archive: { type: file, path: ${archive}, from: [counts, audit] }
`,
    // Beside the journal: what this machine's own environment says must not matter.
    { env: { RUNTIME_DIRECTORY: "", XDG_RUNTIME_DIR: "", ...options.env } },
  );
  t.after(() => agent.kill());
  await agent.start();
  const plane = async (): Promise<Record<string, unknown> & { status: string }> =>
    (await agent.health()).components["plane"] ?? assert.fail("No component plane");
  const planed: PlanedAgent = {
    agent,
    socket,
    folder,
    plane,
    cli: (...words) =>
      spawnSync("redis-cli", ["-s", socket, ...words], { encoding: "utf8" }).stdout.trim(),
    publish(count, rate = 3_000) {
      const publisher = startPublisher({
        url: `mqtt://127.0.0.1:${port}`,
        topic: "load/d1",
        count,
        qos: 1,
        window: 200,
        rate,
        resilient: true,
      });
      t.after(() => publisher.end());
      return publisher;
    },
    async untilPlane(kind, timeoutMs = 15_000) {
      await until(
        `processors to read from ${kind}`,
        async () => (await plane())["from"] === kind,
        timeoutMs,
      ).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${agent.output().slice(-4000)}`);
      });
    },
    async untilProjected() {
      for (const stream of ["load", "counts", "audit"]) {
        const head = await journalled(agent, stream);
        await until(`event ${head} of ${stream} to be on the server`, () =>
          planed.cli("XREVRANGE", stream, "+", "-", "COUNT", "1").startsWith(`${1e12 + head}-0\n`),
        ).catch((error: unknown) => {
          const there = planed.cli("XINFO", "STREAM", stream);
          throw new Error(`${String(error)}\n${there}\n${agent.output().slice(-4000)}`);
        });
      }
    },
    async assertOnce() {
      for (const [stream, group] of [
        ["load", "count"],
        ["counts", "archive"],
        ["audit", "archive"],
      ] as const) {
        const name = `stream_lag{stream="${stream}",group="${group}"}`;
        await untilFigure(agent, name, (value) => value === 0, 60_000);
      }
      const entered = await journalled(agent, "load");
      for (const stream of ["counts", "audit"]) {
        const counts = new Map<string, number>();
        const lines = readArchive(archive, stream);
        for (const [index, { seq, payload }] of lines.entries()) {
          assert.equal(seq, index + 1, stream);
          const { key, count } = payload as { key: string; count: number };
          assert.equal(count, (counts.get(key) ?? 0) + 1, `${stream} ${seq}, key ${key}`);
          counts.set(key, count);
        }
        assert.equal(lines.length, entered, stream);
      }
    },
  };
  return planed;
}

/** How many events are in a stream, by the admin API. */
async function journalled(agent: ChildAgent, stream: string): Promise<number> {
  const url = `${agent.adminUrl}/streams/${stream}/events?from=1&limit=1000000`;
  const text = await (await fetch(url)).text();
  return text.split("\n").filter((line) => line !== "").length;
}

/** What has ended and was not collected by its parent does not run. */
export function isRunning(pid: number): boolean {
  return processMark(pid) !== null;
}

/** A PATH on which there are these programs and no others. */
export function pathOf(folder: string, programs: readonly string[]): string {
  const bin = join(folder, "bin");
  mkdirSync(bin, { recursive: true });
  for (const program of programs) {
    const found = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout;
    assert.ok(found.trim() !== "", `${program} is there`);
    writeFileSync(join(bin, program), `#!/bin/sh\nexec ${found.trim()} "$@"\n`, { mode: 0o755 });
  }
  return bin;
}
