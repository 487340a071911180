/**
 * What the failures of one run mean: asked by the batch processor while it runs, read by the loop when it has run.
 *
 * Of a batch's events one that fails, or that must wait behind another of its key, becomes a retry row at once, so
 * that the next of its key is held; the loop makes the rows durable with the cursor, or forgets them all by loading
 * the rows anew. Of retries nothing is changed in the rows until `apply`, after the commit.
 */
import type { Context } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import type { NewDeadLetter, RetryRow } from "../journal/journal.ts";
import type { BatchItem, Gate, Refused } from "../processor/batch-processor.ts";
import { isFor } from "./addressee.ts";
import { boundedReason, deadLetterOf } from "./dead-letter.ts";
import { decide, type Policy } from "./decide.ts";
import type { RetryRows } from "./retry-rows.ts";

export interface VerdictParts {
  readonly context: Context;
  readonly policy: Policy;
  readonly rows: RetryRows;
}

export class Verdicts implements Gate {
  /** Rows that are new or changed. */
  readonly put: RetryRow[] = [];
  readonly deadLetters: NewDeadLetter[] = [];
  /** How many attempts failed and are followed by another. */
  errors = 0;
  dropped = 0;
  /** Why the processor must stop. */
  fatal: HoldfastError | null = null;
  readonly #parts: VerdictParts;
  /** The rows that are tried again, by event; null: the events are new. */
  readonly #retried: ReadonlyMap<RetryRow["event"], RetryRow> | null;
  /** Those among them that are not to be tried again. */
  readonly #ended = new Set<RetryRow>();
  /** What lies behind a row that failed again stays as it is. */
  readonly #failedLanes = new Set<string>();
  readonly #dueMs = new Map<RetryRow, number>();

  constructor(parts: VerdictParts, retried: readonly RetryRow[] | null) {
    this.#parts = parts;
    this.#retried =
      retried === null ? null : new Map(retried.map((row) => [row.event, row] as const));
  }

  peek({ event }: BatchItem): "run" | "hold" | "stop" {
    const { rows } = this.#parts;
    if (this.#retried !== null) return this.#failedLanes.has(rows.laneOf(event)) ? "hold" : "run";
    if (this.#isForAnother(event)) return "hold";
    // Whatever comes of the event there must be a place for it (invariant 10).
    if (!rows.hasRoom()) return "stop";
    return rows.holds(event) ? "hold" : "run";
  }

  admit(item: BatchItem): "run" | "hold" | "stop" {
    const { event } = item;
    const admission = this.peek(item);
    if (admission !== "hold" || this.#retried !== null || this.#isForAnother(event))
      return admission;
    const now = this.#parts.context.clock.wallMs();
    const error = "Waits behind an earlier event of its key";
    this.#wait({ event, attempts: 0, dueAt: now, firstFailedAt: now, error }, 0);
    return "hold";
  }

  #isForAnother({ headers }: BatchItem["event"]): boolean {
    return !isFor(this.#parts.context.name, headers);
  }

  failed({ event, attempt }: BatchItem, error: HoldfastError): "go-on" | "stop" {
    const { context, policy } = this.#parts;
    const row = this.#retried?.get(event);
    const now = context.clock.wallMs();
    const firstFailedAt = row !== undefined && row.attempts > 0 ? row.firstFailedAt : now;
    // Bytes that are not of their stream's format will not become so.
    const decision =
      error.code === "EVENT_MALFORMED"
        ? ({ act: "dead-letter" } as const)
        : decide(error, attempt, policy, context.random());
    switch (decision.act) {
      case "stop":
        this.fatal = error;
        return "stop";
      case "retry": {
        this.errors += 1;
        const reason = boundedReason(`${error.code}: ${error.message}`);
        const dueAt = now + decision.delayMs;
        this.#wait(
          { event, attempts: attempt, dueAt, firstFailedAt, error: reason },
          decision.delayMs,
        );
        return "go-on";
      }
      case "drop":
        this.dropped += 1;
        break;
      case "dead-letter":
        this.deadLetters.push(
          deadLetterOf(
            "processor",
            context.name,
            event.stream,
            event.seq,
            event,
            error,
            attempt,
            firstFailedAt,
            now,
          ),
        );
        break;
    }
    if (row !== undefined) this.#ended.add(row);
    return "go-on";
  }

  /**
   * Events made of many that could not go on: no later attempt would make them anew, so that they become dead letters
   * (or are dropped) at once, also under `block`. They are told with the stream that they were to enter.
   */
  giveUp(refused: readonly Refused[], { to }: { readonly to?: string }): void {
    const { context, policy } = this.#parts;
    const now = context.clock.wallMs();
    for (const { event, error } of refused) {
      if (policy.onFailure === "drop") {
        this.dropped += 1;
        continue;
      }
      const { key, time, receivedAt, headers } = event;
      const made = { key, time, receivedAt, headers, payload: bytesOf(event.payload) };
      const stream = to ?? event.stream;
      this.deadLetters.push(
        deadLetterOf("processor", context.name, stream, null, made, error, 1, now, now),
      );
    }
  }

  /** Rows that were tried again and are done with: those that ended well, and those given up. */
  removed(succeeded: readonly number[], items: readonly BatchItem[]): RetryRow[] {
    const done = succeeded.map((index) => this.#retried?.get(items[index]?.event as never));
    return [...done.filter((row) => row !== undefined), ...this.#ended];
  }

  /** The commit stands: what was tried again leaves the rows, or takes its new place there. */
  apply(removed: readonly RetryRow[]): void {
    if (this.#retried === null) return;
    const { rows, context } = this.#parts;
    for (const row of removed) rows.remove(row.event, context.clock.monotonicMs());
    for (const row of this.put) rows.put(row, this.#dueMs.get(row) ?? 0);
  }

  #wait(row: RetryRow, delayMs: number): void {
    const { rows, context } = this.#parts;
    const dueMs = context.clock.monotonicMs() + delayMs;
    this.put.push(row);
    if (this.#retried === null) {
      rows.put(row, dueMs);
      return;
    }
    this.#dueMs.set(row, dueMs);
    this.#failedLanes.add(rows.laneOf(row.event));
  }
}

function bytesOf(payload: unknown): Uint8Array {
  if (payload instanceof Uint8Array) return payload;
  return Buffer.from(typeof payload === "string" ? payload : JSON.stringify(payload));
}
