/**
 * The log: JSON lines on stdout for a service, prose on a terminal. The door of pino and pino-pretty.
 *
 * A line is written by the thread pool, never by the main thread, so a reader that stalls (journald on a dying
 * card) stalls no event: what it does not take waits in memory, at most `waitingBytesMax`, and what comes on top
 * is dropped, counted and told. At exit (process.exit and uncaught errors too) pino writes what waits
 * synchronously; that is the one place that may wait for the reader, and systemd's TimeoutStopSec= bounds it.
 * Only SIGKILL loses lines: those of the last milliseconds.
 */
import { isatty } from "node:tty";
import { pino, symbols, type DestinationStream } from "pino";
import { systemClock, type Clock, type Timer } from "../core/clock.ts";
import type { Log, LogFields } from "../core/context.ts";
import { environment } from "../core/environment.ts";
import { HoldfastError } from "../core/errors.ts";
import { isJournald, priority } from "./journald.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";

export interface LogRoot extends Log {
  /** The log of another part, into the same place. */
  part(name: string): Log;
  /** Tells what was held back as repetition and writes everything that waits. May be called twice. */
  flush(): void;
}

interface LogParts {
  readonly clock?: Clock;
  /** Where lines go; left out: stdout, as JSON or prose by whether it is a terminal. */
  readonly destination?: DestinationStream;
}

/** The same message of the same part is told once in this time, ms; then how often it came. */
const repeatWindowMs = 10_000;
/** Messages whose repetitions are counted; a message beyond that pushes out the oldest. Kept in `admitted`. */
const repeatsMax = 256;
/** What may wait for a slow reader, bytes: some 5,000 lines. Kept by pino's destination (`maxLength`). */
const waitingBytesMax = 1024 * 1024;
/** How often a full pipe is tried again at exit, 100 ms apart (sonic-boom's own pause): 3 s, of systemd's 5. */
const fullPipeTriesMax = 30;

