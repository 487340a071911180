/**
 * What others ask a loop to do between two units of work: a replay, the removal of state. One after the other, in their
 * order. Bound: none of its own, each asker waits for its answer (host/http.ts bounds the askers).
 */
import { HoldfastError } from "../core/errors.ts";

interface Errand {
  readonly run: () => Promise<void>;
  readonly refuse: () => void;
}

export class Errands {
  #waiting: Errand[] = [];

  get waits(): boolean {
    return this.#waiting.length > 0;
  }

  add<T>(act: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#waiting.push({
      run: () => act().then(resolve, reject),
      refuse: () => reject(new HoldfastError("PROCESSOR_STOPPED", "The processor has stopped")),
    });
    return promise;
  }

  /** The first of them; it never rejects, who asked is told. */
  async run(): Promise<void> {
    await this.#waiting.shift()?.run();
  }

  /** None of those that wait will be done. */
  refuse(): void {
    for (const errand of this.#waiting.splice(0)) errand.refuse();
  }
}
