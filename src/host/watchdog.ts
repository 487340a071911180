/**
 * Feeds the service manager's watchdog while the agent moves or has nothing to do.
 *
 * What starves it, and so restarts the agent:
 * - a main thread that does not come back: then nobody looks
 * - a journal whose worker answers no turn: nothing that comes in can be acknowledged any more
 * - a delivery that sleeps though events wait
 *
 * What does not: an upstream that is away, a full disk, a failing disk that answers, a clock that waits, no events at
 * all. Intake holds nothing of its own (flow/ingest.ts): what was taken in waits for a commit or is on the disk.
 *
 * A part is stuck when it owed a step at `looksMax` looks in a row and made none. Looks are counted, not time: a main
 * thread that was held up for long had no look, and its parts had no chance.
 */
import type { Clock, Timer } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import type { Pulse } from "../core/pulse.ts";

export interface WatchdogParts {
  readonly clock: Clock;
  readonly log: Pick<Log, "error" | "info">;
  /** The manager's patience, ms. */
  readonly watchdogMs: number;
  /** What must move; none while the agent's parts are being opened or closed. */
  readonly pulses: () => readonly Pulse[];
  readonly feed: () => void;
}

export interface Watchdog {
  stop(): void;
}

/** Four looks in the manager's patience: one may be late, and a part has half of it to move. */
const looksInPatience = 4;
const looksMax = 2;

interface Seen {
  steps: number;
  /** Looks in a row at which it owed this step. */
  owed: number;
}

export function startWatchdog({ clock, log, watchdogMs, pulses, feed }: WatchdogParts): Watchdog {
  const everyMs = watchdogMs / looksInPatience;
  const seen = new Map<Pulse, Seen>();
  let timer: Timer | undefined;
  let told: string | null = null;

  const look = (): void => {
    const present = pulses();
    for (const gone of seen.keys()) if (!present.includes(gone)) seen.delete(gone);
    const stuck = present.filter((pulse) => isStuck(pulse, seen)).map(({ name }) => name);
    const names = stuck.join(", ");
    if (stuck.length === 0) feed();
    else if (names !== told) {
      log.error(`The watchdog starves: ${names} makes no step though work waits`, {
        looks: looksMax,
        everyMs,
      });
    }
    if (stuck.length === 0 && told !== null) log.info("The watchdog is fed again");
    told = stuck.length === 0 ? null : names;
    timer = clock.after(everyMs, look);
  };
  look();
  return { stop: () => timer?.cancel() };
}

function isStuck(pulse: Pulse, seen: Map<Pulse, Seen>): boolean {
  const [steps, owes] = [pulse.steps(), pulse.owes()];
  const before = seen.get(pulse);
  const isSame = owes && before !== undefined && before.steps === steps;
  const owed = owes ? (isSame ? before.owed + 1 : 1) : 0;
  seen.set(pulse, { steps, owed });
  return owed > looksMax;
}
