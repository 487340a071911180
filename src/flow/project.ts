/**
 * Journal to plane: keeps the plane's newest part filled with what is committed to the streams that it wants.
 *
 *   plane.resume(stream, head) ──► from where
 *   onAppended(stream, head) ──► is further than it was projected ──► read a page ──► plane.append ──► again
 *   onAnew ──► every stream is resumed
 *
 * The plane says where a stream begins: at the head, or where it ended before. What is older the readers take from the
 * journal themselves (stream-reader.ts), which is also what they do with anything that this loop leaves out. So nothing
 * depends on it but speed, and it never holds intake up: commits do not wait for it.
 *
 * Bounds: one page in memory (`pageEvents`, `pageBytes`). When it has fallen behind by more than `lagMax` events
 * it leaves out the older ones, since the plane would have evicted them before anybody read them.
 *
 * A crash costs nothing: the plane is filled from there again.
 */
import { backoffDelayMs } from "../core/backoff.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { Journal } from "../journal/journal.ts";
import type { Plane } from "../plane/plane.ts";

/** As many as the largest commit under load brings. */
const pageEvents = 1024;
/** 1 MiB: an eighth of the memory plane. */
const pageBytes = 1024 * 1024;
/** A fifth of what the memory plane holds: further back is the journal's. */
const lagMax = 10_000;
const retryPace = { baseMs: 100, maxMs: 30_000 };

export interface ProjectionParts {
  readonly context: Context;
  readonly journal: Journal;
  readonly plane: Plane;
  /** All that the plane may want. */
  readonly streams: readonly string[];
}

export interface Projection {
  /** After the journal was opened, before the processors start. */
  start(): void;
  /** May be called twice. */
  stop(): Promise<void>;
}

export function createProjection(parts: ProjectionParts): Projection {
  return new Projector(parts);
}

class Projector implements Projection {
  readonly #parts: ProjectionParts;
  /** The last seq that the plane was given, by stream; null: it has to be resumed. */
  readonly #projected = new Map<string, number | null>();
  readonly #stopping = new AbortController();
  #forget: (() => void) | undefined;
  #wake: (() => void) | undefined;
  #onPlane: (() => void) | undefined;
  /** How often the plane was lost. */
  #generation = 0;
  /** Something was appended since the last look. */
  #hasNews = false;
  #loop: Promise<void> | undefined;

  constructor(parts: ProjectionParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#anew();
    this.#parts.plane.onAnew(() => this.#anew());
    this.#forget = this.#parts.journal.onAppended((stream) => {
      if (!this.#projected.has(stream)) return;
      this.#hasNews = true;
      this.#wake?.();
    });
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#forget?.();
    this.#stopping.abort();
    this.#wake?.();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { context } = this.#parts;
    let failures = 0;
    context.health.report("ok");
    while (!this.#stopping.signal.aborted) {
      try {
        this.#hasNews = false;
        const hasMoved = await this.#turn();
        if (failures > 0) {
          context.log.info("The plane takes events again");
          context.health.report("ok");
        }
        failures = 0;
        if (!hasMoved) await this.#wait();
      } catch (thrown) {
        if (!(thrown instanceof HoldfastError)) throw thrown;
        failures += 1;
        if (failures === 1) context.log.warn("Cannot fill the plane", { reason: thrown.message });
        context.health.report("degraded", `Processors read from the journal: ${thrown.message}`);
        await this.#pause(backoffDelayMs(retryPace, failures, context.random()));
      }
    }
  }

  /** One page for each stream that has moved; false when none has. */
  async #turn(): Promise<boolean> {
    const { journal, plane } = this.#parts;
    let hasMoved = false;
    await this.#resumeAll();
    for (const [stream, projected] of this.#projected) {
      if (this.#stopping.signal.aborted) return false;
      const head = this.#head(stream);
      // One that was lost just now is resumed by the next turn.
      if (projected === null || head <= projected) continue;
      hasMoved = true;
      const after = Math.max(projected, head - lagMax);
      const generation = this.#generation;
      const { events } = await journal.read(stream, after, pageEvents, pageBytes);
      await plane.append(stream, events);
      // It has lost it amid that: what it was given counts no more.
      if (generation !== this.#generation) return true;
      // Nothing to read although the head says so: it was trimmed meanwhile, and who needs it is told by the journal.
      this.#projected.set(stream, events.at(-1)?.seq ?? head);
    }
    return hasMoved;
  }

  /** All at once, so that the heads are those of one moment. */
  async #resumeAll(): Promise<void> {
    const { plane } = this.#parts;
    const generation = this.#generation;
    const lost = [...this.#projected].filter(([, projected]) => projected === null);
    await Promise.all(
      lost.map(async ([stream]) => {
        const from = await plane.resume(stream, this.#head(stream));
        // Unless it was lost again meanwhile. What the plane does not want is never behind.
        if (generation === this.#generation) {
          this.#projected.set(stream, from ?? Number.POSITIVE_INFINITY);
        }
      }),
    );
  }

  #anew(): void {
    this.#generation += 1;
    for (const stream of this.#parts.streams) this.#projected.set(stream, null);
    this.#hasNews = true;
    this.#onPlane?.();
    this.#wake?.();
  }

  #head(stream: string): number {
    return this.#parts.journal.status().streams.get(stream)?.head ?? 0;
  }

  /** Ends early when another plane is there. */
  async #pause(delayMs: number): Promise<void> {
    const pausing = new AbortController();
    const signal = AbortSignal.any([pausing.signal, this.#stopping.signal]);
    this.#onPlane = () => pausing.abort();
    await this.#parts.context.clock.sleep(delayMs, signal).catch(() => undefined);
    this.#onPlane = undefined;
  }

  #wait(): Promise<void> {
    if (this.#hasNews || this.#stopping.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
