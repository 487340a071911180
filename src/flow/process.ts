/**
 * Plane to journal, by way of a processor: the loop that turns batches into units of work.
 *
 *   reader (one a stream) ──► batch ──┐                      ┌─► committed ──► acknowledge, next
 *                                     ├──► run ──► one unit ─┤
 *   retry rows that are due ──────────┘                      └─► refused ──► attach anew
 *
 * States: attaching (cursors and retry rows are read from the journal, readers begin behind the cursors) · running
 * (one batch or one set of retries at a time, so that no two overlap; the next batch is read meanwhile) · waiting
 * (for a batch, a retry that falls due, or the end) · standing still (too many rows wait: retries only) · stopped.
 *
 * The unit names the cursors it starts from. If they have moved (a replay, a failover) the journal refuses it,
 * nothing of it happened, and the loop attaches anew where the cursors are now.
 *
 * What a crash leaves: before the commit nothing, the batch is read and run again from the cursor; after it
 * everything: the plane is attached to the cursor again, whatever it had handed out or been acknowledged.
 * Retry rows are in the journal with their attempts. Only what a handler did to the world outside is repeated.
 *
 * Bounds: a batch (`batch.max` events, about 1 MiB) is run and another is ready (stream-reader.ts); rows
 * (retry-rows.ts); effects (stream/effects.ts). A commit that the disk refuses stops the loop (patience.ts).
 */
import { unlessAborted } from "../core/abort.ts";
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import type { Journal, RetryRow, UnitOfWork, UnitOutcome } from "../journal/journal.ts";
import type { Handler, Step } from "../processor/processor.ts";
import type { Plane } from "../plane/plane.ts";
import { BatchProcessor, type BatchItem } from "../stream/batch-processor.ts";
import type { StreamRules } from "./admit.ts";
import type { Policy } from "./decide.ts";
import { createDerive } from "./derive.ts";
import { Patience } from "./patience.ts";
import { ProcessingHealth } from "./processing-health.ts";
import { RetryRows } from "./retry-rows.ts";
import { StreamReader, type ReadyBatch } from "./stream-reader.ts";
import { Verdicts } from "./verdicts.ts";

export interface ProcessingParts {
  /** Its name is the processor's, the group's, and the space of its state. */
  readonly context: Context;
  readonly journal: Journal;
  readonly plane: Plane;
  readonly from: readonly string[];
  readonly to?: string;
  readonly steps: readonly Step[];
  readonly handler?: Handler;
  /** What any stream asks of its events, also those it reads: their format. */
  readonly rulesOf: (stream: string) => StreamRules;
  readonly batch: { readonly max: number; readonly waitMs: number };
  readonly timeoutMs: number;
  readonly order: "key" | "none";
  readonly policy: Policy;
  /** The processor has stopped for good: the journal is gone, or a handler said so. */
  readonly onFatal: (error: unknown) => void;
}

export interface Processing {
  start(): void;
  /**
   * Ends within about `graceMs`: half of it for a handler that is running, the rest for its commit. What is not
   * committed by then is left to the cursor. May be called twice.
   */
  stop(graceMs: number): Promise<void>;
  /** Stands still until `resume`; the batch that is under way ends first. */
  pause(why: string): void;
  resume(): void;
  isPaused(): boolean;
  /** Somebody has moved a cursor in the journal: it begins there. */
  reload(): void;
}

export function createProcessing(parts: ProcessingParts): Processing {
  return new Loop(parts);
}

