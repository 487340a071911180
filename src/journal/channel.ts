/** The line to the worker thread: questions and their answers, and what happens when the thread ends. */
import { Worker } from "node:worker_threads";
import type { Clock } from "../core/clock.ts";
import { HoldfastError, type ErrorCode } from "../core/errors.ts";
import type { Pulse } from "../core/pulse.ts";
import { guardThreads, threadFile } from "../core/threads.ts";
import type {
  Moment,
  News,
  Opening,
  Reply,
  RequestKind,
  Requests,
  WorkerSetup,
} from "./protocol.ts";

interface Waiting {
  readonly kind: RequestKind;
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

type Opened = Extract<Opening, { kind: "opened" }>;
type Waits = Extract<Opening, { kind: "waiting" }>;

/** A worker that does not close within this, ms, hangs in a write: nothing it holds was acknowledged. */
const closeTimeoutMs = 2_000;

export class Channel {
  readonly #worker: Worker;
  readonly #clock: Clock;
  readonly #waiting = new Map<number, Waiting>();
  readonly #onFatal: (error: HoldfastError) => void;
  #lastId = 0;
  #turns = 0;
  #state: "opening" | "open" | "closing" | "closed" = "opening";

  constructor(
    setup: WorkerSetup,
    openedAt: Moment,
    clock: Clock,
    onFatal: (error: HoldfastError) => void,
  ) {
    this.#clock = clock;
    this.#onFatal = onFatal;
    guardThreads();
    this.#worker = new Worker(threadFile("./worker", import.meta.url), {
      // The thread's name in `top -H` and `/proc/PID/task/*/comm`.
      name: "journal",
      workerData: { setup, openedAt },
      // The worker keeps a few sections and statements; young garbage is one turn's (measured: 2 MiB suffice).
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    });
  }

  /**
   * `waits` is told, perhaps often, that there is no room for the file yet.
   * @throws HoldfastError as the worker says; JOURNAL_UNAVAILABLE when it is closed before
   */
  async open(waits: (opening: Waits) => void, news: (news: News) => void): Promise<Opened> {
    const opening = await new Promise<Exclude<Opening, Waits>>((resolve, reject) => {
      const told = (message: Opening): void => {
        if (message.kind === "waiting") waits(message);
        else {
          this.#worker.off("message", told);
          resolve(message);
        }
      };
      this.#worker.on("message", told);
      this.#worker.once("error", (cause) => reject(unavailable(cause)));
      this.#worker.once("exit", () => reject(unavailable(new Error("it is closed"))));
    });
    if (opening.kind === "refused") {
      this.#state = "closed";
      await this.#worker.terminate();
      throw new HoldfastError(opening.code as ErrorCode, opening.message);
    }
    this.#state = "open";
    this.#worker.on("message", (message: Reply | News) => {
      if ("kind" in message) news(message);
      else this.#settle(message);
    });
    this.#worker.on("error", (cause) => this.fail(cause));
    this.#worker.on("exit", () => this.fail(new Error("the writer ended")));
    return opening;
  }

  ask<K extends RequestKind>(
    kind: K,
    ask: Requests[K]["ask"],
    transfer: ArrayBuffer[] = [],
  ): Promise<Requests[K]["answer"]> {
    if (this.#state === "closed") return Promise.reject(unavailable(new Error("it is closed")));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { kind, resolve, reject });
      this.#worker.postMessage({ id, kind, ask }, transfer);
    });
  }

  pulse(): Pulse {
    const owes = (): boolean => [...this.#waiting.values()].some(({ kind }) => kind === "turn");
    return { name: "the journal's commit", steps: () => this.#turns, owes };
  }

  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const wasOpen = this.#state === "open";
    this.#state = "closing";
    if (wasOpen) {
      const timer = Promise.withResolvers<void>();
      const handle = this.#clock.after(closeTimeoutMs, timer.resolve);
      await Promise.race([this.ask("close", null).catch(() => undefined), timer.promise]);
      handle.cancel();
    }
    this.#state = "closed";
    await this.#worker.terminate();
    this.#rejectAll(unavailable(new Error("it is closed")));
  }

  #settle(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (waiting?.kind === "turn") this.#turns += 1;
    if ("error" in reply)
      waiting?.reject(
        reply.code === undefined
          ? new HoldfastError("JOURNAL_DISK", `Journal: ${reply.error}`)
          : new HoldfastError(reply.code as ErrorCode, reply.error),
      );
    else waiting?.resolve(reply.answer as never);
  }

  /** Nothing can be written any more; told once, and not while it closes. */
  fail(cause: Error): void {
    const error = unavailable(cause);
    const isUnexpected = this.#state === "open";
    if (isUnexpected) this.#state = "closed";
    this.#rejectAll(error);
    if (!isUnexpected) return;
    // A worker that could not be given its turn still has the file.
    // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects; `close` is done with it
    this.#worker.terminate();
    this.#onFatal(error);
  }

  #rejectAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

function unavailable(cause: Error): HoldfastError {
  return new HoldfastError(
    "JOURNAL_UNAVAILABLE",
    `The journal's writer is gone: ${cause.message}`,
    { cause },
  );
}
