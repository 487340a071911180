/**
 * Plane to journal, by way of a processor: the loop that turns batches into units of work.
 *
 *   reader (one a stream) ──► batch ──┐                      ┌─► committed ──► acknowledge, next
 *                                     ├──► run ──► one unit ─┤
 *   retry rows that are due ──────────┘                      └─► refused ──► attach anew
 *
 * States: waiting for the clock (steps that go by time, and it was not set yet: invariant 9) · attaching (cursors,
 * retry rows and what the steps remember are read from the journal, readers begin behind the cursors) · running (one
 * batch or one set of retries at a time, so that no two overlap; the next batch is read meanwhile) · waiting (for a
 * batch, a retry that falls due, a stream that has been silent long enough, or the end) · standing still (too many rows
 * wait: retries only) · stopped.
 *
 * The unit names the cursors it starts from. If they have moved (a replay, a failover) the journal refuses it,
 * nothing of it happened, and the loop attaches anew where the cursors are now. What a silence brings (windows that
 * close) is a unit as well, which moves no cursor. `exclusively` lets others move cursors between two units.
 *
 * What a crash leaves: before the commit nothing, the batch is read and run again from the cursor; after it
 * everything: the plane is attached to the cursor again, whatever it had handed out or been acknowledged.
 * Retry rows are in the journal with their attempts. Only what a handler did to the world outside is repeated.
 *
 * Bounds: a batch (`batch.max` events, about 1 MiB) is run and another is ready (stream-reader.ts); rows
 * (retry-rows.ts); effects (state/effects.ts). A commit that the disk refuses stops the loop (patience.ts).
 */
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import type { Journal, RetryRow, UnitOfWork, UnitOutcome } from "../journal/journal.ts";
import type { BatchHandler, Chain, Handler } from "../processor/processor.ts";
import type { Plane } from "../plane/plane.ts";
import { BatchProcessor, type BatchItem } from "../processor/batch-processor.ts";
import { acknowledge } from "./acknowledge.ts";
import type { StreamRules } from "./admit.ts";
import type { Policy } from "./decide.ts";
import { loadChain, storeOf } from "./chain-state.ts";
import { createDerive } from "./derive.ts";
import { Errands } from "./errands.ts";
import { Patience } from "./patience.ts";
import { ProcessingHealth } from "./processing-health.ts";
import { RetryRows } from "./retry-rows.ts";
import { Silence } from "./silence.ts";
import { ReaderSet } from "./reader-set.ts";
import { StateMeter, type StateBound } from "./state-meter.ts";
import { StreamReader, type ReadyBatch } from "./stream-reader.ts";
import { Verdicts } from "./verdicts.ts";

export interface ProcessingParts {
  /** Its name is the processor's, the group's, and the space of its state. */
  readonly context: Context;
  readonly journal: Journal;
  readonly plane: Plane;
  readonly from: readonly string[];
  readonly to?: string;
  readonly chain: Chain;
  readonly handler?: Handler | BatchHandler;
  /** What any stream asks of its events, also those it reads: their format. */
  readonly rulesOf: (stream: string) => StreamRules;
  readonly batch: { readonly max: number; readonly waitMs: number };
  readonly timeoutMs: number;
  readonly order: "key" | "none";
  readonly stateBound: StateBound;
  readonly policy: Policy;
  /** The processor has stopped for good: the journal is gone, or a handler said so. */
  readonly onFatal: (error: unknown) => void;
}

/** Whether the clock was set by now is looked at this often, ms. */
const clockLookMs = 1_000;

export interface Processing {
  start(): void;
  /**
   * Runs `act` between two units of work; the loop then goes on from where the journal says.
   * @throws what `act` does; HoldfastError PROCESSOR_STOPPED when the processor has
   */
  exclusively<T>(act: () => Promise<T>): Promise<T>;
  /**
   * Ends within about `graceMs`: half of it for a handler that is running, the rest for its commit. What is not
   * committed by then is left to the cursor. May be called twice.
   */
  stop(graceMs: number): Promise<void>;
  /** Stands still until `resume`; the batch that is under way ends first. */
  pause(why: string): void;
  resume(): void;
  isPaused(): boolean;
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
  readonly #readers = new ReaderSet();
  /** Where the cursors stand, as far as this loop knows. */
  readonly #committed = new Map<string, number>();
  readonly #handlers = new AbortController();
  readonly #end = new AbortController();
  readonly #silence: Silence;
  readonly #meter: StateMeter;
  readonly #errands = new Errands();
  #isAttached = false;
  #isStopping = false;
  #lastWasRetry = false;
  #wake: (() => void) | undefined;
  #loop: Promise<void> | undefined;

