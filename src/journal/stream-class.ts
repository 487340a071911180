/** What a stream is worth when there is no room: its options, with the journal's where it has none of its own. */
import { gapsStream } from "./journal.ts";
import { priorityDefault, type WhenFull, type WorkerSetup } from "./protocol.ts";
import type { ThinRule } from "./thinning.ts";

export interface StreamClass {
  readonly priority: number;
  /** `never`: what tells of drops is not dropped. */
  readonly whenFull: WhenFull | "never";
  readonly thin: ThinRule;
  readonly maxBytes: number;
  /** Its time to live, which drops; null: it has none. */
  readonly maxAgeMs: number | null;
  /** What every group has passed is kept so long for replay. */
  readonly replayMs: number;
}

/** A minute is what dashboards show of a day. */
const thinDefaultMs = 60_000;
/** Chunks of thinned events span no more than this share of their time to live, which ends for a chunk at once. */
const spanShare = 1 / 8;

export class StreamClasses {
  readonly #setup: WorkerSetup;
  readonly #classes = new Map<string, StreamClass>();
  /** The highest priority that any stream was given. */
  readonly highest: number;

  constructor(setup: WorkerSetup) {
    this.#setup = setup;
    const given = [...setup.streams.values()].map(({ priority }) => priority ?? priorityDefault);
    this.highest = Math.max(priorityDefault, ...given);
  }

  of(stream: string): StreamClass {
    const known = this.#classes.get(stream);
    if (known !== undefined) return known;
    const { maxAgeMs, dropOldest, streams } = this.#setup;
    const quota = streams.get(stream) ?? {};
    const ageMs = quota.maxAgeMs ?? null;
    const isOurs = stream === gapsStream;
    const made: StreamClass = {
      priority: isOurs ? Number.POSITIVE_INFINITY : (quota.priority ?? priorityDefault),
      whenFull: isOurs ? "never" : (quota.whenFull ?? (dropOldest ? "drop-oldest" : "reject")),
      thin: {
        intervalMs: quota.thinMs ?? thinDefaultMs,
        spanMs: ageMs === null ? Number.POSITIVE_INFINITY : ageMs * spanShare,
      },
      maxBytes: isOurs ? Number.POSITIVE_INFINITY : (quota.maxBytes ?? Number.POSITIVE_INFINITY),
      maxAgeMs: isOurs ? null : ageMs,
      replayMs: ageMs ?? maxAgeMs,
    };
    this.#classes.set(stream, made);
    return made;
  }
}
