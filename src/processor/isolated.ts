/**
 * A handler in a thread of its own (`isolate: true`), so that one that computes for long holds up neither
 * acknowledgements nor health, and can be ended when its time is up.
 *
 *   main: call ──► thread: handler ──► get, scan ──► main ──► answer ──► … ──► done or failed
 *                                 └──► put, delete, emit, log: done in their order on the main thread, not waited for
 *
 * What `put` or `emit` refuses fails the event when the handler has ended. When the signal is aborted the thread is
 * ended, and with it what the module kept in memory; the next call starts another. Bound: one call at a time, as the
 * batch processor makes them; what a handler may do is bounded where it is done (state/effects.ts).
 */
import { Worker } from "node:worker_threads";
import { HoldfastError, messageOf, type ErrorCode, type ErrorKind } from "../core/errors.ts";
import { guardThreads, threadFile } from "../core/threads.ts";
import { fileOfHandler } from "./handler.ts";
import type { BatchHandler, Event, Handler, HandlerContext } from "./processor.ts";

/** To the thread. */
export type ToThread =
  | { readonly kind: "call"; readonly events: readonly Event[]; readonly attempt: number }
  | { readonly kind: "answer"; readonly ask: number; readonly value: unknown }
  | { readonly kind: "refusal"; readonly ask: number; readonly message: string };

/** From the thread. */
export type FromThread =
  | { readonly kind: "ready"; readonly isBatch: boolean }
  | { readonly kind: "invalid"; readonly message: string }
  | { readonly kind: "get" | "scan"; readonly ask: number; readonly key: string }
  | { readonly kind: "act"; readonly act: Act }
  | { readonly kind: "done"; readonly output: unknown }
  | { readonly kind: "failed"; readonly failure: ThrownInThread };

export type Act =
  | readonly ["put", ...Parameters<HandlerContext["state"]["put"]>]
  | readonly ["delete", string]
  | readonly ["emit", ...Parameters<HandlerContext["emit"]>]
  | readonly ["debug" | "info" | "warn" | "error", string, Readonly<Record<string, unknown>>];

export interface ThrownInThread {
  readonly message: string;
  readonly stack?: string;
  /** Of a HoldfastError. */
  readonly code?: ErrorCode;
  readonly errorKind?: ErrorKind;
}

export interface IsolatedHandler {
  readonly handler: Handler | BatchHandler;
  close(): Promise<void>;
}

/** @throws HoldfastError HANDLER_INVALID, as loadHandler does */
export async function isolateHandler(path: string, baseDir: string): Promise<IsolatedHandler> {
  const thread = new HandlerThread(fileOfHandler(path, baseDir));
  const isBatch = await thread.start();
  const call = (events: readonly Event[], context: HandlerContext): Promise<unknown> =>
    thread.call(events, context);
  return {
    handler: isBatch ? { batch: call } : (event, context) => call([event], context),
    close: () => thread.end(),
  };
}

interface Call {
  readonly context: HandlerContext;
  readonly settle: (error: unknown, output?: unknown) => void;
  /** The first that was refused of what the handler did. */
  refusal: unknown;
}

class HandlerThread {
  readonly #file: string;
  #worker: Worker | null = null;
  #call: Call | null = null;

  constructor(file: string) {
    this.#file = file;
  }

  /** True: its handler is for batches. */
  start(): Promise<boolean> {
    guardThreads();
    const worker = new Worker(threadFile("./isolated-worker", import.meta.url), {
      name: "handler",
      workerData: { file: this.#file },
    });
    worker.unref();
    this.#worker = worker;
    return new Promise((resolve, reject) => {
      worker.on("message", (message: FromThread) => {
        if (message.kind === "ready") resolve(message.isBatch);
        else if (message.kind === "invalid") {
          void this.end();
          reject(new HoldfastError("HANDLER_INVALID", message.message));
        } else if (this.#worker === worker) this.#take(worker, message);
      });
      const gone = (why: string): void => {
        const error = new Error(`The handler's thread has ended: ${why}`);
        reject(new HoldfastError("HANDLER_INVALID", error.message));
        if (this.#worker !== worker) return;
        this.#worker = null;
        this.#call?.settle(error);
      };
      worker.once("error", (error) => gone(messageOf(error)));
      worker.once("exit", (code) => gone(`exit code ${code}`));
    });
  }

  async call(events: readonly Event[], context: HandlerContext): Promise<unknown> {
    if (this.#worker === null) await this.start();
    const worker = this.#worker;
    if (worker === null) throw new Error("The handler's thread has ended");
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        settle(context.signal.reason);
        // It may compute for ever: only its end stops it.
        void this.end();
      };
      const settle: Call["settle"] = (error, output) => {
        this.#call = null;
        context.signal.removeEventListener("abort", onAbort);
        if (error === undefined) resolve(output);
        else reject(error);
      };
      this.#call = { context, settle, refusal: undefined };
      context.signal.addEventListener("abort", onAbort, { once: true });
      if (context.signal.aborted) return onAbort();
      const message: ToThread = { kind: "call", events, attempt: context.attempt };
      worker.postMessage(message);
    });
  }

  async end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = null;
    await worker?.terminate();
  }

  #take(worker: Worker, message: Exclude<FromThread, { kind: "ready" | "invalid" }>): void {
    const call = this.#call;
    // What comes behind the end of a call is a handler's that did not wait for what it started.
    if (call === null) return;
    if (message.kind === "done") call.settle(call.refusal, message.output);
    else if (message.kind === "failed") call.settle(thrownOf(message.failure));
    else if (message.kind === "act") {
      try {
        act(call.context, message.act);
      } catch (thrown) {
        call.refusal ??= thrown;
      }
    } else {
      const { ask, key, kind } = message;
      const { state } = call.context;
      (kind === "get" ? state.get(key) : state.scan(key)).then(
        (value) => worker.postMessage({ kind: "answer", ask, value } satisfies ToThread),
        (thrown: unknown) => {
          const refusal: ToThread = { kind: "refusal", ask, message: messageOf(thrown) };
          worker.postMessage(refusal);
        },
      );
    }
  }
}

function act(context: HandlerContext, what: Act): void {
  switch (what[0]) {
    case "put":
      return context.state.put(what[1], what[2], what[3]);
    case "delete":
      return context.state.delete(what[1]);
    case "emit":
      return context.emit(what[1], what[2], what[3]);
    default:
      return context.log[what[0]](what[1], what[2]);
  }
}

function thrownOf({ message, stack, code, errorKind }: ThrownInThread): Error {
  const error =
    code === undefined
      ? new Error(message)
      : new HoldfastError(code, message, errorKind === undefined ? {} : { kind: errorKind });
  if (stack !== undefined) error.stack = stack;
  return error;
}
