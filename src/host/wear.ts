/**
 * The health component `wear`: what goes to the card, beside what came in, and what that means for its life.
 *
 * What is written is the kernel's count for this process (proc(5), /proc/self/io): `write_bytes` is what was sent to
 * the storage layer in whole pages, `cancelled_write_bytes` what a deletion took back. The file system's own journal
 * and the card's own rewriting are not in it; nor, since it begins with the process, what went before. Bytes a day
 * are those of the last 24 h, or since the start, reckoned up.
 *
 * With a `budget` for a day the linger of streams that name none of their own is widened, twofold at a time, while
 * more would be written than that, and narrowed again when less than half of it is.
 */
import { readFile } from "node:fs/promises";
import type { Timer } from "../core/clock.ts";
import type { Context } from "../core/context.ts";
import { formatDuration, formatSize } from "../core/quantity.ts";

export interface WearMeter {
  /** Payload bytes that a source handed over, for the ratio. */
  accepted(bytes: number): void;
  /** What streams without a linger of their own have now, ms. */
  lingerMs(): number;
  start(): void;
  stop(): void;
}

export interface WearParts {
  readonly context: Context;
  /** What the card is said to stand, bytes. */
  readonly enduranceBytes: number;
  /** Bytes a day; left out: none. */
  readonly budgetBytes?: number;
  readonly lingerMs: number;
  /** Bytes that this process has written so far; undefined: nobody can tell. */
  readonly written?: () => Promise<number | undefined>;
}

/** A sample each quarter of an hour, and 96 of them are kept: a day. */
const everyMs = 15 * 60_000;
const samplesMax = 96;
/** The first look after the start, so that a technician need not wait for what was written. */
const firstMs = 10_000;
const dayMs = 86_400_000;
/** What a start writes says nothing of a day. */
const leastMs = 5 * 60_000;
/** Beyond this a loss of power would cost a sender that does not repeat too much; the option's own bound. */
const lingerMaxMs = 60_000;
/** Twice the linger is about half the writes: narrowed at more than that, it would be widened again at once. */
const narrowBelow = 0.45;

interface Sample {
  readonly atMs: number;
  readonly written: number;
}

export function createWearMeter(parts: WearParts): WearMeter {
  const { context, enduranceBytes, budgetBytes } = parts;
  const { clock, health, log } = context;
  const ask = parts.written ?? bytesWritten;
  let samples: Sample[] = [];
  let timer: Timer | undefined;
  let stopped = true;
  let lingerMs = parts.lingerMs;
  let [acceptedBytes, writtenBytes] = [0, 0];

  const bytesADay = (): number | null => {
    const [first, last] = [samples[0], samples.at(-1)];
    if (first === undefined || last === undefined || last.atMs - first.atMs < leastMs) return null;
    return ((last.written - first.written) / (last.atMs - first.atMs)) * dayMs;
  };
  health.figures(() => {
    const aDay = bytesADay();
    return {
      writtenBytes,
      acceptedBytes,
      writtenForEach: acceptedBytes === 0 ? null : round(writtenBytes / acceptedBytes),
      bytesADay: aDay === null ? null : Math.round(aDay),
      cardYears: aDay === null || aDay <= 0 ? null : round(enduranceBytes / aDay / 365),
      ...(budgetBytes !== undefined && { budgetBytes, lingerMs }),
    };
  });

  const pace = (): void => {
    const aDay = bytesADay();
    if (budgetBytes === undefined || aDay === null) return;
    const before = lingerMs;
    const most = Math.max(parts.lingerMs, lingerMaxMs);
    // With a linger of 0 there is nothing to double.
    if (aDay > budgetBytes) lingerMs = Math.min(Math.max(lingerMs, 500) * 2, most);
    else if (aDay < budgetBytes * narrowBelow) lingerMs = Math.max(lingerMs / 2, parts.lingerMs);
    if (lingerMs === before) return;
    const [was, is] = [formatDuration(before), formatDuration(lingerMs)];
    log.warn(
      `The linger is ${is} instead of ${was}: ${formatSize(aDay)} a day go to the card, wearBudget is ${formatSize(budgetBytes)}`,
    );
    // What was written at the old pace says nothing about the new one.
    samples = samples.slice(-1);
  };
  const look = async (): Promise<void> => {
    const written = await ask();
    if (stopped) return;
    if (written !== undefined) {
      writtenBytes = written;
      samples.push({ atMs: clock.monotonicMs(), written });
      if (samples.length > samplesMax + 1) samples.shift();
      pace();
    }
    timer = clock.after(samples.length < 3 ? firstMs : everyMs, () => void look());
  };
  return {
    accepted: (bytes) => void (acceptedBytes += bytes),
    lingerMs: () => lingerMs,
    start() {
      stopped = false;
      void look();
    },
    stop() {
      stopped = true;
      timer?.cancel();
    },
  };
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** Undefined: not Linux, or /proc is hidden (ProtectProc=). */
export async function bytesWritten(): Promise<number | undefined> {
  try {
    const io = await readFile("/proc/self/io", "utf8");
    const [sent, back] = [
      /^write_bytes: (\d+)$/m.exec(io),
      /^cancelled_write_bytes: (\d+)$/m.exec(io),
    ];
    return sent === null ? undefined : Math.max(0, Number(sent[1]) - Number(back?.[1] ?? 0));
  } catch {
    return undefined;
  }
}
