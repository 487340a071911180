/** A chain and what keeps its state: what a test puts in comes out, also after a crash. */
import { createChain } from "../../src/processor/chain.ts";
import { stepOptions, type StepSettings } from "../../src/processor/kinds.ts";
import type { Chain, ChainOutcome, Event } from "../../src/processor/processor.ts";
import { FakeClock } from "./fake-clock.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";

/** As one would write it in the file: durations as text, defaults left out. */
export type Written = Readonly<Record<string, unknown>>;

export function settingsOf(steps: readonly Written[]): StepSettings[] {
  return steps.map((step) => {
    const [error, value] = stepOptions.struct.validate(step, { coerce: true });
    if (error !== undefined) throw error;
    return value;
  });
}

export class ChainRun {
  readonly clock = new FakeClock();
  readonly context: RecordingContext = recordingContext("proc", this.clock);
  readonly state = new Map<string, Map<string, Uint8Array>>();
  readonly counts = new Map<string, number>();
  readonly late: Event[] = [];
  readonly refused: ChainOutcome["refused"][number][] = [];
  readonly #settings: readonly StepSettings[];
  readonly #baseDir: string;
  readonly #from: readonly string[];
  chain: Chain;
  #seq = 0;

  /** `from`: the streams that it reads. */
  constructor(steps: readonly Written[], baseDir = ".", from: readonly string[] = ["in"]) {
    this.#settings = settingsOf(steps);
    this.#baseDir = baseDir;
    this.#from = from;
    this.chain = this.#build(this.#settings, from);
  }

  #build(settings: readonly StepSettings[], from: readonly string[]): Chain {
    const { clock, context } = this;
    return createChain(settings, {
      name: "proc",
      from,
      clock,
      log: context.log,
      baseDir: this.#baseDir,
    });
  }

  /** The event is lost to whatever fails behind the chain. */
  failed(given: Partial<Event>): void {
    this.chain.process(this.event(given));
    this.chain.undo();
  }

  /** What comes of one event, kept. */
  put(given: Partial<Event>): Event[] {
    try {
      return this.#kept(this.chain.process(this.event(given)));
    } catch (error) {
      this.chain.undo();
      throw error;
    }
  }

  silence(stream = "in"): Event[] {
    return this.#kept(this.chain.idle(stream));
  }

  payloads(given: Partial<Event>): unknown[] {
    return this.put(given).map(({ payload }) => payload);
  }

  event(given: Partial<Event>): Event {
    this.#seq += 1;
    const time = this.clock.wallMs();
    return {
      stream: "in",
      seq: this.#seq,
      key: null,
      time,
      receivedAt: Math.max(time, given.time ?? time),
      headers: {},
      payload: {},
      ...given,
    };
  }

  /** What was done since the last call is durable. */
  commit(): void {
    for (const { space, key, value } of this.chain.takeWrites()) {
      const rows = this.state.get(space) ?? new Map<string, Uint8Array>();
      this.state.set(space, rows);
      if (value === null) rows.delete(key);
      else rows.set(key, value);
    }
    for (const { step, what, count } of this.chain.takeCounts()) {
      const name = `${step} ${what}`;
      this.counts.set(name, (this.counts.get(name) ?? 0) + count);
    }
  }

  /** Another process, on what was committed; perhaps with other steps, or reading other streams. */
  restart(steps?: readonly Written[], from: readonly string[] = this.#from): void {
    this.chain = this.#build(steps === undefined ? this.#settings : settingsOf(steps), from);
    this.chain.clear();
    for (const space of this.chain.spaces) {
      const rows = [...(this.state.get(space) ?? [])].map(([key, value]) => ({ key, value }));
      this.chain.load(space, rows);
    }
    this.chain.loaded();
  }

  #kept({ passed, emits, refused }: ChainOutcome): Event[] {
    this.late.push(...emits.map(({ event }) => event));
    this.refused.push(...refused);
    this.chain.keep();
    return passed.map(({ event }) => event);
  }
}
