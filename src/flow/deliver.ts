/**
 * Journal to sink: the last loop that an event meets.
 *
 *            ┌──────────────── back-off (1 s to 60 s; a minute where a person must act) ◄──┐
 *            ▼                                                                             │
 *   start ─► opening ─► agreeing ─► delivering: read ─► send ─► settle ─► read … ── failure, loss ──► closed
 *                            └─ nothing to read: wait until the journal grows
 *
 * It holds two batches: one is being sent, the next is read meanwhile. A batch is of one stream, at most 2,048
 * events or 256 KiB (read-ahead.ts; or one event, if that is larger): what waits lies in the journal, never in memory.
 *
 * Three positions for each stream. `read`: up to where it was read ahead. `confirmed`: up to where the sink is
 * done. `durable`: the cursor in the journal, which follows behind (progress.ts). A failure puts `read` back to
 * `confirmed`; only a crash goes back to `durable`.
 *
 * What a crash leaves:
 * - before or while a batch is sent: the cursor before it; it is sent again, under the same names
 * - between the sink's confirmation and the cursor's commit: the same. A sink that gives marks takes back what lies
 *   behind its mark, so nothing is there twice; one that does not may repeat the last seconds
 * - refused events: either the cursor is before them, or it has passed them and they are dead letters
 *
 * A stretch that was trimmed away unsent (the quota, invariant 5) is passed over, counted and said; it is told
 * upstream in `_gaps` by whoever trimmed it.
 */
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import type { Journal, JournalHistory } from "../journal/journal.ts";
import type { SendResult, Sink } from "../sink/sink.ts";
import { agree } from "./agreement.ts";
import { Backlog } from "./backlog.ts";
import { deadLetterOf } from "./dead-letter.ts";
import { holesIn, PassedOver } from "./passed-over.ts";
import { Progress } from "./progress.ts";
import { ReadAhead, type Ahead } from "./read-ahead.ts";
import { Trouble } from "./trouble.ts";

export interface DeliveryParts {
  /** Of the sink; its name is the group's. */
  readonly context: Context;
  readonly journal: Pick<
    Journal,
    "read" | "commit" | "commitSoon" | "cursor" | "status" | "onAppended" | "identity"
  > &
    JournalHistory;
  readonly sink: Sink;
  /** The order is the priority. */
  readonly streams: readonly string[];
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  readonly device: string;
}

export interface Delivery {
  start(): void;
  /** What is being sent ends, or is aborted after `graceMs`; the last cursors become durable. May be called twice. */
  stop(graceMs: number): Promise<void>;
  /** Events that the sink has not confirmed, by stream. */
  lag(): ReadonlyMap<string, number>;
}

/** How long after `graceMs` a sink that ignores its abort is waited for, ms. */
const abandonMs = 500;

export function createDelivery(parts: DeliveryParts): Delivery {
  return new DeliveryLoop(parts);
}

type Outcome = "delivered" | "refused" | "retried" | "trimmed";

