/**
 * One subscription's loops: from the group's entries to effects that happen once.
 *
 *   read ──► held ──► batch ──► handler ──► commit ──► settle ──► forgotten
 *              ▲                   │           ├─ repeated: dealt with before (a worker died between commit and settle)
 *              └── waits, back-off ┘           └─ conflict: another worker changed what was read: run again
 *
 * Two loops side by side: one reads ahead, one runs a batch, commits and settles it. Beside them a heartbeat says that
 * what is held is being worked on, takes over what dead workers left, and has positions folded into few ranges.
 *
 * What a crash leaves: before the commit nothing happened, the entries are pending and come back (to this member's name
 * at once, to others when they lay for the handler's time-out). Between commit and settle the store knows them: whoever
 * gets them acknowledges them and runs nothing. Failures are counted at the server.
 *
 * Bounds: held.ts; a batch's effects (state/effects.ts); one commit at a time.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Clock, Timer } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { Batch, Delivery, Member, Settlement } from "./backend.ts";
import { scopeOf, type Committer, type UnitEffects } from "./committer.ts";
import type { Execution, ExecutionOutcome, RunItem } from "./execution.ts";
import { Held, isSuspect, waitingMax, type HeldEntry } from "./held.ts";
import { Patience } from "./patience.ts";
import type { EncodedFields } from "../wire/wire.ts";
import type { WorkerFigures } from "./worker-figures.ts";

export interface WorkerParts {
  readonly topic: string;
  readonly group: string;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: () => number;
  readonly join: () => Promise<Member>;
  readonly committer: Committer;
  readonly execution: Execution;
  readonly figures: WorkerFigures;
  readonly isOrdered: boolean;
  readonly batchMax: number;
  readonly waitMs: number;
  readonly timeoutMs: number;
  readonly leaseMs: number;
  readonly retry: { readonly attempts: number; readonly baseMs: number; readonly maxMs: number };
  readonly onFailure: "dead-letter" | "drop";
  /** An entry as an event. @throws HoldfastError when it is none, or does not fit the schema */
  readonly decode: (delivery: Delivery) => Omit<RunItem, "attempt">;
  readonly deadLetter: (entry: HeldEntry, error: HoldfastError, attempts: number) => EncodedFields;
  readonly lateFields: (entry: HeldEntry) => EncodedFields;
  readonly deadLetterTopic: string;
  readonly lateTopic: string;
}

/** Positions are folded into ranges after so many commits. */
const compactEvery = 50;
/** More pending entries than this and folding waits until there are fewer. */
const pendingMax = 10_000;
/** A member without pending entries that was silent for so long is removed, ms. */
const deadMs = 3_600_000;

