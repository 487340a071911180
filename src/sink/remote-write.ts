/**
 * Metrics to a Prometheus, or whatever takes its remote write, with the times at which they were sampled: protocol
 * 1.0 (prometheus.io/docs/specs/prw), or 2.0 where the receiver knows it.
 *
 * The agent samples its metrics into a stream of the journal (source/metrics.ts); this is a reader of that stream as
 * any other, so an outage costs nothing but room there. A sample that is sent twice is one sample: each is there
 * once. After an outage the receiver must take what is older than its newest sample, or this sink must be its only
 * writer of these series: in Prometheus `storage.tsdb.out_of_order_time_window`.
 *
 * Samples wait until the clock is set; those of a boot whose clock never was are dead letters, as no time can be
 * given for them.
 *
 * Bound: `maxSeries` series; what comes on top is left out, counted and said.
 */
import type { Context, Figures } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import { decodePayload, type StoredEvent } from "../core/event.ts";
import {
  duration,
  group,
  integer,
  listOf,
  mapOf,
  oneOf,
  text,
  url,
  type Infer,
} from "../core/field.ts";
import { metricsStream, parseSeries, type Label } from "../core/series.ts";
import { templatePattern } from "../core/template.ts";
import { sendSpans } from "./bisect.ts";
import { judge, reasonOf, type Culprit, type Verdict } from "./http-answers.ts";
import type { HttpAnswer } from "./http-client.ts";
import { httpSinkOptions, HttpSender } from "./http-sender.ts";
import {
  formatRequest,
  type RemoteWriteVersion,
  type Sample,
  type Series,
} from "./remote-write-message.ts";
import type { Batch, Position, SendResult, Sink } from "./sink.ts";
import { snappy } from "./snappy.ts";
import { Trust } from "./trust.ts";

const labelText = {
  pattern: templatePattern(["device", "stream"]),
  allowed: "text with {device} and {stream}",
};

export const remoteWriteOptions = group(
  {
    from: listOf(text({ doc: "A stream of samples" }), {
      doc: `The streams of samples; the agent's own is ${metricsStream}`,
      default: [metricsStream],
      min: 1,
    }),
    url: url({
      doc: "The remote write endpoint",
      protocols: ["http", "https"],
      example: "https://prom.example/api/v1/write",
    }),
    every: duration({
      doc: "How often the agent samples its own metrics; of several such sinks the shortest counts",
      default: "15s",
      min: "1s",
      max: "1h",
    }),
    protocol: oneOf(["1.0", "2.0", "auto"], {
      doc: "The version of remote write; auto: 2.0, and 1.0 where the receiver does not know it",
      default: "1.0",
    }),
    job: text({ doc: "The label job", default: "holdfast" }),
    instance: text({ doc: "The label instance", default: "{device}", ...labelText }),
    labels: mapOf(text({ doc: "Its value", ...labelText }), {
      doc: "Further labels of every series; `device` is one by itself",
      names: /^[a-zA-Z_][a-zA-Z0-9_]{0,63}$/,
    }),
    maxSeries: integer({
      doc: "The most series that are sent; others are left out, counted and said",
      default: 1000,
      min: 1,
      max: 100_000,
    }),
    ...httpSinkOptions,
  },
  { doc: "Prometheus remote write: the agent's metrics with their times, each sample once" },
);
export type RemoteWriteSettings = Infer<typeof remoteWriteOptions>;

export function createRemoteWriteSink(
  context: Context,
  options: RemoteWriteSettings,
  { device }: { readonly device: string },
): Sink {
  return new RemoteWriteSink(context, options, device);
}

/** What Prometheus says of samples that it will not take any more, with 400 or 500. */
const neverTaken = /out of order|out of bounds|too old|duplicate sample/i;
/** Beyond its window for old samples: there it minds no order, and a newer one may be tried first. */
const beyondWindow = /too old/i;

class RemoteWriteSink implements Sink {
  readonly #context: Context;
  readonly #options: RemoteWriteSettings;
  readonly #device: string;
  readonly #sender: HttpSender;
  readonly #url: URL;
  readonly #trust = new Trust();
  /** By series and stream; null: it is left out. */
  readonly #labels = new Map<string, readonly Label[] | null>();
  #series = 0;
  #leftOut = 0;
  #version: RemoteWriteVersion;

  constructor(context: Context, options: RemoteWriteSettings, device: string) {
    this.#context = context;
    this.#options = options;
    this.#device = device;
    this.#url = new URL(options.url);
    this.#sender = new HttpSender(context, this.#url, options);
    this.#version = options.protocol === "1.0" ? "1.0" : "2.0";
  }

  async open(_positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    await this.#sender.open(this.#url, signal);
  }

