/** Reads what the remote-write sink writes, by the formats' descriptions: snappy's blocks and protobuf's messages. */

/** google/snappy, format_description.txt. */
export function unsnappy(input: Buffer): Buffer {
  const [length, start] = varintAt(input, 0);
  const output = Buffer.alloc(Number(length));
  let [at, end] = [start, 0];
  while (at < input.length) {
    const tag = input[at++] ?? 0;
    if ((tag & 3) === 0) {
      const short = tag >> 2;
      const extra = Math.max(0, short - 59);
      const count = (extra === 0 ? short : input.readUIntLE(at, extra)) + 1;
      at += extra;
      end += input.copy(output, end, at, at + count);
      at += count;
      continue;
    }
    let [count, offset] = [(tag >> 2) + 1, 0];
    if ((tag & 3) === 1) {
      count = ((tag >> 2) & 7) + 4;
      offset = ((tag >> 5) << 8) | (input[at++] ?? 0);
    } else {
      const bytes = (tag & 3) === 2 ? 2 : 4;
      offset = input.readUIntLE(at, bytes);
      at += bytes;
    }
    if (offset === 0 || offset > end) throw new Error(`Copy from ${offset} before ${end}`);
    for (let copied = 0; copied < count; copied++, end++) output[end] = output[end - offset] ?? 0;
  }
  if (end !== output.length) throw new Error(`${end} bytes of ${output.length}`);
  return output;
}

export interface ReadSeries {
  readonly labels: Readonly<Record<string, string>>;
  readonly names: readonly string[];
  readonly samples: readonly { readonly timeMs: number; readonly value: number }[];
}

/** prometheus.WriteRequest. */
export function readOne(message: Buffer): ReadSeries[] {
  return fieldsOf(message)
    .filter(({ field }) => field === 1)
    .map(({ bytes }) => {
      const parts = fieldsOf(bytes);
      const labels = parts
        .filter(({ field }) => field === 1)
        .map((part) => fieldsOf(part.bytes).map((text) => text.bytes.toString()));
      return seriesOf(labels as [string, string][], parts);
    });
}

/** io.prometheus.write.v2.Request. */
export function readTwo(message: Buffer): ReadSeries[] {
  const all = fieldsOf(message);
  const symbols = all.filter(({ field }) => field === 4).map(({ bytes }) => bytes.toString());
  if (symbols[0] !== "") throw new Error("The first symbol is not empty");
  return all
    .filter(({ field }) => field === 5)
    .map(({ bytes }) => {
      const parts = fieldsOf(bytes);
      const refs: number[] = [];
      const packed = parts.find(({ field }) => field === 1)?.bytes ?? Buffer.alloc(0);
      for (let at = 0; at < packed.length;) {
        const [value, next] = varintAt(packed, at);
        refs.push(Number(value));
        at = next;
      }
      const texts = refs.map((ref) => symbols[ref] ?? "?");
      const labels = texts.flatMap((text, index): [string, string][] =>
        index % 2 === 0 ? [[text, texts[index + 1] ?? "?"]] : [],
      );
      return seriesOf(labels, parts);
    });
}

interface Field {
  readonly field: number;
  readonly bytes: Buffer;
  readonly number: number;
}

function seriesOf(labels: readonly [string, string][], parts: readonly Field[]): ReadSeries {
  const samples = parts
    .filter(({ field }) => field === 2)
    .map(({ bytes }) => {
      const of = new Map(fieldsOf(bytes).map(({ field, number }) => [field, number]));
      return { value: of.get(1) ?? 0, timeMs: of.get(2) ?? 0 };
    });
  return { labels: Object.fromEntries(labels), names: labels.map(([name]) => name), samples };
}

function fieldsOf(message: Buffer): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < message.length;) {
    const [tag, afterTag] = varintAt(message, at);
    const field = Number(tag >> 3n);
    const wireType = Number(tag & 7n);
    if (wireType === 1) {
      fields.push({ field, bytes: Buffer.alloc(0), number: message.readDoubleLE(afterTag) });
      at = afterTag + 8;
      continue;
    }
    const [value, afterValue] = varintAt(message, afterTag);
    const isText = wireType === 2;
    const end = isText ? afterValue + Number(value) : afterValue;
    const bytes = isText ? message.subarray(afterValue, end) : Buffer.alloc(0);
    fields.push({ field, bytes, number: Number(BigInt.asIntN(64, value)) });
    at = end;
  }
  return fields;
}

function varintAt(bytes: Buffer, start: number): [bigint, number] {
  let [value, at] = [0n, start];
  for (let shift = 0n; ; shift += 7n) {
    const byte = bytes[at++];
    if (byte === undefined) throw new Error("The message ends within a varint");
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return [value, at];
  }
}
