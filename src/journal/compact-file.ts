/** Compaction of a stopped agent's file, by whoever asks for it; a running agent does it itself (worker.ts). */
import { statSync } from "node:fs";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { Compaction, isWorthIt, spaceOf, takePlace } from "./compaction.ts";
import { finishMove, hasWal } from "./damaged-file.ts";
import type { CompactResult } from "./journal.ts";
import { markClosed } from "./ledger.ts";
import { Rescue } from "./rescue.ts";
import { isDamage, openDatabase, openInBoot, type Db } from "./sqlite.ts";
import { Waiting } from "./waiting.ts";

/** Beside what the file holds, bytes: what its log may bring. */
const growthBytes = 64 * 1024 * 1024;

/**
 * `onProgress` is told the share that is done, 0 to 1. After a kill the file is as it was, or compacted.
 * @throws HoldfastError JOURNAL_LOCKED: an agent has it; JOURNAL_FULL: no room for the copy; JOURNAL_UNAVAILABLE: an
 *   agent has to be started first, which takes in or tells what a crash has left; JOURNAL_FOREIGN
 */
export async function compactFile(
  path: string,
  onProgress: (share: number) => void,
): Promise<CompactResult> {
  finishMove(path);
  const maxBytes = statSync(path).size * 2 + growthBytes;
  const db = openWhole(path, maxBytes);
  let beforeBytes: number;
  try {
    const space = spaceOf(db);
    beforeBytes = space.fileBytes;
    if (!isWorthIt(space)) {
      // Its log goes now: without this the next start would miss it.
      markClosed(db);
      return { beforeBytes, afterBytes: beforeBytes };
    }
    await copyAll(new Compaction(db, path, maxBytes), onProgress);
  } finally {
    db.close();
  }
  takePlace(path);
  return { beforeBytes, afterBytes: statSync(path).size };
}

async function copyAll(copy: Compaction, onProgress: (share: number) => void): Promise<void> {
  try {
    for (let share = copy.slice(); share !== null; share = copy.slice()) {
      onProgress(share);
      await copy.settle();
    }
    copy.complete();
  } catch (error) {
    copy.abandon();
    throw error;
  }
}

function openWhole(path: string, maxBytes: number): Db {
  const hadWal = hasWal(path);
  let db: Db;
  try {
    db = openDatabase({ path, synchronous: "FULL", maxBytes });
  } catch (error) {
    if (!isDamage(error)) throw error;
    throw startFirst(path, `it is damaged (${messageOf(error)})`);
  }
  try {
    if ((openInBoot(db) ?? "") !== "" && !hadWal)
      throw startFirst(path, "a crash has cost it its log");
    if (Rescue.of(db, path) !== null || !new Waiting(db, maxBytes).isEmpty)
      throw startFirst(path, "it is still taking in what is left of a damaged file");
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function startFirst(path: string, why: string): HoldfastError {
  return new HoldfastError(
    "JOURNAL_UNAVAILABLE",
    `Cannot compact journal ${path}: ${why}; start the agent, which mends that, then compact`,
  );
}
