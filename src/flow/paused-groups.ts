/**
 * Which groups a person has paused, in the journal, so that a restart does not forget it: a row of state for each.
 *
 * A group starts paused, and goes on as soon as the journal says that it is not.
 */
import type { Log } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import type { Journal } from "../journal/journal.ts";

/** What can stand still: a sink's delivery, a processor. */
export interface Pausable {
  /** `why` is what health says meanwhile. */
  pause(why: string): void;
  resume(): void;
  isPaused(): boolean;
}

/** No processor is called so: its state is not in the way. */
export const pausedSpace = "~paused";

export class PausedGroups {
  readonly #journal: Pick<Journal, "readState" | "commit">;
  readonly #log: Log;
  readonly #groups = new Map<string, Pausable>();

  constructor(journal: Pick<Journal, "readState" | "commit">, log: Log) {
    this.#journal = journal;
    this.#log = log;
  }

  /** Before it starts. */
  add(group: string, part: Pausable): void {
    this.#groups.set(group, part);
    part.pause("Asks the journal whether a person has paused it");
    this.#journal.readState(pausedSpace, group).then(
      (row) => {
        if (row === null) return part.resume();
        part.pause(pausedText(group));
        this.#log.warn(`Group ${group} is paused, as a person has asked`);
      },
      (error: unknown) => {
        this.#log.warn(`Whether ${group} is paused is not known, it goes on: ${messageOf(error)}`);
        part.resume();
      },
    );
  }

  names(): readonly string[] {
    return [...this.#groups.keys()];
  }

  isPaused(group: string): boolean {
    return this.#groups.get(group)?.isPaused() ?? false;
  }

  /** On disk when it resolves. @throws HoldfastError when the journal does not take it: nothing has changed then */
  async set(group: string, isPaused: boolean): Promise<void> {
    const value = isPaused ? Buffer.from("1") : null;
    const unit = { group, cursors: [], state: [{ space: pausedSpace, key: group, value }] };
    await this.#journal.commit(unit, "soon");
    const part = this.#groups.get(group);
    if (isPaused) part?.pause(pausedText(group));
    else part?.resume();
  }
}

function pausedText(group: string): string {
  return `Paused by a person: events wait in the journal until \`holdfast resume ${group}\``;
}
