/**
 * Events as POST requests. 2xx confirms a batch; what the server refuses is looked for by halving (bisect.ts), and
 * only the culprits become dead letters. What else an answer means: http-answers.ts.
 *
 * What drains beside fresher events goes with `Holdfast-Backfill: true`.
 *
 * At least once. Each request carries an `Idempotency-Key`, DEVICE:EPOCH:STREAM:FROM-TO, so that a server which
 * honours it has each event once. That asks for one thing of us: a request whose answer is not known must be sent
 * again as it was, not with what has come since. So the span of what was begun is kept:
 * - `idempotency: process`: in memory. Timeouts, cuts and 503s are repeated as they were; a crash of the agent is not
 * - `idempotency: crash`: beside the cursor, on disk before the request goes out. One commit more for each batch
 */
import type { Context } from "../core/context.ts";
import type { StoredEvent } from "../core/event.ts";
import { checked, group, oneOf, url, type Infer } from "../core/field.ts";
import { sendSpans, type Span } from "./bisect.ts";
import type { Verdict } from "./http-answers.ts";
import { bodyFormats, formatBody } from "./http-body.ts";
import { compressionOption, httpSinkOptions, HttpSender } from "./http-sender.ts";
import { PendingSpans } from "./pending-spans.ts";
import {
  sinkOptions,
  type Announcement,
  type Batch,
  type Position,
  type SendResult,
  type Sink,
} from "./sink.ts";
import { Trust } from "./trust.ts";

function placeProblem(address: string): string | null {
  const unknown = address.match(/\{[^}]*\}?/g)?.find((place) => !places.includes(place));
  return unknown === undefined ? null : `Expected ${places.join(" and ")}, not ${unknown}`;
}

const places = ["{device}", "{stream}"];

export const httpKindOptions = group(
  {
    ...sinkOptions,
    url: checked(
      url({
        doc: "Where batches are posted to; {device} and {stream} in its path are filled in",
        protocols: ["http", "https"],
        example: "https://api.example/v1/events",
      }),
      placeProblem,
    ),
    format: oneOf(bodyFormats, {
      doc: "A line of JSON for each event, one JSON array, or a batch of CloudEvents 1.0",
      default: "ndjson",
    }),
    compression: compressionOption("gzip"),
    idempotency: oneOf(["process", "crash"], {
      doc: "How long a request whose answer was lost is repeated under the same Idempotency-Key: while the agent runs, or also after a crash of it (one more commit for each batch)",
      default: "process",
    }),
    ...httpSinkOptions,
  },
  { doc: "An HTTP server; at least once, each request with an idempotency key" },
);
export type HttpSinkSettings = Infer<typeof httpKindOptions>;

export function createHttpSink(
  context: Context,
  options: HttpSinkSettings,
  { device }: { readonly device: string },
): Sink {
  return new HttpSink(context, options, device);
}

class HttpSink implements Sink {
  readonly #options: HttpSinkSettings;
  readonly #device: string;
  readonly #sender: HttpSender;
  readonly #pending: PendingSpans;
  readonly #trust = new Trust();

  constructor(context: Context, options: HttpSinkSettings, device: string) {
    this.#options = options;
    this.#device = device;
    this.#sender = new HttpSender(context, new URL(options.url), options);
    this.#pending = new PendingSpans();
  }

  async open(positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    this.#pending.load(positions);
    await this.#sender.open(new URL(this.#options.url), signal);
  }

  announce(batch: Batch): Announcement {
    const { upTo, mark } = this.#pending.announce(batch);
    return this.#options.idempotency === "crash" ? { upTo, mark } : { upTo };
  }

  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    const { epoch, spans } = this.#pending.begin(batch);
    const last = spans.at(-1)?.to ?? 0;
    const events = batch.events.filter((event) => event.epoch === epoch && event.seq <= last);
    const attempt = (part: readonly StoredEvent[], span: Span): Promise<Verdict> =>
      this.#post(batch, epoch, part, span, signal);
    const result = await sendSpans(events, spans, attempt);
    // Where thinning has taken the last ones of the span, they are settled with it.
    const upTo = result.settled === events.length ? last : events[result.settled - 1]?.seq;
    if (upTo !== undefined) this.#pending.settled(batch.stream, upTo);
    return { ...result, ...this.#sender.takeBytes() };
  }

  async close(): Promise<void> {
    this.#sender.close();
  }

  async #post(
    { stream, format, backfill }: Batch,
    epoch: string,
    events: readonly StoredEvent[],
    { from, to }: Span,
    signal: AbortSignal,
  ): Promise<Verdict> {
    const { bytes, contentType } = formatBody(this.#options.format, events, this.#device, format);
    const key = [this.#device, epoch, stream].map(encodeURIComponent).join(":");
    const sending = {
      url: this.#urlFor(stream),
      // Not in the body: what is sent again under a key is to be the same, whichever lane it goes on then.
      headers: {
        "content-type": contentType,
        "idempotency-key": `${key}:${from}-${to}`,
        ...(backfill === true && { "holdfast-backfill": "true" }),
      },
      body: bytes,
      compression: this.#options.compression,
    };
    const verdict = await this.#sender.send(sending, signal);
    if (verdict.as === "too-large") this.#pending.shrink(to - from + 1);
    return this.#trust.weigh(verdict, events.length);
  }

  #urlFor(stream: string): URL {
    const filled = this.#options.url
      .replaceAll(/\{device\}|%7Bdevice%7D/gi, encodeURIComponent(this.#device))
      .replaceAll(/\{stream\}|%7Bstream%7D/gi, encodeURIComponent(stream));
    return new URL(filled);
  }
}