export class Worker {
  readonly #parts: WorkerParts;
  readonly #held: Held;
  readonly #reading = new AbortController();
  /** Ends the read that is under way: by key, an answer from before a loss could overtake what is to be given again. */
  #look = new AbortController();
  #isFromStart = false;
  readonly #handlers = new AbortController();
  readonly #end = new AbortController();
  readonly #patience: Patience;
  #member: Member | undefined;
  #wake: (() => void) | undefined;
  #onRoom: (() => void) | undefined;
  #hasReadAll = false;
  #heartbeat: Timer | undefined;
  #beating: Promise<void> = Promise.resolve();
  #beats = 0;
  #commits = 0;
  #loops: Promise<unknown> | undefined;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.#held = new Held(parts.isOrdered);
    this.#patience = new Patience(parts, this.#end.signal);
  }

  /** Joins the group and begins. @throws HoldfastError when it cannot join for a reason that does not pass */
  async start(): Promise<void> {
    const member = await this.#patience.try(() => this.#parts.join());
    if (member === null) return;
    this.#member = member;
    this.#beatLater();
    this.#loops = Promise.all([this.#read(member), this.#run(member)]);
    this.#loops.catch(() => undefined);
  }

  /** Its place in the group, once it has joined. */
  get member(): Member | undefined {
    return this.#member;
  }

  /** Settles when the worker has ended; rejects when it cannot go on. */
  async ended(): Promise<void> {
    await this.#loops;
  }

  /** Reads nothing more, ends and commits what runs, gives its place up. May be called twice. */
  async stop(graceMs: number): Promise<void> {
    const { clock } = this.#parts;
    this.#reading.abort();
    this.#look.abort();
    this.#wake?.();
    this.#onRoom?.();
    const half = clock.after(graceMs / 2, () => this.#handlers.abort());
    const whole = clock.after(graceMs, () => this.#end.abort());
    await this.#loops?.catch(() => undefined);
    this.#heartbeat?.cancel();
    await this.#beating;
    half.cancel();
    whole.cancel();
    await this.#member
      ?.leave()
      .catch((thrown: unknown) => this.#parts.log.debug(messageOf(thrown)));
  }

  async #read(member: Member): Promise<void> {
    const { batchMax, waitMs } = this.#parts;
    let after = "";
    for (;;) {
      const back = await this.#patience.try(() => member.recover(after, batchMax));
      if (back === null || back.deliveries.length === 0) break;
      after = back.deliveries.at(-1)?.id ?? "";
      this.#take(back);
    }
    while (!this.#reading.signal.aborted) {
      const { fresh, waiting } = this.#held.counts();
      const room = waiting >= waitingMax ? 0 : batchMax * 2 - fresh;
      if (room <= 0) {
        await new Promise<void>((resolve) => (this.#onRoom = resolve));
        continue;
      }
      const most = Math.min(room, batchMax);
      const [look, isFromStart] = [this.#look, this.#isFromStart];
      this.#isFromStart = false;
      this.#held.watch();
      const batch = await this.#patience.try(() =>
        member.read(most, Math.max(waitMs, 1_000), look.signal, isFromStart),
      );
      if (batch === null) break;
      if (look !== this.#look) continue;
      if (batch.dealtAnew) this.#held.reset();
      this.#take(batch);
      // Of these keys nothing that is not under way by now can be begun: it is not held any more.
      if (batch.isHandingOver)
        await this.#patience.try(() => member.handOver(this.#held.underWay()));
    }
    this.#hasReadAll = true;
    this.#wake?.();
  }

  /** Of a batch that was committed: what was dealt with before, or is another's now. */
  #gone(ids: readonly string[]): void {
    if (this.#parts.isOrdered) this.#overtaken(ids);
    else for (const id of ids) this.#held.remove(id);
  }

  /**
   * By key: with what is another's goes all that lies behind it, which must not overtake it. What is held is asked for
   * again, in order; the answer to a read that is under way is from before, and not looked at.
   */
  #overtaken(ids: readonly string[]): void {
    if (!ids.some((id) => this.#held.has(id))) return;
    this.#held.reset();
    this.#isFromStart = true;
    this.#look.abort();
    this.#look = new AbortController();
    if (this.#reading.signal.aborted) this.#look.abort();
    this.#onRoom?.();
  }

  #take(batch: Batch): void {
    this.#held.dropOthers(batch.incarnation);
    for (const delivery of batch.deliveries) {
      if (this.#held.knows(delivery.id, batch.incarnation)) continue;
      let item: HeldEntry["item"] = null;
      let unfit: Error | null = null;
      try {
        item = this.#parts.decode(delivery);
      } catch (thrown) {
        unfit = thrown as Error;
      }
      this.#held.add({
        ...delivery,
        incarnation: batch.incarnation,
        item,
        unfit,
        dueMs: 0,
        isRunning: false,
        firstMs: null,
      });
    }
    if (batch.deliveries.length > 0) this.#wake?.();
  }

  async #run(member: Member): Promise<void> {
    const { clock, batchMax } = this.#parts;
    while (!this.#end.signal.aborted && !this.#handlers.signal.aborted) {
      const batch = this.#held.next(clock.monotonicMs(), batchMax);
      // While this batch runs the next is read; one that has failed makes room when it has passed.
      this.#onRoom?.();
      if (batch.length > 0) await this.#batch(member, batch);
      // At the end what is held is done, but nothing is waited for.
      else if (this.#hasReadAll) break;
      else await this.#wait();
    }
  }

  async #batch(member: Member, batch: readonly HeldEntry[]): Promise<void> {
    const { clock, figures } = this.#parts;
    let left = batch;
    try {
      const first = left[0];
      if (first !== undefined && isSuspect(first) && !(await this.#countAhead(member, first)))
        return;
      for (let turns = 0; left.length > 0 && !this.#end.signal.aborted; turns += 1) {
        const startedMs = clock.monotonicMs();
        left.forEach((entry) => (entry.firstMs ??= clock.wallMs()));
        const again = await this.#runOnce(member, left);
        figures.took((clock.monotonicMs() - startedMs) / 1_000);
        if (again === null) break;
        left = again.filter((entry) => this.#held.has(entry.id));
        // Two that meet again and again would go on for ever in step.
        if (turns > 2) await clock.sleep(this.#parts.random() * 20 * turns).catch(() => undefined);
      }
    } finally {
      for (const entry of batch) entry.isRunning = false;
    }
  }

  /** An attempt that may kill this process is counted before it is made. False: the entry is another's now. */
  async #countAhead(member: Member, entry: HeldEntry): Promise<boolean> {
    const failed = [{ id: entry.id, failures: entry.failures + 1 }];
    const told = await this.#patience.try(() => member.settle({ done: [], failed, moved: [] }));
    if (told !== null && told.lost.length === 0) return true;
    this.#gone([entry.id]);
    return false;
  }

  /** Runs and commits; what is to be run again, null when that is nothing. */
  async #runOnce(
    member: Member,
    entries: readonly HeldEntry[],
  ): Promise<readonly HeldEntry[] | null> {
    const fit = entries.filter((entry) => entry.item !== null);
    const items = fit.map((entry) => ({ ...entry.item, attempt: entry.failures + 1 }) as RunItem);
    const { committer, execution, group, topic } = this.#parts;
    const scope = scopeOf(entries[0]?.incarnation ?? "", group, topic);
    const outcome = await execution.run(
      items,
      scope,
      (key) => committer.readState(member, key),
      this.#handlers.signal,
    );
    const settlement = this.#settlementOf(fit, outcome);
    for (const entry of entries)
      if (entry.unfit !== null) this.#refuse(entry, entry.unfit, settlement);
    const effects: UnitEffects = {
      reads: outcome.effects.reads(),
      writes: outcome.effects.writes(),
      emits: outcome.effects.emits,
    };
    const commit = await this.#patience.try(() =>
      committer.commit(member, scope, settlement, effects),
    );
    if (commit === null) return null;
    this.#gone(commit.gone);
    if (commit.again) return entries;
    this.#settled(entries, settlement, outcome);
    if (++this.#commits % compactEvery === 0) await this.#compact(member, scope);
    return null;
  }

  #settlementOf(entries: readonly HeldEntry[], outcome: ExecutionOutcome): MutableSettlement {
    const settlement: MutableSettlement = { done: [], failed: [], moved: [] };
    for (const index of outcome.succeeded) {
      const entry = entries[index];
      if (entry === undefined) continue;
      if (outcome.late.has(index)) {
        const fields = this.#parts.lateFields(entry);
        const topic = this.#parts.lateTopic;
        settlement.moved.push({ id: entry.id, topic, fields, isHandled: true });
      } else settlement.done.push(entry.id);
    }
    for (const { index, error } of outcome.failures) {
      const entry = entries[index];
      if (entry !== undefined) this.#failed(entry, error, settlement);
    }
    return settlement;
  }

  #failed(entry: HeldEntry, error: HoldfastError, settlement: MutableSettlement): void {
    const { retry, clock, random } = this.#parts;
    const attempts = entry.failures + 1;
    const isTransient = error.kind === "transient";
    if (!isTransient && attempts >= retry.attempts) return this.#refuse(entry, error, settlement);
    // A transient one is tried for ever, and counted so that the back-off grows; never past the last attempt but one.
    const failures = isTransient ? Math.min(attempts, retry.attempts - 1) : attempts;
    settlement.failed.push({ id: entry.id, failures });
    entry.dueMs = clock.monotonicMs() + backoffDelayMs(retry, attempts, random());
    this.#parts.figures.failed(error);
  }

  #refuse(entry: HeldEntry, thrown: Error, settlement: MutableSettlement): void {
    const { onFailure, deadLetter, deadLetterTopic, figures } = this.#parts;
    const error =
      thrown instanceof HoldfastError
        ? thrown
        : new HoldfastError("HANDLER_FAILED", messageOf(thrown), { cause: thrown });
    figures.refused(onFailure, error);
    if (onFailure === "drop") return void settlement.done.push(entry.id);
    const fields = deadLetter(entry, error, entry.unfit === null ? entry.failures + 1 : 0);
    settlement.moved.push({ id: entry.id, topic: deadLetterTopic, fields });
  }

  #settled(entries: readonly HeldEntry[], settlement: Settlement, outcome: ExecutionOutcome): void {
    const failures = new Map(settlement.failed.map(({ id, failures: count }) => [id, count]));
    for (const { id } of settlement.moved) this.#held.settle(id);
    for (const id of settlement.done) this.#held.settle(id);
    for (const entry of entries) entry.failures = failures.get(entry.id) ?? entry.failures;
    this.#parts.figures.succeeded(outcome.succeeded.length);
  }

  async #compact(member: Member, scope: string): Promise<void> {
    const { committer } = this.#parts;
    await this.#patience.try(async () => {
      const progress = await member.progress(pendingMax);
      if (progress !== null) await committer.compact(scope, progress);
    });
  }

  #beatLater(): void {
    const { clock, leaseMs } = this.#parts;
    this.#heartbeat = clock.after(leaseMs / 3, () => {
      this.#beating = this.#beat().then(() => {
        if (!this.#end.signal.aborted) this.#beatLater();
      });
    });
  }

  async #beat(): Promise<void> {
    const member = this.#member;
    const { log, timeoutMs, leaseMs, batchMax } = this.#parts;
    if (member === undefined) return;
    this.#beats += 1;
    try {
      const lost = await member.renew(this.#held.ids());
      if (this.#parts.isOrdered) this.#overtaken(lost);
      else this.#held.drop(lost);
      this.#onRoom?.();
      if (this.#reading.signal.aborted) return;
      const { fresh, waiting } = this.#held.counts();
      if (fresh <= batchMax && waiting < waitingMax) {
        this.#take(await member.reclaim(Math.max(timeoutMs, leaseMs), batchMax));
      }
      if (this.#beats % 60 === 0) await member.prune(deadMs);
    } catch (thrown) {
      log.debug("A heartbeat was not answered", { reason: messageOf(thrown) });
    }
  }

  #wait(): Promise<void> {
    const { clock } = this.#parts;
    const dueMs = this.#held.nextDueMs();
    return new Promise((resolve) => {
      const delayMs = dueMs === null ? null : Math.max(1, dueMs - clock.monotonicMs());
      const timer = delayMs === null ? null : clock.after(delayMs, () => this.#wake?.());
      this.#wake = () => {
        this.#wake = undefined;
        timer?.cancel();
        resolve();
      };
    });
  }
}

interface MutableSettlement extends Settlement {
  readonly done: string[];
  readonly failed: { id: string; failures: number }[];
  readonly moved: Settlement["moved"][number][];
}
