/**
 * The plane of an agent that may have a server: processors read from the server while it answers, from memory while
 * it does not.
 *
 *   open ── an answer within 3 s ──► server ◄── it answers, after a pause ──┐
 *    │                                 │ no answer, or takes nothing, 2 s   │
 *    └── none ──► memory ◄─────────────┴────────────────────────────────────┘
 *
 * Both are projections of the journal, so a change of plane is nothing but `behind` for readers, who attach where
 * their cursor stands, and `anew` for the projection. Nothing is carried over, lost or doubled.
 *
 * A stream whose key on the server is somebody else's is read from memory, for itself; health says so, and it is tried
 * again each 30 s.
 *
 * Bounds: those of its two planes, of which one is empty, and a probe each 500 ms. A server that is away is looked for
 * each 5 s at the longest; one that comes and goes is returned to after a pause that doubles from 1 s to 60 s, until it
 * has stayed for as long as that.
 */
import { unlessAborted } from "../core/abort.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import { backoffDelayMs, type BackoffOptions } from "../core/backoff.ts";
import type { MemoryPlane } from "./memory.ts";
import type { Plane } from "./plane.ts";

/** A plane at a server. */
export interface ServerPlane extends Plane {
  readonly description: string;
  /** @throws HoldfastError when it does not answer */
  probe(): Promise<void>;
}

/** Where the server comes from, if it is the agent's own. */
export interface OwnServer {
  /** Resolves once it takes connections. May be called again. @throws HoldfastError PLANE_UNAVAILABLE */
  start(): Promise<void>;
  /** It does not answer, and its process still runs. */
  restart(): void;
  stop(): Promise<void>;
}

export interface SwitchingParts {
  readonly context: Context;
  readonly server: ServerPlane;
  readonly own: OwnServer | null;
  readonly memory: MemoryPlane;
}

/** How long the start of the agent waits for the server, ms. */
const openMs = 3_000;
const probeMs = 500;
/** How long the server may be silent before memory takes its place, ms. */
const graceMs = 2_000;
/** A server of our own that is silent for so long is ended and started again, ms. */
const hungMs = 30_000;
const refusedRetryMs = 30_000;
/** After the server has failed us: it may do so again. */
const returnPace = { baseMs: 1_000, maxMs: 60_000 };
/** While it is not there. */
const absentPace = { baseMs: 500, maxMs: 5_000 };

export class SwitchingPlane implements Plane {
  readonly #parts: SwitchingParts;
  readonly #stopping = new AbortController();
  #isOnServer = false;
  /** Since when the server has not answered, or has taken nothing; null: it does. */
  #silentSince: number | null = null;
  #fullSince: number | null = null;
  #why = "";
  /** When it came to where it is. */
  #since = 0;
  /** How often it has left the server without having stayed. */
  #falls = 0;
  /** Streams that the server keeps something else under, with the journal's head when that was told. */
  readonly #refused = new Map<string, { readonly why: string; readonly head: number }>();
  #onAnew: () => void = () => undefined;
  #watching: Promise<void> | undefined;

  constructor(parts: SwitchingParts) {
    this.#parts = parts;
  }

  get isOnServer(): boolean {
    return this.#isOnServer;
  }

