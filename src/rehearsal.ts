/**
 * The processors of a configuration without journal, sources and sinks, on a clock that is driven: what goes in comes out
 * at once, the same way each time. For `holdfast test`.
 *
 * Everything between door and door is the agent's own: what a stream asks of its events, steps, handlers, how an event
 * is tried again. Not rehearsed: the waits between attempts (they take no time), batches (an event each), and what is
 * kept across a restart. What is given is run to its end before the next; a chain of processors that feeds itself ends
 * after `eventsMax`.
 */
import { dirname, resolve } from "node:path";
import type { Config } from "./config/config.ts";
import { systemClock, type Clock } from "./core/clock.ts";
import type { Log } from "./core/context.ts";
import { HoldfastError } from "./core/errors.ts";
import { noHeaders, type Headers, type NewEvent, type StoredEvent } from "./core/event.ts";
import { admit, type StreamRules } from "./flow/admit.ts";
import { decide } from "./flow/decide.ts";
import { createDerive } from "./flow/derive.ts";
import { createChain } from "./processor/chain.ts";
import { loadHandler } from "./processor/handler.ts";
import type { Chain } from "./processor/processor.ts";
import {
  BatchProcessor,
  type BatchOutcome,
  type Gate,
  type SilenceOutcome,
} from "./processor/batch-processor.ts";
import { compileStream, defaultStreamOptions } from "./schema/schema.ts";

/** Of one case: past that its processors feed themselves. */
const eventsMax = 100_000;
/** An event whose handler says `transient` for ever would never end. */
const attemptsMax = 100;

export interface Refusal {
  readonly stream: string;
  readonly code: string;
  readonly reason: string;
  readonly payload: Uint8Array;
}

export interface Rehearsal {
  /** An event at the door of a stream, and all that comes of it. */
  give(stream: string, payload: unknown, headers: Headers): Promise<void>;
  /** Time goes by, and windows close in the silence. */
  advance(ms: number): Promise<void>;
  /** What is in a stream by now. */
  events(stream: string): readonly StoredEvent[];
  refusals(): readonly Refusal[];
  close(): void;
}

interface Part {
  readonly name: string;
  readonly from: readonly string[];
  readonly options: Config["processors"][string];
  readonly chain: Chain;
  readonly processor: BatchProcessor;
  readonly state: Map<string, Uint8Array>;
  /** When each stream was last heard, monotonic ms. */
  readonly heardMs: Map<string, number>;
}

/** @throws HoldfastError as handlers and steps do when they are opened */
export async function createRehearsal(
  config: Config,
  configFile: string,
  startMs: number,
  log: Log,
): Promise<Rehearsal> {
  const clock = drivenClock(startMs);
  const compiled = new Map<string, StreamRules>();
  const rulesOf = (stream: string): StreamRules => {
    const options = config.streams[stream] ?? defaultStreamOptions();
    const rules = compiled.get(stream) ?? compileStream(stream, options);
    compiled.set(stream, rules);
    return rules;
  };
  const parts: Part[] = [];
  for (const [name, options] of Object.entries(config.processors)) {
    parts.push(await createPart(name, options, dirname(resolve(configFile)), clock, log, rulesOf));
  }
  return new Stage(parts, clock, rulesOf);
}

async function createPart(
  name: string,
  options: Config["processors"][string],
  baseDir: string,
  clock: DrivenClock,
  log: Log,
  rulesOf: (stream: string) => StreamRules,
): Promise<Part> {
  const from = [options.from].flat();
  const chain = createChain(options.steps, { name, from, clock, log, baseDir });
  await chain.open();
  const handler =
    options.handler === undefined ? undefined : await loadHandler(options.handler, baseDir);
  const state = new Map<string, Uint8Array>();
  const processor = new BatchProcessor({
    name,
    log,
    // A handler that hangs does so in real time.
    clock: systemClock(() => "synced"),
    chain,
    ...(handler !== undefined && { handler }),
    ...(options.to !== undefined && { to: options.to }),
    timeoutMs: options.timeout,
    wallMs: () => clock.wallMs(),
    state: {
      get: (_space, key) => Promise.resolve(state.get(key) ?? null),
      list: (_space, after, limit) => Promise.resolve(listed(state, after, limit)),
    },
    formatOf: (stream) => rulesOf(stream).format,
    derive: createDerive(rulesOf, clock),
  });
  return { name, from, options, chain, processor, state, heardMs: new Map() };
}

const open: Gate = { admit: () => "run", failed: () => "go-on" };

type Came = Omit<BatchOutcome, "settled" | "succeeded" | "failures">;

class Stage implements Rehearsal {
  readonly #parts: readonly Part[];
  readonly #clock: DrivenClock;
  readonly #rulesOf: (stream: string) => StreamRules;
  readonly #streams = new Map<string, StoredEvent[]>();
  readonly #refusals: Refusal[] = [];
  readonly #waiting: StoredEvent[] = [];
  readonly #never = new AbortController().signal;
  #count = 0;

  constructor(
    parts: readonly Part[],
    clock: DrivenClock,
    rulesOf: (stream: string) => StreamRules,
  ) {
    this.#parts = parts;
    this.#clock = clock;
    this.#rulesOf = rulesOf;
  }

