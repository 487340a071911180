/**
 * A far side that refuses everything is one that was configured wrong: a format that it does not know, a database of
 * another kind. To dead-letter for that would empty the journal to where nobody looks. So until it has confirmed
 * something, no more than 32 events are given up; then the sink stands still and says so.
 *
 * The price: one that has never confirmed anything and is sent 33 bad events first waits for a person, who can move
 * the cursor past them (`holdfast replay GROUP STREAM --from SEQ`).
 */
import { HoldfastError } from "../core/errors.ts";
import type { Verdict } from "./http-answers.ts";

/** As many as a person still looks through. */
const refusedUnprovenMax = 32;

export class Trust {
  #refused = 0;
  #isProven = false;

  /** The verdict on `count` events, or a failure where it is not believed. */
  weigh(verdict: Verdict, count: number): Verdict {
    if (verdict.as === "confirmed") this.#isProven ||= (verdict.refused?.length ?? 0) < count;
    if (verdict.as === "confirmed" || verdict.as === "failure") return verdict;
    if (verdict.as === "refused" && verdict.isLate) return verdict;
    if (this.#isProven || count > 1) return verdict;
    if (this.#refused++ < refusedUnprovenMax) return verdict;
    const { error: cause } = verdict;
    const why = `${cause.message}; it has confirmed nothing, and refused ${refusedUnprovenMax} events before this one`;
    return { as: "failure", error: new HoldfastError("SINK_DENIED", why, { cause }) };
  }
}
