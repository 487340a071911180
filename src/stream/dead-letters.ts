/**
 * The dead letters of a topic, in the stream `{topic}-dlq`: each as it was received, with what was wrong, so that it
 * can be looked at, sent back to where it failed, or removed. PSPF's workers write and read the same.
 */
import type { StreamBackend } from "./backend.ts";
import { deadLetterTopic } from "./topic-names.ts";
import { originalFields, readDeadLetter, type DeadLetter } from "../wire/dead-letter.ts";
import { decodeEntry } from "../wire/encodings.ts";
import type { IncomingEvent } from "../wire/wire.ts";

export interface ListedDeadLetter extends DeadLetter {
  /** Its ID in the stream of dead letters. */
  readonly id: string;
  /** The event as it was received; null where that cannot be read. */
  readonly event: IncomingEvent | null;
}

/** Read at a time while going through all. */
const page = 256;

export class DeadLetters {
  readonly #backend: () => Promise<StreamBackend>;
  readonly #topic: string;

  constructor(backend: () => Promise<StreamBackend>, topic: string) {
    this.#backend = backend;
    this.#topic = topic;
  }

  async count(): Promise<number> {
    return (await this.#backend()).length(deadLetterTopic(this.#topic));
  }

  /** The oldest first; `after`: the ID of the last one known. */
  async list(options: { max?: number; after?: string } = {}): Promise<ListedDeadLetter[]> {
    const from = options.after === undefined ? "-" : `(${options.after}`;
    const backend = await this.#backend();
    const entries = await backend.range(deadLetterTopic(this.#topic), from, options.max ?? 100);
    return entries.map(({ id, fields }) => {
      let event: IncomingEvent | null = null;
      try {
        event = decodeEntry(originalFields(fields));
      } catch {
        // That it cannot be read may be why it is here.
      }
      return { id, event, ...readDeadLetter(fields) };
    });
  }

  /**
   * Sends them back to their topic, where every group reads them anew; each in one step, so that an interrupted replay
   * sends none twice. All of them, or those named. Gives how many.
   */
  async replay(ids?: readonly string[]): Promise<number> {
    const backend = await this.#backend();
    const from = deadLetterTopic(this.#topic);
    const wanted = ids === undefined ? null : new Set(ids);
    let [count, after] = [0, "-"];
    for (;;) {
      const entries = await backend.range(from, after, page);
      for (const { id, fields } of entries) {
        if (wanted !== null && !wanted.has(id)) continue;
        const to = readDeadLetter(fields).topic ?? this.#topic;
        if (await backend.move(from, id, to, originalFields(fields))) count += 1;
      }
      const last = entries.at(-1)?.id;
      if (last === undefined || entries.length < page) return count;
      after = `(${last}`;
    }
  }

  async remove(ids: readonly string[]): Promise<number> {
    return (await this.#backend()).remove(deadLetterTopic(this.#topic), ids);
  }
}
