/** Ends a child that a test started, and waits until it is gone; one that is gone already is left alone. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";

export async function endProcess(
  child: ChildProcess | undefined,
  signal: NodeJS.Signals,
): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, "exit");
}
