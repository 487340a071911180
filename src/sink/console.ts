/**
 * Events for a person who watches: one line each on standard output, folded into one line a second where a stream
 * has more than anybody can read. The one door to standard output for events.
 *
 *   12:00:03.250  readings  esp-3  {"temperature":21.5}
 *   12:00:04.250  readings  +1,234 events (seq 100–1333), last: {"temperature":21.6}
 *
 * Nothing that an event holds can move the cursor, colour the terminal or forge a line: control characters are
 * escaped. Bound: one folded line is kept for each stream.
 */
import type { Writable } from "node:stream";
import type { Clock, Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import { group, integer, type Infer } from "../core/field.ts";
import { sinkOptions, type Batch, type SendResult, type Sink } from "./sink.ts";

export const consoleSinkOptions = group(
  {
    ...sinkOptions,
    linesPerSecond: integer({
      doc: "A stream with more events than this in a second is folded into one line a second",
      default: 20,
      min: 1,
      max: 1000,
    }),
  },
  { doc: "A line on standard output for each event, folded when there are many" },
);
export type ConsoleSinkSettings = Infer<typeof consoleSinkOptions>;

export interface ConsoleSinkParts {
  readonly device: string;
  /** Left out: standard output. */
  readonly output?: Output;
}

type Output = Writable & { readonly columns?: number };

/** What a line is cut to where the output is no terminal: it fits a journal's line and a wide screen. */
const columnsDefault = 160;
const foldMs = 1000;

export function createConsoleSink(
  context: Context,
  options: ConsoleSinkSettings,
  { output = process.stdout }: ConsoleSinkParts,
): Sink {
  return new ConsoleSink(context, options, output);
}

class ConsoleSink implements Sink {
  readonly #clock: Clock;
  readonly #linesPerSecond: number;
  readonly #output: Output;
  readonly #folds = new Map<string, Fold>();
  #timer: Timer | null = null;
  #isOpen = false;
  /** A write's callback tells its error; without a listener Node would throw it as well. */
  readonly #ignore = (): void => undefined;

  constructor({ clock }: Context, options: ConsoleSinkSettings, output: Output) {
    this.#clock = clock;
    this.#linesPerSecond = options.linesPerSecond;
    this.#output = output;
  }

  async open(): Promise<void> {
    if (this.#output.errored ?? this.#output.writableEnded) throw outputError(this.#output.errored);
    if (!this.#isOpen) this.#output.on("error", this.#ignore);
    this.#isOpen = true;
  }

  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    let fold = this.#folds.get(batch.stream);
    if (fold === undefined) {
      fold = new Fold(this.#clock, this.#linesPerSecond);
      this.#folds.set(batch.stream, fold);
    }
    let lines = "";
    for (const event of batch.events) {
      if (fold.takes(event)) lines += formatEvent(event, this.#columns());
    }
    this.#timer ??= this.#clock.after(foldMs, () => this.#unfold());
    await this.#write(lines, signal);
    return { settled: batch.events.length, refused: [] };
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = null;
    if (!this.#isOpen) return;
    this.#isOpen = false;
    const lines = this.#foldedLines();
    this.#folds.clear();
    // A reader that has gone cannot be told what it missed.
    if (this.#output.errored === null) await this.#write(lines).catch(() => undefined);
    // An error that is on its way still needs its listener: one is left on an output that has failed.
    if (this.#output.errored === null) this.#output.off("error", this.#ignore);
  }

  #columns(): number {
    return this.#output.columns ?? columnsDefault;
  }

  /** Once a second while there are events. */
  #unfold(): void {
    const lines = this.#foldedLines();
    this.#timer = lines === "" ? null : this.#clock.after(foldMs, () => this.#unfold());
    // Its error shows at the next send.
    if (lines !== "") this.#output.write(lines, this.#ignore);
  }

  #foldedLines(): string {
    let lines = "";
    for (const [stream, fold] of this.#folds) lines += fold.line(stream, this.#columns());
    return lines;
  }

  /** Resolves when the output has taken it: a slow reader holds the sink up, not the heap. */
  #write(text: string, signal?: AbortSignal): Promise<void> {
    if (text === "") return Promise.resolve();
    const written = Promise.withResolvers<void>();
    const stop = (): void => written.reject(outputError("the delivery was stopped"));
    signal?.addEventListener("abort", stop, { once: true });
    this.#output.write(text, (error) => {
      signal?.removeEventListener("abort", stop);
      if (error) written.reject(outputError(error));
      else written.resolve();
    });
    return written.promise;
  }
}

/** Counts a stream's events of this second, and keeps what is to be said of those that got no line. */
class Fold {
  readonly #clock: Clock;
  readonly #linesMax: number;
  #secondBegan: number;
  #lines = 0;
  /** The second before had too many: this one gets no lines of its own either, until one is quiet. */
  #isBusy = false;
  #count = 0;
  #first = 0;
  #last: StoredEvent | null = null;

  constructor(clock: Clock, linesMax: number) {
    this.#clock = clock;
    this.#linesMax = linesMax;
    this.#secondBegan = clock.monotonicMs();
  }

  /** Whether `event` gets a line of its own. */
  takes(event: StoredEvent): boolean {
    const now = this.#clock.monotonicMs();
    // What is folded comes out first, so that lines stay in order.
    if (this.#count === 0 && now - this.#secondBegan >= foldMs) {
      this.#secondBegan = now;
      this.#lines = 0;
    }
    if (this.#count === 0 && !this.#isBusy && this.#lines < this.#linesMax) {
      this.#lines++;
      return true;
    }
    if (this.#count === 0) this.#first = event.seq;
    this.#count++;
    this.#last = event;
    return false;
  }

  /** Called once a second. */
  line(stream: string, columns: number): string {
    const event = this.#last;
    this.#isBusy = this.#count > this.#linesMax;
    if (event === null) return "";
    if (this.#count === 1) {
      this.#forget();
      return formatEvent(event, columns);
    }
    const range = `seq ${this.#first}–${event.seq}`;
    const many = `+${this.#count.toLocaleString("en")} events (${range}), last:`;
    this.#forget();
    return cut(`${timeOf(event)}  ${escape(stream)}  ${many} `, event.payload, columns);
  }

  #forget(): void {
    this.#count = 0;
    this.#last = null;
  }
}

/** A line, with its end, of `columns` characters at the most. */
function formatEvent(event: StoredEvent, columns: number): string {
  const from = event.key ?? event.headers["topic"];
  const head = `${timeOf(event)}  ${escape(event.stream)}  ${from === undefined ? "" : `${escape(from)}  `}`;
  return cut(head, event.payload, columns);
}

function cut(head: string, payload: Uint8Array, columns: number): string {
  // A character has at most 4 bytes of UTF-8: more of a large payload need not be looked at.
  const seen = payload.subarray(0, columns * 4);
  const text = escape(Buffer.from(seen.buffer, seen.byteOffset, seen.byteLength).toString("utf8"));
  const line = Array.from(`${head}${text}`);
  const isWhole = line.length <= columns && seen.length === payload.length;
  return isWhole ? `${line.join("")}\n` : `${line.slice(0, columns - 1).join("")}…\n`;
}

/** The time of day where the person is. */
function timeOf(event: StoredEvent): string {
  const date = new Date(event.time);
  const pad = (value: number, digits: number): string => String(value).padStart(digits, "0");
  return `${pad(date.getHours(), 2)}:${pad(date.getMinutes(), 2)}:${pad(date.getSeconds(), 2)}.${pad(date.getMilliseconds(), 3)}`;
}

/** C0 and C1 controls, the line separators, and what turns the direction of writing (Unicode TR 36). */
// oxlint-disable-next-line no-control-regex
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

function escape(text: string): string {
  return text.replaceAll(controls, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100
      ? String.raw`\x${code.toString(16).padStart(2, "0")}`
      : String.raw`\u${code.toString(16)}`;
  });
}

/** EPIPE: whoever read has gone, and will not come back for this process; a person must start it differently. */
function outputError(cause: unknown): HoldfastError {
  const isGone = (cause as NodeJS.ErrnoException | null)?.code === "EPIPE" || cause === null;
  const why = isGone ? "nobody reads it any more" : messageOf(cause);
  const options = cause instanceof Error ? { cause } : {};
  const message = `Cannot write to standard output: ${why}`;
  return new HoldfastError(isGone ? "SINK_DENIED" : "SINK_UNREACHABLE", message, options);
}
