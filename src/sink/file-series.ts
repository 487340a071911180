/**
 * One stream's files: each event in them exactly once.
 *
 * The mark that lies with the cursor says how far the newest file is confirmed: `{ file, bytes, seq, openedAt }`.
 * `append` writes, syncs, and only then gives the mark that covers what it wrote. So at any moment the files are
 * what the cursor says, and behind that, perhaps, what was written but not confirmed:
 *
 *   crash before or in the write        the file ends in nothing, or in a torn line, behind the mark
 *   crash between sync and cursor       whole lines behind the mark, perhaps a newer file
 *
 * Either way the events behind the mark will be sent again. The first `append` after an opening therefore cuts the
 * file to the mark, removes the files of this epoch that begin behind it, and goes on there.
 *
 * A file holds one epoch and its name says which, so that a new journal, which counts from 1 again, never touches
 * the archive of the one before. Where a new epoch begins and lines of the old one lie behind the mark, the journal
 * has lost them (`durability: crash` and a power cut): they are kept, being the only copy.
 */
import { open, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "../core/context.ts";
import type { PayloadFormat, StoredEvent } from "../core/event.ts";
import { archiveFiles, type ClosedFiles, syncFolder } from "./closed-files.ts";
import { readableEnd, type FileFormat, type FileLines } from "./file-lines.ts";
import type { Position } from "./sink.ts";

export interface FileSeriesParts {
  readonly context: Context;
  readonly device: string;
  readonly stream: string;
  /** Exists. */
  readonly folder: string;
  readonly rotateMs: number;
  readonly fileBytesMax: number;
  readonly lines: FileLines;
  readonly position: Position;
  readonly closed: ClosedFiles;
}

interface Mark {
  readonly file: string;
  readonly bytes: number;
  /** The last event in it. */
  readonly seq: number;
  /** Wall clock ms when the file was begun; a clock that steps costs one early rotation at the most. */
  readonly openedAt: number;
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly name: string;
  readonly epochTag: string;
  openedAt: number;
  bytes: number;
  seq: number;
}

export class FileSeries {
  readonly #parts: FileSeriesParts;
  readonly #mark: Mark | null;
  #recovered = false;
  #file: OpenFile | null = null;
  /** The file of the newest mark that is on disk, and all begun since. */
  #needed: string[] = [];

  constructor(parts: FileSeriesParts) {
    this.#parts = parts;
    this.#mark = parseMark(parts.position.mark);
    if (this.#mark !== null) this.#needed = [this.#mark.file];
  }

  /** Resolves with the mark when all of `events`, which is not empty, is on disk. */
  async append(events: readonly StoredEvent[], format: PayloadFormat | undefined): Promise<string> {
    if (!this.#recovered) await this.#recover(events[0] as StoredEvent);
    for (const run of runsOfOneEpoch(events)) {
      const unheld = run.filter((event) => !this.#holds(event));
      if (unheld.length > 0) await this.#write(unheld, format);
    }
    const file = this.#file as OpenFile;
    await file.handle.datasync();
    const { name, bytes, seq, openedAt } = file;
    return JSON.stringify({ file: name, bytes, seq, openedAt } satisfies Mark);
  }

  /** The cursor with this mark is on disk. */
  durable(text: string | null): void {
    const mark = parseMark(text);
    if (mark === null) return;
    const at = this.#needed.indexOf(mark.file);
    this.#needed = at >= 0 ? this.#needed.slice(at) : [mark.file, ...this.#needed];
    this.#parts.closed.tidy(this.#parts.folder, this.#needed);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.handle.close();
  }

  /** A replay of what the newest file already has: it is there once, and stays there once. */
  #holds(event: StoredEvent): boolean {
    const file = this.#file;
    return file !== null && event.seq <= file.seq && tagOf(event) === file.epochTag;
  }

  async #write(events: readonly StoredEvent[], format: PayloadFormat | undefined): Promise<void> {
    const { context, device, rotateMs, fileBytesMax } = this.#parts;
    const [first, last] = [events[0] as StoredEvent, events.at(-1) as StoredEvent];
    const lines = this.#parts.lines.of(events, device, format);
    if (this.#file !== null) {
      const age = context.clock.wallMs() - this.#file.openedAt;
      // The clock has been put back: the age counts from now on.
      if (age < 0) this.#file.openedAt = context.clock.wallMs();
      const isFull = this.#file.bytes > 0 && this.#file.bytes + lines.length > fileBytesMax;
      if (isFull || age >= rotateMs || this.#file.epochTag !== tagOf(first)) await this.#finish();
    }
    const file = (this.#file ??= await this.#begin(first));
    await writeAll(file.handle, lines, file.bytes);
    file.bytes += lines.length;
    file.seq = last.seq;
  }

  async #begin(first: StoredEvent): Promise<OpenFile> {
    const { context, stream, folder, lines } = this.#parts;
    const epochTag = tagOf(first);
    await this.#removeUnconfirmed(epochTag, first.seq);
    const seq = String(first.seq).padStart(16, "0");
    const name = `${safeFileName(stream)}-${seq}-${epochTag}.${lines.format}`;
    // Before the file is there: a tidying that is under way must not take it for a closed one.
    if (!this.#needed.includes(name)) this.#needed.push(name);
    // "wx": what was there and unconfirmed is removed, so nothing is ever written over.
    const handle = await open(join(folder, name), "wx");
    await syncFolder(folder);
    await writeAll(handle, lines.head, 0);
    return {
      handle,
      name,
      epochTag,
      openedAt: context.clock.wallMs(),
      bytes: lines.head.length,
      seq: first.seq - 1,
    };
  }

  async #finish(): Promise<void> {
    await this.#file?.handle.datasync();
    await this.close();
  }

  /** Goes back to the mark. `first` is the event that will follow it. */
  async #recover(first: StoredEvent): Promise<void> {
    this.#file = await this.#reopen(first);
    // After a replay the file has more than `first`: what begins behind the file is unconfirmed.
    await this.#removeUnconfirmed(tagOf(first), Math.max(first.seq, (this.#file?.seq ?? 0) + 1));
    this.#recovered = true;
  }

  async #reopen(first: StoredEvent): Promise<OpenFile | null> {
    const { context, folder, lines } = this.#parts;
    const mark = this.#mark;
    if (mark === null) return null;
    const { epochTag, format } =
      (await archiveFiles(folder)).find(({ name }) => name === mark.file) ?? {};
    if (epochTag === undefined || format === undefined) {
      context.log.warn(`Archive file ${mark.file} is gone: a new one begins at ${first.seq}`);
      return null;
    }
    const handle = await open(join(folder, mark.file), "r+");
    try {
      const { size } = await handle.stat();
      const isWhole = size >= mark.bytes;
      if (!isWhole) {
        context.log.warn(
          `Archive file ${mark.file} lost ${mark.bytes - size} bytes of what was confirmed`,
        );
      }
      const isOurs = isWhole && epochTag === tagOf(first);
      // Somebody has asked for the other format since: what follows the mark follows in a new file.
      const goesOn = isOurs && format === lines.format;
      const kept = isWhole ? await linesEnd(handle, mark.bytes, size, format) : size;
      const cutTo = isOurs ? mark.bytes : kept;
      if (cutTo < size) {
        await handle.truncate(cutTo);
        await handle.sync();
        context.log.info(`Cut ${size - cutTo} unconfirmed bytes off ${mark.file}`);
      }
      if (goesOn) {
        return {
          handle,
          name: mark.file,
          epochTag,
          openedAt: mark.openedAt,
          bytes: cutTo,
          seq: mark.seq,
        };
      }
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return null;
  }

  /** Seq only grows in an epoch, so what begins at or after the next event cannot have been confirmed. */
  async #removeUnconfirmed(epochTag: string, nextSeq: number): Promise<void> {
    const { context, folder, closed } = this.#parts;
    const isUnconfirmed = (file: { epochTag: string; firstSeq: number }): boolean =>
      file.epochTag === epochTag && file.firstSeq >= nextSeq;
    if (!(await archiveFiles(folder)).some(isUnconfirmed)) return;
    await closed.idle();
    for (const file of (await archiveFiles(folder)).filter(isUnconfirmed)) {
      await rm(join(folder, file.name), { force: true });
      context.log.info(`Removed ${file.name}: its events were never confirmed and follow again`);
    }
    await syncFolder(folder);
  }
}

/** The epoch's first 8 hex digits: enough to tell the histories of one device apart. */
function tagOf(event: StoredEvent): string {
  return event.epoch.replaceAll("-", "").slice(0, 8).padEnd(8, "0");
}

/** A stream's name as a file's name; the names that a configuration allows stay as they are. */
export function safeFileName(stream: string): string {
  return encodeURIComponent(stream).replaceAll("*", "%2A").replace(/^\./, "%2E");
}

function parseMark(text: string | null): Mark | null {
  if (text === null) return null;
  try {
    const { file, bytes, seq, openedAt } = JSON.parse(text) as Partial<Mark>;
    if (file === undefined || bytes === undefined || seq === undefined) return null;
    return { file, bytes, seq, openedAt: openedAt ?? 0 };
  } catch {
    return null;
  }
}

function* runsOfOneEpoch(events: readonly StoredEvent[]): Generator<readonly StoredEvent[]> {
  let start = 0;
  for (let end = 1; end <= events.length; end++) {
    if (end < events.length && events[end]?.epoch === events[start]?.epoch) continue;
    yield events.slice(start, end);
    start = end;
  }
}

/** write(2) may take less than it was given. */
async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const result = await handle.write(bytes, written, bytes.length - written, position + written);
    written += result.bytesWritten;
  }
}

/** Where the lines that can be read end, looking from `from` on; what a power cut tore lies behind that. */
async function linesEnd(
  handle: FileHandle,
  from: number,
  size: number,
  format: FileFormat,
): Promise<number> {
  const tail = Buffer.alloc(size - from);
  const { bytesRead } = await handle.read(tail, 0, tail.length, from);
  return from + readableEnd(tail.subarray(0, bytesRead), format);
}
