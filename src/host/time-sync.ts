/**
 * Whether the wall clock can be trusted (invariant 9): a device has no battery clock, and shows 1970 or the time
 * of its last shutdown until it has heard from a time server.
 *
 *   unsynced ── first sync ──► synced
 *       └── `clock.wait` since boot is over ──► provisional ── first sync ──► synced
 *
 * Synced is the end: a server that is lost later costs seconds a week. Two signs are looked for: the file that
 * systemd-timesyncd touches (systemd-time-wait-sync.service(8)), and what `timedatectl` reads from the kernel,
 * which chrony and ntpd set too. Where systemd does not run there is nothing to ask: that is a container, whose
 * clock is the host's, or a system whose owner set the clock by other means; it counts as synced.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Timer } from "../core/clock.ts";
import type { Context, Figures } from "../core/context.ts";
import type { ClockQuality } from "../core/event.ts";
import { formatDuration } from "../core/quantity.ts";

export interface TimeSync {
  quality(): ClockQuality;
  start(): void;
  stop(): void;
}

interface TimeSyncParts {
  readonly context: Context;
  /** `clock.wait`: how long steps that need time stand still, ms since boot. */
  readonly waitMs: number;
  /** Where systemd shows itself; there only if systemd is the init (sd_booted(3)). */
  readonly systemd?: string;
  readonly timedatectl?: string;
}

/** Between two looks, ms. A jump is seen that late; a look costs two clock readings and one stat(2). */
const lookEveryMs = 5_000;
/** `timedatectl` is a process, and starts a service that it asks over D-Bus: not at every look, ms. */
const askEveryMs = 30_000;
/** A process that hangs (no D-Bus yet) is ended after this, ms. */
const askTimeoutMs = 10_000;
/** NTP slews at most 0.5 ms a second, so a second within one look is a step, not a correction, ms. */
const jumpMs = 1_000;

export function createTimeSync({ context, waitMs, ...parts }: TimeSyncParts): TimeSync {
  const systemd = parts.systemd ?? "/run/systemd";
  const { clock, health, log } = context;
  const gauge = context.metrics.gauge("holdfast_clock_synced", {});
  let quality: ClockQuality = "unsynced";
  let timer: Timer | undefined;
  let asking: AbortController | undefined;
  let nextAskMs = Number.NEGATIVE_INFINITY;
  const jumps = createJumpWatch(context);

  const become = (next: "synced" | "provisional", why: string): void => {
    quality = next;
    gauge.set(next === "synced" ? 1 : 0);
    log.info(`The clock is ${next}: ${why}`);
    if (next === "synced") health.report("ok");
    else health.report("degraded", provisionalDetail);
  };
  const ask = (): void => {
    const controller = new AbortController();
    asking = controller;
    const argv = ["show", "--property=NTPSynchronized", "--value"];
    const options = { timeout: askTimeoutMs, signal: controller.signal };
    execFile(parts.timedatectl ?? "timedatectl", argv, options, (error, stdout) => {
      if (asking === controller) asking = undefined;
      // Not there, or no answer: the file may still come, and the next look asks again.
      if (error !== null || quality === "synced" || controller.signal.aborted) return;
      if (stdout.trim() === "yes") become("synced", "timedatectl says so");
    });
  };
  const look = (): void => {
    const nowMs = clock.monotonicMs();
    jumps.look();
    if (quality === "synced") return;
    if (existsSync(join(systemd, "timesync/synchronized"))) {
      become("synced", "systemd-timesyncd has heard from a time server");
      return;
    }
    if (quality === "unsynced" && nowMs >= waitMs) {
      become("provisional", `no time server answered within ${formatDuration(waitMs)} of the boot`);
    }
    if (nowMs < nextAskMs || asking !== undefined) return;
    nextAskMs = nowMs + askEveryMs;
    ask();
  };
  const turn = (): void => {
    look();
    timer = clock.after(lookEveryMs, turn);
  };
  health.figures(() => ({ quality, ...jumps.figures() }));
  return {
    quality: () => quality,
    start() {
      jumps.look();
      gauge.set(0);
      health.report("degraded", unsyncedDetail);
      if (!existsSync(join(systemd, "system"))) {
        become("synced", "systemd does not run here, so whoever runs the machine keeps its clock");
      }
      turn();
    },
    stop() {
      timer?.cancel();
      asking?.abort();
    },
  };
}

/** Notices when the wall clock was set, by the clock that nobody sets. */
function createJumpWatch({ clock, log }: Context): { look(): void; figures(): Figures } {
  let offsetMs: number | undefined;
  let jumps = 0;
  let lastJumpMs = 0;
  return {
    look() {
      const nowOffsetMs = clock.wallMs() - clock.monotonicMs();
      const driftMs = nowOffsetMs - (offsetMs ?? nowOffsetMs);
      offsetMs = nowOffsetMs;
      if (Math.abs(driftMs) <= jumpMs) return;
      jumps += 1;
      lastJumpMs = Math.round(driftMs);
      const way = driftMs > 0 ? "forward" : "back";
      const length = formatDuration(Math.abs(driftMs));
      log.warn(`The clock jumped ${way} by ${length}`, { jumpMs: lastJumpMs });
    },
    figures: () => ({ jumps, lastJumpSeconds: lastJumpMs / 1000 }),
  };
}

const unsyncedDetail =
  "The clock has not been set since the boot: events are marked, and steps that need time wait for it";
const provisionalDetail =
  "No time server has answered since the boot: work goes on, and times are marked as provisional";
