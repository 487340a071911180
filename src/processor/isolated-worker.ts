/** The thread of one isolated handler (isolated.ts): loads the module, and runs one call after the other. */
import { parentPort, workerData } from "node:worker_threads";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { loadHandler } from "./handler.ts";
import type { Act, FromThread, ThrownInThread, ToThread } from "./isolated.ts";
import type { BatchHandler, Handler, HandlerContext } from "./processor.ts";

const port = parentPort;
if (port === null) throw new Error("This module runs as a worker thread");
const tell = (message: FromThread): void => port.postMessage(message);
const { file } = workerData as { file: string };

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}
/** Questions that the main thread has not answered. Bound: what one call asks and does not wait for. */
const waiting = new Map<number, Waiting>();
let asked = 0;

const ask = (kind: "get" | "scan", key: string): Promise<unknown> =>
  new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    tell({ kind, ask: asked, key });
  });
const act = (...what: Act): void => tell({ kind: "act", act: what });

function contextOf(attempt: number): HandlerContext {
  const log =
    (level: "debug" | "info" | "warn" | "error") =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}): void =>
      act(level, message, fields);
  return {
    state: {
      get: (key) => ask("get", key),
      put: (key, value, options) => act("put", key, value, options),
      delete: (key) => act("delete", key),
      scan: (prefix) => ask("scan", prefix) as ReturnType<HandlerContext["state"]["scan"]>,
    },
    emit: (stream, payload, options) => act("emit", stream, payload, options),
    log: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
    attempt,
    // When its time is up the thread is ended.
    signal: new AbortController().signal,
  };
}

async function run(handler: Handler | BatchHandler, call: Extract<ToThread, { kind: "call" }>) {
  const context = contextOf(call.attempt);
  try {
    const [first] = call.events;
    const output: unknown =
      typeof handler === "object"
        ? await handler.batch(call.events, context)
        : first && (await handler(first, context));
    tell({ kind: "done", output });
  } catch (thrown) {
    tell({ kind: "failed", failure: failureOf(thrown) });
  }
}

function failureOf(thrown: unknown): ThrownInThread {
  const stack =
    thrown instanceof Error && thrown.stack !== undefined ? { stack: thrown.stack } : {};
  const known =
    thrown instanceof HoldfastError ? { code: thrown.code, errorKind: thrown.kind } : {};
  return { message: messageOf(thrown), ...stack, ...known };
}

try {
  const handler = await loadHandler(file, "/");
  port.on("message", (message: ToThread) => {
    if (message.kind === "call") {
      // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
      run(handler, message);
      return;
    }
    const question = waiting.get(message.ask);
    waiting.delete(message.ask);
    if (message.kind === "answer") question?.resolve(message.value);
    else question?.reject(new Error(message.message));
  });
  tell({ kind: "ready", isBatch: typeof handler === "object" });
} catch (thrown) {
  tell({ kind: "invalid", message: messageOf(thrown) });
}
