/**
 * How events stand in a file: as NDJSON (envelope.ts), or as CSV by RFC 4180.
 *
 * A file of CSV begins with a line of names. Each event is one record: its name and times, then its headers and
 * payload as JSON, or, where columns are named, what the payload holds there (objects and lists as JSON; nothing for
 * what is not there). A line end within a text stays, in quotes, as RFC 4180 has it.
 */
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { formatEnvelopes, isoTime, payloadText } from "./envelope.ts";

export type FileFormat = "ndjson" | "csv";

export interface FileLines {
  readonly format: FileFormat;
  /** Begins each file. */
  readonly head: Buffer;
  of(events: readonly StoredEvent[], device: string, format: PayloadFormat | undefined): Buffer;
}

/** `columns`: paths into the payload, by name; none: the payload as a whole. */
export function fileLines(
  format: FileFormat,
  columns: Readonly<Record<string, string>>,
): FileLines {
  if (format === "ndjson") return { format, head: Buffer.alloc(0), of: formatEnvelopes };
  const paths = Object.values(columns).map((path) => path.split("."));
  const names = paths.length === 0 ? ["headers", "payload"] : Object.keys(columns);
  return {
    format,
    head: record([...fixedNames, ...names]),
    of: (events, device, payloadFormat) =>
      Buffer.concat(
        events.map((event) => {
          const json = payloadText(event.payload, payloadFormat).toString();
          const own = [JSON.stringify(event.headers), json];
          const cells = paths.length === 0 ? own : cellsOf(JSON.parse(json), paths);
          return record([...fixedCells(event, device), ...cells]);
        }),
      ),
  };
}

const fixedNames = ["device", "epoch", "stream", "seq", "time", "receivedAt", "clock", "key"];

function fixedCells(event: StoredEvent, device: string): string[] {
  const { epoch, stream, seq, time, receivedAt, clock, key } = event;
  const times = [isoTime(time) ?? "", isoTime(receivedAt) ?? ""];
  return [device, epoch, stream, String(seq), ...times, clock, key ?? ""];
}

function cellsOf(payload: unknown, paths: readonly (readonly string[])[]): string[] {
  return paths.map((path) => {
    let found = payload;
    for (const name of path) {
      const isObject = typeof found === "object" && found !== null && Object.hasOwn(found, name);
      found = isObject ? (found as Record<string, unknown>)[name] : undefined;
    }
    if (found === undefined || found === null) return "";
    return typeof found === "string" ? found : JSON.stringify(found);
  });
}

/** RFC 4180, 2: CRLF ends a record; quotes around what holds a comma, a quote or a line end. */
function record(cells: readonly string[]): Buffer {
  const quoted = cells.map((cell) =>
    /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell,
  );
  return Buffer.from(`${quoted.join(",")}\r\n`);
}

/** Where in `tail`, which begins with a record, those that can be read end; behind that lies what a power cut tore. */
export function readableEnd(tail: Buffer, format: FileFormat): number {
  let end = 0;
  let from = 0;
  for (;;) {
    const lineEnd = tail.indexOf(0x0a, from);
    if (lineEnd < 0) return end;
    from = lineEnd + 1;
    const found = tail.subarray(end, lineEnd);
    if (format === "ndjson" && !isJson(found)) return end;
    // Within quotes a line end is text.
    if (format === "csv" && countQuotes(found) % 2 === 1) continue;
    if (format === "csv" && (found.includes(0) || found.at(-1) !== 0x0d)) return end;
    end = from;
  }
}

function countQuotes(bytes: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(0x22); at >= 0; at = bytes.indexOf(0x22, at + 1)) count++;
  return count;
}

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString("utf8"));
    return true;
  } catch {
    return false;
  }
}
