/**
 * Prometheus remote write's messages: prometheus.WriteRequest of 1.0 and io.prometheus.write.v2.Request of 2.0
 * (prometheus.io/docs/specs). Field numbers are theirs.
 */
import { ProtobufWriter } from "./protobuf.ts";

export interface Series {
  /** Sorted by name, `__name__` among them, as both versions ask for. */
  readonly labels: readonly (readonly [name: string, value: string])[];
  /** In the order of their times. */
  readonly samples: readonly Sample[];
}

export interface Sample {
  readonly timeMs: number;
  readonly value: number;
}

export type RemoteWriteVersion = "1.0" | "2.0";

export function formatRequest(series: readonly Series[], version: RemoteWriteVersion): Buffer {
  return version === "1.0" ? formatOne(series) : formatTwo(series);
}

function formatOne(series: readonly Series[]): Buffer {
  const request = new ProtobufWriter();
  const each = new ProtobufWriter();
  const inner = new ProtobufWriter();
  for (const { labels, samples } of series) {
    for (const [name, value] of labels) {
      inner.text(1, name);
      inner.text(2, value);
      each.bytes(1, inner.take());
    }
    writeSamples(samples, each, inner);
    request.bytes(1, each.take());
  }
  return request.take();
}

/** Label names and values stand once, in a table of symbols whose first one is empty. */
function formatTwo(series: readonly Series[]): Buffer {
  const symbols = new Map<string, number>([["", 0]]);
  const refOf = (text: string): number => {
    const known = symbols.get(text);
    if (known !== undefined) return known;
    symbols.set(text, symbols.size);
    return symbols.size - 1;
  };
  const refs = series.map(({ labels }) =>
    labels.flatMap(([name, value]) => [refOf(name), refOf(value)]),
  );
  const request = new ProtobufWriter();
  const each = new ProtobufWriter();
  const inner = new ProtobufWriter();
  for (const symbol of symbols.keys()) request.text(4, symbol);
  for (const [index, { samples }] of series.entries()) {
    each.packed(1, refs[index] ?? []);
    writeSamples(samples, each, inner);
    request.bytes(5, each.take());
  }
  return request.take();
}

/** `Sample` is the same in both: value 1, timestamp 2, in field 2 of the series. */
function writeSamples(
  samples: readonly Sample[],
  series: ProtobufWriter,
  inner: ProtobufWriter,
): void {
  for (const { value, timeMs } of samples) {
    inner.double(1, value);
    inner.int64(2, timeMs);
    series.bytes(2, inner.take());
  }
}
