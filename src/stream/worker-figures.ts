/** What a worker tells of itself: counts since its start, and what is wrong now. PSPF's names where it has one. */
import type { HoldfastError } from "../core/errors.ts";

export class WorkerFigures {
  succeededTotal = 0;
  failedTotal = 0;
  deadLettersTotal = 0;
  droppedTotal = 0;
  /** Of the last batch, with its commit, ms. */
  lastBatchMs = 0;
  lastError: string | null = null;
  /** Why nothing goes on at the moment. */
  trouble: string | null = null;

  succeeded(count: number): void {
    this.succeededTotal += count;
  }

  failed(error: HoldfastError): void {
    this.failedTotal += 1;
    this.lastError = error.message;
  }

  refused(as: "dead-letter" | "drop", error: HoldfastError): void {
    if (as === "drop") this.droppedTotal += 1;
    else this.deadLettersTotal += 1;
    this.lastError = error.message;
  }

  took(ms: number): void {
    this.lastBatchMs = ms;
  }
}
