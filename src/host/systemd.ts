/**
 * What the service manager is told (sd_notify(3)): that we are ready, reloading or stopping, that the start takes
 * longer for a reason, and that we are alive. Without a manager that asks, nothing is said.
 *
 * The messages are sent by a native module of 70 lines (systemd/notify.c), which lies beside the bundle: Node has no
 * sockets of that kind. A message is a hint; one that does not arrive is logged once and changes nothing here.
 */
import { createRequire } from "node:module";
import type { Clock } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { environment } from "../core/environment.ts";
import { messageOf } from "../core/errors.ts";

export interface Manager {
  /** How long it waits for `feed`, ms; null: it does not watch us. */
  readonly watchdogMs: number | null;
  ready(): void;
  reloading(): void;
  stopping(): void;
  /** One line for `systemctl status`. */
  status(line: string): void;
  /** We are alive. */
  feed(): void;
  /** Asks for more time, again and again, until `dispose`: what opens the journal may wait for a disk. */
  extend(): Disposable;
}

interface ManagerParts {
  readonly clock: Clock;
  readonly log: Pick<Log, "warn">;
  /** Where the native module is; left out: beside this file or its bundle. */
  readonly module?: string;
}

/** Asked for this often, ms, for three times as long: one message may be late. */
const extendEveryMs = 10_000;
const extendByMicroseconds = 30_000_000;

/** `systemctl status` shows one line, characters; the native module takes no more than 4 KiB. */
const statusMax = 500;

export function openManager({ clock, log, module }: ManagerParts): Manager {
  const isAsked = environment("NOTIFY_SOCKET") !== undefined;
  const notify = isAsked ? loadNotify(module ?? "./notify.node", log) : () => 1;
  let isLost = false;
  const say = (...lines: readonly string[]): void => {
    const result = notify(lines.join("\n"));
    if (result >= 0 || isLost) return;
    isLost = true;
    log.warn("The service manager does not take our messages", { errno: -result });
  };
  return {
    watchdogMs: watchdogMs(),
    ready: () => say("READY=1", "STATUS=Running"),
    // MONOTONIC_USEC is what Type=notify-reload asks for (systemd 253 and later).
    reloading: () => say("RELOADING=1", `MONOTONIC_USEC=${Math.round(clock.monotonicMs() * 1000)}`),
    stopping: () => say("STOPPING=1", "STATUS=Draining"),
    status: (line) => say(`STATUS=${line.replaceAll(/\s+/g, " ").slice(0, statusMax)}`),
    feed: () => say("WATCHDOG=1"),
    extend() {
      let isOver = false;
      const ask = (): void => {
        if (isOver) return;
        say(`EXTEND_TIMEOUT_USEC=${extendByMicroseconds}`);
        clock.after(extendEveryMs, ask);
      };
      ask();
      return { [Symbol.dispose]: () => void (isOver = true) };
    },
  };
}

/** sd_watchdog_enabled(3): for this process, or for whichever is asked. */
function watchdogMs(): number | null {
  const pid = environment("WATCHDOG_PID");
  if (pid !== undefined && Number(pid) !== process.pid) return null;
  const microseconds = Number(environment("WATCHDOG_USEC") ?? "");
  return Number.isFinite(microseconds) && microseconds > 0 ? microseconds / 1000 : null;
}

function loadNotify(module: string, log: Pick<Log, "warn">): (state: string) => number {
  const load = createRequire(import.meta.url);
  try {
    return (load(module) as { readonly notify: (state: string) => number }).notify;
  } catch (error) {
    log.warn("The service manager cannot be told anything: this build has no module for it", {
      reason: messageOf(error),
    });
    return () => 1;
  }
}
