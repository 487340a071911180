/**
 * The readers of one processor, one for each stream: which of them has a batch, each in its turn. What a batch had left
 * when it ended early comes before what its reader has next. Bounds: stream-reader.ts; one rest for each stream.
 */
import { unlessAborted } from "../core/abort.ts";
import type { ReadyBatch, StreamReader } from "./stream-reader.ts";

export class ReaderSet {
  #readers: StreamReader[] = [];
  readonly #rest = new Map<string, ReadyBatch>();

  /** `onFailed`: one of them cannot go on. */
  start(readers: readonly StreamReader[], onFailed: (thrown: unknown) => void): void {
    this.#readers = [...readers];
    for (const reader of readers) reader.start().catch(onFailed);
  }

  /** All that they hold is forgotten. A disk that hangs does not hold up whoever aborts `end`. */
  async stop(end: AbortSignal): Promise<void> {
    const stopped = Promise.all(this.#readers.map((reader) => reader.stop()));
    this.#readers = [];
    this.#rest.clear();
    // A reader that was stopped has no effects any more.
    await unlessAborted(stopped, end).catch(() => undefined);
  }

  get hasReady(): boolean {
    return this.#readyAt() >= 0;
  }

  take(): ReadyBatch | null {
    const [reader] = this.#readers.splice(this.#readyAt(), 1);
    if (reader === undefined) return null;
    // To the end of the line: the streams take turns.
    this.#readers.push(reader);
    const batch = this.#rest.get(reader.stream) ?? reader.take();
    this.#rest.delete(reader.stream);
    return batch ?? null;
  }

  putBack(rest: ReadyBatch): void {
    this.#rest.set(rest.stream, rest);
  }

  #readyAt(): number {
    return this.#readers.findIndex(
      (reader) => this.#rest.has(reader.stream) || reader.peek() !== undefined,
    );
  }
}
