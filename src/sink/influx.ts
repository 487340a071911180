/**
 * Events as points in InfluxDB: line protocol over its write endpoint, of version 1 (/write), 2 (/api/v2/write) or 3
 * (/api/v3/write_lp), with the events' own time.
 *
 * A point that is written twice is one point, so each event is there once. What the database refuses of a request is
 * taken at its word where it names lines (version 3); where it does not, the request is halved (bisect.ts), which
 * writes some points twice.
 */
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import {
  checked,
  group,
  listOf,
  mapOf,
  oneOf,
  optional,
  text,
  url,
  type Infer,
} from "../core/field.ts";
import { templatePattern } from "../core/template.ts";
import { sendSpans } from "./bisect.ts";
import { judge, reasonOf, type Culprit, type Verdict } from "./http-answers.ts";
import type { HttpAnswer } from "./http-client.ts";
import { httpSinkOptions, HttpSender } from "./http-sender.ts";
import { createLineWriter, type LineWriter } from "./line-protocol.ts";
import { sinkOptions, type Batch, type Position, type SendResult, type Sink } from "./sink.ts";
import { Trust } from "./trust.ts";

const places = "{device}, {stream}, {key}, {topic} or {header:NAME}";

const influxGroup = group(
  {
    ...sinkOptions,
    url: url({
      doc: "The database's address; the path of its write endpoint is added",
      protocols: ["http", "https"],
      example: "http://influx.example:8086",
    }),
    version: oneOf([1, 2, 3], { doc: "Which write endpoint it is spoken to by", default: 2 }),
    database: optional(text({ doc: "Versions 1 and 3: the database", example: "telemetry" })),
    retentionPolicy: optional(
      text({ doc: "Version 1: the retention policy; left out: the default one", example: "month" }),
    ),
    bucket: optional(text({ doc: "Version 2: the bucket", example: "telemetry" })),
    org: optional(text({ doc: "Version 2: the organisation", example: "works" })),
    measurement: text({
      doc: `The measurement: text with ${places}`,
      default: "{stream}",
      pattern: templatePattern(),
      allowed: `text with ${places}`,
    }),
    tags: mapOf(
      text({
        doc: `A path into the payload, or text with ${places}`,
        pattern: /^[^{}]+$|^([^{}]|\{(device|stream|epoch|seq|key|topic|header:[^{}]+)\})+$/,
        allowed: `a path, or text with ${places}`,
      }),
      { doc: "Tags by name; `device` is one by itself" },
    ),
    fields: mapOf(text({ doc: "A path into the payload" }), {
      doc: "Fields by name; none named: every number, text, true and false of the payload that no tag takes",
    }),
    integers: listOf(text({ doc: "A field's name" }), {
      doc: "Fields that are written as integers; all other numbers are floats",
      default: [],
    }),
    precision: oneOf(["s", "ms", "ns"], {
      doc: "Of the time; ns: two events of a series in one millisecond stay apart, by the last six digits of their seq",
      default: "ms",
    }),
    compression: oneOf(["gzip", "none"], { doc: "How the body is compressed", default: "gzip" }),
    ...httpSinkOptions,
  },
  { doc: "InfluxDB 1, 2 or 3; each event is there once" },
);
export type InfluxSinkSettings = Infer<typeof influxGroup>;

export const influxOptions = checked(influxGroup, ({ version, database, bucket, org }) => {
  if (version === 2)
    return bucket !== undefined && org !== undefined ? null : "Version 2 needs bucket and org";
  return database !== undefined ? null : `Version ${version} needs database`;
});

export function createInfluxSink(
  context: Context,
  options: InfluxSinkSettings,
  { device }: { readonly device: string },
): Sink {
  return new InfluxSink(context, options, device);
}

class InfluxSink implements Sink {
  readonly #context: Context;
  readonly #options: InfluxSinkSettings;
  readonly #writer: LineWriter;
  readonly #sender: HttpSender;
  readonly #url: URL;
  readonly #trust = new Trust();

  constructor(context: Context, options: InfluxSinkSettings, device: string) {
    this.#context = context;
    this.#options = options;
    this.#writer = createLineWriter(options, device);
    this.#url = endpointOf(options);
    const scheme = options.version === 2 ? "Token" : "Bearer";
    this.#sender = new HttpSender(context, this.#url, options, scheme);
  }

