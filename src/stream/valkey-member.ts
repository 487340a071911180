/**
 * One worker's place in a consumer group of a Valkey or Redis server.
 *
 * Blocking reads have a connection of their own, so that nothing else waits behind them; with each the group's
 * incarnation is asked for in the same round trip. A group that is gone (deleted, FLUSHALL, a server that came back
 * empty) is made again, which begins a new incarnation.
 */
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import type { GroupProgress } from "../state/state.ts";
import type * as contract from "./backend.ts";
import { MemberName } from "./member-name.ts";
import { settleArguments } from "./valkey-settle.ts";
import {
  isGroupGone,
  type Argument,
  type Reply,
  type ValkeyConnection,
} from "../valkey/connection.ts";
import { deliveriesOf, infoOf, valueOf, waitingOf } from "./valkey-replies.ts";
import { incarnationKey, membersKey, stateKey } from "./valkey-keys.ts";
import { retryKey } from "./topic-names.ts";
import { valuesMax } from "./valkey-scripts.ts";

/** The longest that one blocking read lasts, ms: a connection that is dead is noticed soon after. */
const blockMaxMs = 5_000;
/** Where a blocked read cannot be ended from elsewhere (a cluster, a user who may not) it is kept short instead. */
const shortBlockMs = 500;
/** With `keyField`: entries that may be pending for one member before dealing stops. */
export const heldMax = 5_000;

export interface MemberParts {
  readonly clock: Clock;
  readonly main: ValkeyConnection;
  readonly blocking: ValkeyConnection;
  readonly membership: contract.Membership;
  readonly isCluster: boolean;
  /** Tells members of one process apart. */
  readonly instance: string;
}

export class ValkeyMember implements contract.Member {
  readonly #parts: MemberParts;
  readonly #name: MemberName;
  readonly #retries: string;
  #consumer = "";
  #incarnation = "";
  #generation = "";
  /** With `keyField`: the last own entry seen, and the last that the group was given. */
  #last = "";
  #dealt = "";
  /** The last entry that the group is known to have been given: where it goes on if it is lost and was to begin "now". */
  #known = "";
  /** With `keyField`: it has slots to hand over. */
  #isHandingOver = false;
  #canUnblock = false;
  #isLeft = false;

  constructor(parts: MemberParts) {
    this.#parts = parts;
    const { topic, group, leaseMs } = parts.membership;
    this.#retries = retryKey(group, topic);
    const { main: connection, clock, instance } = parts;
    this.#name = new MemberName({ connection, clock, topic, group, leaseMs, instance });
  }

  get consumer(): string {
    return this.#consumer;
  }

  get incarnation(): string {
    return this.#incarnation;
  }

  async join(): Promise<void> {
    this.#consumer = await this.#name.take(this.#parts.membership.consumer);
    if (!this.#parts.isCluster) {
      // 0 is nobody's: asked only to know whether we may.
      const asked = this.#parts.main.call("CLIENT", "UNBLOCK", 0);
      this.#canUnblock = await asked.then(() => true, isDenied);
    }
    await this.#join();
  }