class Loop implements Processing {
  readonly #parts: ProcessingParts;
  readonly #rows: RetryRows;
  readonly #processor: BatchProcessor;
  readonly #health: ProcessingHealth;
  readonly #patience: Patience;
  #readers: StreamReader[] = [];
  /** What a batch had left when it ended early, by stream. */
  readonly #rest = new Map<string, ReadyBatch>();
  /** Where the cursors stand, as far as this loop knows. */
  readonly #committed = new Map<string, number>();
  readonly #handlers = new AbortController();
  readonly #end = new AbortController();
  #isStopping = false;
  #isPaused = false;
  #hasMoved = false;
  #lastWasRetry = false;
  #wake: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(parts: ProcessingParts) {
    this.#parts = parts;
    const { context, journal, from, policy, rulesOf } = parts;
    const { name, log, clock } = context;
    this.#rows = new RetryRows(parts.order === "key");
    this.#health = new ProcessingHealth({ context, journal, from, policy, rows: this.#rows });
    this.#patience = new Patience(context, this.#end.signal, (message) => {
      this.#health.journalTrouble = message;
      this.#health.report();
    });
    this.#processor = new BatchProcessor({
      name,
      log,
      clock,
      steps: parts.steps,
      ...(parts.handler !== undefined && { handler: parts.handler }),
      ...(parts.to !== undefined && { to: parts.to }),
      timeoutMs: parts.timeoutMs,
      state: { get: (space, key) => journal.readState(space, key) },
      formatOf: (stream) => rulesOf(stream).format,
      derive: createDerive(rulesOf, clock),
    });
  }

  start(): void {
    this.#health.report();
    this.#loop = this.#run().catch((thrown: unknown) => this.#fail(thrown));
  }

  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#wake?.();
    const { clock } = this.#parts.context;
    this.#parts.journal.commitSoon();
    const handlers = clock.after(graceMs / 2, () => this.#handlers.abort());
    const end = clock.after(graceMs, () => this.#end.abort());
    await this.#loop;
    await this.#stopReaders();
    handlers.cancel();
    end.cancel();
  }

  pause(why: string): void {
    this.#isPaused = true;
    this.#wake?.();
    this.#health.pausedFor = why;
    this.#health.report();
  }

  resume(): void {
    this.#isPaused = false;
    this.#health.pausedFor = null;
    this.#health.report();
    this.#wake?.();
  }

  isPaused(): boolean {
    return this.#isPaused;
  }

  reload(): void {
    this.#hasMoved = true;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    await this.#attach();
    while (!this.#isStopping) {
      if (this.#hasMoved) await this.#attach();
      const turn = this.#isPaused ? null : this.#next();
      if (turn === null) await this.#wait();
      else await turn();
    }
  }

  /** From where the journal says: cursors, retry rows, and readers behind the cursors. */
  async #attach(): Promise<void> {
    const { context, journal, plane, from, batch, policy } = this.#parts;
    this.#hasMoved = false;
    await this.#stopReaders();
    this.#rest.clear();
    const rows = await this.#patience.answer(() => journal.readRetries(context.name));
    if (rows === null) return;
    this.#rows.load(rows, context.clock.wallMs(), context.clock.monotonicMs(), policy.maxMs);
    this.#readers = from.map((stream) => {
      this.#committed.set(stream, journal.cursor(context.name, stream).seq);
      return new StreamReader({
        context,
        journal,
        plane,
        group: context.name,
        stream,
        eventsMax: batch.max,
        waitMs: batch.waitMs,
        onReady: () => this.#wake?.(),
      });
    });
    for (const reader of this.#readers) {
      reader.start().catch((thrown: unknown) => this.#fail(thrown));
    }
    this.#health.report();
  }

  async #stopReaders(): Promise<void> {
    const stopped = Promise.all(this.#readers.map((reader) => reader.stop()));
    this.#readers = [];
    // A disk that hangs must not hold the end up; a reader that was stopped has no effects any more.
    await unlessAborted(stopped, this.#end.signal).catch(() => undefined);
  }

  /** What to do now; null: nothing. Batches and retries take turns, so that neither starves the other. */
  #next(): (() => Promise<void>) | null {
    const due = this.#rows.due(this.#parts.context.clock.monotonicMs(), this.#parts.batch.max);
    const at = this.#rows.hasRoom()
      ? this.#readers.findIndex((r) => this.#rest.has(r.stream) || r.peek() !== undefined)
      : -1;
    if (due.length > 0 && (at < 0 || !this.#lastWasRetry)) return () => this.#retry(due);
    if (at < 0) return null;
    const [reader] = this.#readers.splice(at, 1);
    if (reader === undefined) return null;
    // To the end of the line: the streams take turns as well.
    this.#readers.push(reader);
    const batch = this.#rest.get(reader.stream) ?? reader.take();
    this.#rest.delete(reader.stream);
    return batch === undefined ? null : () => this.#batch(batch);
  }

  async #batch(batch: ReadyBatch): Promise<void> {
    this.#lastWasRetry = false;
    const { stream, events } = batch;
    const items = events.map((event) => ({ event, attempt: 1 }));
    const verdicts = new Verdicts({ ...this.#parts, rows: this.#rows }, null);
    const run = await this.#runItems(stream, items, verdicts);
    const isWhole = run.settled === events.length;
    const to = isWhole ? batch.to : (events[run.settled - 1]?.seq ?? batch.from);
    if (!isWhole) this.#rest.set(stream, { ...batch, events: events.slice(run.settled), from: to });
    if (to > batch.from) {
      const unit: UnitOfWork = {
        group: this.#parts.context.name,
        cursors: [{ stream, from: batch.from, to }],
        emits: run.emits,
        state: run.state,
        retries: { put: verdicts.put, remove: [] },
        deadLetters: verdicts.deadLetters,
      };
      const isBacklog = batch.isFull || !isWhole;
      if (!(await this.#commit(unit, isBacklog ? "soon" : "linger"))) return;
      this.#committed.set(stream, to);
      this.#health.count(stream, run.succeeded.length, verdicts);
      await this.#acknowledge(stream, to);
    }
    if (verdicts.fatal !== null) throw verdicts.fatal;
  }

  async #retry(due: readonly RetryRow[]): Promise<void> {
    this.#lastWasRetry = true;
    const stream = due[0]?.event.stream ?? "";
    const items = due.map(({ event, attempts }) => ({ event, attempt: attempts + 1 }));
    const verdicts = new Verdicts({ ...this.#parts, rows: this.#rows }, due);
    const run = await this.#runItems(stream, items, verdicts);
    const removed = verdicts.removed(run.succeeded, items);
    if (removed.length + verdicts.put.length > 0) {
      const { context, journal } = this.#parts;
      const at = this.#committed.get(stream) ?? journal.cursor(context.name, stream).seq;
      const unit: UnitOfWork = {
        group: context.name,
        // It moves nothing, and is refused with the others when something else has.
        cursors: [{ stream, from: at, to: at }],
        emits: run.emits,
        state: run.state,
        retries: {
          put: verdicts.put,
          remove: removed.map(({ event }) => ({ stream: event.stream, seq: event.seq })),
        },
        deadLetters: verdicts.deadLetters,
      };
      if (!(await this.#commit(unit, "linger"))) return;
      verdicts.apply(removed);
      this.#health.count(stream, run.succeeded.length, verdicts);
    }
    if (verdicts.fatal !== null) throw verdicts.fatal;
  }

  async #runItems(stream: string, items: readonly BatchItem[], verdicts: Verdicts) {
    const { clock } = this.#parts.context;
    const startedMs = clock.monotonicMs();
    const outcome = await this.#processor.run(items, verdicts, this.#handlers.signal);
    this.#health.took(stream, clock.monotonicMs() - startedMs);
    return outcome;
  }

  /** True: it is durable. False: it was refused and the loop has attached anew, or the end came first. */
  async #commit(unit: UnitOfWork, when: "soon" | "linger"): Promise<boolean> {
    const { journal, context } = this.#parts;
    const outcome: UnitOutcome | null = await this.#patience.answer(() =>
      journal.commit(unit, this.#isStopping ? "soon" : when),
    );
    if (outcome === "committed") return true;
    if (outcome === "refused") {
      context.log.info("Cursors have moved: the processor reads from where they are now");
      await this.#attach();
    }
    return false;
  }

  /** A plane that does not answer keeps a little longer what it may forget: no more than that. */
  async #acknowledge(stream: string, seq: number): Promise<void> {
    const { plane, context } = this.#parts;
    try {
      await plane.acknowledge(stream, context.name, seq);
    } catch (thrown) {
      context.log.debug("The plane takes no acknowledgement", { reason: messageOf(thrown) });
    }
  }

  #wait(): Promise<void> {
    const { clock } = this.#parts.context;
    const dueMs = this.#isPaused ? null : this.#rows.nextDueMs();
    return new Promise((resolve) => {
      let timer: Timer | undefined;
      this.#wake = () => {
        this.#wake = undefined;
        timer?.cancel();
        resolve();
      };
      if (dueMs !== null) {
        timer = clock.after(Math.max(1, dueMs - clock.monotonicMs()), () => this.#wake?.());
      }
    });
  }

  #fail(thrown: unknown): void {
    this.#isStopping = true;
    this.#wake?.();
    this.#health.fatal = messageOf(thrown);
    this.#health.report();
    this.#parts.onFatal(thrown);
  }
}
