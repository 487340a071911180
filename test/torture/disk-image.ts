/**
 * A disk between two syncs: what is certainly on it, and what a power cut may or may not have left there.
 *
 * Certain is only what fsync(2) promises: the data and size of a file after its own sync, an entry of a folder after
 * the folder's. File systems are kinder in practice (ext4 keeps the order of its own journal), but none promises more.
 * An unsynced write may be there, be missing, be there without an earlier one, be torn at a sector of 512 bytes or a
 * page of 4 KiB, or have left its length and zeros in its place. Changes of one folder keep their order, as every
 * journalling file system has it; how many of them are there is open.
 */
import { dirname } from "node:path";
import type { DiskCall } from "./disk-trace.ts";

interface Piece {
  readonly at: number;
  readonly data: Buffer;
}

type Change =
  | { readonly kind: "write"; readonly at: number; readonly data: Buffer }
  | { readonly kind: "size"; readonly size: number; readonly isLeast: boolean };

/** A file's content, whatever names it. */
interface Content {
  durable: Buffer;
  pending: Change[];
}

type EntryChange =
  | { readonly kind: "add"; readonly path: string; readonly content: Content | null }
  | { readonly kind: "remove"; readonly path: string }
  | { readonly kind: "rename"; readonly path: string; readonly to: string };

/** What a cut leaves of the unsynced changes of files and folders. */
export interface Survival {
  readonly name: string;
  /** What of a write is there: null nothing, else the pieces; `zeros`: its length alone. */
  write(change: Piece, index: number, count: number): readonly Piece[] | "zeros" | null;
  /** Whether a pending change of size is there. */
  size(index: number, count: number): boolean;
  /** How many of a folder's pending changes are there. */
  entries(count: number): number;
}

/** Files by path; a folder is null. */
export type Image = ReadonlyMap<string, Buffer | null>;

export class DiskModel {
  /** As a running process sees it. */
  readonly #live = new Map<string, Content | null>();
  readonly #durable = new Map<string, Content | null>();
  readonly #pendingEntries: EntryChange[] = [];
  readonly #root: string;

  /** `root`: a folder that is there before anything happens. */
  constructor(root: string) {
    this.#root = root;
  }

