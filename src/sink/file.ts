/**
 * Events as lines in files: PATH/STREAM/STREAM-FIRSTSEQ-EPOCH.ndjson (or .csv), rotated, closed ones compressed.
 *
 * Each event is there exactly once, whatever crashes: see file-series.ts. A full disk is waited for; a folder that
 * may not be written is a person's business.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { duration, group, mapOf, oneOf, optional, size, text, type Infer } from "../core/field.ts";
import { ClosedFiles, syncFolder } from "./closed-files.ts";
import { fileLines } from "./file-lines.ts";
import { FileSeries, safeFileName } from "./file-series.ts";
import { sinkOptions, type Batch, type Position, type SendResult, type Sink } from "./sink.ts";

export const fileSinkOptions = group(
  {
    ...sinkOptions,
    path: text({
      doc: "The folder of the archive, made when it is not there; each stream has a folder in it",
      example: "/var/lib/holdfast/archive",
    }),
    format: oneOf(["ndjson", "csv"], {
      doc: "A line of JSON for each event, or CSV (RFC 4180) with a line of names at the top of each file",
      default: "ndjson",
    }),
    columns: mapOf(text({ doc: "A path into the payload" }), {
      doc: "For csv: columns by name, in place of the headers and the payload as JSON",
      default: {},
      example: { temperature: "values.t" },
    }),
    rotate: duration({
      doc: "After this long the next event begins a new file",
      default: "1d",
      min: "1s",
    }),
    maxFileBytes: size({
      doc: "A file that would grow beyond this is closed and a new one begun",
      default: "64MiB",
      min: "4KiB",
    }),
    compress: oneOf(["gzip", "none"], {
      doc: "What is done with closed files; the one being written is always plain",
      default: "gzip",
    }),
    maxBytes: optional(
      size({
        doc: "The most that all files together may hold: the oldest closed ones are removed; left out: no limit",
        example: "2GiB",
        min: "64KiB",
      }),
    ),
  },
  { doc: "NDJSON or CSV files, rotated; each event exactly once" },
);
export type FileSinkSettings = Infer<typeof fileSinkOptions>;

export function createFileSink(
  context: Context,
  options: FileSinkSettings,
  { device }: { readonly device: string },
): Sink {
  return new FileSink(context, options, device);
}

class FileSink implements Sink {
  readonly #context: Context;
  readonly #options: FileSinkSettings;
  readonly #device: string;
  readonly #closed: ClosedFiles;
  /** One for each stream that the sink reads. */
  readonly #series = new Map<string, FileSeries>();

  constructor(context: Context, options: FileSinkSettings, device: string) {
    this.#context = context;
    this.#options = options;
    this.#device = device;
    this.#closed = new ClosedFiles(context, {
      compress: options.compress,
      bytesMax: options.maxBytes,
    });
  }

  async open(positions: ReadonlyMap<string, Position>): Promise<void> {
    const { path, rotate: rotateMs, maxFileBytes: fileBytesMax } = this.#options;
    const lines = fileLines(this.#options.format, this.#options.columns);
    const [context, device, closed] = [this.#context, this.#device, this.#closed];
    await this.#try(async () => {
      for (const [stream, position] of positions) {
        const folder = join(path, safeFileName(stream));
        const made = await mkdir(folder, { recursive: true });
        if (made !== undefined) await syncMade(folder, made);
        const limits = { rotateMs, fileBytesMax };
        const parts = { context, device, stream, folder, ...limits, lines, position, closed };
        this.#series.set(stream, new FileSeries(parts));
      }
    });
  }

  async send(batch: Batch): Promise<SendResult> {
    const series = this.#series.get(batch.stream);
    if (series === undefined) throw new Error(`Stream ${batch.stream} was not opened`);
    const mark = await this.#try(() => series.append(batch.events, batch.format));
    return { settled: batch.events.length, refused: [], mark };
  }

  durable(stream: string, position: Position): void {
    this.#series.get(stream)?.durable(position.mark);
  }

  async close(): Promise<void> {
    await this.#closed.idle();
    const series = [...this.#series.values()];
    this.#series.clear();
    for (const one of series) await this.#try(() => one.close());
  }

  async #try<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (cause) {
      throw diskError(cause, this.#options.path);
    }
  }
}

/** What a person must mend: errno(3). The rest (ENOSPC, EDQUOT, EIO …) may pass by itself. */
const denials = new Set(["EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "ELOOP", "ENAMETOOLONG"]);

export function diskError(cause: unknown, path: string): unknown {
  const { code, errno } = cause instanceof Error ? (cause as NodeJS.ErrnoException) : {};
  // Not from the operating system: our own mistake. libuv has names for most of its errors, not for all (EDQUOT).
  if (code === undefined || errno === undefined) return cause;
  const message = `Cannot write archive ${path}: ${messageOf(cause)}`;
  return new HoldfastError(denials.has(code) ? "SINK_DENIED" : "SINK_UNREACHABLE", message, {
    cause,
  });
}

/** Each new folder's entry lies in the one above it. */
async function syncMade(folder: string, firstMade: string): Promise<void> {
  for (let made = folder; ; made = dirname(made)) {
    await syncFolder(dirname(made));
    if (made === firstMade || made === dirname(made)) return;
  }
}
