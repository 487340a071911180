/**
 * What a `Stream` takes where nothing was chosen for it: the server at VALKEY_URL or on this machine, else memory; and
 * a SQLite file for each group under the user's state directory.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { backoffDelayMs } from "../core/backoff.ts";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { environment } from "../core/environment.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { WorkerStore } from "../state/state.ts";
import type { StreamBackend } from "./backend.ts";
import { MemoryBackend } from "./memory.ts";
import { ValkeyBackend } from "./valkey.ts";

/** How long the server may take to answer before memory takes its place, ms. */
const fallbackMs = 3_000;

const pace = { baseMs: 100, maxMs: 5_000 };

export interface OpeningParts {
  /** The user's own; left out: a server if there is one, else memory. */
  readonly backend: StreamBackend | undefined;
  readonly topic: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Aborted when the stream is stopped. */
  readonly signal: AbortSignal;
}

/**
 * A backend of the user's own that is not there yet is waited for: its server may be starting as well.
 * @throws HoldfastError what does not pass, such as a password that is refused
 */
export function openBackend(parts: OpeningParts): Promise<StreamBackend> {
  const { backend } = parts;
  return backend === undefined ? serverOrMemory(parts) : openPatiently(backend, parts);
}

export async function defaultStore(group: string): Promise<WorkerStore> {
  const { SqliteStore } = await import("../state/sqlite.ts");
  const folder = environment("XDG_STATE_HOME") ?? join(homedir(), ".local", "state");
  return new SqliteStore({ path: join(folder, "holdfast", `${encodeURIComponent(group)}.db`) });
}

async function serverOrMemory({ clock, log, topic }: OpeningParts): Promise<StreamBackend> {
  const url = environment("VALKEY_URL") ?? "valkey://localhost:6379";
  const server = new ValkeyBackend({ url, clock });
  try {
    await within(fallbackMs, clock, server.open());
    return server;
  } catch (thrown) {
    await server.close();
    if (thrown instanceof HoldfastError && thrown.kind === "config") throw thrown;
    log.warn(
      `Events of ${topic} are kept in memory and end with this process: ${messageOf(thrown)}`,
    );
    return new MemoryBackend({ clock });
  }
}

async function openPatiently(backend: StreamBackend, parts: OpeningParts): Promise<StreamBackend> {
  const { clock, log, random, signal, topic } = parts;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await backend.open();
      return backend;
    } catch (thrown) {
      const isTransient = thrown instanceof HoldfastError && thrown.kind === "transient";
      if (!isTransient || signal.aborted) throw thrown;
      if (attempt === 1) log.warn(thrown.message, { topic });
      const delayMs = backoffDelayMs(pace, attempt, random());
      await clock.sleep(delayMs, signal).catch(() => undefined);
    }
  }
}

async function within<T>(ms: number, clock: Clock, work: Promise<T>): Promise<T> {
  let cancel = (): void => undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const timer = clock.after(ms, () => {
      reject(new HoldfastError("STREAM_UNREACHABLE", `No answer within ${ms} ms`));
    });
    cancel = () => timer.cancel();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    cancel();
  }
}