  /** Never fails: memory is always to be had. */
  async open(): Promise<void> {
    const { context, server } = this.#parts;
    server.onAnew(() => this.#onAnew());
    try {
      await this.#connect();
      this.#enter(true);
      context.log.info(`Processors read from Valkey at ${server.description}`);
    } catch (thrown) {
      await server.close();
      if (this.#stopping.signal.aborted) return;
      this.#why = messageOf(thrown);
      this.#enter(false);
      context.log.warn(`Processors read from memory: ${this.#why}`);
    }
    this.#watching = this.#watch();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
    await this.#parts.server.close();
    await this.#parts.memory.close();
    await this.#parts.own?.stop();
  }

  onAnew(listener: () => void): void {
    this.#onAnew = listener;
  }

  async resume(stream: string, head: number): Promise<number | null> {
    if (this.#isOnServer && !this.#refused.has(stream)) {
      try {
        return await this.#at(stream, (plane) => plane.resume(stream, head), head);
      } catch (thrown) {
        if (!this.#refused.has(stream)) throw thrown;
      }
    }
    return this.#parts.memory.resume(stream, head);
  }

  async append(stream: string, events: readonly StoredEvent[]): Promise<void> {
    const head = events.at(-1)?.seq ?? 0;
    const isOnServer = this.#planeOf(stream) === this.#parts.server;
    try {
      await this.#at(stream, (plane) => plane.append(stream, events), head);
      if (isOnServer) this.#fullSince = null;
    } catch (thrown) {
      if (isOnServer) this.#fullSince ??= this.#nowMs();
      this.#why = messageOf(thrown);
      throw thrown;
    }
  }

  attach(stream: string, group: string, after: number): Promise<void> {
    return this.#at(stream, (plane) => plane.attach(stream, group, after), after);
  }

  read(
    stream: string,
    group: string,
    maxEvents: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<readonly StoredEvent[] | "behind"> {
    return this.#at(stream, (plane) => plane.read(stream, group, maxEvents, waitMs, signal), 0);
  }

  acknowledge(stream: string, group: string, seq: number): Promise<void> {
    return this.#at(stream, (plane) => plane.acknowledge(stream, group, seq), seq);
  }

  #planeOf(stream: string): Plane {
    const { server, memory } = this.#parts;
    return this.#isOnServer && !this.#refused.has(stream) ? server : memory;
  }

  /** Asks the stream's plane, and learns of a key that is not ours. */
  async #at<T>(stream: string, work: (plane: Plane) => Promise<T>, head: number): Promise<T> {
    try {
      return await work(this.#planeOf(stream));
    } catch (thrown) {
      if (thrown instanceof HoldfastError && thrown.code === "STREAM_INVALID") {
        this.#refuse(stream, head, thrown.message);
      }
      throw thrown;
    }
  }

  #refuse(stream: string, head: number, why: string): void {
    const { log } = this.#parts.context;
    if (!this.#refused.has(stream)) log.warn(`Stream ${stream} is read from memory: ${why}`);
    this.#refused.set(stream, { why, head });
    this.#report();
    this.#onAnew();
  }

  async #watch(): Promise<void> {
    const { clock } = this.#parts.context;
    const { signal } = this.#stopping;
    let triedRefusedMs = this.#nowMs();
    let retryAtMs = 0;
    let absences = 0;
    const pauseMs = (pace: BackoffOptions, attempt: number): number =>
      backoffDelayMs(pace, attempt, this.#parts.context.random());
    while (!signal.aborted) {
      await clock.sleep(probeMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      if (!this.#isOnServer) {
        if (this.#nowMs() < retryAtMs) continue;
        absences = (await this.#return()) ? 0 : absences + 1;
        if (absences > 0) retryAtMs = this.#nowMs() + pauseMs(absentPace, absences);
        continue;
      }
      await this.#probe();
      if (this.#isTooLong(this.#silentSince) || this.#isTooLong(this.#fullSince)) {
        await this.#fall();
        retryAtMs = this.#nowMs() + pauseMs(returnPace, this.#falls);
      }
      if (this.#refused.size > 0 && this.#nowMs() - triedRefusedMs >= refusedRetryMs) {
        triedRefusedMs = this.#nowMs();
        await this.#tryRefused();
      }
    }
  }

  async #probe(): Promise<void> {
    try {
      await this.#parts.server.probe();
      this.#silentSince = null;
    } catch (thrown) {
      this.#silentSince ??= this.#nowMs();
      this.#why = messageOf(thrown);
    }
  }

  #isTooLong(since: number | null): boolean {
    return since !== null && this.#nowMs() - since >= graceMs;
  }

  /** From the server to memory. */
  async #fall(): Promise<void> {
    const { context, server } = this.#parts;
    this.#falls = this.#nowMs() - this.#since > returnPace.maxMs ? 1 : this.#falls + 1;
    context.log.warn(`Processors go on from memory: ${this.#why}`);
    // Before it is closed: who is woken by that asks memory.
    this.#enter(false);
    await server.close();
    this.#onAnew();
  }

  /** From memory to the server; false: it is not there. */
  async #return(): Promise<boolean> {
    const { context, own, server, memory } = this.#parts;
    try {
      await this.#connect();
    } catch (thrown) {
      await server.close();
      if (this.#stopping.signal.aborted) return false;
      if (messageOf(thrown) !== this.#why) context.log.info(`No Valkey yet: ${messageOf(thrown)}`);
      this.#why = messageOf(thrown);
      this.#report();
      this.#silentSince ??= this.#nowMs();
      if (own !== null && this.#nowMs() - this.#silentSince >= hungMs) {
        own.restart();
        this.#silentSince = this.#nowMs();
      }
      return false;
    }
    context.log.info(`Processors read from Valkey at ${server.description} again`);
    this.#enter(true);
    await memory.close();
    this.#onAnew();
    return true;
  }

  #enter(isOnServer: boolean): void {
    this.#isOnServer = isOnServer;
    this.#since = this.#nowMs();
    [this.#silentSince, this.#fullSince] = [null, null];
    this.#refused.clear();
    this.#report();
  }

  async #connect(): Promise<void> {
    const { context, own, server } = this.#parts;
    let cancel = (): void => undefined;
    const late = new Promise<never>((_resolve, reject) => {
      const why = `Valkey at ${server.description} does not answer within ${openMs} ms`;
      const timer = context.clock.after(openMs, () => {
        reject(new HoldfastError("PLANE_UNAVAILABLE", why));
      });
      cancel = () => timer.cancel();
    });
    let isLate = false;
    const opening = (async () => {
      await own?.start();
      if (isLate) return;
      await server.open();
      await server.probe();
    })();
    try {
      await unlessAborted(Promise.race([opening, late]), this.#stopping.signal);
    } finally {
      isLate = true;
      cancel();
    }
  }

  async #tryRefused(): Promise<void> {
    for (const [stream, { head }] of this.#refused) {
      try {
        await this.#parts.server.resume(stream, head);
        this.#refused.delete(stream);
        this.#report();
        this.#onAnew();
      } catch (thrown) {
        this.#parts.context.log.debug(`Stream ${stream} stays in memory: ${messageOf(thrown)}`);
      }
    }
  }

  #report(): void {
    const { context } = this.#parts;
    const { health, metrics } = context;
    metrics.gauge("holdfast_plane_connected", {}).set(this.#isOnServer ? 1 : 0);
    metrics.gauge("holdfast_plane_info", { kind: "valkey" }).set(this.#isOnServer ? 1 : 0);
    metrics.gauge("holdfast_plane_info", { kind: "memory" }).set(this.#isOnServer ? 0 : 1);
    if (!this.#isOnServer) {
      health.report("degraded", `Processors read from memory, nothing is lost: ${this.#why}`);
      return;
    }
    const [stream, refusal] = [...this.#refused][0] ?? [];
    if (refusal === undefined) health.report("ok");
    else health.report("degraded", `Stream ${stream} is read from memory: ${refusal.why}`);
  }

  #nowMs(): number {
    return this.#parts.context.clock.monotonicMs();
  }
}
