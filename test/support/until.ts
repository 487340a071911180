/** Waits for something real (a process, a socket, a disk) without guessing how long it takes. */
import { setTimeout as delay } from "node:timers/promises";

/** Resolves once `condition` holds; fails after `timeoutMs` with `what` it waited for. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > end) throw new Error(`Waited ${timeoutMs} ms in vain for: ${what}`);
    await delay(10);
  }
}
