/**
 * Steps as a worker's handler, each key by itself: what they remember of a key lies in the worker's state as one value
 * and is changed together with the acknowledgement of its event. So it holds across retries and kills, and for any number
 * of workers; that the events of a key come in order is the subscription's `key`.
 *
 * Each key has a time of its own: its windows close with its next events, and no silence closes them. What is
 * remembered of a key is bounded by what a state's value may hold.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { noHeaders } from "../core/event.ts";
import { failed } from "./payload.ts";
import type { Chain, ChainOutcome, Event } from "./processor.ts";

/** An event as a worker has it (stream/worker-handler.ts). */
export interface KeyedEvent {
  /** `ms-n`: when the server took it. */
  readonly entryId: string;
  readonly topic: string;
  readonly key: string | null;
  readonly time: number;
  readonly payload: unknown;
}

/** Of a worker's context, what steps need. */
export interface KeyedContext {
  readonly state: {
    get(key: string): Promise<unknown>;
    put(key: string, value: unknown): void;
    delete(key: string): void;
  };
  readonly emit: (topic: string, payload: unknown, options: EmitOptions) => void;
}

interface EmitOptions {
  readonly key?: string;
  readonly time: number;
}

export type KeyedHandler = (event: KeyedEvent, context: KeyedContext) => Promise<void>;

/** A row in state: its space, its key, its value as JSON. */
type SavedRow = readonly [space: string, key: string, json: string];

export function keyedHandler(chain: Chain, to: string): KeyedHandler {
  let opening: Promise<void> | null = null;
  const opened = (): Promise<void> => {
    opening ??= chain.open().catch((error: unknown) => {
      opening = null;
      throw error;
    });
    return opening;
  };
  return async (event, context) => {
    await opened();
    const { key, topic } = event;
    if (key === null && chain.spaces.length > 0) {
      throw failed("Steps that remember something ask for events with a key");
    }
    const name = `steps/${to}/${key ?? ""}`;
    const saved = chain.spaces.length === 0 ? undefined : await context.state.get(name);
    // From here on nothing is awaited: the chain is this event's alone.
    const rows = new Map(
      ((saved ?? []) as readonly SavedRow[]).map((row) => [`${row[0]} ${row[1]}`, row]),
    );
    const outcome = processed(chain, eventOf(event), rows);
    for (const { space, key: rowKey, value } of chain.takeWrites()) {
      if (value === null) rows.delete(`${space} ${rowKey}`);
      else rows.set(`${space} ${rowKey}`, [space, rowKey, Buffer.from(value).toString()]);
    }
    if (rows.size > 0) context.state.put(name, [...rows.values()]);
    else if (saved !== undefined) context.state.delete(name);
    for (const passed of outcome.passed) emit(context, to, passed.event);
    for (const { event: late } of outcome.emits) emit(context, `${topic}-late`, late);
    for (const refused of outcome.refused) {
      const payload = { error: messageOf(refused.error), payload: refused.event.payload };
      emit(context, `${to}-refused`, { ...refused.event, payload });
    }
  };
}

function processed(chain: Chain, event: Event, rows: ReadonlyMap<string, SavedRow>): ChainOutcome {
  chain.clear();
  for (const [space, key, json] of rows.values()) {
    chain.load(space, [{ key, value: Buffer.from(json) }]);
  }
  chain.loaded();
  try {
    const outcome = chain.process(event);
    chain.keep();
    return outcome;
  } catch (thrown) {
    chain.undo();
    throw thrown instanceof HoldfastError ? thrown : failed(messageOf(thrown));
  }
}

function eventOf({ entryId, topic, key, time, payload }: KeyedEvent): Event {
  const receivedAt = Number(entryId.split("-")[0]);
  return { stream: topic, seq: 0, key, time, receivedAt, headers: noHeaders, payload };
}

function emit(context: KeyedContext, topic: string, { key, time, payload }: Event): void {
  context.emit(topic, payload, { time, ...(key !== null && { key }) });
}
