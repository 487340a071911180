/**
 * The thread of a SqliteStore: each turn takes all that waits; commits of one turn share a transaction and an fsync.
 * An answer is given after COMMIT has returned.
 */
import {
  parentPort,
  receiveMessageOnPort,
  workerData,
  type MessagePort,
} from "node:worker_threads";
import { systemClock } from "../core/clock.ts";
import type { ErrorCode, HoldfastError } from "../core/errors.ts";
import { SqliteFile, type SqliteFileOptions } from "./sqlite-file.ts";
import type { WorkerUnit } from "./state.ts";

export type StoreCall =
  | { readonly what: "commit"; readonly unit: WorkerUnit }
  | {
      readonly what: Exclude<keyof SqliteFile, "id" | "commitAll" | "translated" | "close">;
      readonly args: readonly unknown[];
    };
export interface Asked {
  readonly n: number;
  readonly call: StoreCall;
}
export interface Answered {
  readonly n: number;
  readonly value?: unknown;
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

/** How many calls one turn takes: a hundred workers' commits. */
const turnMax = 100;

if (parentPort !== null) {
  try {
    serve(parentPort, new SqliteFile(workerData as SqliteFileOptions));
  } catch (thrown) {
    const { code, message } = thrown as HoldfastError;
    parentPort.postMessage({ n: 0, error: { code, message } } satisfies Answered);
    parentPort.close();
  }
}

function serve(port: MessagePort, file: SqliteFile): void {
  const clock = systemClock(() => "synced");
  const answer = (n: number, value: unknown): void =>
    port.postMessage({ n, value } satisfies Answered);
  const refuse = (n: number, thrown: unknown): void => {
    const { code, message } = file.translated(thrown);
    port.postMessage({ n, error: { code, message } } satisfies Answered);
  };
  const commit = (asked: readonly { n: number; unit: WorkerUnit }[]): void => {
    if (asked.length === 0) return;
    try {
      const units = asked.map(({ unit }) => unit);
      const results = file.commitAll(units, clock.wallMs());
      asked.forEach(({ n }, index) => answer(n, results[index]));
    } catch (thrown) {
      // One of them may be the reason: alone they do not sink each other.
      if (asked.length === 1) asked.forEach(({ n }) => refuse(n, thrown));
      else for (const one of asked) commit([one]);
    }
  };
  const call = ({ n, call }: Asked): void => {
    if (call.what === "commit") return;
    try {
      const args = call.what === "get" ? [...call.args, clock.wallMs()] : call.args;
      const act = file[call.what] as (...args: unknown[]) => unknown;
      answer(n, act.apply(file, [...args]));
    } catch (thrown) {
      refuse(n, thrown);
    }
  };
  const turn = (waiting: readonly Asked[]): void => {
    let units: { n: number; unit: WorkerUnit }[] = [];
    for (const asked of waiting) {
      if (asked.call.what === "commit") units.push({ n: asked.n, unit: asked.call.unit });
      else {
        // What was asked for behind a commit sees it.
        commit(units);
        units = [];
        call(asked);
      }
    }
    commit(units);
  };
  port.on("message", (first: Asked | "close") => {
    const waiting: Asked[] = [];
    let next: Asked | "close" | undefined = first;
    while (next !== undefined && next !== "close") {
      waiting.push(next);
      if (waiting.length >= turnMax) break;
      next = receiveMessageOnPort(port)?.message;
    }
    turn(waiting);
    if (next !== "close") return;
    file.close();
    port.close();
  });
  answer(0, file.id);
}
