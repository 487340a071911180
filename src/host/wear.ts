/**
 * The health component `wear`: what goes to the card, beside what came in, and what that means for its life.
 *
 * What is written is the kernel's count for this process (proc(5), /proc/self/io): `write_bytes` is what was sent to
 * the storage layer in whole pages, `cancelled_write_bytes` what a deletion took back. The file system's own journal
 * and the card's own rewriting are not in it; nor, since it begins with the process, what went before. Bytes a day
 * are those of the last 24 h, or since the start, reckoned up.
 *
 * An eMMC tells how much of its life is used (card.ts): from 90 % on the component is degraded.
 *
 * With a `budget` for a day the linger of streams that name none of their own is widened, twofold at a time, while
 * more would be written than that, and narrowed again when less than half of it is. Where the longest linger is not
 * enough, the component is degraded.
 */
import { readFile } from "node:fs/promises";
import type { Timer } from "../core/clock.ts";
import type { Context, Figures, Log } from "../core/context.ts";
import { formatDuration, formatSize } from "../core/quantity.ts";
import type { CardLife } from "./card.ts";

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
  /** What the card says of itself; left out: nothing. */
  readonly life?: () => Promise<CardLife | null>;
  /** Bytes that this process has written so far; undefined: nobody can tell. */
  readonly written?: () => Promise<number | undefined>;
}

/** From here on it is told to be replaced, percent of its life. */
const usedPercentMax = 90;
/** A look each minute, so that a technician need not wait long for the figures; /proc costs no card. */
const lookMs = 60_000;
/** A sample each quarter of an hour, and 96 of them are kept: a day. */
const everyMs = 15 * 60_000;
const samplesMax = 96;
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

/** What was written in the last day. Bound: `samplesMax` samples and the latest. */
class WrittenDay {
  readonly #samples: Sample[] = [];
  #latest: Sample | undefined;

  /** True: it was kept as the quarter's sample. */
  add(sample: Sample): boolean {
    this.#latest = sample;
    const last = this.#samples.at(-1);
    if (last !== undefined && sample.atMs - last.atMs < everyMs) return false;
    this.#samples.push(sample);
    if (this.#samples.length > samplesMax + 1) this.#samples.shift();
    return true;
  }

  get bytes(): number {
    return this.#latest?.written ?? 0;
  }

  /** Reckoned up from the last 24 h, or from `since` if that is later; null: too little is known. */
  bytesADay(since?: Sample): number | null {
    const [oldest] = this.#samples;
    const from = since !== undefined && since.atMs > (oldest?.atMs ?? 0) ? since : oldest;
    const to = this.#latest;
    if (from === undefined || to === undefined || to.atMs - from.atMs < leastMs) return null;
    return ((to.written - from.written) / (to.atMs - from.atMs)) * dayMs;
  }
}

/** The linger under a budget. */
class Pace {
  readonly #budgetBytes: number | undefined;
  readonly #leastMs: number;
  readonly #log: Log;
  /** When it was last changed: what was written at the old pace says nothing about the new one. */
  #changed: Sample | undefined;
  lingerMs: number;
  /** Why the budget is not kept; null: it is, or there is none. */
  overspent: string | null = null;

  constructor({ budgetBytes, lingerMs }: WearParts, log: Log) {
    this.#budgetBytes = budgetBytes;
    this.#leastMs = lingerMs;
    this.lingerMs = lingerMs;
    this.#log = log;
  }

  /** Called with each sample that was kept. */
  keep(day: WrittenDay, sample: Sample): void {
    const [budget, before, least] = [this.#budgetBytes, this.lingerMs, this.#leastMs];
    const aDay = day.bytesADay(this.#changed);
    if (budget === undefined || aDay === null) return;
    const most = Math.max(least, lingerMaxMs);
    // With a linger of 0 there is nothing to double.
    if (aDay > budget) this.lingerMs = Math.min(Math.max(before, 500) * 2, most);
    else if (aDay < budget * narrowBelow) this.lingerMs = Math.max(before / 2, least);
    const told = `${formatSize(aDay)} a day go to the card, wearBudget is ${formatSize(budget)}`;
    const remedy = "thin or filter at the source, or raise wearBudget";
    const isOver = aDay > budget && before === most;
    this.overspent = isOver
      ? `${told}, and the linger is ${formatDuration(most)}: ${remedy}`
      : null;
    if (this.lingerMs === before) return;
    const [was, is] = [formatDuration(before), formatDuration(this.lingerMs)];
    this.#log.warn(`The linger is ${is} instead of ${was}: ${told}`);
    this.#changed = sample;
  }
}

export function createWearMeter(parts: WearParts): WearMeter {
  const { context, enduranceBytes, budgetBytes } = parts;
  const { clock, health, log } = context;
  const ask = parts.written ?? bytesWritten;
  const day = new WrittenDay();
  let timer: Timer | undefined;
  let stopped = true;
  const pace = new Pace(parts, log);
  let acceptedBytes = 0;
  let life: CardLife | null = null;

  health.figures(() => ({
    ...figuresOf(day, acceptedBytes, enduranceBytes),
    ...(life !== null && { cardUsedPercent: life.usedPercent, cardReserve: life.reserve }),
    ...(budgetBytes !== undefined && { budgetBytes, lingerMs: pace.lingerMs }),
  }));
  const lifeShare = context.metrics.gauge("holdfast_card_used_ratio", {});

  const report = (): void => {
    const detail = [wornOut(life), pace.overspent].filter((each) => each !== null).join("; ");
    if (detail === "") health.report("ok");
    else health.report("degraded", detail);
  };

  const look = async (): Promise<void> => {
    const written = await ask();
    if (stopped) return;
    const sample = { atMs: clock.monotonicMs(), written: written ?? 0 };
    if (written !== undefined && day.add(sample)) pace.keep(day, sample);
    life = (await parts.life?.()) ?? null;
    if (stopped) return;
    if (life !== null) lifeShare.set(life.usedPercent / 100);
    report();
    timer = clock.after(lookMs, () => void look());
  };
  return {
    accepted: (bytes) => void (acceptedBytes += bytes),
    lingerMs: () => pace.lingerMs,
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

function figuresOf(day: WrittenDay, acceptedBytes: number, enduranceBytes: number): Figures {
  const aDay = day.bytesADay();
  return {
    writtenBytes: day.bytes,
    acceptedBytes,
    writtenForEach: acceptedBytes === 0 ? null : round(day.bytes / acceptedBytes),
    bytesADay: aDay === null ? null : Math.round(aDay),
    cardYears: aDay === null || aDay <= 0 ? null : round(enduranceBytes / aDay / 365),
  };
}

function wornOut(life: CardLife | null): string | null {
  if (life === null) return null;
  const { usedPercent, reserve } = life;
  if (usedPercent < usedPercentMax && reserve !== "warning" && reserve !== "urgent") return null;
  const used = usedPercent > 100 ? "all" : `up to ${usedPercent} %`;
  const left = reserve === "urgent" ? 10 : 20;
  const blocks =
    reserve === "normal" || reserve === "unknown"
      ? ""
      : `, and less than ${left} % of its reserve are left`;
  return `The card says that ${used} of its life are used${blocks}: replace it before it fails`;
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
