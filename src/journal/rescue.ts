/**
 * A salvage as the worker runs it: the damaged file set aside, then step after step until the new one has all that
 * was left. That it is under way is a row of the new file (`salvaging`), so that a start after a crash goes on.
 */
import { basename, dirname, join, resolve } from "node:path";
import { mkdirSync, rmSync } from "node:fs";
import { damagedPathOf, moveAside, newPathOf } from "./damaged-file.ts";
import type { Damages } from "./damages.ts";
import type { Damage } from "./journal.ts";
import { lostOrdinals, Salvage } from "./salvage.ts";
import { openDatabase, type Db } from "./sqlite.ts";

/** Progress is told this often, ms. */
const tellEveryMs = 1_000;

/** Moves the damaged file aside; a new one, which knows of it, takes its place. */
export function setAside(setup: { path: string; maxBytes: number }, wallMs: number): void {
  const { path, maxBytes } = setup;
  const made = newPathOf(path);
  mkdirSync(dirname(resolve(path)), { recursive: true });
  for (const end of ["", "-wal", "-journal"]) rmSync(made + end, { force: true });
  const damagedPath = damagedPathOf(path, wallMs);
  const db = openDatabase({ path: made, synchronous: "FULL", maxBytes });
  try {
    db.prepare("INSERT INTO meta VALUES ('salvaging', ?)").run(basename(damagedPath));
  } finally {
    db.close();
  }
  moveAside(path, damagedPath);
}

export class Rescue {
  readonly file: string;
  readonly #db: Db;
  readonly #salvage: Salvage;
  readonly #steps: Generator<void>;
  #nextTellMs = 0;

  private constructor(db: Db, path: string, file: string) {
    this.#db = db;
    this.file = file;
    this.#salvage = new Salvage(db, join(dirname(resolve(path)), file));
    this.#steps = this.#salvage.steps();
  }

  /** null: nothing is to be salvaged. */
  static of(db: Db, path: string): Rescue | null {
    const file = db.prepare("SELECT value FROM meta WHERE name = 'salvaging'").pluck().get();
    return typeof file === "string" ? new Rescue(db, path, file) : null;
  }

  /** The small tables; gives back what the new epoch must know, where it has not begun yet. */
  begin(): { lostOrdinals: number } | undefined {
    const isBegun = this.#db.prepare("SELECT 1 FROM meta WHERE name = 'salvage-begun'").get();
    const lost = this.#salvage.begin();
    if (isBegun !== undefined) return undefined;
    return { lostOrdinals: lost.lostOrdinals ? lostOrdinals : 0 };
  }

  begun(): void {
    this.#db.prepare("INSERT OR IGNORE INTO meta VALUES ('salvage-begun', '1')").run();
  }

  /** Gives back the progress when it is to be told. */
  step(nowMs: number): number | "done" | null {
    if (this.#steps.next().done === true) return "done";
    if (nowMs < this.#nextTellMs) return null;
    this.#nextTellMs = nowMs + tellEveryMs;
    return this.#salvage.progress;
  }

  finish(damages: Damages): { damaged: readonly Damage[]; heads: ReadonlyMap<string, number> } {
    const { lost, heads } = this.#salvage.finish((ranges) => damages.note(ranges));
    this.#salvage.close();
    return { damaged: lost, heads };
  }
}