export async function createLog(
  level: LogLevel,
  name: string,
  parts: LogParts = {},
): Promise<LogRoot> {
  const clock = parts.clock ?? systemClock(() => "unsynced");
  const output = parts.destination === undefined ? await openStdout() : undefined;
  const logger = pino(
    {
      level,
      base: null,
      messageKey: "message",
      timestamp: () => `,"time":"${new Date(clock.wallMs()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    parts.destination ?? output?.stream ?? pino.destination(1),
  );
  const repeats = createRepeats(clock, (level, line) => logger[level](line.fields, line.message));
  const part = (partName: string): Log => {
    const write = (level: LogLevel, message: string, fields: LogFields = {}): void => {
      if (!logger.isLevelEnabled(level)) return;
      const line = {
        message: onOneLine(withoutPasswords(message)),
        fields: { part: partName, ...(cleaned(fields, 0) as LogFields) },
      };
      // Whoever asks for debug lines wants each of them.
      if (level === "debug") logger.debug(line.fields, line.message);
      else repeats.offer(level, partName, line);
    };
    return {
      debug: (message, fields) => write("debug", message, fields),
      info: (message, fields) => write("info", message, fields),
      warn: (message, fields) => write("warn", message, fields),
      error: (message, fields) => write("error", message, fields),
    };
  };
  output?.onDropped((lines) => {
    logger.warn({ part: name, lines }, "Log lines were lost: nothing reads the log fast enough");
  });
  return {
    ...part(name),
    part,
    flush() {
      repeats.tellAll();
      output?.flush();
    },
  };
}

interface Line {
  readonly message: string;
  readonly fields: LogFields;
}
type Loud = Exclude<LogLevel, "debug">;

/** Lets a message through once in a window, and at the window's end says how often it came meanwhile. */
function createRepeats(
  clock: Clock,
  write: (level: Loud, line: Line) => void,
): { offer(level: Loud, part: string, line: Line): void; tellAll(): void } {
  interface Entry {
    readonly level: Loud;
    readonly endsAt: number;
    last: Line;
    repeats: number;
    timer: Timer | undefined;
  }
  const admitted = new Map<string, Entry>();

  const end = (key: string, entry: Entry): void => {
    entry.timer?.cancel();
    admitted.delete(key);
    if (entry.repeats === 0) return;
    const fields = { ...entry.last.fields, repeats: entry.repeats };
    write(entry.level, { message: entry.last.message, fields });
  };
  const begin = (key: string, level: Loud, line: Line): void => {
    const endsAt = clock.monotonicMs() + repeatWindowMs;
    admitted.set(key, { level, endsAt, last: line, repeats: 0, timer: undefined });
    if (admitted.size <= repeatsMax) return;
    for (const [oldestKey, oldest] of admitted) {
      end(oldestKey, oldest);
      return;
    }
  };
  return {
    offer(level, part, line) {
      const key = `${level} ${part} ${line.message}`;
      const entry = admitted.get(key);
      const now = clock.monotonicMs();
      if (entry === undefined || (now >= entry.endsAt && entry.repeats === 0)) {
        admitted.delete(key);
        write(level, line);
        begin(key, level, line);
        return;
      }
      entry.last = line;
      entry.repeats += 1;
      entry.timer ??= clock.after(entry.endsAt - now, () => {
        end(key, entry);
        begin(key, level, entry.last);
      });
    },
    tellAll() {
      for (const [key, entry] of admitted) end(key, entry);
    },
  };
}

interface Output {
  readonly stream: DestinationStream;
  onDropped(listener: (lines: number) => void): void;
  flush(): void;
}

/** pino's levels, and the priorities that they are to journald. */
const priorities: Readonly<Record<number, string>> = {
  20: priority.debug,
  30: priority.info,
  40: priority.warn,
  50: priority.error,
};

/** Each line with its priority in front, which journald takes off again; pino says each line's level to a stream that asks. */
function withPriorities(stream: DestinationStream): DestinationStream {
  const wrapped = {
    [symbols.needsMetadataGsym]: true,
    lastLevel: 30,
    write: (line: string) => stream.write(`${priorities[wrapped.lastLevel] ?? ""}${line}`),
  };
  return wrapped;
}

async function openStdout(): Promise<Output> {
  if (isatty(1)) {
    const { default: pretty } = await import("pino-pretty");
    const stream = pretty({
      sync: true,
      colorize: environment("NO_COLOR") === undefined,
      messageKey: "message",
      messageFormat: "{part}: {message}",
      ignore: "part",
      translateTime: "SYS:HH:MM:ss",
    });
    return { stream, onDropped: () => undefined, flush: () => undefined };
  }
  let fullPipeTries = 0;
  const stream = pino.destination({
    dest: 1,
    sync: false,
    maxLength: waitingBytesMax,
    retryEAGAIN: () => (fullPipeTries += 1) <= fullPipeTriesMax,
  });
  stream.on("write", () => (fullPipeTries = 0));
  // The reader is gone (EPIPE), or the file system under stdout is full: an agent without a log goes on.
  stream.on("error", () => undefined);
  return {
    stream: isJournald(1) ? withPriorities(stream) : stream,
    onDropped(listener) {
      let dropped = 0;
      stream.on("drop", () => (dropped += 1));
      stream.on("drain", () => {
        if (dropped === 0) return;
        const lines = dropped;
        dropped = 0;
        listener(lines);
      });
    },
    flush: () => stream.flushSync(),
  };
}

/** A topic or a foreign message may hold anything, an escape sequence for the reader's terminal too. */
function onOneLine(text: string): string {
  // One run of blanks is one match: /\s*[\r\n]+\s*/ takes seconds for 64 KiB of blanks that a stranger sent.
  const joined = text.replaceAll(/\s+/g, (blanks) => (/[\r\n]/.test(blanks) ? " " : blanks));
  // oxlint-disable-next-line no-control-regex
  return joined.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, "�");
}

/**
 * `mqtt://edge:hunter2@host` → `mqtt://edge:[secret]@host`. As in a URL the last @ ends the password. The scheme is
 * not looked for: that takes seconds for 64 KiB of letters that a stranger sent.
 */
function withoutPasswords(text: string): string {
  return text.includes("://")
    ? text.replaceAll(/(:\/\/[^\s:@/]*):[^\s/]+@/g, "$1:[secret]@")
    : text;
}

const secretName = /passw|secret|token|authorization|credential/i;
/** Fields are flat, or an object or two deep; deeper ones are a mistake that must not cost the log. */
const depthMax = 4;

function cleaned(value: unknown, depth: number): unknown {
  if (typeof value === "string") return withoutPasswords(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Error) {
    return {
      ...(value instanceof HoldfastError && { code: value.code }),
      message: withoutPasswords(value.message),
      ...(!(value instanceof HoldfastError) && { stack: withoutPasswords(value.stack ?? "") }),
      ...(value.cause !== undefined &&
        depth < depthMax && { cause: cleaned(value.cause, depth + 1) }),
    };
  }
  if (depth >= depthMax) return "[deep]";
  if (Array.isArray(value)) return value.map((item) => cleaned(item, depth + 1));
  if ("toJSON" in value) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name,
      secretName.test(name) ? "[secret]" : cleaned(member, depth + 1),
    ]),
  );
}
