/** How the worker is told to keep the file. */
import type { GroupDeclaration } from "./journal.ts";
import type { WorkerSetup } from "./protocol.ts";
import type { JournalSetup } from "./thread.ts";

export function workerSetupOf(
  setup: JournalSetup,
  groups: readonly GroupDeclaration[],
  bootId: string,
): WorkerSetup {
  const { settings, path, device, board, streams, fault } = setup;
  return {
    path,
    device,
    board,
    groups,
    durability: settings.durability,
    maxBytes: settings.maxBytes,
    maxAgeMs: settings.maxAge,
    dropOldest: settings.onFull === "drop-oldest",
    bootId,
    streams,
    ...(fault !== undefined && { fault }),
  };
}