class DeliveryLoop implements Delivery {
  readonly #parts: DeliveryParts;
  readonly #backlog: Backlog;
  readonly #reader: ReadAhead;
  readonly #progress: Progress;
  readonly #passedOver: PassedOver;
  readonly #stopping = new AbortController();
  readonly #aborting = new AbortController();
  #wake = Promise.withResolvers<void>();
  #running: Promise<void> | null = null;
  #stopped: Promise<void> | null = null;
  /** The sink said that its far side has gone while nothing was sent. */
  #loss: HoldfastError | null = null;
  /** Up to where the far side was told of each stream since it was opened. */
  readonly #named = new Map<string, number>();
  /** What the failed send would have gone on with. */
  #head: StoredEvent | null = null;

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
    const { context, journal, sink, streams } = parts;
    this.#backlog = new Backlog(context, streams);
    this.#passedOver = new PassedOver(
      context,
      (stream) => `Events of stream ${stream} were dropped before ${context.name} had them`,
    );
    this.#reader = new ReadAhead(journal, this.#backlog, streams);
    this.#progress = new Progress({
      context,
      journal,
      streams,
      onDurable: (stream, cursor) => sink.durable?.(stream, cursor),
      onMoved: () => this.#wake.resolve(),
      signal: this.#stopping.signal,
    });
  }

  start(): void {
    this.#running ??= this.#run();
  }

  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs);
    return this.#stopped;
  }

  lag(): ReadonlyMap<string, number> {
    return new Map(this.#parts.streams.map((stream) => [stream, this.#backlog.kept(stream)]));
  }

  async #stop(graceMs: number): Promise<void> {
    const { clock, log, name } = this.#parts.context;
    this.#stopping.abort();
    this.#wake.resolve();
    const abort = clock.after(graceMs, () => this.#aborting.abort());
    const late = Promise.withResolvers<void>();
    const abandon = clock.after(graceMs + abandonMs, () => {
      log.warn(`Sink ${name} does not end: what it was sending will be sent again`);
      late.resolve();
    });
    await Promise.race([this.#running, late.promise]);
    abort.cancel();
    abandon.cancel();
  }

  async #run(): Promise<void> {
    const { context, journal, sink, streams } = this.#parts;
    const unfollow = this.#backlog.follow(journal, () => this.#wake.resolve());
    this.#backlog.publish();
    const connected = context.metrics.gauge("holdfast_sink_connected", { sink: context.name });
    connected.set(0);
    context.health.figures(() => ({
      waiting: streams.reduce((sum, stream) => sum + this.#backlog.kept(stream), 0),
      oldestUnsentSeconds: Math.round(this.#backlog.oldestSeconds()),
    }));
    sink.onLost?.((error) => {
      this.#loss = error;
      this.#wake.resolve();
    });
    const trouble = new Trouble(context);
    await this.#load();
    while (!this.#stopping.signal.aborted) {
      const failure = await this.#session(trouble, () => connected.set(1));
      connected.set(0);
      const closing = await failureOf(sink.close());
      if (closing !== null)
        context.log.debug(`Sink ${context.name} did not close: ${closing.message}`);
      if (failure !== null) {
        const next = await trouble.endure(failure, this.#head !== null, this.#stopping.signal);
        if (next === "give-up-head") await this.#giveUp(failure, trouble);
      }
      if (this.#progress.hasMoved) await this.#load();
    }
    unfollow();
    await this.#progress.flush();
  }

  /** Begins where the journal says. */
  async #load(): Promise<void> {
    this.#progress.load();
    for (const stream of this.#parts.streams) {
      const { seq } = this.#progress.confirmed(stream);
      this.#backlog.pass(stream, seq);
      if (this.#backlog.lag(stream) === 0) continue;
      const oldest = await this.#parts.journal.read(stream, seq, 1, 1).catch(() => null);
      this.#backlog.pass(stream, seq, oldest?.events[0]?.receivedAt);
    }
  }

  /** One connection of the sink. Ends with a failure, or with null: stopped, or somebody has moved the cursor. */
  async #session(trouble: Trouble, opened: () => void): Promise<HoldfastError | null> {
    const { sink, streams } = this.#parts;
    this.#loss = null;
    this.#head = null;
    const positions = new Map(streams.map((stream) => [stream, this.#progress.confirmed(stream)]));
    const failure = await failureOf(sink.open(positions, this.#stopping.signal));
    if (failure !== null) return this.#stopping.signal.aborted ? null : failure;
    const disagreement = await failureOf(agree({ ...this.#parts, progress: this.#progress }));
    if (disagreement !== null) return disagreement;
    if (this.#progress.hasMoved) return null;
    opened();
    for (const stream of streams) {
      const { seq } = this.#progress.confirmed(stream);
      this.#named.set(stream, seq);
      this.#backlog.pass(stream, seq);
    }
    for (const stream of streams) sink.durable?.(stream, this.#progress.durable(stream));
    if (!trouble.needsProof || this.#backlog.total() === 0) trouble.over();
    this.#readBack();
    let ahead = this.#reader.next();
    for (;;) {
      this.#wake = Promise.withResolvers();
      const batch = await ahead;
      if (this.#stopping.signal.aborted || this.#progress.hasMoved) return null;
      if (this.#loss !== null) return this.#loss;
      if (batch instanceof HoldfastError) return batch;
      if (batch === null && !this.#reader.hasMore()) await this.#wake.promise;
      ahead = this.#reader.next();
      if (batch === null) continue;
      const { settled, failure } = await this.#deliver(batch);
      if (settled > 0) trouble.over();
      if (settled === batch.events.length && failure === undefined) continue;
      // What was read ahead does not follow on what was settled.
      await ahead;
      if (failure !== undefined) return failure;
      this.#readBack();
      ahead = this.#reader.next();
    }
  }

  async #deliver(batch: Ahead): Promise<SendResult> {
    const { sink, device, formats } = this.#parts;
    const { stream, events, trimmedTo } = batch;
    if (trimmedTo !== null) await this.#passTrimmed(stream, trimmedTo);
    if (events.length === 0) return { settled: 0, refused: [] };
    const format = formats.get(stream);
    const after = this.#named.get(stream) ?? 0;
    const sent = { device, stream, events, after, ...(format !== undefined && { format }) };
    const result = await sink
      .send(sent, this.#aborting.signal)
      .catch((error: unknown): SendResult => {
        if (!(error instanceof HoldfastError)) throw error;
        return { settled: 0, refused: [], failure: error };
      });
    if (result.settled > 0) await this.#settle(events.slice(0, result.settled), result);
    this.#count("retried", events.length - result.settled);
    this.#head = events[result.settled] ?? null;
    return result;
  }

  async #settle(events: readonly StoredEvent[], { refused, mark }: SendResult): Promise<void> {
    const { context } = this.#parts;
    const { stream, seq, receivedAt } = events.at(-1) as StoredEvent;
    const now = context.clock.wallMs();
    const letters = refused.map(({ index, error }) => {
      const event = events[index] as StoredEvent;
      return deadLetterOf("sink", context.name, stream, event.seq, event, error, 1, now, now);
    });
    const holes = holesIn(events);
    this.#passedOver.say(stream, events[0]?.seq ?? seq, seq, holes);
    this.#count("trimmed", holes);
    this.#count("delivered", events.length - letters.length);
    this.#count("refused", letters.length);
    this.#backlog.pass(stream, seq, receivedAt);
    this.#named.set(stream, seq);
    await this.#progress.settle(stream, seq, mark, letters);
  }

  async #passTrimmed(stream: string, trimmedTo: number): Promise<void> {
    const { seq } = this.#progress.confirmed(stream);
    this.#passedOver.say(stream, seq + 1, trimmedTo, trimmedTo - seq);
    this.#count("trimmed", trimmedTo - seq);
    this.#backlog.pass(stream, trimmedTo);
    await this.#progress.settle(stream, trimmedTo, undefined);
  }

  /** The sink refuses its head event as a whole: it becomes a dead letter, and the rest goes on. */
  async #giveUp(failure: HoldfastError, trouble: Trouble): Promise<void> {
    const { context } = this.#parts;
    const event = this.#head as StoredEvent;
    const { stream, seq, receivedAt } = event;
    const [began, now] = [trouble.beganAt(), context.clock.wallMs()];
    const letter = deadLetterOf(
      "sink",
      context.name,
      stream,
      seq,
      event,
      failure,
      trouble.failures,
      began,
      now,
    );
    this.#count("refused", 1);
    this.#backlog.pass(stream, seq, receivedAt);
    await this.#progress.settle(stream, seq, undefined, [letter]);
    trouble.over();
  }

  #readBack(): void {
    for (const stream of this.#parts.streams) {
      this.#reader.back(stream, this.#progress.confirmed(stream).seq);
    }
  }

  #count(status: Outcome, events: number): void {
    if (events === 0) return;
    const { metrics, name } = this.#parts.context;
    metrics.counter("holdfast_sink_events_total", { sink: name, status }).add(events);
  }
}

/** What it failed with, null if it did not; our own mistakes pass through. */
async function failureOf(action: Promise<void>): Promise<HoldfastError | null> {
  try {
    await action;
    return null;
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
}
