/** What a worker counts since its start, and what is wrong now. */
import type { HoldfastError } from "../core/errors.ts";
import { secondsBuckets } from "../core/metrics.ts";

export class WorkerFigures {
  succeededTotal = 0;
  failedTotal = 0;
  deadLettersTotal = 0;
  droppedTotal = 0;
  /** Batches with their commits: how many ended within each of `secondsBuckets`, in all, and how long they took. */
  readonly batchesWithin = secondsBuckets.map(() => 0);
  batchesTotal = 0;
  batchSecondsTotal = 0;
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

  took(seconds: number): void {
    this.batchesTotal += 1;
    this.batchSecondsTotal += seconds;
    secondsBuckets.forEach((bound, at) => {
      if (seconds <= bound) this.batchesWithin[at] = (this.batchesWithin[at] ?? 0) + 1;
    });
  }
}
