/** A user's handler, called: what it is given, what becomes of what it returns, and what its errors say. */
import { unlessAborted } from "../core/abort.ts";
import type { Log } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { BatchHandler, Event, Handler, HandlerContext } from "./processor.ts";
import type { Derive, Emit } from "./batch-processor.ts";
import type { ListedStore } from "../state/state.ts";
import type { EventEffects } from "../state/effects.ts";

export interface HandlerCallParts {
  readonly handler: Handler | BatchHandler;
  readonly log: Log;
  readonly to?: string;
  readonly timeoutMs: number;
  readonly derive: Derive;
  readonly name: string;
  readonly state: ListedStore;
  readonly stateProblem?: () => string | null;
  readonly wallMs: () => number;
}

/** The most that `scan` gives at once. */
const scanMax = 1_000;

export class HandlerCall {
  readonly #parts: HandlerCallParts;
  #hasWarned = false;

  constructor(parts: HandlerCallParts) {
    this.#parts = parts;
  }

  /** One call for all, in order; never of none. A handler for single events is given the first. */
  async call(
    events: readonly Event[],
    attempt: number,
    effects: EventEffects<Emit>,
    signal: AbortSignal,
  ): Promise<void> {
    const { handler, to, derive } = this.#parts;
    const base = events.at(-1) as Event;
    const context = this.#contextOf(base, attempt, effects, signal);
    const result =
      typeof handler === "function" ? handler(base, context) : handler.batch(events, context);
    const output = isThenable(result) ? await unlessAborted(result, signal) : result;
    if (to === undefined || output === undefined || output === null) return;
    for (const payload of Array.isArray(output) ? (output as unknown[]) : [output]) {
      emitTo(effects, to, derive(to, payload, base, {}));
    }
  }

  /** What is committed, with what the batch and the event have written over it. */
  async #scan(
    prefix: string,
    effects: EventEffects<Emit>,
  ): Promise<{ key: string; value: unknown }[]> {
    const { name, state } = this.#parts;
    const committed = await state.list(name, prefix, scanMax);
    const keys = new Set([
      prefix,
      ...committed.map(({ key }) => key),
      ...effects.writtenBelow(),
      ...effects.writes.keys(),
    ]);
    const wanted = [...keys].filter((key) => key !== "" && key.startsWith(prefix)).toSorted();
    const found: { key: string; value: unknown }[] = [];
    for (const key of wanted.slice(0, scanMax)) {
      const value = await effects.get(key);
      if (value !== undefined) found.push({ key, value });
    }
    return found;
  }

  #contextOf(
    event: Event,
    attempt: number,
    effects: EventEffects<Emit>,
    signal: AbortSignal,
  ): HandlerContext {
    const { derive, log, wallMs, stateProblem } = this.#parts;
    const put: HandlerContext["state"]["put"] = (key, value, { ttlMs } = {}) => {
      const problem = stateProblem?.() ?? null;
      if (problem !== null && !effects.found.has(key) && !effects.writes.has(key))
        throw new HoldfastError("HANDLER_FAILED", `Cannot keep state ${key}: ${problem}`);
      effects.put(key, value, ttlMs === undefined ? undefined : wallMs() + ttlMs);
    };
    /** A handler that ran past its end is no reason to crash: it is told once, in the log. */
    const ifOpen = (act: () => void): void => {
      if (!effects.isClosed) act();
      else if (!this.#hasWarned) {
        this.#hasWarned = true;
        log.warn(
          "A handler used its context after it had ended: that has no effect; await what it starts",
          {
            stream: event.stream,
            seq: event.seq,
          },
        );
      }
    };
    return {
      state: {
        get: (key) => effects.get(key),
        put: (key, value, options) => ifOpen(() => put(key, value, options)),
        delete: (key) => ifOpen(() => effects.delete(key)),
        scan: (prefix) => this.#scan(prefix, effects),
      },
      emit: (stream, payload, options = {}) =>
        ifOpen(() => emitTo(effects, stream, derive(stream, payload, event, options))),
      log,
      attempt,
      signal,
    };
  }
}

/** What was thrown while a batch ran; a user's own error is told with the line that threw it. */
export function translate(thrown: unknown, signal: AbortSignal, timeoutMs: number): HoldfastError {
  if (signal.aborted && (thrown === signal.reason || isAbort(thrown))) {
    const why = `The batch did not end within ${timeoutMs} ms`;
    return new HoldfastError("HANDLER_TIMEOUT", why, { cause: thrown });
  }
  if (thrown instanceof HoldfastError) return thrown;
  const why = `${messageOf(thrown)}${placeOf(thrown)}`;
  return new HoldfastError("HANDLER_FAILED", why, { cause: thrown });
}

const ownFolder = new URL("..", import.meta.url).href;

/** ` (at handler.mjs:12:5)`: the innermost frame of the stack that is in a file and not ours. */
function placeOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return "";
  for (const [, file = "", place = ""] of (thrown.stack ?? "").matchAll(
    /(file:\/\/[^\s()]+?):(\d+:\d+)/g,
  )) {
    if (file.startsWith(ownFolder)) continue;
    // A file that was loaded anew goes by a name with a query.
    const name = file.split("/").at(-1)?.split("?")[0] ?? "";
    return ` (at ${decodeURIComponent(name)}:${place})`;
  }
  return "";
}

export function emitTo(effects: EventEffects<Emit>, stream: string, event: Emit["event"]): void {
  effects.emitted({ stream, event }, event.payload.length);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    "then" in value &&
    typeof value.then === "function"
  );
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === "AbortError";
}
