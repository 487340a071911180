/**
 * So many bytes a second, and no more than a second's worth at once. What is sent is known when it was sent: the
 * bucket may go below zero by one batch, and the next waits until that is paid.
 */
export class TokenBucket {
  readonly bytesPerSecond: number;
  #tokens: number;
  #atMs: number;

  constructor(bytesPerSecond: number, nowMs: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.#tokens = bytesPerSecond;
    this.#atMs = nowMs;
  }

  /** How long until something may be sent, ms; 0: now. */
  waitMs(nowMs: number): number {
    this.#fill(nowMs);
    return this.#tokens > 0 ? 0 : Math.ceil(((1 - this.#tokens) / this.bytesPerSecond) * 1000);
  }

  spend(bytes: number, nowMs: number): void {
    this.#fill(nowMs);
    this.#tokens -= bytes;
  }

  #fill(nowMs: number): void {
    const earned = ((nowMs - this.#atMs) / 1000) * this.bytesPerSecond;
    this.#tokens = Math.min(this.bytesPerSecond, this.#tokens + Math.max(0, earned));
    this.#atMs = Math.max(this.#atMs, nowMs);
  }
}