  constructor(parts: ProcessingParts) {
    this.#parts = parts;
    const { context, journal, from, policy, rulesOf, chain } = parts;
    const { name, log, clock } = context;
    this.#rows = new RetryRows(parts.order === "key");
    this.#meter = new StateMeter(context, journal, parts.stateBound);
    this.#silence = new Silence(context, chain, policy);
    const rows = this.#rows;
    this.#health = new ProcessingHealth({ context, journal, from, policy, rows, chain });
    this.#patience = new Patience(context, this.#end.signal, (message) => {
      this.#health.journalTrouble = message;
      this.#health.report();
    });
    this.#processor = new BatchProcessor({
      name,
      log,
      clock,
      chain,
      ...(parts.handler !== undefined && { handler: parts.handler }),
      ...(parts.to !== undefined && { to: parts.to }),
      timeoutMs: parts.timeoutMs,
      wallMs: () => clock.wallMs(),
      state: storeOf(journal),
      stateProblem: () => this.#meter.problem,
      formatOf: (stream) => rulesOf(stream).format,
      derive: createDerive(rulesOf, clock),
    });
  }

  start(): void {
    this.#health.report();
    this.#loop = this.#run().catch((thrown: unknown) => this.#fail(thrown));
  }

  exclusively<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#errands.add(act);
    if (this.#isStopping) this.#errands.refuse();
    this.#wake?.();
    return done;
  }

  async stop(graceMs: number): Promise<void> {
    this.#isStopping = true;
    this.#wake?.();
    const { clock } = this.#parts.context;
    this.#parts.journal.commitSoon();
    const handlers = clock.after(graceMs / 2, () => this.#handlers.abort());
    const end = clock.after(graceMs, () => this.#end.abort());
    await this.#loop;
    this.#errands.refuse();
    await this.#readers.stop(this.#end.signal);
    handlers.cancel();
    end.cancel();
  }

  pause(why: string): void {
    this.#hold(why);
  }

  resume(): void {
    this.#hold(null);
  }

  isPaused(): boolean {
    return this.#health.pausedFor !== null;
  }

  #hold(why: string | null): void {
    this.#health.pausedFor = why;
    this.#health.report();
    this.#wake?.();
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const turn = this.#next();
      if (turn === null) await this.#wait();
      else await turn();
    }
  }

  /** From where the journal says: cursors, retry rows, what steps remember, and readers behind the cursors. */
  async #attach(): Promise<void> {
    const { context, journal, plane, from, batch, policy, chain } = this.#parts;
    this.#isAttached = false;
    await this.#readers.stop(this.#end.signal);
    const rows = await this.#patience.answer(() => journal.readRetries(context.name));
    if (rows === null || !(await loadChain(chain, journal, this.#patience))) return;
    this.#isAttached = true;
    this.#rows.load(rows, context.clock.wallMs(), context.clock.monotonicMs(), policy.maxMs);
    const readers = from.map((stream) => {
      this.#committed.set(stream, journal.cursor(context.name, stream).seq);
      this.#silence.heard(stream);
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
    this.#readers.start(readers, (thrown) => this.#fail(thrown));
    this.#health.report();
  }

  /** What to do now; null: nothing. Batches and retries take turns, so that neither starves the other. */
  #next(): (() => Promise<void>) | null {
    if (this.#errands.waits) return () => this.#errand();
    if (this.isPaused()) return null;
    this.#health.waitsForClock = !this.#isTimeKnown();
    if (this.#health.waitsForClock) return null;
    if (!this.#isAttached) return () => this.#attach();
    const due = this.#rows.due(this.#parts.context.clock.monotonicMs(), this.#parts.batch.max);
    const hasBatch = this.#rows.hasRoom() && this.#readers.hasReady;
    if (due.length > 0 && (!hasBatch || !this.#lastWasRetry)) return () => this.#retry(due);
    if (!hasBatch) {
      const silent = this.#silence.due((stream) => this.#isAtHead(stream));
      return silent === null ? null : () => this.#passSilence(silent);
    }
    const batch = this.#readers.take();
    return batch === null ? null : () => this.#batch(batch);
  }

  #errand(): Promise<void> {
    this.#isAttached = false;
    return this.#errands.run();
  }

  async #batch(batch: ReadyBatch): Promise<void> {
    this.#lastWasRetry = false;
    const { stream, events } = batch;
    this.#silence.heard(stream);
    const items = events.map((event) => ({ event, attempt: 1 }));
    const verdicts = new Verdicts({ ...this.#parts, rows: this.#rows }, null);
    const run = await this.#runItems(stream, items, verdicts);
    verdicts.giveUp(run.refused, this.#parts);
    const isWhole = run.settled === events.length;
    const to = isWhole ? batch.to : (events[run.settled - 1]?.seq ?? batch.from);
    if (!isWhole) this.#readers.putBack({ ...batch, events: events.slice(run.settled), from: to });
    if (to > batch.from) {
      const unit: UnitOfWork = {
        group: this.#parts.context.name,
        cursors: [{ stream, from: batch.from, to }],
        emits: run.emits,
        state: this.#meter.withEnded(run.state),
        retries: { put: verdicts.put, remove: [] },
        deadLetters: verdicts.deadLetters,
      };
      const isBacklog = batch.isFull || !isWhole;
      if (!(await this.#commit(unit, isBacklog ? "soon" : "linger"))) return;
      this.#committed.set(stream, to);
      this.#health.count(stream, run.succeeded.length, verdicts);
      await acknowledge(this.#parts, stream, to);
    }
    if (verdicts.fatal !== null) throw verdicts.fatal;
  }

  async #retry(due: readonly RetryRow[]): Promise<void> {
    this.#lastWasRetry = true;
    const stream = due[0]?.event.stream ?? "";
    const items = due.map(({ event, attempts }) => ({ event, attempt: attempts + 1 }));
    const verdicts = new Verdicts({ ...this.#parts, rows: this.#rows }, due);
    const run = await this.#runItems(stream, items, verdicts);
    verdicts.giveUp(run.refused, this.#parts);
    const removed = verdicts.removed(run.succeeded, items);
    if (removed.length + verdicts.put.length > 0) {
      const unit: UnitOfWork = {
        ...this.#standing(stream),
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

  /** A stream has been silent, at its head, for as long as some step asks for. */
  async #passSilence(stream: string): Promise<void> {
    const outcome = await this.#processor.runSilence(stream, this.#handlers.signal);
    if ("error" in outcome) return this.#silence.failed(stream, outcome.error);
    const verdicts = new Verdicts({ ...this.#parts, rows: this.#rows }, null);
    verdicts.giveUp(outcome.refused, this.#parts);
    const unit: UnitOfWork = {
      ...this.#standing(stream),
      emits: outcome.emits,
      state: outcome.state,
      deadLetters: verdicts.deadLetters,
    };
    if (await this.#commit(unit, "linger")) this.#health.count(stream, 0, verdicts);
  }

  /** For a unit that moves no cursor: it is refused with the others when something else has moved it. */
  #standing(stream: string): Pick<UnitOfWork, "group" | "cursors"> {
    const { context, journal } = this.#parts;
    const at = this.#committed.get(stream) ?? journal.cursor(context.name, stream).seq;
    return { group: context.name, cursors: [{ stream, from: at, to: at }] };
  }

  /** Nothing of it is unread, nor waits for another attempt. */
  #isAtHead(stream: string): boolean {
    const head = this.#parts.journal.status().streams.get(stream)?.head ?? 0;
    return this.#committed.get(stream) === head && this.#rows.count === 0;
  }

  #isTimeKnown(): boolean {
    const { chain, context } = this.#parts;
    return !chain.needsTime || context.clock.quality() !== "unsynced";
  }

  async #runItems(stream: string, items: readonly BatchItem[], verdicts: Verdicts) {
    const { clock } = this.#parts.context;
    if (this.#parts.handler !== undefined) await this.#patience.answer(() => this.#meter.look());
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
    if (outcome === "committed") {
      this.#meter.committed(unit.state ?? []);
      return true;
    }
    if (outcome === "refused") {
      context.log.info("Cursors have moved: the processor reads from where they are now");
      await this.#attach();
    }
    return false;
  }

  #wait(): Promise<void> {
    const { clock } = this.#parts.context;
    const dueMs = this.isPaused() ? null : this.#nextDueMs();
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

  #nextDueMs(): number | null {
    if (!this.#isTimeKnown()) return this.#parts.context.clock.monotonicMs() + clockLookMs;
    const dues = [this.#rows.nextDueMs(), this.#silence.nextMs((stream) => this.#isAtHead(stream))];
    const known = dues.filter((each) => each !== null);
    return known.length === 0 ? null : Math.min(...known);
  }

  #fail(thrown: unknown): void {
    this.#isStopping = true;
    this.#errands.refuse();
    this.#wake?.();
    this.#health.fatal = messageOf(thrown);
    this.#health.report();
    this.#parts.onFatal(thrown);
  }
}