  async give(stream: string, payload: unknown, headers: Headers): Promise<void> {
    const rules = this.#rulesOf(stream);
    const isText = rules.format === "text" && typeof payload === "string";
    const bytes = Buffer.from(isText ? payload : JSON.stringify(payload ?? null));
    const admitted = admit(rules, { headers, payload: bytes }, this.#clock.wallMs());
    if (admitted instanceof HoldfastError) this.#refuse(stream, admitted, bytes);
    else this.#append(stream, admitted);
    await this.#settle();
  }

  async advance(ms: number): Promise<void> {
    const end = this.#clock.monotonicMs() + ms;
    for (;;) {
      const next = this.#nextSilence(end);
      if (next === null) break;
      this.#clock.advanceTo(next.dueMs);
      const outcome = await next.part.processor.runSilence(next.stream, this.#never);
      this.#take(next.part, next.stream, outcome);
      await this.#settle();
    }
    this.#clock.advanceTo(end);
  }

  events(stream: string): readonly StoredEvent[] {
    return this.#streams.get(stream) ?? [];
  }

  refusals(): readonly Refusal[] {
    return this.#refusals;
  }

  close(): void {
    for (const { chain } of this.#parts) chain.close();
  }

  #nextSilence(end: number): { part: Part; stream: string; dueMs: number } | null {
    let next: { part: Part; stream: string; dueMs: number } | null = null;
    for (const part of this.#parts) {
      for (const [stream, heardMs] of part.heardMs) {
        const afterMs = part.chain.idleAfterMs(stream);
        const dueMs = Math.max(this.#clock.monotonicMs(), heardMs + (afterMs ?? Infinity));
        if (dueMs <= (next?.dueMs ?? end)) next = { part, stream, dueMs };
      }
    }
    return next;
  }

  /** Everything that is in a stream and was not read yet goes through whoever reads it. */
  async #settle(): Promise<void> {
    for (let event = this.#waiting.shift(); event !== undefined; event = this.#waiting.shift()) {
      for (const part of this.#parts) {
        if (part.from.includes(event.stream)) await this.#run(part, event);
      }
    }
  }

  async #run(part: Part, event: StoredEvent): Promise<void> {
    const { retry, onFailure } = part.options;
    const policy = {
      attempts: retry.attempts,
      baseMs: retry.backoff,
      maxMs: retry.maxBackoff,
      // What blocks in the agent would block the rehearsal too.
      onFailure: onFailure === "block" ? ("dead-letter" as const) : onFailure,
    };
    part.heardMs.set(event.stream, this.#clock.monotonicMs());
    for (let attempt = 1; ; attempt++) {
      const outcome = await part.processor.run([{ event, attempt }], open, this.#never);
      const error = outcome.failures[0]?.error;
      if (error === undefined) return this.#take(part, event.stream, outcome);
      const decision =
        error.code === "EVENT_MALFORMED" || attempt >= attemptsMax
          ? ({ act: "dead-letter" } as const)
          : decide(error, attempt, policy, 0.5);
      if (decision.act === "stop") throw error;
      if (decision.act === "dead-letter") this.#refuse(event.stream, error, event.payload);
      if (decision.act !== "retry") return;
    }
  }

  #take(part: Part, stream: string, outcome: Came | SilenceOutcome): void {
    if ("error" in outcome) throw outcome.error;
    for (const { space, key, value } of outcome.state) {
      // What steps remember lies in their chain.
      if (space !== part.name) continue;
      if (value === null) part.state.delete(key);
      else part.state.set(key, value);
    }
    for (const { event, error } of outcome.refused) {
      const bytes = Buffer.from(JSON.stringify(event.payload));
      this.#refuse(part.options.to ?? stream, error, bytes);
    }
    for (const emit of outcome.emits) this.#append(emit.stream, emit.event);
  }

  #append(stream: string, event: NewEvent): void {
    if (++this.#count > eventsMax) {
      const why = `One case made more than ${eventsMax} events: its processors feed themselves`;
      throw new HoldfastError("CONFIG_INVALID", why);
    }
    const events = this.#streams.get(stream) ?? [];
    this.#streams.set(stream, events);
    const place = { stream, seq: events.length + 1, epoch: "rehearsal", clock: "synced" } as const;
    const stored = { ...event, ...place };
    events.push(stored);
    this.#waiting.push(stored);
  }

  #refuse(stream: string, { code, message: reason }: HoldfastError, payload: Uint8Array): void {
    this.#refusals.push({ stream, code, reason, payload });
  }
}

function listed(
  state: ReadonlyMap<string, Uint8Array>,
  after: string,
  limit: number,
): { key: string; value: Uint8Array }[] {
  const keys = [...state.keys()].filter((key) => key > after).toSorted();
  return keys.slice(0, limit).map((key) => ({ key, value: state.get(key) ?? new Uint8Array() }));
}

interface DrivenClock extends Clock {
  advanceTo(monotonicMs: number): void;
}

/** It stands still until it is told to go on; nobody waits by it. */
function drivenClock(startMs: number): DrivenClock {
  let nowMs = 0;
  return {
    bootId: "rehearsal",
    wallMs: () => startMs + nowMs,
    monotonicMs: () => nowMs,
    quality: () => "synced",
    after: () => ({ cancel: () => undefined }),
    sleep: () => Promise.resolve(),
    advanceTo(monotonicMs) {
      nowMs = Math.max(nowMs, monotonicMs);
    },
  };
}

/** As a source would have it. */
export function headersOf(topic: string | undefined, more: Headers): Headers {
  if (topic === undefined) return Object.keys(more).length === 0 ? noHeaders : more;
  return { topic, ...more };
}
