/** Journal, plane, projection and one processor on a fake clock: what a test of flow/process.ts drives. */
import { setImmediate as turn } from "node:timers/promises";
import type { NewEvent, PayloadFormat } from "../../src/core/event.ts";
import type { StreamRules } from "../../src/flow/admit.ts";
import { createChain } from "../../src/processor/chain.ts";
import type { StepSettings } from "../../src/processor/kinds.ts";
import type { BatchHandler, Handler } from "../../src/processor/processor.ts";
import { createProcessing, type Processing, type ProcessingParts } from "../../src/flow/process.ts";
import { createProjection, type Projection } from "../../src/flow/project.ts";
import { MemoryPlane } from "../../src/plane/memory.ts";
import { FakeClock } from "./fake-clock.ts";
import { ListDisk, MortalJournal } from "./mortal-journal.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";

export type LineOptions = Partial<
  Pick<
    ProcessingParts,
    | "from"
    | "to"
    | "handler"
    | "rulesOf"
    | "batch"
    | "timeoutMs"
    | "order"
    | "policy"
    | "stateBound"
  >
> & { readonly eventsMax?: number; readonly steps?: readonly StepSettings[] };

/** A stream without a schema whose key is the payload's `k`, where it has one. */
export function openRules(format: PayloadFormat = "json"): StreamRules {
  return {
    format,
    validate: () => null,
    keyOf: (value) => (value as { k?: string } | null)?.k ?? null,
    timeOf: (_value, receivedAt) => receivedAt,
  };
}

/** An event whose payload is `value` as JSON, and whose key is its `k`. */
export function jsonEvent(value: Record<string, unknown>): NewEvent {
  const time = Date.UTC(2026, 0, 1);
  const key = typeof value["k"] === "string" ? value["k"] : null;
  const payload = Buffer.from(JSON.stringify(value));
  return { key, time, receivedAt: time, headers: { topic: "t" }, payload };
}

export class ProcessingLine {
  readonly clock = new FakeClock();
  readonly disk: ListDisk;
  readonly options: LineOptions;
  readonly fatals: unknown[] = [];
  context: RecordingContext = recordingContext("proc", this.clock);
  journal: MortalJournal;
  plane!: MemoryPlane;
  #processing!: Processing;
  #projection!: Projection;

  constructor(options: LineOptions = {}, disk = new ListDisk()) {
    this.options = options;
    this.disk = disk;
    this.journal = new MortalJournal(disk);
    this.#build();
  }

  #build(): void {
    const { eventsMax, steps = [], ...given } = this.options;
    const { clock, journal } = this;
    this.context = recordingContext("proc", clock);
    this.plane = new MemoryPlane({ clock, ...(eventsMax !== undefined && { eventsMax }) });
    const streams = given.from ?? ["in"];
    const { context, plane } = this;
    const { handler: own } = given;
    // What belongs to a process that died does nothing any more.
    const alive = <T>(act: () => T): T | Promise<never> =>
      journal.isDead ? new Promise<never>(() => undefined) : act();
    const handler: Handler | BatchHandler | undefined =
      typeof own === "object"
        ? { batch: (events, handed) => alive(() => own.batch(events, handed)) }
        : own && ((event, handed) => alive(() => own(event, handed)));
    this.#projection = createProjection({
      context: recordingContext("plane", clock),
      journal,
      plane,
      streams,
    });
    this.#processing = createProcessing({
      context,
      journal,
      plane,
      from: streams,
      to: "out",
      chain: createChain(steps, { name: "proc", clock, log: context.log, baseDir: "." }),
      rulesOf: () => openRules(),
      batch: { max: 50, waitMs: 100 },
      timeoutMs: 30_000,
      order: "key",
      stateBound: { maxKeys: 1000, maxBytes: 1 << 20 },
      policy: { attempts: 3, baseMs: 1000, maxMs: 60_000, onFailure: "dead-letter" },
      onFatal: (error) => this.fatals.push(error),
      ...given,
      ...(handler !== undefined && { handler }),
    });
  }

  start(): this {
    this.#projection.start();
    this.#processing.start();
    return this;
  }

  /** The process dies, and another one starts on what lies on disk. */
  restart(applied: boolean): void {
    this.journal.kill(applied);
    this.journal = new MortalJournal(this.disk);
    this.#build();
    this.start();
  }

  put(value: Record<string, unknown>, stream = "in", given: Partial<NewEvent> = {}): void {
    this.journal.append(stream, { ...jsonEvent(value), ...given }, () => undefined);
  }

  /** Runs the loop, moving the clock by `stepMs` whenever it has nothing to do at once. */
  async until(what: string, condition: () => boolean, stepMs = 50): Promise<void> {
    for (let turns = 0; turns < 20_000; turns++) {
      if (condition()) return;
      await turn();
      if (turns % 4 === 3) this.clock.advance(stepMs);
    }
    const { status, detail } = this.context.now();
    throw new Error(
      `In vain: ${what}; ${status} ${detail ?? ""} ${JSON.stringify(this.context.lines)}`,
    );
  }

  /** Until every event of the sources was passed and none waits for a retry. */
  async drained(): Promise<void> {
    await this.until("everything to be processed", () => {
      const isRead = (this.options.from ?? ["in"]).every(
        (stream) => this.cursor(stream) === this.disk.head(stream),
      );
      return isRead && this.disk.retries.size === 0 && this.journal.waiting === 0;
    });
  }

  exclusively<T>(act: () => Promise<T>): Promise<T> {
    return this.#processing.exclusively(act);
  }

  cursor(stream = "in"): number {
    return this.journal.cursor("proc", stream).seq;
  }

  /** The payloads of a stream, parsed. */
  values(stream = "out"): Record<string, unknown>[] {
    return this.disk
      .events(stream)
      .map(({ payload }) => JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>);
  }

  /** Ends both loops; the fake clock runs meanwhile, so that a grace can pass. */
  async stop(graceMs = 1000): Promise<void> {
    const stopped = Promise.all([this.#processing.stop(graceMs), this.#projection.stop()]);
    let isStopped = false;
    void stopped.then(() => (isStopped = true));
    await this.until("the loops to end", () => isStopped);
    await stopped;
  }
}
