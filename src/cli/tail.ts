/** `holdfast tail`: a stream's events, and with --follow those to come. */
import { parseArgs } from "node:util";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName, wholeNumber } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { painter, plain, shortTime } from "./print.ts";

interface EventJson {
  readonly seq: number;
  readonly time: string;
  readonly key: string | null;
  readonly payload: unknown;
}

const fromOption = `--from`;
/** A screenful. */
const lastEvents = -10;

export const tailCommand: Command = {
  name: "tail",
  usage: "tail STREAM [--from SEQ|-N] [--follow] [--json]",
  summary: "Show a stream's last events, or those from a seq on; --follow goes on with what comes",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args: joinNegative(args),
      options: {
        ...adminOptions,
        from: { type: "string" },
        follow: { type: "boolean", short: "f", default: false },
      },
      allowPositionals: true,
    });
    const stream = oneName(positionals, "STREAM");
    const from = values.from === undefined ? lastEvents : wholeNumber(fromOption, values.from);
    const admin = await connectAdmin(values);
    // What was asked for by its beginning is shown to its end.
    const limit = values.follow ? "" : "&limit=1000000";
    const query = `from=${from}${limit}${values.follow ? "&follow=true" : ""}`;
    const path = `/streams/${encodeURIComponent(stream)}/events?${query}`;
    for await (const line of admin.lines(path)) {
      io.out(values.json ? `${line}\n` : eventText(JSON.parse(line) as EventJson, io));
    }
    return 0;
  },
};

function eventText(event: EventJson, io: Io): string {
  const paint = painter(io);
  const key = event.key === null ? "" : `${paint("cyan", plain(event.key))}  `;
  const payload = typeof event.payload === "string" ? event.payload : JSON.stringify(event.payload);
  const head = `${String(event.seq).padStart(6)}  ${shortTime(event.time)}`;
  return `${paint("gray", head)}  ${key}${plain(payload)}\n`;
}

/** parseArgs takes the -10 of `--from -10` for an option of its own. */
function joinNegative(args: readonly string[]): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    if (joined.at(-1) === fromOption && /^-\d+$/.test(arg))
      joined[joined.length - 1] = `${fromOption}=${arg}`;
    else joined.push(arg);
  }
  return joined;
}
