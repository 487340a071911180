/**
 * What keeps the journal from taking what it is given, told apart for the technician: in health, log and metrics.
 *
 *   quota         it holds what `maxBytes` allows; a sink or processor that moves on helps
 *   disk-full     others have filled the disk; what is removed there helps
 *   disk-failing  a read, write or sync failed; the file is opened again, and again
 *
 * Health changes at once. The log has the first of a cause at once, then, while it lasts, a sum each minute, and the
 * end: a disk that fails for a night is 1,440 lines at the most, not one for each attempt.
 */
import type { Context, Figures } from "../core/context.ts";
import type { HoldfastError } from "../core/errors.ts";
import { formatDuration, formatSize } from "../core/quantity.ts";
import type { DiskState } from "./protocol.ts";

export type TroubleCause = "quota" | "disk-full" | "disk-failing";
const causes: readonly TroubleCause[] = ["quota", "disk-full", "disk-failing"];

/** As often as drops of one reason are told (overview.ts). */
const tellEveryMs = 60_000;

export interface TroubleSetup {
  readonly maxBytes: number;
  readonly dropOldest: boolean;
  /** The journal's. */
  readonly folder: string;
}

interface Told {
  /** Since when it lasts, by the monotone clock; null: it does not. */
  sinceMs: number | null;
  nextMs: number;
  attempts: number;
  isTold: boolean;
}

export class JournalTrouble {
  readonly #context: Context;
  readonly #setup: TroubleSetup;
  readonly #told: ReadonlyMap<TroubleCause, Told>;
  #cause: TroubleCause | null = null;
  #disk: DiskState = { isFull: false, reserveBytes: 0, neededBytes: 0 };

  constructor(context: Context, setup: TroubleSetup) {
    this.#context = context;
    this.#setup = setup;
    this.#told = new Map(
      causes.map((cause) => [cause, { sinceMs: null, nextMs: 0, attempts: 0, isTold: false }]),
    );
    const { metrics } = context;
    const gauges = causes.map(
      (cause) => [cause, metrics.gauge("holdfast_journal_trouble", { cause })] as const,
    );
    const reserve = metrics.gauge("holdfast_journal_reserve_bytes", {});
    metrics.onScrape(() => {
      for (const [cause, gauge] of gauges) gauge.set(this.#cause === cause ? 1 : 0);
      reserve.set(this.#disk.reserveBytes);
    });
  }

  /** For want of room something waits, or may have to. */
  get isFull(): boolean {
    return this.#cause === "quota" || this.#cause === "disk-full";
  }

  figures(): Figures {
    const { clock } = this.#context;
    const sinceMs = this.#cause === null ? null : this.#of(this.#cause).sinceMs;
    const since = sinceMs === null ? null : clock.wallMs() - (clock.monotonicMs() - sinceMs);
    return {
      trouble: this.#cause,
      troubleSince: since === null ? null : new Date(since).toISOString(),
      reserveBytes: this.#disk.reserveBytes,
    };
  }

  /** A turn went through, but for the intake of the streams `held`. `otherwise`: what else is not as it should be. */
  done(disk: DiskState, held: readonly string[], otherwise: string | null): void {
    const { health } = this.#context;
    const isHeld = held.length > 0;
    this.#disk = disk;
    if (disk.isFull) this.#begin("disk-full", this.#fullDisk(isHeld ? "withheld" : "fits"));
    else if (isHeld) this.#begin("quota", this.#quota(held));
    else {
      this.#end();
      if (otherwise === null) health.report("ok");
      else health.report("degraded", otherwise);
    }
  }

  /** Nothing of a turn happened. */
  failed(disk: DiskState, isForRoom: boolean, error: HoldfastError): void {
    this.#disk = disk;
    if (isForRoom) this.#begin("disk-full", this.#fullDisk("nothing"), error.message);
    else {
      this.#begin(
        "disk-failing",
        `The disk under ${this.#setup.folder} fails: acknowledgements are withheld and the journal is opened again until it takes writes (see dmesg; a worn card shows itself like this): ${error.message}`,
        error.message,
      );
    }
    this.#context.metrics
      .counter("holdfast_journal_failed_turns_total", { cause: this.#cause ?? "disk-failing" })
      .add();
  }

  /** The file cannot even be opened, for want of room. */
  waiting(disk: DiskState, message: string): void {
    this.#disk = disk;
    this.#begin("disk-full", this.#fullDisk("unopened"), message);
  }

  #quota(held: readonly string[]): string {
    const max = formatSize(this.#setup.maxBytes);
    return `The journal (${max}) has no room for ${held.toSorted().join(", ")}: acknowledgements are withheld until a sink or processor has passed the oldest events`;
  }

  #fullDisk(what: "fits" | "withheld" | "nothing" | "unopened"): string {
    const { folder, dropOldest } = this.#setup;
    const { neededBytes } = this.#disk;
    const meanwhile = {
      fits: dropOldest
        ? "what is new takes the place of the oldest events"
        : "what is new takes the place of what all have passed",
      withheld: "acknowledgements are withheld, sinks and processors go on",
      nothing: "nothing can be written, and acknowledgements are withheld",
      unopened: "the journal cannot be opened, and nothing is taken in",
    }[what];
    const remedy = neededBytes > 0 ? formatSize(neededBytes) : "some";
    return `The disk under ${folder} is full: ${meanwhile}; it goes on by itself when ${remedy} are free there (see df and du)`;
  }

  #begin(cause: TroubleCause, detail: string, attempt?: string): void {
    const { clock, health, log } = this.#context;
    if (this.#cause !== cause) this.#end();
    this.#cause = cause;
    health.report("degraded", detail);
    const told = this.#of(cause);
    const nowMs = clock.monotonicMs();
    told.sinceMs ??= nowMs;
    if (attempt !== undefined) told.attempts += 1;
    if (nowMs < told.nextMs) return;
    told.nextMs = nowMs + tellEveryMs;
    told.isTold = true;
    const fields = {
      code: cause === "disk-failing" ? "JOURNAL_DISK" : "JOURNAL_FULL",
      ...(told.attempts > 0 && { attempts: told.attempts }),
      ...(attempt !== undefined && { last: attempt }),
    };
    if (cause === "quota") log.warn(detail, fields);
    else log.error(detail, fields);
    told.attempts = 0;
  }

  #end(): void {
    if (this.#cause === null) return;
    const told = this.#of(this.#cause);
    const lasted = this.#context.clock.monotonicMs() - (told.sinceMs ?? 0);
    if (told.isTold) {
      const what = this.#cause === "quota" ? "has room" : "can be written";
      this.#context.log.info(
        `The journal ${what} again, after ${formatDuration(Math.round(lasted))}`,
      );
    }
    told.isTold = false;
    told.sinceMs = null;
    this.#cause = null;
  }

  #of(cause: TroubleCause): Told {
    return this.#told.get(cause) as Told;
  }
}