  async open(_positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    await this.#sender.open(new URL(this.#options.url), signal);
  }

  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    const { events } = batch;
    const span = { from: events[0]?.seq ?? 0, to: events.at(-1)?.seq ?? 0 };
    const result = await sendSpans(events, [span], async (part) => {
      const verdict = await this.#write(part, batch, signal);
      return this.#trust.weigh(verdict, part.length);
    });
    return { ...result, ...this.#sender.takeBytes() };
  }

  async close(): Promise<void> {
    this.#sender.close();
  }

  async #write(
    events: readonly StoredEvent[],
    { format }: Batch,
    signal: AbortSignal,
  ): Promise<Verdict> {
    const refused: Culprit[] = [];
    const lines: string[] = [];
    /** Of each line, the event's index. */
    const origins: number[] = [];
    for (const [index, event] of events.entries()) {
      const line = this.#writer.lineOf(event, format);
      if (line instanceof HoldfastError) refused.push({ index, error: line });
      else {
        lines.push(line);
        origins.push(index);
      }
    }
    if (lines.length === 0) return { as: "confirmed", refused };
    const sending = {
      url: this.#url,
      headers: { "content-type": "text/plain; charset=utf-8" },
      body: Buffer.from(`${lines.join("\n")}\n`),
      compression: this.#options.compression,
      read: (answer: HttpAnswer) => this.#read(answer, origins),
    };
    const verdict = await this.#sender.send(sending, signal);
    if (verdict.as !== "confirmed") return verdict;
    const all = [...refused, ...(verdict.refused ?? [])];
    return { as: "confirmed", refused: all.toSorted((a, b) => a.index - b.index) };
  }

  #read(answer: HttpAnswer, origins: readonly number[]): Verdict {
    const named = this.#options.version === 3 ? namedLines(answer) : null;
    if (named === null) return judge(answer, this.#sender.far, this.#context.clock.wallMs());
    const refused = named.flatMap(({ line, why }): Culprit[] => {
      const index = origins[line - 1];
      const message = `Refused by ${this.#sender.far}: ${why}`;
      return index === undefined
        ? []
        : [{ index, error: new HoldfastError("SINK_REFUSED", message) }];
    });
    // It names only what it knows; without a name all of it is in doubt.
    if (refused.length > 0) return { as: "confirmed", refused };
    const why = `Refused by ${this.#sender.far}: it answered ${answer.status}${reasonOf(answer)}`;
    return { as: "refused", error: new HoldfastError("SINK_REFUSED", why) };
  }
}

function endpointOf(options: InfluxSinkSettings): URL {
  const { version, precision, database = "", retentionPolicy, bucket = "", org = "" } = options;
  const url = new URL(options.url);
  const base = url.pathname.replace(/\/$/, "");
  if (version === 1) {
    url.pathname = `${base}/write`;
    url.search = new URLSearchParams({
      db: database,
      ...(retentionPolicy !== undefined && { rp: retentionPolicy }),
      precision,
    }).toString();
  } else if (version === 2) {
    url.pathname = `${base}/api/v2/write`;
    url.search = new URLSearchParams({ org, bucket, precision }).toString();
  } else {
    url.pathname = `${base}/api/v3/write_lp`;
    const words = { s: "second", ms: "millisecond", ns: "nanosecond" } as const;
    url.search = new URLSearchParams({ db: database, precision: words[precision] }).toString();
  }
  return url;
}

interface NamedLine {
  /** Counting from 1. */
  readonly line: number;
  readonly why: string;
}

/** Version 3, 400: `{"error":"partial write …","data":[{"line_number":2,"error_message":"…"}]}`; the rest is written. */
function namedLines({ status, body }: HttpAnswer): NamedLine[] | null {
  if (status !== 400) return null;
  try {
    const { error, data } = JSON.parse(body) as { error?: unknown; data?: unknown };
    if (typeof error !== "string" || !error.includes("partial write")) return null;
    return (Array.isArray(data) ? data : []).flatMap((entry: unknown): NamedLine[] => {
      const { line_number: line, error_message: why } = entry as Record<string, unknown>;
      return typeof line === "number" ? [{ line, why: String(why) }] : [];
    });
  } catch {
    return null;
  }
}
