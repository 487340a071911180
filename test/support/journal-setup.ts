/** How tests, proofs and benches make a journal: in a file of that path, with what they say otherwise. */
import type { JournalSetup } from "../../src/journal/thread.ts";

const dayMs = 86_400_000;

type Settings = JournalSetup["settings"];

export function journalSetup(
  path: string,
  settings: Partial<Omit<Settings, "path">> = {},
  more: Partial<Omit<JournalSetup, "settings" | "path">> = {},
): JournalSetup {
  return {
    settings: {
      path,
      durability: "power-loss",
      linger: 5,
      maxBytes: 64 * 1024 * 1024,
      maxAge: 30 * dayMs,
      onFull: "drop-oldest",
      ...settings,
    },
    path,
    device: "board-1",
    board: null,
    streams: new Map(),
    onFatal: (error) => {
      throw error;
    },
    ...more,
  };
}
