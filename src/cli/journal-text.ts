/** What `holdfast journal` says the same way of a file and of a running agent's journal. */
import { formatSize } from "../core/quantity.ts";
import type { CompactResult, Damage } from "../journal/journal.ts";
import type { Io } from "./command.ts";
import { plain } from "./print.ts";

export function damageText(damaged: readonly Damage[]): string {
  return damaged
    .map(({ stream, from, to }) => `Damaged: ${plain(stream)} ${from} to ${to}\n`)
    .join("");
}

export function compactText({ beforeBytes, afterBytes }: CompactResult): string {
  if (afterBytes >= beforeBytes)
    return `There was little to give back: the file has ${formatSize(afterBytes)}\n`;
  const given = formatSize(beforeBytes - afterBytes);
  return `Gave back ${given}: the file has ${formatSize(afterBytes)}, and had ${formatSize(beforeBytes)}\n`;
}

/** One line that a person at a terminal sees grow while `run` goes on; nothing for programs. */
export async function withProgress<Result>(
  io: Io,
  what: string,
  run: (show: (share: number) => void) => Promise<Result>,
): Promise<Result> {
  let shown = -1;
  try {
    return await run((share) => {
      const percent = Math.floor(share * 100);
      if (!io.isTerminal || percent === shown) return;
      shown = percent;
      io.err(`\r${what} ${percent} %`);
    });
  } finally {
    // Erases the line (ECMA-48, 8.3.41: EL).
    if (shown >= 0) io.err("\r\u001B[K");
  }
}
