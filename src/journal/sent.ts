/** A turn on its way to the worker, with those who wait for it. */
import { HoldfastError } from "../core/errors.ts";
import type { PacketIdentifier, Settled, UnitOutcome } from "./journal.ts";
import type { PackedUnit, Turn, TurnResult, UnitResult } from "./protocol.ts";

interface Ticket<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}
export type Unit = { readonly packed: PackedUnit } & Ticket<UnitOutcome>;
type Purge = { readonly stream: string; readonly ids: readonly number[] | null } & Ticket<number>;
type Forget = { readonly source: string } & Ticket<void>;
type Release = { readonly packet: PacketIdentifier; readonly settled: Settled };

/** All of a turn but what sources handed over. */
export interface Rest {
  units: Unit[];
  releases: Release[];
  forgets: Forget[];
  purges: Purge[];
}

/** Whom to tell that an event or dead letter is on disk, in the order of the calls, and of which stream it was. */
export interface Waiting {
  readonly settled: readonly Settled[];
  readonly settledOf: readonly string[];
}

export class Sent {
  readonly turn: Turn;
  readonly waiting: Waiting;
  readonly rest: Rest;
  /** Sources whose session ended meanwhile. */
  readonly forgotten = new Set<string>();

  constructor(turn: Turn, waiting: Waiting, rest: Rest) {
    this.turn = turn;
    this.waiting = waiting;
    this.rest = rest;
  }

  buffers(): ArrayBuffer[] {
    const sections = [
      ...this.turn.intake.sections,
      ...this.turn.units.flatMap((unit) => unit.sections),
    ];
    return sections.map(({ bytes }) => bytes.buffer);
  }

  /** Who is to be told, and who waits on: those whose stream is among the `refused`. */
  divided(refused: ReadonlySet<string>): { told: readonly Settled[]; waiting: Waiting } {
    const { settled, settledOf } = this.waiting;
    const nobody = { settled: [], settledOf: [] };
    if (refused.size === 0) return { told: settled, waiting: nobody };
    const isHeld = (_: unknown, index: number): boolean => refused.has(settledOf[index] ?? "");
    return {
      told: settled.filter((_, index) => !isHeld(_, index)),
      waiting: { settled: settled.filter(isHeld), settledOf: settledOf.filter(isHeld) },
    };
  }

  /** Gives back the units that must wait. */
  settleRest(result: Extract<TurnResult, { kind: "done" }>): readonly Unit[] {
    for (const { settled } of this.rest.releases) settled();
    for (const { resolve } of this.rest.forgets) resolve();
    for (const [index, { resolve }] of this.rest.purges.entries())
      resolve(result.purged[index] ?? 0);
    const waiting: Unit[] = [];
    for (const [index, unit] of this.rest.units.entries()) {
      const outcome = result.units[index];
      if (outcome !== undefined && "waits" in outcome)
        waiting.push({ ...unit, packed: outcome.waits });
      else settleUnit(unit, outcome);
    }
    return waiting;
  }

  abandon(error: Error): void {
    for (const { reject } of [...this.rest.units, ...this.rest.forgets, ...this.rest.purges])
      reject(error);
  }
}

function settleUnit(unit: Unit, result: Exclude<UnitResult, { waits: unknown }> | undefined): void {
  if (result !== undefined && "committed" in result) {
    unit.resolve(result.committed ? "committed" : "refused");
  } else
    unit.reject(
      new HoldfastError("JOURNAL_DISK", `Cannot commit a unit of work: ${result?.error}`),
    );
}
