/** `holdfast dlq-purge`: removes a stream's dead letters, for good. */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName, UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { count } from "./print.ts";

/** Puts a question to whoever sits at the terminal. */
type Ask = (question: string, io: Io) => Promise<string>;

export const dlqPurgeCommand = createDlqPurge(askOnTerminal);

export function createDlqPurge(ask: Ask): Command {
  return {
    name: "dlq-purge",
    usage: "dlq-purge STREAM [--yes] [--json]",
    summary: "Remove a stream's dead letters for good; asks first, or takes --yes",
    async run(args, io) {
      const { values, positionals } = parseArgs({
        args,
        options: { ...adminOptions, yes: { type: "boolean", short: "y", default: false } },
        allowPositionals: true,
      });
      const stream = oneName(positionals, "STREAM");
      if (!values.yes && !io.isTerminal) {
        throw new UsageError("Nobody is here to be asked: add --yes to remove them");
      }
      const admin = await connectAdmin(values);
      const path = `/streams/${encodeURIComponent(stream)}/dlq`;
      const { total } = (await admin.get(`${path}?limit=1`)) as { total: number };
      if (!values.yes && total > 0) {
        const answer = await ask(
          `Remove ${lettersOf(total)} of stream ${stream} for good? [y/N] `,
          io,
        );
        if (!/^y(es)?$/i.test(answer.trim())) {
          io.err("Nothing was removed\n");
          return 1;
        }
      }
      const answer = (await admin.delete(path)) as { purged: number };
      io.out(
        values.json
          ? `${JSON.stringify(answer)}\n`
          : `Removed ${lettersOf(answer.purged)} of stream ${stream}\n`,
      );
      return 0;
    },
  };
}

async function askOnTerminal(question: string, io: Io): Promise<string> {
  io.err(question);
  const lines = createInterface({ input: process.stdin });
  try {
    // The end of the input (Ctrl-D) is no yes.
    for await (const line of lines) return line;
    return "";
  } finally {
    lines.close();
  }
}

function lettersOf(total: number): string {
  return `${count(total)} dead letter${total === 1 ? "" : "s"}`;
}
