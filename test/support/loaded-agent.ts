/** A running agent that takes load from MQTT and archives it: what a disk may do to it is seen by what arrives. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { readArchive } from "./archive.ts";
import type { childAgent, ChildAgent } from "./child-agent.ts";
import { fedAgent } from "./fed-agent.ts";
import type { Publisher } from "./publishing.ts";
import { until } from "./until.ts";

export interface Load {
  /** Messages, and how many a second. */
  readonly count: number;
  readonly rate: number;
  /** Of a payload, bytes. */
  readonly size: number;
  /** Options of the stream and of the file sink beside those that are always there, as YAML. */
  readonly stream?: string;
  readonly sink?: string;
  readonly agent?: Parameters<typeof childAgent>[2];
}

export interface LoadedAgent {
  readonly agent: ChildAgent;
  readonly publisher: Publisher;
  /** Until all was acknowledged and archived, each once and in order. */
  readonly arrived: () => Promise<void>;
}

/** Resolves when the load runs. */
export async function loadedAgent(
  t: TestContext,
  folder: string,
  load: Load,
): Promise<LoadedAgent> {
  const { count, rate, size, stream = "", sink = "" } = load;
  const archive = join(folder, "archive");
  const files = `sinks:\n  files: { type: file, path: ${archive}, from: [load]${sink} }\n`;
  const { agent, publish } = await fedAgent(t, folder, files, { stream, agent: load.agent });
  const publisher = publish({ count, rate, window: 500, size, noise: true });
  await until("the load to run", () => publisher.acknowledged() > 500);
  const archived = (): number[] =>
    readArchive(archive, "load").map(({ payload }) => Number(payload["n"]));
  return {
    agent,
    publisher,
    async arrived() {
      assert.equal(await publisher.done, count);
      await until("all to be archived", () => archived().length >= count, 30_000).catch(
        async (error: unknown) => {
          const { components } = await agent.health();
          const found = new Set(archived());
          const missing = Array.from({ length: count }, (_, n) => n).filter((n) => !found.has(n));
          const [first, last] = [missing[0], missing.at(-1)];
          const said = `${missing.length} are missing, from ${first} to ${last}`;
          throw new Error(`${said}; ${JSON.stringify(components)}\n${agent.output()}`, {
            cause: error,
          });
        },
      );
      const found = archived();
      assert.equal(found.length, count);
      assert.ok(
        found.every((n, index) => n === index),
        "Not each once and in order",
      );
    },
  };
}