  async recover(after: string, max: number): Promise<contract.Batch> {
    const { main, membership } = this.#parts;
    if (membership.keyField === undefined) return this.#take([0, max, this.#consumer, after]);
    const keys = [membership.topic, this.#members()];
    await this.#ifGone(main.script("comeBack", keys, [membership.group, this.#consumer]), 0);
    return this.#nothing();
  }

  async reclaim(idleMs: number, max: number): Promise<contract.Batch> {
    if (this.#parts.membership.keyField !== undefined) {
      // Keys are dealt out with what is pending of them: who took an entry by itself would overtake its key. What was
      // dealt out is seen by the next read.
      await this.#ifGone(this.#deal(1, "", Math.ceil(idleMs)), null);
      return this.#nothing();
    }
    return this.#take([Math.ceil(idleMs), max, "", ""]);
  }

  async read(
    max: number,
    waitMs: number,
    signal: AbortSignal,
    fromStart = false,
  ): Promise<contract.Batch> {
    if (signal.aborted) return this.#nothing();
    if (fromStart) this.#last = "";
    try {
      return this.#parts.membership.keyField === undefined
        ? await this.#readShared(max, waitMs, signal)
        : await this.#readDealt(max, waitMs, signal);
    } catch (thrown) {
      if (!isGroupGone(thrown)) throw thrown;
      await this.#join();
      return this.#nothing();
    }
  }

  async renew(ids: readonly string[]): Promise<readonly string[]> {
    const { membership } = this.#parts;
    if (!(await this.#name.renew())) {
      // It was not renewed in time (or the server lost it), and is another process's: what was pending under it too.
      this.#consumer = await this.#name.take(membership.consumer);
      this.#last = "";
      this.#generation = "";
    }
    return this.#renewEntries(ids);
  }

  async handOver(underWay: readonly string[]): Promise<void> {
    const { main, membership } = this.#parts;
    const { topic, group, keyField } = membership;
    if (keyField === undefined) return;
    const args = [group, this.#consumer, keyField, this.#generation, ...underWay];
    await this.#ifGone(main.script("handOver", [topic, this.#members()], args), 0);
  }

  async #renewEntries(ids: readonly string[]): Promise<readonly string[]> {
    const { main, membership } = this.#parts;
    const { topic, group, keyField } = membership;
    const keys = keyField === undefined ? [topic] : [topic, this.#members()];
    const lost: string[] = [];
    for (let at = 0; at < Math.max(1, ids.length); at += 1_000) {
      const slice = ids.slice(at, at + 1_000);
      const args = [group, this.#consumer, membership.leaseMs, ...slice];
      lost.push(
        ...((await this.#ifGone(main.script("renew", keys, args), [])) as Buffer[]).map(String),
      );
    }
    return lost;
  }

  async settle(settlement: contract.Settlement): Promise<contract.SettleResult> {
    const { topic, group } = this.#parts.membership;
    const { keys, args } = settleArguments(await this.#withoutGiants(settlement), {
      topic,
      group,
      consumer: this.#consumer,
      retries: this.#retries,
      nowMs: this.#parts.clock.wallMs(),
    });
    const reply = await this.#ifGone(this.#parts.main.script("settle", keys, args), [0, []]);
    const [code, lost] = reply as [number, Buffer[]];
    return { result: code === 1 ? "settled" : "refused", lost: lost.map(String) };
  }

  async readState(_space: string, key: string): Promise<Uint8Array | null> {
    const { topic, group } = this.#parts.membership;
    const found = (await this.#parts.main.call(
      "HGET",
      stateKey(group, topic),
      key,
    )) as Buffer | null;
    return found === null ? null : valueOf(found, this.#parts.clock.wallMs());
  }

  async progress(max: number): Promise<GroupProgress | null> {
    const { main, membership } = this.#parts;
    const { topic, group } = membership;
    // In this order: what is handed out in between lies beyond, what is acknowledged in between is dealt with.
    const info = await this.#group();
    if (info === null) return null;
    const pending = (await this.#ifGone(
      main.call("XPENDING", topic, group, "-", "+", max + 1),
      [],
    )) as [Buffer][];
    if (pending.length > max) return null;
    return {
      lastDelivered: String(info["last-delivered-id"]),
      pending: pending.map(([id]) => String(id)),
    };
  }

  async prune(deadMs: number): Promise<void> {
    const { main, membership } = this.#parts;
    const args = [membership.group, this.#consumer, deadMs];
    await this.#ifGone(main.script("prune", [membership.topic], args), 0);
  }

  async lag(): Promise<{ waiting: number | null; pending: number }> {
    const { main, membership } = this.#parts;
    const info = await this.#group();
    const topic = infoOf(await this.#ifGone(main.call("XINFO", "STREAM", membership.topic), []));
    return { waiting: waitingOf(topic, info), pending: Number(info?.["pending"] ?? 0) };
  }

  async leave(): Promise<void> {
    if (this.#isLeft) return;
    this.#isLeft = true;
    try {
      if (this.#consumer !== "" && this.#parts.membership.keyField !== undefined) {
        await this.#ifGone(this.#deal(0, "leave"), null);
      }
      await this.#name.release();
    } finally {
      this.#parts.blocking.close();
    }
  }

  async #join(): Promise<void> {
    const { main, membership } = this.#parts;
    const { topic, group, from } = membership;
    const keys = [topic, incarnationKey(group, topic)];
    const known = from === "now" ? this.#known : "";
    const args = [group, startOf(from), crypto.randomUUID(), known];
    const [incarnation, last] = (await main.script("join", keys, args)) as [Buffer, Buffer];
    this.#incarnation = String(incarnation);
    this.#known = String(last);
    this.#last = "";
    this.#generation = "";
  }

  async #readShared(max: number, waitMs: number, signal: AbortSignal): Promise<contract.Batch> {
    const { topic, group } = this.#parts.membership;
    const key = incarnationKey(group, topic);
    const block = waitMs >= 1 ? ["BLOCK", this.#blockMs(waitMs)] : [];
    const read = ["GROUP", group, this.#consumer, "COUNT", max, ...block, "STREAMS", topic, ">"];
    const [found, incarnation] = await this.#unblockable(signal, () =>
      this.#parts.blocking.pair(["XREADGROUP", ...read], ["GET", key]),
    );
    if (incarnation !== null) this.#incarnation = String(incarnation);
    const entries = (found as [Buffer, [Buffer, Buffer[]][]][] | null)?.[0]?.[1] ?? [];
    const deliveries = entries.map(([id, fields]) => ({
      id: String(id),
      fields,
      deliveries: 1,
      failures: 0,
    }));
    this.#known = deliveries.at(-1)?.id ?? this.#known;
    return { ...this.#nothing(), deliveries };
  }

  async #readDealt(max: number, waitMs: number, signal: AbortSignal): Promise<contract.Batch> {
    if (this.#isHandingOver) await this.#pause(waitMs, signal);
    const batch = await this.#dealOut(max);
    const { deliveries, dealtAnew, isHandingOver } = batch;
    if (deliveries.length > 0 || dealtAnew || isHandingOver) return batch;
    if (waitMs < 1 || signal.aborted) return batch;
    const { blocking, membership } = this.#parts;
    if (this.#dealt === "") await this.#pause(waitMs, signal);
    else {
      const read = ["COUNT", 1, "BLOCK", this.#blockMs(waitMs), "STREAMS", membership.topic];
      await this.#unblockable(signal, () => blocking.call("XREAD", ...read, this.#dealt));
    }
    return signal.aborted ? batch : this.#dealOut(max);
  }

  /** Some member has as much as it may, or a slot is to be handed over: no new entry tells when to look again. */
  async #pause(waitMs: number, signal: AbortSignal): Promise<void> {
    await this.#parts.clock.sleep(Math.min(waitMs, 50), signal).catch(() => undefined);
  }

  async #dealOut(max: number): Promise<contract.Batch> {
    const reply = (await this.#deal(max, "")) as [Buffer, Buffer, Buffer, Buffer, Reply[]];
    const [incarnation, generation, last, busy, rows] = reply;
    // A key that was evicted is no other life of the group.
    const current = String(incarnation) || this.#incarnation;
    const isOther = this.#incarnation !== current;
    const isSame = this.#generation === String(generation);
    this.#isHandingOver = String(busy) === "handing over";
    const dealtAnew = isOther || !isSame;
    this.#incarnation = current;
    // Another member made the group anew, and counts as far by now: what was found lies behind the last entry of the old
    // one, which the new one may not have reached. The next read is from the start.
    const isStale = isOther && isSame;
    this.#generation = isStale ? "" : String(generation);
    this.#dealt = busy.length > 0 ? "" : String(last);
    this.#known = String(last) || this.#known;
    const deliveries = isStale ? [] : deliveriesOf(rows);
    this.#last = deliveries.at(-1)?.id ?? (isOther || !isSame ? "" : this.#last);
    return { ...this.#nothing(), deliveries, dealtAnew, isHandingOver: this.#isHandingOver };
  }

  #deal(max: number, leave: "" | "leave", foreignMs: number | "" = ""): Promise<Reply> {
    const { main, membership } = this.#parts;
    const { topic, group, keyField = "", leaseMs } = membership;
    const keys = [topic, this.#retries, this.#members(), incarnationKey(group, topic)];
    const known = [this.#last, heldMax, this.#generation, leave, foreignMs];
    return main.script("deal", keys, [group, this.#consumer, max, keyField, leaseMs, ...known]);
  }

  async #take(args: readonly Argument[]): Promise<contract.Batch> {
    const { main, membership } = this.#parts;
    const keys = [membership.topic, this.#retries];
    const taken = main.script("take", keys, [membership.group, this.#consumer, ...args]);
    const rows = (await this.#ifGone(taken, [])) as Reply[];
    return { ...this.#nothing(), deliveries: deliveriesOf(rows) };
  }

  /** A read that ends without an answer when the signal comes, and takes nothing then. */
  async #unblockable<T>(signal: AbortSignal, read: () => Promise<T>): Promise<T> {
    const { blocking, main } = this.#parts;
    if (!this.#canUnblock) return read();
    const identity = blocking.identity();
    identity.catch(() => undefined);
    const reading = read();
    const unblock = (): void => {
      void identity.then((id) => main.call("CLIENT", "UNBLOCK", id)).catch(() => undefined);
    };
    signal.addEventListener("abort", unblock, { once: true });
    try {
      return await reading;
    } finally {
      signal.removeEventListener("abort", unblock);
    }
  }

  /**
   * What has more fields than a script can write (PSPF's may) is moved in two steps: a crash between them leaves its
   * dead letter twice.
   */
  async #withoutGiants(settlement: contract.Settlement): Promise<contract.Settlement> {
    const { main } = this.#parts;
    const giants = settlement.moved.filter(({ fields }) => fields.length > valuesMax);
    if (giants.length === 0) return settlement;
    const lost = new Set(await this.#renewEntries(giants.map(({ id }) => id)));
    for (const { id, topic, fields } of giants) {
      if (!lost.has(id)) await main.call("XADD", topic, "*", ...fields);
    }
    const moved = settlement.moved.filter(({ fields }) => fields.length <= valuesMax);
    return { ...settlement, moved, done: [...settlement.done, ...giants.map(({ id }) => id)] };
  }

  async #group(): Promise<Record<string, Reply> | null> {
    const { main, membership } = this.#parts;
    const groups = (await this.#ifGone(
      main.call("XINFO", "GROUPS", membership.topic),
      [],
    )) as Reply[];
    const all = groups.map(infoOf);
    return all.find((info) => String(info["name"]) === membership.group) ?? null;
  }

  /** What a group that is gone answers; it is made again by the next read. */
  async #ifGone(asked: Promise<Reply>, otherwise: Reply): Promise<Reply> {
    try {
      return await asked;
    } catch (thrown) {
      if (isGroupGone(thrown) || isKeyGone(thrown)) return otherwise;
      throw thrown;
    }
  }

  #nothing(): contract.Batch {
    const incarnation = this.#incarnation;
    return { incarnation, deliveries: [], dealtAnew: false, isHandingOver: false };
  }

  #blockMs(waitMs: number): number {
    const most = this.#canUnblock ? blockMaxMs : shortBlockMs;
    return Math.max(1, Math.min(most, Math.ceil(waitMs)));
  }

  #members(): string {
    return membersKey(this.#parts.membership.group, this.#parts.membership.topic);
  }
}

function isKeyGone(thrown: unknown): boolean {
  return thrown instanceof HoldfastError && thrown.message.includes("no such key");
}

/** False where we may not; what else went wrong is the caller's. */
function isDenied(thrown: unknown): false {
  if (thrown instanceof HoldfastError && thrown.code === "STREAM_DENIED") return false;
  throw thrown;
}

/** The ID behind which a new group begins. */
function startOf(from: contract.Membership["from"]): string {
  if (from === "start") return "0";
  if (from === "now") return "$";
  return from < 1 ? "0" : `${Math.floor(from) - 1}-18446744073709551615`;
}
