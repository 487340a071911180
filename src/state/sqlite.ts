/**
 * State, positions and outbox of a group's workers in one SQLite file, which all workers of a host share; a thread of
 * its own waits for the disk.
 */
import { Worker } from "node:worker_threads";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { guardThreads, threadFile } from "../core/threads.ts";
import type { Answered, StoreCall } from "./sqlite-worker.ts";
import type { GroupProgress, OutboxRow, WorkerCommit, WorkerStore, WorkerUnit } from "./state.ts";

export interface SqliteStoreOptions {
  readonly path: string;
  /** `power-loss` (default): each commit is synced; `crash`: it outlives the process, not the power. */
  readonly durability?: "power-loss" | "crash";
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

export class SqliteStore implements WorkerStore {
  readonly #options: Required<SqliteStoreOptions>;
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | undefined;
  #id = "";
  #last = 0;

  constructor(options: SqliteStoreOptions) {
    this.#options = { durability: "power-loss", ...options };
  }

  get id(): string {
    return this.#id;
  }

  /** @throws HoldfastError STATE_UNAVAILABLE, STATE_FOREIGN */
  async open(): Promise<void> {
    if (this.#thread !== undefined) return;
    guardThreads();
    const thread = new Worker(threadFile("./sqlite-worker", import.meta.url), {
      name: "state",
      workerData: this.#options,
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    });
    this.#thread = thread;
    thread.on("message", ({ n, value, error }: Answered) => {
      const waiting = this.#waiting.get(n);
      this.#waiting.delete(n);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new HoldfastError(error.code, error.message));
    });
    thread.on("error", (thrown) => this.#end(thrown));
    thread.on("exit", () => this.#end(null));
    thread.unref();
    const id = new Promise<unknown>((resolve, reject) => this.#waiting.set(0, { resolve, reject }));
    thread.ref();
    this.#id = (await id) as string;
    thread.unref();
  }

  async close(): Promise<void> {
    const thread = this.#thread;
    if (thread === undefined) return;
    this.#thread = undefined;
    const ended = new Promise((resolve) => thread.once("exit", resolve));
    thread.ref();
    thread.postMessage("close");
    await ended;
  }

  async commit(unit: WorkerUnit): Promise<WorkerCommit> {
    return (await this.#ask({ what: "commit", unit })) as WorkerCommit;
  }

  async get(space: string, key: string): Promise<Uint8Array | null> {
    return (await this.#call("get", space, key)) as Uint8Array | null;
  }

  async isDone(scope: string, ids: readonly string[]): Promise<ReadonlySet<string>> {
    return (await this.#call("isDone", scope, ids)) as Set<string>;
  }

  async readOutbox(after: number, max: number): Promise<readonly OutboxRow[]> {
    return (await this.#call("readOutbox", after, max)) as OutboxRow[];
  }

  async releaseOutbox(n: number): Promise<void> {
    await this.#call("releaseOutbox", n);
  }

  async compact(scope: string, progress: GroupProgress): Promise<void> {
    await this.#call("compact", scope, progress);
  }

  async rewind(scope: string, from: string, next: string): Promise<void> {
    await this.#call("rewind", scope, from, next);
  }

  #call(what: Exclude<StoreCall["what"], "commit">, ...args: readonly unknown[]): Promise<unknown> {
    return this.#ask({ what, args });
  }

  #ask(call: StoreCall): Promise<unknown> {
    const thread = this.#thread;
    if (thread === undefined) {
      const why = `The store ${this.#options.path} is not open`;
      return Promise.reject(new HoldfastError("STATE_UNAVAILABLE", why));
    }
    const n = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#waiting.size === 0) thread.ref();
      const settle = <T>(act: (value: T) => void) => {
        return (value: T): void => {
          if (this.#waiting.size === 0) thread.unref();
          act(value);
        };
      };
      this.#waiting.set(n, { resolve: settle(resolve), reject: settle(reject) });
      thread.postMessage({ n, call });
    });
  }

  /** The thread is gone: what waits will not be answered. */
  #end(thrown: Error | null): void {
    this.#thread = undefined;
    const why = `The store's thread has ended${thrown === null ? "" : `: ${messageOf(thrown)}`}`;
    const error = new HoldfastError("STATE_UNAVAILABLE", why);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
