/**
 * Steps for code: what stands under `steps` in a configuration, written the same way, run on events that one hands over.
 *
 *   const steps = new Steps([{ filter: "payload.n > 1" }, { window: { tumbling: "1m" } }]);
 *   for (const { payload } of steps.process({ payload: { n: 2 }, time: 1000 }).events) …
 *
 * What the steps remember is in memory; `changes` and `load` are for who keeps it. An event that a step throws on has
 * left nothing. Or as the handler of a `Stream`, whose state keeps it:
 *
 *   readings.subscribe(steps.handler("readings.1m"));
 */
import { systemClock, type Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import { noHeaders } from "../core/event.ts";
import { createChain, type ChainParts } from "./chain.ts";
import { keyedHandler, type KeyedHandler } from "./keyed-steps.ts";
import { stepOptions, type StepSettings } from "./kinds.ts";
import type { Chain, ChainOutcome, ChainWrite, Event } from "./processor.ts";

export interface StepsOptions {
  readonly clock?: Clock;
  readonly log?: Log;
  /** What the paths of tables are relative to. */
  readonly baseDir?: string;
}

export interface StepsOutcome {
  readonly events: readonly Event[];
  /** What goes elsewhere: late events into `STREAM-late`. */
  readonly aside: readonly { readonly stream: string; readonly event: Event }[];
  /** Events made of many that a later step could not deal with. */
  readonly refused: readonly { readonly event: Event; readonly error: HoldfastError }[];
}

/** An event as far as one knows it; without a time it is now. */
export type GivenEvent = Partial<Event> & Pick<Event, "payload">;

const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export class Steps {
  readonly #settings: readonly StepSettings[];
  readonly #parts: ChainParts;
  readonly #chain: Chain;
  readonly #clock: Clock;
  #seq = 0;

  /** @throws HoldfastError CONFIG_INVALID when a step cannot be meant */
  constructor(steps: readonly Readonly<Record<string, unknown>>[], options: StepsOptions = {}) {
    const { clock = systemClock(() => "synced"), log = silentLog, baseDir = "." } = options;
    this.#settings = steps.map((step, index) => {
      const [error, value] = stepOptions.struct.validate(step, { coerce: true });
      if (error === undefined) return value;
      const [failure] = error.failures();
      const path = [index, ...(failure?.path ?? [])].join(".");
      const why = `Step ${path}: ${failure?.message ?? error.message}`;
      throw new HoldfastError("CONFIG_INVALID", why, { cause: error });
    });
    this.#clock = clock;
    this.#parts = { name: "steps", clock, log, baseDir };
    this.#chain = createChain(this.#settings, this.#parts);
  }

  /** Reads tables of `enrich`; without those it need not be called. */
  open(): Promise<void> {
    return this.#chain.open();
  }

  close(): void {
    this.#chain.close();
  }

  /**
   * What `Stream.subscribe` takes: what the steps let through is emitted into `to`, late events into `TOPIC-late`, what
   * a later step cannot deal with of many events' making into `TO-refused`. Each key by itself (keyed-steps.ts), and
   * apart from what `process` has seen.
   */
  handler(to: string): KeyedHandler {
    return keyedHandler(createChain(this.#settings, this.#parts), to);
  }

  /** @throws HoldfastError when a step cannot deal with the event */
  process(given: GivenEvent): StepsOutcome {
    const receivedAt = this.#clock.wallMs();
    const standard = { stream: "in", key: null, time: receivedAt, receivedAt, headers: noHeaders };
    this.#seq += 1;
    return this.#kept(() => this.#chain.process({ ...standard, seq: this.#seq, ...given }));
  }

  /** How long `stream` must be silent for `silence` to have something to do, ms; null: it has nothing. */
  idleAfterMs(stream = "in"): number | null {
    return this.#chain.idleAfterMs(stream);
  }

  /** `stream` has been silent that long: windows that are open are over. */
  silence(stream = "in"): StepsOutcome {
    return this.#kept(() => this.#chain.idle(stream));
  }

  /** What the steps remember and have not told yet; null: it is gone. */
  changes(): readonly ChainWrite[] {
    return this.#chain.takeWrites();
  }

  /** All that `changes` has told, key by key, to steps that were made the same way. */
  load(
    rows: readonly { readonly space: string; readonly key: string; readonly value: Uint8Array }[],
  ): void {
    this.#chain.clear();
    for (const { space, ...row } of rows) this.#chain.load(space, [row]);
    this.#chain.loaded();
  }

  #kept(act: () => ChainOutcome): StepsOutcome {
    try {
      const { passed, emits, refused } = act();
      this.#chain.keep();
      return { events: passed.map(({ event }) => event), aside: emits, refused };
    } catch (thrown) {
      this.#chain.undo();
      throw thrown;
    }
  }
}
