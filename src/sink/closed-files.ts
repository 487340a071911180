/**
 * What becomes of an archive's files once they are closed: compressed, and the oldest removed when all together
 * are too large. One file at a time, in the background.
 *
 * A file is closed for good when the cursor that is on disk points past it (`Sink.durable`): until then a crash
 * may send us back to it. Each step leaves something whole:
 *
 *   X.ndjson ─► X.ndjson.gz.tmp, synced ─► renamed to X.ndjson.gz, folder synced ─► X.ndjson removed
 *
 * A crash in the first step leaves a .tmp, which the next round removes; between the last two, both forms, of
 * which the next round removes the plain one.
 *
 * Bound: what waits is one entry for each stream; the list of files is read from the folder when its turn comes.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import type { FileFormat } from "./file-lines.ts";

/** `readings-0000000000000001-5eed0000.ndjson`: stream, first seq (2^53 has 16 digits), start of the epoch. */
const fileName = /-(\d{16})-([0-9a-f]{8})\.(ndjson|csv)(\.gz)?$/;

export interface ArchiveFile {
  readonly name: string;
  readonly firstSeq: number;
  readonly epochTag: string;
  readonly format: FileFormat;
  readonly compressed: boolean;
}

export interface ClosedFilesOptions {
  readonly compress: "none" | "gzip";
  /** The most that all files may hold together; undefined: no limit. */
  readonly bytesMax: number | undefined;
}

export class ClosedFiles {
  readonly #context: Context;
  readonly #options: ClosedFilesOptions;
  /** By folder: the names that a cursor on disk, or the writer, still needs. */
  readonly #needed = new Map<string, readonly string[]>();
  readonly #waiting = new Set<string>();
  #stop = new AbortController();
  #running: Promise<void> | null = null;

  constructor(context: Context, options: ClosedFilesOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** All of `folder` but these may be tidied. */
  tidy(folder: string, needed: readonly string[]): void {
    this.#needed.set(folder, needed);
    this.#waiting.add(folder);
    this.#running ??= this.#run();
  }

  /** Stops what is under way and waits for it: somebody is about to remove files. The next `tidy` goes on. */
  async idle(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    this.#stop = new AbortController();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    try {
      while (this.#waiting.size > 0) {
        const failed: unknown[] = [];
        for (const folder of this.#waiting) {
          this.#waiting.delete(folder);
          await this.#tidyFolder(folder, signal).catch((error: unknown) => failed.push(error));
          signal.throwIfAborted();
        }
        // A full disk leaves no room to compress, and the more for removing what is too much.
        await this.#prune();
        if (failed.length > 0) throw failed[0];
      }
    } catch (error) {
      // Nothing is lost: the files stay as they are until the next round.
      if (!signal.aborted) {
        this.#context.log.warn(`Cannot tidy archive: ${messageOf(error)}`, {
          sink: this.#context.name,
        });
      }
    } finally {
      this.#running = null;
    }
  }

  async #tidyFolder(folder: string, signal: AbortSignal): Promise<void> {
    for (const name of await namesIn(folder)) {
      if (name.endsWith(".tmp")) await rm(join(folder, name), { force: true });
    }
    if (this.#options.compress === "none") return;
    for (const file of await archiveFiles(folder)) {
      if (file.compressed || (this.#needed.get(folder)?.includes(file.name) ?? true)) continue;
      await compress(folder, file.name, signal);
    }
  }

  /** Removes the oldest closed files until all fit. Folders of which nothing is known are left alone. */
  async #prune(): Promise<void> {
    const { bytesMax } = this.#options;
    if (bytesMax === undefined) return;
    const closed: { folder: string; name: string; bytes: number; modifiedAt: number }[] = [];
    let total = 0;
    for (const [folder, needed] of this.#needed) {
      for (const { name } of await archiveFiles(folder)) {
        const { size, mtimeMs } = await stat(join(folder, name));
        total += size;
        if (!needed.includes(name)) closed.push({ folder, name, bytes: size, modifiedAt: mtimeMs });
      }
    }
    closed.sort((a, b) => a.modifiedAt - b.modifiedAt || (a.name < b.name ? -1 : 1));
    for (const { folder, name, bytes } of closed) {
      if (total <= bytesMax) return;
      await rm(join(folder, name), { force: true });
      await syncFolder(folder);
      total -= bytes;
      this.#context.log.info(`Removed ${name}: the archive holds more than its maxBytes`, {
        sink: this.#context.name,
      });
    }
  }
}

async function compress(folder: string, name: string, signal: AbortSignal): Promise<void> {
  const plain = join(folder, name);
  const done = `${plain}.gz`;
  const { atime, mtime } = await stat(plain);
  if (!(await namesIn(folder)).includes(`${name}.gz`)) {
    const half = `${done}.tmp`;
    // `flush` syncs before the stream ends, so what is renamed is whole on disk.
    const writer = createWriteStream(half, { flush: true });
    try {
      await pipeline(createReadStream(plain), createGzip(), writer, { signal });
      // It keeps the time of its events, by which the oldest is found.
      await utimes(half, atime, mtime);
    } catch (error) {
      // On a full disk it has taken the last of it.
      await rm(half, { force: true });
      throw error;
    }
    await rename(half, done);
    await syncFolder(folder);
  }
  await rm(plain, { force: true });
  await syncFolder(folder);
}

/** Files of an archive in `folder`, by first seq. */
export async function archiveFiles(folder: string): Promise<ArchiveFile[]> {
  const files: ArchiveFile[] = [];
  for (const name of (await namesIn(folder)).sort()) {
    const match = fileName.exec(name);
    if (match === null) continue;
    const [, seq = "", epochTag = "", format, end] = match;
    files.push({
      name,
      firstSeq: Number(seq),
      epochTag,
      format: format as FileFormat,
      compressed: end !== undefined,
    });
  }
  return files;
}

/** A file's entry in its folder is durable only when the folder is synced, fsync(2). */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