  apply(call: DiskCall): void {
    switch (call.kind) {
      case "mkdir":
        return this.#add(call.path, null);
      case "create":
        return this.#add(call.path, { durable: Buffer.alloc(0), pending: [] });
      case "unlink":
        this.#live.delete(call.path);
        this.#pendingEntries.push({ kind: "remove", path: call.path });
        return;
      case "rename": {
        const content = this.#live.get(call.path) ?? null;
        this.#live.delete(call.path);
        this.#live.set(call.to, content);
        this.#pendingEntries.push({ kind: "rename", path: call.path, to: call.to });
        return;
      }
      case "write":
        this.#content(call.path).pending.push({ kind: "write", at: call.at, data: call.data });
        return;
      case "copy": {
        const whole = patched(this.#content(call.from), everything);
        const data = whole.subarray(call.fromAt, call.fromAt + call.size);
        this.#content(call.path).pending.push({ kind: "write", at: call.at, data });
        return;
      }
      case "truncate":
      case "grow":
        this.#content(call.path).pending.push({
          kind: "size",
          size: call.size,
          isLeast: call.kind === "grow",
        });
        return;
      case "sync":
        return this.#sync(call.path);
      case "said":
        return;
    }
  }

  /** True when a cut now could leave more than one image. */
  get isOpen(): boolean {
    if (this.#pendingEntries.length > 0) return true;
    return [...this.#live.values()].some((content) => (content?.pending.length ?? 0) > 0);
  }

  #add(path: string, content: Content | null): void {
    this.#live.set(path, content);
    this.#pendingEntries.push({ kind: "add", path, content });
  }

  #content(path: string): Content {
    const content = this.#live.get(path);
    if (content === undefined || content === null) throw new Error(`There is no file ${path}`);
    return content;
  }

  #sync(path: string): void {
    const content = this.#live.get(path);
    if (content !== null && content !== undefined) {
      content.durable = patched(content, everything);
      content.pending = [];
      return;
    }
    const isHere = (entry: EntryChange): boolean => dirname(entry.path) === path;
    for (const entry of this.#pendingEntries.filter(isHere)) change(this.#durable, entry);
    const rest = this.#pendingEntries.filter((entry) => !isHere(entry));
    this.#pendingEntries.splice(0, this.#pendingEntries.length, ...rest);
  }

  /** What is there after a cut at this moment. */
  image(survival: Survival): Image {
    const entries = new Map(this.#durable);
    const survivors = survival.entries(this.#pendingEntries.length);
    for (const entry of this.#pendingEntries.slice(0, survivors)) change(entries, entry);
    const files = new Map<string, Buffer | null>();
    for (const [path, content] of entries) {
      // What lies in a folder that is not there is not there either.
      if (this.#hasFolders(path, entries)) files.set(path, content && patched(content, survival));
    }
    return files;
  }

  #hasFolders(path: string, entries: ReadonlyMap<string, unknown>): boolean {
    const folder = dirname(path);
    return folder === this.#root || (entries.has(folder) && this.#hasFolders(folder, entries));
  }
}

/** All that was written is there. */
export const everything: Survival = {
  name: "kept",
  write: (piece) => [piece],
  size: () => true,
  entries: (count) => count,
};

function change(entries: Map<string, Content | null>, entry: EntryChange): void {
  if (entry.kind === "add") entries.set(entry.path, entry.content);
  else if (entry.kind === "remove") entries.delete(entry.path);
  else {
    const moved = entries.get(entry.path);
    entries.delete(entry.path);
    if (moved !== undefined) entries.set(entry.to, moved);
  }
}

function patched({ durable, pending }: Content, survival: Survival): Buffer {
  let bytes = durable;
  let isOwn = false;
  const resize = (size: number): void => {
    const next = Buffer.alloc(size);
    bytes.copy(next);
    bytes = next;
    isOwn = true;
  };
  for (const [index, one] of pending.entries()) {
    if (one.kind === "size") {
      const size = one.isLeast ? Math.max(one.size, bytes.length) : one.size;
      if (survival.size(index, pending.length)) resize(size);
      continue;
    }
    const left = survival.write(one, index, pending.length);
    if (left === null) continue;
    const pieces = left === "zeros" ? [] : left;
    const end =
      left === "zeros"
        ? one.at + one.data.length
        : Math.max(0, ...pieces.map(({ at, data }) => at + data.length));
    if (end > bytes.length) resize(end);
    else if (!isOwn) {
      bytes = Buffer.from(bytes);
      isOwn = true;
    }
    for (const { at, data } of pieces) data.copy(bytes, at);
  }
  return bytes;
}

/** The ways in which one cut is played, each drawn anew from `random`. */
export function survivals(random: () => number): readonly Survival[] {
  const chosen = (): number => Math.floor(random() * 2 ** 31);
  const drawn = (seed: number, index: number): number => {
    // The same answer for the same change, however often the image is built.
    const mixed = Math.imul(seed ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b) >>> 0;
    return mixed / 2 ** 32;
  };
  const torn = (unit: number): Survival => {
    const seed = chosen();
    return {
      ...everything,
      name: `torn at ${unit}`,
      write: (piece, index, count) =>
        index < count - 3 ? [piece] : pieces(piece, unit, (at) => drawn(seed, at) < 0.5),
    };
  };
  const [mix, sizes, names, one] = [chosen(), chosen(), chosen(), chosen()];
  return [
    { ...everything, name: "dropped", write: () => null, size: () => false, entries: () => 0 },
    everything,
    {
      name: "some",
      write: (piece, index) => (drawn(mix, index) < 0.5 ? [piece] : null),
      size: (index) => drawn(sizes, index) < 0.5,
      entries: (count) => Math.floor(drawn(names, count) * (count + 1)),
    },
    {
      ...everything,
      name: "later without earlier",
      write: (piece, index, count) => (index >= count / 2 ? [piece] : null),
      size: (index, count) => index >= count / 2,
    },
    { ...everything, name: "names without data", write: () => null, size: () => false },
    { ...everything, name: "data without names", entries: () => 0 },
    { ...everything, name: "zeros in place of data", write: () => "zeros" },
    torn(512),
    torn(4096),
    {
      ...everything,
      name: "one missing",
      write: (piece, index, count) => (index === one % count ? null : [piece]),
    },
    {
      ...everything,
      name: "one torn",
      write: (piece, index, count) =>
        index === one % count ? pieces(piece, 512, (at) => drawn(one, at) < 0.5) : [piece],
    },
  ];
}

function pieces(piece: Piece, unit: number, isThere: (at: number) => boolean): Piece[] {
  const left: Piece[] = [];
  for (let at = piece.at; at < piece.at + piece.data.length;) {
    const end = Math.min((Math.floor(at / unit) + 1) * unit, piece.at + piece.data.length);
    if (isThere(at)) left.push({ at, data: piece.data.subarray(at - piece.at, end - piece.at) });
    at = end;
  }
  return left;
}
