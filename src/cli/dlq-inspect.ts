/** `holdfast dlq-inspect`: which events were refused, and why. */
import { parseArgs } from "node:util";
import type { DeadLetterJson } from "../host/event-json.ts";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import { oneName, wholeNumber } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { count, painter, plain, shortTime } from "./print.ts";

interface Answer {
  readonly stream: string;
  readonly total: number;
  readonly deadLetters: readonly DeadLetterJson[];
}

export const dlqInspectCommand: Command = {
  name: "dlq-inspect",
  usage: "dlq-inspect STREAM [--limit N] [--json]",
  summary: "Show a stream's dead letters: the reason, where each came from, and its payload",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: { ...adminOptions, limit: { type: "string", short: "n", default: "20" } },
      allowPositionals: true,
    });
    const stream = oneName(positionals, "STREAM");
    const limit = wholeNumber("--limit", values.limit, 1);
    const admin = await connectAdmin(values);
    const path = `/streams/${encodeURIComponent(stream)}/dlq?limit=${limit}`;
    const answer = (await admin.get(path)) as Answer;
    io.out(values.json ? `${JSON.stringify(answer)}\n` : answerText(answer, io));
    return 0;
  },
};

function answerText({ stream, total, deadLetters }: Answer, io: Io): string {
  if (deadLetters.length === 0) return `Stream ${stream} has no dead letters\n`;
  const more = total > deadLetters.length ? `the oldest ${deadLetters.length} of ` : "";
  const letters = deadLetters.map((letter) => letterText(letter, io));
  return `Stream ${stream}: ${more}${count(total)} dead letter${total === 1 ? "" : "s"}\n\n${letters.join("\n")}`;
}

function letterText(letter: DeadLetterJson, io: Io): string {
  const paint = painter(io);
  const { payload } = letter;
  const text = typeof payload === "string" ? payload : JSON.stringify(payload);
  const place = letter.seq === null ? "never entered" : `seq ${letter.seq}`;
  const lines = [
    ["origin", `${letter.origin} ${letter.originName}, ${place}`],
    ...(letter.attempts > 1
      ? [["tried", `${letter.attempts} times since ${shortTime(letter.firstFailedAt)}`]]
      : []),
    ...(letter.key === null ? [] : [["key", letter.key]]),
    ...Object.entries(letter.headers),
    ["payload", letter.truncated ? `${text}… (${letter.payloadBytes} bytes)` : text],
  ];
  const width = Math.max(...lines.map(([name]) => name?.length ?? 0));
  const head = `${paint("bold", `#${letter.id}`)}  ${shortTime(letter.lastFailedAt)}  ${paint("yellow", letter.code)}`;
  const body = lines.map(([name = "", value = ""]) => {
    return `  ${paint("gray", plain(name).padEnd(width))}  ${plain(value)}\n`;
  });
  return `${head}\n  ${plain(letter.reason)}\n${body.join("")}`;
}
