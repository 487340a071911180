/**
 * Journal to sink: the last loop that an event meets.
 *
 *            ┌──────────────── back-off (1 s to 60 s; a minute where a person must act) ◄──┐
 *            ▼                                                                             │
 *   start ─► its hours ─► opening ─► agreeing ─► delivering: read ─► send ─► settle ─► read … ── failure, loss
 *                                        └─ nothing to read: wait until the journal grows
 *
 * Agreeing: a far side that says what it holds is compared with the journal (agreement.ts) before anything is sent.
 *
 * It holds two batches: one is being sent, the next is read meanwhile. A batch is of one stream, at most 2,048
 * events or 256 KiB (read-ahead.ts; or one event, if that is larger; half as much after each that came to nothing):
 * what waits lies in the journal, never in memory.
 *
 * Positions of each stream: `read`, up to where each lane was read ahead; `confirmed`, what the sink is done with (a
 * seq, and ranges beyond it where fresh events go first: position.ts); `durable`, the cursor in the journal, which
 * follows behind (progress.ts). A failure puts `read` back to `confirmed`; only a crash goes back to `durable`.
 *
 * What a crash leaves:
 * - before or while a batch is sent: the cursor before it; it is sent again, under the same names
 * - between the sink's confirmation and the cursor's commit: the same. A sink that gives marks takes back what lies
 *   behind its mark, and one that can say what it holds is asked, so nothing is there twice; one that does neither
 *   may repeat the last seconds
 * - refused events: either the cursor is before them, or it has passed them and they are dead letters
 *
 * A stretch that was trimmed away unsent (the quota, invariant 5) is passed over, counted and said; it is told
 * upstream in `_gaps` by whoever trimmed it.
 */
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import type { Pulse } from "../core/pulse.ts";
import type { RewindOrder, RewindReport } from "../core/replay.ts";
import type { SendResult } from "../sink/sink.ts";
import { agree } from "./agreement.ts";
import { isFor } from "./addressee.ts";
import { announced } from "./announce.ts";
import { Backlog } from "./backlog.ts";
import { deadLetterOf } from "./dead-letter.ts";
import type { Delivery, DeliveryParts } from "./delivery.ts";
import { failureOf } from "./failure.ts";
import { LinkMonitor } from "./link-monitor.ts";
import { Pacing } from "./pacing.ts";
import { holesIn, PassedOver } from "./passed-over.ts";
import { Pause } from "./pause.ts";
import { settledBeyond } from "./position.ts";
import { Progress } from "./progress.ts";
import { ReadAhead, type Ahead } from "./read-ahead.ts";
import { rewindSink } from "./rewind-sink.ts";
import { SinkFigures } from "./sink-figures.ts";
import { Trouble } from "./trouble.ts";

/** How long after `graceMs` a sink that ignores its abort is waited for, ms. */
const abandonMs = 500;

export function createDelivery(parts: DeliveryParts): Delivery {
  return new DeliveryLoop(parts);
}

