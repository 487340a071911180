/** How a sink waits before it tries again: until its time has come, it is woken, or all ends. */
import type { Context } from "../core/context.ts";
import type { FarAddress } from "../core/far-address.ts";
import type { LinkMonitor } from "./link-monitor.ts";

export class Pause {
  readonly #context: Context;
  readonly #link: LinkMonitor;
  readonly #signal: AbortSignal;
  readonly #address: FarAddress | null;
  #wake: (() => void) | null = null;

  constructor(
    context: Context,
    link: LinkMonitor,
    signal: AbortSignal,
    address: FarAddress | null = null,
  ) {
    this.#address = address;
    this.#context = context;
    this.#link = link;
    this.#signal = signal;
  }

  /** `isAskedFor`: by the far side itself, which is not woken for because another one answers. */
  async sleep(delayMs: number, isAskedFor = false): Promise<void> {
    const { clock, name } = this.#context;
    if (this.#signal.aborted) return;
    const woken = new AbortController();
    const wake = (): void => woken.abort();
    this.#wake = wake;
    if (!isAskedFor) this.#link.sleeps(name, wake, this.#address);
    const ends = AbortSignal.any([this.#signal, woken.signal]);
    await clock.sleep(delayMs, ends).catch(() => undefined);
    this.#wake = null;
    this.#link.awake(name);
  }

  /** Somebody asks for it now. */
  wake(): void {
    this.#wake?.();
  }

  /** The far side answers again. */
  reached(): void {
    this.#link.reached(this.#context.name);
  }
}
