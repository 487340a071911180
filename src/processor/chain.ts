/** The steps of one processor, one behind the other: what each event goes through, and what they remember of it. */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { emitsMax } from "../state/effects.ts";
import { createStep, isGathering, needsTime, nameOf, type StepSettings } from "./kinds.ts";
import type {
  Chain,
  ChainOutcome,
  ChainWrite,
  Event,
  Passed,
  Step,
  StepCount,
  StepTools,
} from "./processor.ts";
import { StepTable } from "./step-table.ts";

export interface ChainParts extends Pick<StepTools, "clock" | "log" | "baseDir"> {
  /** The processor's: its steps' state lies in `NAME/STEP`. */
  readonly name: string;
  /** The streams that it reads; left out: any. */
  readonly from?: readonly string[];
}

interface Link {
  /** Its kind, with a number where there are several: `window`, `window.2`. */
  readonly name: string;
  readonly space: string;
  readonly step: Step;
  readonly isGathering: boolean;
  table: StepTable<unknown> | null;
}

export function createChain(settings: readonly StepSettings[], parts: ChainParts): Chain {
  return new StepChain(settings, parts);
}

class StepChain implements Chain {
  readonly needsTime: boolean;
  readonly #links: Link[] = [];
  readonly #counts = new Map<string, { step: string; what: StepCount; count: number }>();
  /** Of the present event. */
  #emits: { stream: string; event: Event }[] = [];
  #refused: { event: Event; error: HoldfastError }[] = [];
  #counted: [step: string, what: StepCount, count: number][] = [];

  constructor(settings: readonly StepSettings[], parts: ChainParts) {
    this.needsTime = settings.some(needsTime);
    const met = new Map<string, number>();
    for (const each of settings) {
      const kind = nameOf(each);
      const nth = (met.get(kind) ?? 0) + 1;
      met.set(kind, nth);
      this.#links.push(this.#link(each, nth === 1 ? kind : `${kind}.${nth}`, parts));
    }
  }

  #link(settings: StepSettings, name: string, parts: ChainParts): Link {
    let table: StepTable<unknown> | null = null;
    const count = (what: StepCount, more: number): void => {
      this.#counted.push([name, what, more]);
    };
    const { clock, log, baseDir, from = null } = parts;
    const step = createStep(settings, {
      table: <Row>(rowsMax: number, ageOf?: (row: Row) => number) => {
        const made = new StepTable<Row>(rowsMax, () => count("evicted", 1), ageOf);
        table = made as StepTable<unknown>;
        return made;
      },
      emit: (stream, event) => this.#emits.push({ stream, event }),
      count,
      streams: from,
      clock,
      log,
      baseDir,
    });
    return {
      name,
      space: `${parts.name}/${name}`,
      step,
      isGathering: isGathering(settings),
      table,
    };
  }

  get spaces(): readonly string[] {
    return this.#links.flatMap(({ space, table }) => (table === null ? [] : [space]));
  }

  async open(): Promise<void> {
    for (const { step } of this.#links) await step.open?.();
  }

  close(): void {
    for (const { step } of this.#links) step.close?.();
  }

  clear(): void {
    for (const { table } of this.#links) table?.clear();
    this.#forget();
    this.#counts.clear();
  }

  load(space: string, rows: readonly { readonly key: string; readonly value: Uint8Array }[]): void {
    const table = this.#links.find((link) => link.space === space)?.table;
    for (const { key, value } of rows) {
      table?.load(key, JSON.parse(Buffer.from(value).toString()) as unknown);
    }
  }

  loaded(): void {
    for (const { step, table } of this.#links) {
      table?.loaded();
      step.refresh?.();
    }
    // What a step put right while it looked at its rows stands.
    this.keep();
  }

  process(event: Event): ChainOutcome {
    const passed: Passed[] = [];
    this.#run(0, [event], false, passed);
    return this.#outcome(passed);
  }

  idleAfterMs(stream: string): number | null {
    let soonest: number | null = null;
    for (const { step } of this.#links) {
      const afterMs = step.idleAfterMs?.(stream) ?? null;
      if (afterMs !== null) soonest = Math.min(soonest ?? afterMs, afterMs);
    }
    return soonest;
  }

  idle(stream: string): ChainOutcome {
    const passed: Passed[] = [];
    const dueMs = this.idleAfterMs(stream);
    this.#links.forEach(({ step, isGathering }, index) => {
      if ((step.idleAfterMs?.(stream) ?? Number.POSITIVE_INFINITY) > (dueMs ?? 0)) return;
      this.#run(index + 1, step.idle?.(stream) ?? [], isGathering, passed);
    });
    return this.#outcome(passed);
  }

  /** What `events` become behind the step before `from`. */
  #run(from: number, events: readonly Event[], areGathered: boolean, passed: Passed[]): void {
    const link = this.#links[from];
    for (const event of events) {
      if (link === undefined) {
        // A step that multiplies behind one that multiplies must not fill the memory first.
        if (passed.length >= emitsMax) {
          throw failed(`One event became more than ${emitsMax} in the steps`);
        }
        passed.push({ event, isGathered: areGathered });
      } else if (areGathered) this.#runGathered(from, event, passed);
      else this.#run(from + 1, link.step.process(event), link.isGathering, passed);
    }
  }

  /** A gathered event that fails costs itself and not the one that let it go. */
  #runGathered(from: number, event: Event, passed: Passed[]): void {
    const link = this.#links[from] as Link;
    const marks = this.#links.map(({ table }) => table?.mark() ?? 0);
    const before = { passed: passed.length, emits: this.#emits.length };
    try {
      this.#run(from + 1, link.step.process(event), true, passed);
    } catch (thrown) {
      const error = asRefusal(thrown);
      if (error.kind !== "refused") throw error;
      this.#links.forEach(({ table, step }, index) => {
        table?.rewind(marks[index]);
        step.refresh?.();
      });
      passed.length = before.passed;
      this.#emits.length = before.emits;
      this.#refused.push({ event, error });
    }
  }

  #outcome(passed: readonly Passed[]): ChainOutcome {
    return { passed, emits: this.#emits, refused: this.#refused };
  }

  keep(): void {
    for (const { table } of this.#links) table?.keep();
    for (const [step, what, count] of this.#counted) {
      const name = `${step} ${what}`;
      const known = this.#counts.get(name) ?? { step, what, count: 0 };
      this.#counts.set(name, { ...known, count: known.count + count });
    }
    this.#forget();
  }

  undo(): void {
    for (const { table, step } of this.#links) {
      if (table === null || table.mark() === 0) continue;
      table.rewind();
      step.refresh?.();
    }
    this.#forget();
  }

  #forget(): void {
    this.#emits = [];
    this.#refused = [];
    this.#counted = [];
  }

  takeWrites(): ChainWrite[] {
    return this.#links.flatMap(({ space, table }) =>
      (table?.takeChanges() ?? []).map(([key, row]) => ({
        space,
        key,
        value: row === null ? null : Buffer.from(JSON.stringify(row)),
      })),
    );
  }

  takeCounts(): { step: string; what: StepCount; count: number }[] {
    const counts = [...this.#counts.values()];
    this.#counts.clear();
    return counts;
  }

  figures(): { step: string; rows: number }[] {
    return this.#links.flatMap(({ name, table }) =>
      table === null ? [] : [{ step: name, rows: table.size }],
    );
  }
}

function asRefusal(thrown: unknown): HoldfastError {
  return thrown instanceof HoldfastError ? thrown : failed(messageOf(thrown), thrown);
}

function failed(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("HANDLER_FAILED", message, { cause });
}
