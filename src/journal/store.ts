/**
 * The file, open, with all that serves it. Opening decides what it is: whole, damaged (set aside, and salvaged while
 * the new one serves), or left open by a crash.
 */
import { existsSync } from "node:fs";
import { messageOf } from "../core/errors.ts";
import { forgetCopy } from "./compaction.ts";
import { Damages } from "./damages.ts";
import { DamagedFile, finishMove, hasWal } from "./damaged-file.ts";
import type { DiskRoom } from "./disk-room.ts";
import type { Epochs } from "./epochs.ts";
import type { JournalIdentity } from "./journal.ts";
import { identify, Ledger, markClosed } from "./ledger.ts";
import { Letters } from "./letters.ts";
import type { Turn, WorkerFigures, WorkerSetup } from "./protocol.ts";
import { JournalReader } from "./reader.ts";
import { Rescue, setAside } from "./rescue.ts";
import { Retention } from "./retention.ts";
import { isDamage, openDatabase, openInBoot, type Db } from "./sqlite.ts";
import { TurnWriter } from "./turn.ts";
import { Waiting } from "./waiting.ts";

export interface Store {
  readonly db: Db;
  readonly ledger: Ledger;
  readonly writer: TurnWriter;
  readonly reader: JournalReader;
  readonly identity: JournalIdentity;
  readonly epochs: Epochs;
  readonly figures: WorkerFigures;
  readonly damages: Damages;
  readonly waiting: Waiting;
  /** While what was left of a damaged file is being taken over. */
  readonly rescue: Rescue | null;
  /** It was not closed in order: what a crash may have done to it shows when it is read through. */
  readonly wasLeftOpen: boolean;
  /** Its log was gone: up to where each stream is known. What came after that, if anything did, is lost. */
  readonly lostAfter: ReadonlyMap<string, number> | null;
  /** Writes what waited, by the boot that it came in. */
  readonly writerOf: (boot: string) => TurnWriter;
}

/** How the file was found. */
interface Found {
  readonly wasThere: boolean;
  readonly hadWal: boolean;
}

export class StoreOpener {
  readonly #setup: WorkerSetup;
  readonly #openedAt: Turn["now"];
  readonly #room: DiskRoom;
  readonly #monotonicMs: () => number;
  readonly #wallLessMonotonicMs: number;
  /** What was known before the file had to be opened again. */
  #earlier: Ledger | undefined;
  /** SQLite met damage while it served. */
  #condemned: string | null = null;

  constructor(
    setup: WorkerSetup,
    openedAt: Turn["now"],
    room: DiskRoom,
    monotonicMs: () => number,
  ) {
    this.#setup = setup;
    this.#openedAt = openedAt;
    this.#room = room;
    this.#monotonicMs = monotonicMs;
    this.#wallLessMonotonicMs = openedAt.wallMs - monotonicMs();
  }

  /** The file is set aside when it is opened next, where `error` is damage. */
  condemnFor(error: unknown): void {
    if (isDamage(error)) this.#condemned = messageOf(error);
  }

  /** @throws HoldfastError as `openDatabase` */
  open(): Store {
    const { path } = this.#setup;
    finishMove(path);
    forgetCopy(path);
    try {
      if (this.#condemned !== null) throw new DamagedFile(path, this.#condemned);
      return this.#openFile();
    } catch (error) {
      if (!isDamage(error)) throw error;
      setAside(this.#setup, this.#monotonicMs() + this.#wallLessMonotonicMs);
      this.#condemned = null;
      return this.#openFile();
    }
  }

  #openFile(): Store {
    const { path, durability, fault, maxBytes } = this.#setup;
    const found = { wasThere: existsSync(path), hadWal: hasWal(path) };
    const synchronous = durability === "power-loss" ? "FULL" : "NORMAL";
    const db = openDatabase({
      path,
      synchronous: fault === "synchronous-off" ? "OFF" : synchronous,
      leavesFolders: fault === "folder-not-synced",
      maxBytes,
    });
    try {
      return this.build(db, found);
    } catch (error) {
      // Left open it would lock out the next attempt.
      db.close();
      throw error;
    }
  }

  /** All that serves an open file; `found` is left out where it was open before. */
  build(db: Db, found?: Found): Store {
    const rescue = Rescue.of(db, this.#setup.path);
    const isFirst = found !== undefined && this.#earlier === undefined;
    const wasLeftOpen = isFirst && (openInBoot(db) ?? "") !== "";
    // A file that is not closed has its log beside it.
    const hasLostWal = wasLeftOpen && found.wasThere && !found.hadWal && rescue === null;
    const begun = rescue?.begin() ?? (hasLostWal ? { lostOrdinals: 0 } : undefined);
    const reason = hasLostWal ? "log lost" : "salvaged";
    const isNewHistory = begun && { ...begun, reason };
    const { identity, ...ordinals } = identify(db, this.#setup, this.#openedAt, isNewHistory);
    if (found !== undefined) tellFileItIsOpen(db);
    rescue?.begun();
    const ledger = new Ledger(db);
    ledger.load(this.#setup.groups, rescue === null ? this.#earlier : undefined);
    this.#earlier = ledger;
    const letters = new Letters(db, ledger, this.#setup.maxBytes, this.#setup.maxAgeMs);
    const retention = new Retention(db, ledger, this.#setup);
    this.#room.attach(db, retention);
    const damages = new Damages(db);
    const waiting = new Waiting(db, this.#setup.maxBytes);
    const writer = (boot: number): TurnWriter =>
      new TurnWriter(
        db,
        ledger,
        retention,
        letters,
        { ...ordinals, boot },
        this.#room,
        this.#monotonicMs,
        damages,
        waiting,
      );
    const figures = {
      ...ledger.everything(),
      ...retention.space(),
    };
    const heads = new Map(figures.streams.map(([stream, { head }]) => [stream, head]));
    return {
      db,
      ledger,
      identity,
      epochs: ordinals.epochs,
      writer: writer(ordinals.boot),
      reader: new JournalReader(db, ledger, ordinals.epochs),
      figures,
      damages,
      waiting,
      rescue,
      wasLeftOpen,
      lostAfter: hasLostWal ? heads : null,
      writerOf: (boot: string): TurnWriter => {
        db.prepare("INSERT OR IGNORE INTO boot (uuid) VALUES (?)").run(boot);
        return writer(
          db.prepare("SELECT ordinal FROM boot WHERE uuid = ?").pluck().get(boot) as number,
        );
      },
    };
  }
}

/** That it is open stands in the log alone until then: who finds no log could not know that there was one. */
function tellFileItIsOpen(db: Db): void {
  try {
    db.pragma("wal_checkpoint(PASSIVE)");
  } catch {
    // Without room, or on a disk that fails: the next turn says so, and the log moves into the file later.
  }
}

/** Closes it as one that is whole; where that cannot be written the next start finds it as after a crash. */
export function closeStore(store: Store | undefined): void {
  try {
    if (store !== undefined) markClosed(store.db);
  } catch {
    // Without room, or on a disk that fails.
  }
  try {
    store?.db.close();
  } catch {
    // The disk fails: what could be lost by that was never acknowledged.
  }
}
