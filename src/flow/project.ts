/**
 * Journal to plane: keeps the plane's newest part filled with what is committed to the streams that processors read.
 *
 *   onAppended(stream, head) ──► is further than it was projected ──► read a page ──► plane.append ──► again
 *
 * It begins at the head that it finds: what is older the readers take from the journal themselves
 * (stream-reader.ts), which is also what they do with anything that this loop leaves out. So nothing depends on
 * it but speed, and it never holds intake up: commits do not wait for it.
 *
 * Bounds: one page in memory (`pageEvents`, `pageBytes`). When it has fallen behind by more than `lagMax` events
 * it leaves out the older ones, since the plane would have evicted them before anybody read them.
 *
 * A crash costs nothing: the plane is filled from the head again.
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
  /** The streams that processors read. */
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
  /** The last seq that the plane was given, by stream. */
  readonly #projected = new Map<string, number>();
  readonly #stopping = new AbortController();
  #forget: (() => void) | undefined;
  #wake: (() => void) | undefined;
  /** Something was appended since the last look. */
  #hasNews = false;
  #loop: Promise<void> | undefined;

  constructor(parts: ProjectionParts) {
    this.#parts = parts;
  }

  start(): void {
    for (const stream of this.#parts.streams) this.#projected.set(stream, this.#head(stream));
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
        const delayMs = backoffDelayMs(retryPace, failures, context.random());
        await context.clock.sleep(delayMs, this.#stopping.signal).catch(() => undefined);
      }
    }
  }

  /** One page for each stream that has moved; false when none has. */
  async #turn(): Promise<boolean> {
    const { journal, plane } = this.#parts;
    let hasMoved = false;
    for (const [stream, projected] of this.#projected) {
      const head = this.#head(stream);
      if (head <= projected || this.#stopping.signal.aborted) continue;
      hasMoved = true;
      const after = Math.max(projected, head - lagMax);
      const { events } = await journal.read(stream, after, pageEvents, pageBytes);
      await plane.append(stream, events);
      // Nothing to read although the head says so: it was trimmed meanwhile, and who needs it is told by the journal.
      this.#projected.set(stream, events.at(-1)?.seq ?? head);
    }
    return hasMoved;
  }

  #head(stream: string): number {
    return this.#parts.journal.status().streams.get(stream)?.head ?? 0;
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
