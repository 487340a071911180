/**
 * A sink that keeps what it is sent, and fails a chosen share of it.
 *
 * `fail` is asked before each event and names what happens to it; the far side keeps what came before.
 */
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import type { Batch, Position, Refusal, SendResult, Sink } from "../../src/sink/sink.ts";

export type Fate = "take" | "refuse" | "break" | "throw" | "throw-refusal";

export class FlakySink implements Sink {
  readonly taken: StoredEvent[] = [];
  readonly batches: Batch[] = [];
  readonly opened: ReadonlyMap<string, Position>[] = [];
  readonly durables: { stream: string; position: Position }[] = [];
  isOpen = false;
  givesMarks = false;
  openError: HoldfastError | null = null;
  fate: (event: StoredEvent) => Fate = () => "take";
  /** What `send` waits for. */
  gate: Promise<void> = Promise.resolve();
  ignoresAbort = false;
  inFlight = 0;
  #lost: ((error: HoldfastError) => void) | null = null;

  async open(positions: ReadonlyMap<string, Position>, _signal: AbortSignal): Promise<void> {
    if (this.isOpen) throw new Error("open() while open");
    await Promise.resolve();
    if (this.openError !== null) throw this.openError;
    this.isOpen = true;
    this.opened.push(positions);
  }

  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    if (!this.isOpen) throw new Error("send() while closed");
    if (++this.inFlight > 1) throw new Error("send() while sending");
    const aborted = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve(), { once: true }),
    );
    await (this.ignoresAbort ? this.gate : Promise.race([this.gate, aborted]));
    this.inFlight--;
    const failure = unreachable();
    if (signal.aborted) return { settled: 0, refused: [], failure };
    this.batches.push(batch);
    const refused: Refusal[] = [];
    for (const [index, event] of batch.events.entries()) {
      const fate = this.fate(event);
      if (fate === "throw") throw failure;
      if (fate === "throw-refusal") throw new HoldfastError("SINK_REFUSED", "Far side dislikes it");
      if (fate === "break")
        return { settled: index, refused, failure, ...this.#mark(batch, index) };
      if (fate === "refuse") {
        const error = new HoldfastError("SINK_REFUSED", `Far side refused ${event.seq}`);
        refused.push({ index, error });
      } else this.taken.push(event);
    }
    return { settled: batch.events.length, refused, ...this.#mark(batch, batch.events.length) };
  }

  async close(): Promise<void> {
    this.isOpen = false;
  }

  onLost(listener: (error: HoldfastError) => void): void {
    this.#lost = listener;
  }

  durable(stream: string, position: Position): void {
    this.durables.push({ stream, position });
  }

  lose(): void {
    this.#lost?.(unreachable());
  }

  #mark(batch: Batch, settled: number): { mark?: string } {
    const seq = batch.events[settled - 1]?.seq;
    return this.givesMarks && seq !== undefined ? { mark: `at ${seq}` } : {};
  }
}

export function unreachable(): HoldfastError {
  return new HoldfastError("SINK_UNREACHABLE", "Cannot deliver to far side: it is away");
}