  async send({ stream, events }: Batch, signal: AbortSignal): Promise<SendResult> {
    if (this.#context.clock.quality() === "unsynced") {
      const why = `Cannot deliver to ${this.#sender.far}: the clock is not set yet`;
      return { settled: 0, refused: [], failure: new HoldfastError("SINK_UNREACHABLE", why) };
    }
    const span = { from: events[0]?.seq ?? 0, to: events.at(-1)?.seq ?? 0 };
    const result = await sendSpans(events, [span], async (part) => {
      const verdict = await this.#writeOrPassOld(stream, part, signal);
      return this.#trust.weigh(verdict, part.length);
    });
    return { ...result, ...this.#sender.takeBytes() };
  }

  async close(): Promise<void> {
    this.#sender.close();
  }

  figures(): Figures {
    return { series: this.#series, seriesLeftOut: this.#leftOut };
  }

  /**
   * Where the newest is beyond the window by itself, so are all: after a long outage that spares two requests for
   * each. Without a window it must not be tried: behind it the others would be out of order.
   */
  async #writeOrPassOld(
    stream: string,
    events: readonly StoredEvent[],
    signal: AbortSignal,
  ): Promise<Verdict> {
    const verdict = await this.#write(stream, events, signal);
    if (events.length === 1 || !isBeyondWindow(verdict)) return verdict;
    const newest = await this.#write(stream, events.slice(-1), signal);
    if (newest.as === "failure") return newest;
    if (!isBeyondWindow(newest)) return verdict;
    const { error } = newest;
    return { as: "confirmed", refused: events.map((_event, index) => ({ index, error })) };
  }

  async #write(
    stream: string,
    events: readonly StoredEvent[],
    signal: AbortSignal,
  ): Promise<Verdict> {
    const all = new Map<string, { labels: readonly Label[]; samples: Sample[] }>();
    const refused: Culprit[] = [];
    for (const [index, event] of events.entries()) {
      const samples = samplesOf(event);
      if (samples instanceof HoldfastError) {
        refused.push({ index, error: samples });
        continue;
      }
      for (const [name, value] of samples) {
        const labels = this.#labelsOf(name, stream);
        if (labels === null) continue;
        const series = all.get(name) ?? { labels, samples: [] };
        all.set(name, series);
        series.samples.push({ timeMs: Math.trunc(event.time), value });
      }
    }
    if (all.size === 0) return { as: "confirmed", refused };
    const series = [...all.values()];
    // A clock that was put back makes times go back, which no receiver takes within a series.
    for (const { samples } of series) samples.sort((a, b) => a.timeMs - b.timeMs);
    let verdict = await this.#post(series, signal);
    if (verdict === "unknown-version") {
      this.#version = "1.0";
      verdict = (await this.#post(series, signal)) as Verdict;
    }
    return verdict.as === "confirmed" ? { as: "confirmed", refused } : verdict;
  }

  async #post(
    series: readonly Series[],
    signal: AbortSignal,
  ): Promise<Verdict | "unknown-version"> {
    const plain = formatRequest(series, this.#version);
    const mayBeOlder = this.#version === "2.0" && this.#options.protocol === "auto";
    let isOlder = false;
    const verdict = await this.#sender.send(
      {
        url: this.#url,
        headers: headersOf(this.#version),
        body: plain,
        compressed: snappy(plain),
        read: (answer) => {
          isOlder = mayBeOlder && isOlderReceiver(answer);
          return this.#read(answer);
        },
      },
      signal,
    );
    return isOlder ? "unknown-version" : verdict;
  }

  #read(answer: HttpAnswer): Verdict {
    const verdict = judge(answer, this.#sender.far, this.#context.clock.wallMs());
    if (answer.status < 400 || !neverTaken.test(answer.body)) return verdict;
    const why = `Refused by ${this.#sender.far}: it answered ${answer.status}${reasonOf(answer)}`;
    return { as: "refused", error: new HoldfastError("SINK_REFUSED", why), isLate: true };
  }

  /** All labels of a series, sorted. */
  #labelsOf(name: string, stream: string): readonly Label[] | null {
    const key = `${stream} ${name}`;
    const known = this.#labels.get(key);
    if (known !== undefined) return known;
    const own = parseSeries(name);
    if (own === null || this.#series >= this.#options.maxSeries) {
      this.#leaveOut(key);
      return null;
    }
    const { job, instance, labels } = this.#options;
    const given = { ...labels, device: "{device}", job, instance };
    const filled = Object.entries(given).map(([label, value]): Label => [
      label,
      value.replaceAll("{device}", this.#device).replaceAll("{stream}", stream),
    ]);
    const all = new Map<string, string>([...own, ...filled]);
    const sorted = [...all]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .filter(([, value]) => value !== "");
    this.#labels.set(key, sorted);
    this.#series++;
    return sorted;
  }

  #leaveOut(key: string): void {
    // As many names as series are remembered, so that each counts once; then it is the samples that count.
    if (this.#labels.size < 2 * this.#options.maxSeries) this.#labels.set(key, null);
    if (this.#leftOut++ > 0) return;
    const { log, name } = this.#context;
    const { maxSeries } = this.#options;
    log.warn(`Sink ${name} leaves series out: more than ${maxSeries}, or not named as one`, {
      key,
    });
  }
}

function isBeyondWindow(verdict: Verdict): verdict is Extract<Verdict, { as: "refused" }> {
  return verdict.as === "refused" && beyondWindow.test(verdict.error.message);
}

/** Prometheus remote write 2.0, "Protocol": what tells the message, and its version. */
function headersOf(version: RemoteWriteVersion): Record<string, string> {
  const isOne = version === "1.0";
  return {
    "content-encoding": "snappy",
    "content-type": isOne
      ? "application/x-protobuf"
      : "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "x-prometheus-remote-write-version": isOne ? "0.1.0" : "2.0.0",
  };
}

/** 2.0: it refuses the type, or takes the message for an empty one of 1.0 and does not say what it has written. */
function isOlderReceiver({ status, headers }: HttpAnswer): boolean {
  if (status === 415 || status === 400) return true;
  const written = headers["x-prometheus-remote-write-samples-written"];
  return status >= 200 && status < 300 && written === undefined;
}

function samplesOf(event: StoredEvent): readonly [string, number][] | HoldfastError {
  if (event.clock === "unsynced") {
    return new HoldfastError("SINK_REFUSED", "Samples were taken while the clock was not set");
  }
  try {
    const payload = decodePayload(event.payload, "json");
    if (typeof payload === "object" && payload !== null && !Array.isArray(payload)) {
      return Object.entries(payload).filter(
        (entry): entry is [string, number] => typeof entry[1] === "number",
      );
    }
  } catch {
    // Told below.
  }
  return new HoldfastError("SINK_REFUSED", "Event is not a map of series to numbers");
}
