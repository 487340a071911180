/**
 * SIGTERM and SIGINT: the first asks the agent to stop, the second ends it at once. SIGHUP asks it to read its
 * configuration anew.
 */
import { constants } from "node:os";

const stopSignals = ["SIGTERM", "SIGINT"] as const;
export type StopSignal = (typeof stopSignals)[number];

interface SignalParts {
  /** What receives the signals, and what ends the process. */
  readonly target?: Pick<NodeJS.Process, "on" | "off">;
  readonly exit?: (code: number) => void;
}

/** `stop` is called once. `dispose` takes the listeners away: the next signal then ends the process as usual. */
export function onStopSignals(
  stop: (signal: StopSignal) => void,
  parts: SignalParts = {},
): Disposable & { dispose(): void } {
  const target = parts.target ?? process;
  const exit = parts.exit ?? process.exit.bind(process);
  let stopping = false;
  const receive = (signal: StopSignal): void => {
    // Whoever asks twice does not want to wait. By convention the code is 128 and the signal's number.
    if (stopping) return exit(128 + constants.signals[signal]);
    stopping = true;
    stop(signal);
  };
  for (const signal of stopSignals) target.on(signal, receive);
  const dispose = (): void => {
    for (const signal of stopSignals) target.off(signal, receive);
  };
  return { dispose, [Symbol.dispose]: dispose };
}

/** `reload` is called each time. `dispose` takes the listener away: the next one then ends the process as usual. */
export function onReloadSignal(reload: () => void, parts: SignalParts = {}): Disposable {
  const target = parts.target ?? process;
  target.on("SIGHUP", reload);
  return { [Symbol.dispose]: () => void target.off("SIGHUP", reload) };
}
