/**
 * When a sink may deliver: at certain hours of the device's local day, over certain network interfaces, or both.
 *
 * A clock that was never synced knows no hours: until it is, or the wait for that was given up, they are not now.
 */
import type { ClockQuality } from "../core/event.ts";

export interface Schedule {
  /** Minutes of the day; `from` after `to`: over midnight. */
  readonly hours: { readonly from: number; readonly to: number } | null;
  /** Whether one of the interfaces that were named is up; null: any will do. */
  readonly isLinkUp: (() => boolean) | null;
}

/** Interfaces and hours are looked at this often while it waits or delivers, ms. */
export const scheduleEveryMs = 5_000;

/** Null: now. Otherwise why not, as the end of a sentence. */
export function whyNotNow(
  { hours, isLinkUp }: Schedule,
  clock: { wallMs(): number; quality(): ClockQuality },
): string | null {
  if (hours !== null) {
    const { from, to } = hours;
    if (clock.quality() === "unsynced") return "until the clock is set: it has hours";
    if (!isWithin(minuteOf(clock.wallMs()), from, to))
      return `for its hours, ${timeText(from)} to ${timeText(to)}`;
  }
  if (isLinkUp !== null && !isLinkUp()) return "for one of its network interfaces";
  return null;
}

/** From the minute `from` on, up to the minute `to` without it. The same twice: all day. */
export function isWithin(minute: number, from: number, to: number): boolean {
  if (from === to) return true;
  return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

function minuteOf(wallMs: number): number {
  const date = new Date(wallMs);
  return date.getHours() * 60 + date.getMinutes();
}

function timeText(minute: number): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  return `${two(Math.floor(minute / 60))}:${two(minute % 60)}`;
}
