/**
 * Groups that the journal knows and the configuration does not name: a processor or a sink that was renamed or taken
 * out. Their place is kept, so that one that comes back goes on where it stood; it holds no trimming. It is told, and
 * ends when a person drops it, or by age: a clock that is not synced counts for nothing there.
 *
 * In the journal: a row of state for each, the time when it was first found absent.
 *
 * Bound: groups that configurations have named within `retentionMs`.
 */
import type { Clock, Timer } from "../core/clock.ts";
import type { Log } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import { emptySpace, type Journal } from "../journal/journal.ts";
import { pausedSpace } from "./paused-groups.ts";

/** No processor is called so: its state is not in the way. */
const space = "~absent";
/** How often ages are looked at, ms. */
const lookEveryMs = 3_600_000;
/** Absent groups that are looked at. */
const pageMax = 1_000;

export interface AbsentGroupsParts {
  readonly journal: Pick<Journal, "status" | "commit" | "readStates" | "readStateSpaces">;
  readonly clock: Clock;
  readonly log: Log;
  /** Groups of the configuration. */
  readonly present: ReadonlySet<string>;
  readonly retentionMs: number;
}

export class AbsentGroups {
  readonly #parts: AbsentGroupsParts;
  readonly #since = new Map<string, number>();
  readonly #told = new Set<string>();
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(parts: AbsentGroupsParts) {
    this.#parts = parts;
  }

  /** Looks now, and every hour. */
  start(): void {
    void this.#look();
  }

  /** Waits for nothing: a salvage or a full disk may keep a look waiting until the journal is closed. */
  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  /** Since when it has been absent, ms since 1970; null: not known yet, for want of a synced clock. */
  since(group: string): number | null {
    return this.#since.get(group) ?? null;
  }

  isPresent(group: string): boolean {
    return this.#parts.present.has(group);
  }

  names(): readonly string[] {
    const { journal, present } = this.#parts;
    const known = new Set(journal.status().groups.map(({ group }) => group));
    return [...known].filter((group) => !present.has(group));
  }

  /**
   * Forgets an absent group with all that it had: its place in each stream, what waited for another attempt, its state.
   * Its dead letters stay. On disk when it resolves.
   */
  async drop(group: string): Promise<void> {
    const { journal, log } = this.#parts;
    for (const owned of (await journal.readStateSpaces()).map((found) => found.space)) {
      if (owned === group || owned.startsWith(`${group}/`)) await emptySpace(journal, owned);
    }
    const marks = [space, pausedSpace].map((of) => ({ space: of, key: group, value: null }));
    await journal.commit({ group, cursors: [], state: marks, ends: true }, "soon");
    this.#since.delete(group);
    log.info(`Group ${group} is forgotten, with its place and its state`);
  }

  async #look(): Promise<void> {
    try {
      await this.#compare();
    } catch (error) {
      this.#parts.log.debug(`Absent groups cannot be looked at: ${messageOf(error)}`);
    }
    if (!this.#isStopped) this.#timer = this.#parts.clock.after(lookEveryMs, () => this.start());
  }

  async #compare(): Promise<void> {
    const { journal, clock, present, retentionMs } = this.#parts;
    const absent = this.names();
    for (const group of absent) this.#tell(group);
    const noted = await journal.readStates(space, null, pageMax);
    for (const { key, value } of noted) {
      if (present.has(key) || !absent.includes(key)) await this.#note(key, null);
      else this.#since.set(key, Number(JSON.parse(Buffer.from(value).toString())));
    }
    if (clock.quality() !== "synced") return;
    const now = clock.wallMs();
    for (const group of absent) {
      const since = this.#since.get(group);
      if (since === undefined) await this.#note(group, now);
      else if (now - since > retentionMs) await this.drop(group);
    }
  }

  #tell(group: string): void {
    if (this.#told.has(group)) return;
    this.#told.add(group);
    this.#parts.log.warn(
      `Group ${group} is not in the configuration: its place is kept for it until \`holdfast groups drop ${group}\``,
    );
  }

  async #note(group: string, sinceMs: number | null): Promise<void> {
    const value = sinceMs === null ? null : Buffer.from(String(Math.round(sinceMs)));
    const state = [{ space, key: group, value }];
    await this.#parts.journal.commit({ group, cursors: [], state }, "soon");
    if (sinceMs === null) this.#since.delete(group);
    else this.#since.set(group, sinceMs);
  }
}