class DeliveryLoop implements Delivery {
  readonly pulse: Pulse;
  readonly #parts: DeliveryParts;
  readonly #backlog: Backlog;
  readonly #reader: ReadAhead;
  readonly #progress: Progress;
  readonly #passedOver: PassedOver;
  readonly #figures: SinkFigures;
  readonly #pacing: Pacing;
  readonly #pause: Pause;
  readonly #stopping = new AbortController();
  readonly #aborting = new AbortController();
  #wake = Promise.withResolvers<void>();
  #running: Promise<void> | null = null;
  #stopped: Promise<void> | null = null;
  /** The sink said that its far side has gone while nothing was sent. */
  #loss: HoldfastError | null = null;
  /** What the failed send would have gone on with, and what that follows. */
  #head: { readonly event: StoredEvent; readonly after: number } | null = null;

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
    const { context, journal, sink, streams, pace = {} } = parts;
    this.#backlog = new Backlog(context, streams);
    this.#figures = new SinkFigures(context, this.#backlog, journal, streams);
    this.#pacing = new Pacing(context, pace, this.#stopping.signal);
    this.pulse = this.#pacing.pulse;
    const { link = new LinkMonitor(), address = null } = parts;
    this.#pause = new Pause(context, link, this.#stopping.signal, address);
    this.#passedOver = new PassedOver(
      context,
      (stream) => `Events of stream ${stream} were dropped before ${context.name} had them`,
    );
    this.#reader = new ReadAhead({
      journal,
      clock: context.clock,
      backlog: this.#backlog,
      streams,
      bounds: this.#pacing.bounds,
      backlogShare: pace.backlogShare ?? null,
    });
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

  sync(): void {
    const heads = this.#backlog.heads(this.#parts.streams);
    this.#pacing.hurry(() => this.#progress.missing(heads));
    this.#pause.wake();
    this.#wake.resolve();
  }

  syncing(): number | null {
    return this.#pacing.remaining;
  }

  pause(why: string): void {
    this.#pacing.pause(why);
    this.#pause.wake();
    this.#wake.resolve();
  }

  resume(): void {
    this.#pacing.resume();
  }

  isPaused(): boolean {
    return this.#pacing.isPaused;
  }

  get from(): readonly string[] {
    return this.#parts.streams;
  }

  rewind(order: RewindOrder): Promise<RewindReport> {
    const { journal, sink, context } = this.#parts;
    const flush = (): Promise<void> => this.#progress.flush();
    const reload = (): void => this.#progress.moved();
    return rewindSink({ journal, group: context.name, sink, flush, reload }, order);
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
    const { context, journal, sink } = this.#parts;
    const unfollow = this.#backlog.follow(journal, () => {
      this.#figures.grew();
      this.#wake.resolve();
    });
    this.#backlog.publish();
    const connected = context.metrics.gauge("holdfast_sink_connected", { sink: context.name });
    connected.set(0);
    this.#figures.publish(() => ({ ...this.#pacing.figures(), ...sink.figures?.() }));
    sink.onLost?.((error) => {
      this.#loss = error;
      this.#wake.resolve();
    });
    const trouble = new Trouble(context, this.#pause);
    await this.#load();
    while (!this.#stopping.signal.aborted) {
      if (await this.#pacing.untilAllowed()) trouble.connecting();
      if (this.#stopping.signal.aborted) break;
      const failure = await this.#session(trouble, () => connected.set(1));
      connected.set(0);
      const ill = await failureOf(sink.close());
      if (ill !== null) context.log.debug(`Sink ${context.name} did not close: ${ill.message}`);
      if (failure !== null) {
        this.#pacing.calm();
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
      this.#passed(stream);
      if (this.#backlog.lag(stream) === 0) continue;
      const { seq } = this.#progress.confirmed(stream);
      const oldest = await this.#parts.journal.read(stream, seq, 1, 1).catch(() => null);
      this.#passed(stream, oldest?.events[0]?.receivedAt);
    }
  }

  /** One connection of the sink. Ends with a failure, or with null: stopped, not its hours, the cursor was moved. */
  async #session(trouble: Trouble, opened: () => void): Promise<HoldfastError | null> {
    const failure = await this.#open();
    if (failure !== null || this.#stopping.signal.aborted || this.#progress.hasMoved) {
      return this.#stopping.signal.aborted ? null : failure;
    }
    opened();
    if (!trouble.needsProof || this.#backlog.total() === 0) trouble.over();
    this.#reader.begin(this.#progress.positions());
    let ahead = this.#reader.next();
    for (;;) {
      this.#wake = Promise.withResolvers();
      const batch = await ahead;
      if (this.#stopping.signal.aborted || this.#progress.hasMoved) return null;
      if (this.#loss !== null) return this.#loss;
      if (batch instanceof HoldfastError) return batch;
      if (!this.#pacing.isAllowed()) return null;
      if (batch === null) {
        if (this.#reader.dueMs !== null || !this.#reader.hasMore())
          await this.#pacing.rest(this.#reader, this.#wake);
        ahead = this.#reader.next();
        continue;
      }
      ahead = this.#reader.next();
      await this.#pacing.untilAffordable();
      const { settled, failure } = await this.#deliver(batch);
      if (settled > 0) trouble.over();
      if (settled === batch.events.length && failure === undefined) continue;
      // What was read ahead does not follow on what was settled.
      await ahead;
      if (failure !== undefined) return failure;
      this.#reader.begin(this.#progress.positions());
      ahead = this.#reader.next();
    }
  }

  async #open(): Promise<HoldfastError | null> {
    const { sink, streams } = this.#parts;
    this.#loss = null;
    this.#head = null;
    const positions = new Map(streams.map((name) => [name, this.#progress.asKnown(name)]));
    const failure = await failureOf(sink.open(positions, this.#stopping.signal));
    if (failure !== null) return failure;
    const progress = this.#progress;
    const disagreement = await failureOf(agree({ ...this.#parts, progress }));
    if (disagreement !== null) return disagreement;
    for (const stream of streams) {
      this.#passed(stream);
      sink.durable?.(stream, progress.durable(stream));
    }
    return failureOf(this.#reader.split(progress.positions()));
  }

  async #deliver(batch: Ahead): Promise<SendResult> {
    const { sink, journal, device, formats, context } = this.#parts;
    const { lane, stream, after, to, trimmedTo } = batch;
    const isOwn = ({ headers }: StoredEvent): boolean => isFor(context.name, headers);
    if (!batch.events.some(isOwn)) {
      if (batch.events.length === 0) this.#countTrimmed(stream, after, trimmedTo ?? to);
      await this.#settle(stream, after, to, undefined);
      return { settled: 0, refused: [] };
    }
    const format = formats.get(stream);
    const given = { device, stream, events: batch.events, after, backfill: lane === "backlog" };
    const read = { ...given, ...(format !== undefined && { format }) };
    const sent = await announced(read, { sink, journal, progress: this.#progress, isOwn });
    if (!("batch" in sent)) return sent;
    const { events } = sent.batch;
    const beganMs = context.clock.monotonicMs();
    this.#figures.count("sent", events.length);
    const result = await sink
      .send(sent.batch, this.#aborting.signal)
      .catch((error: unknown): SendResult => {
        if (!(error instanceof HoldfastError)) throw error;
        return { settled: 0, refused: [], failure: error };
      });
    const bytes = result.wireBytes ?? events.reduce((sum, { payload }) => sum + payload.length, 0);
    this.#pacing.spent(bytes);
    if (result.settled === 0 && result.failure !== undefined) this.#reader.failed();
    else this.#reader.sent(lane, bytes, context.clock.monotonicMs() - beganMs);
    this.#figures.sent(result);
    if (result.settled > 0) await this.#settleSent({ ...batch, events }, sent.others, result);
    this.#figures.count("retried", events.length - result.settled);
    const head = events[result.settled];
    const before = events[result.settled - 1]?.seq ?? after;
    this.#head = head === undefined ? null : { event: head, after: before };
    return result;
  }

  /** `others`: read with the batch, and not for this sink. */
  async #settleSent(
    batch: Ahead,
    others: readonly StoredEvent[],
    { settled, refused, mark }: SendResult,
  ): Promise<void> {
    const { context } = this.#parts;
    const { stream, after, trimmedTo } = batch;
    const events = batch.events.slice(0, settled);
    const { seq, receivedAt } = events.at(-1) as StoredEvent;
    const now = context.clock.wallMs();
    const letters = refused.map(({ index, error }) => {
      const event = events[index] as StoredEvent;
      return deadLetterOf("sink", context.name, stream, event.seq, event, error, 1, now, now);
    });
    if (trimmedTo !== null) this.#countTrimmed(stream, after, trimmedTo);
    const from = events[0]?.seq ?? seq;
    const holes =
      holesIn(events) - others.filter((each) => each.seq > from && each.seq < seq).length;
    this.#passedOver.say(stream, from, seq, holes);
    this.#figures.count("trimmed", holes);
    this.#figures.count("delivered", events.length - letters.length);
    this.#figures.count("refused", letters.length);
    // Behind the last event of the lane's stretch there may be nothing any more.
    const to = settled === batch.events.length ? Math.max(batch.to, seq) : seq;
    await this.#settle(stream, after, to, mark, letters, receivedAt);
  }

  async #settle(
    stream: string,
    after: number,
    to: number,
    mark: string | undefined,
    letters: Parameters<Progress["settle"]>[4] = [],
    receivedAt?: number,
  ): Promise<void> {
    const settling = this.#progress.settle(stream, after, to, mark, letters);
    this.#passed(stream, this.#progress.confirmed(stream).seq === to ? receivedAt : undefined);
    await settling;
  }

  #passed(stream: string, receivedAt?: number): void {
    const at = this.#progress.confirmed(stream);
    this.#backlog.pass(stream, at.seq, settledBeyond(at), receivedAt);
  }

  #countTrimmed(stream: string, after: number, to: number): void {
    this.#passedOver.say(stream, after + 1, to, to - after);
    this.#figures.count("trimmed", to - after);
  }

  /** The sink refuses its head event as a whole: it becomes a dead letter, and the rest goes on. */
  async #giveUp(failure: HoldfastError, trouble: Trouble): Promise<void> {
    const { context } = this.#parts;
    if (this.#head === null) return;
    const { event, after } = this.#head;
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
    this.#figures.count("refused", 1);
    await this.#settle(stream, after, seq, undefined, [letter], receivedAt);
    trouble.over();
  }
}
