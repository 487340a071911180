/**
 * Dead letters in `{topic}-dlq`: the event's fields as they were received, then what PSPF writes (`_error`,
 * `_original_stream`, `_original_msg_id`, `_moved_timestamp` in Unix seconds), then what it lacks (`_group`, `_attempts`,
 * `_first_timestamp`, `_stack`).
 */
import type { EncodedFields, Fields } from "./wire.ts";

export interface NewDeadLetter {
  readonly error: string;
  readonly topic: string;
  readonly id: string;
  /** ms since 1970. */
  readonly movedMs: number;
  readonly group: string;
  /** How often it was tried; 0: it could not be read, or did not fit its schema. */
  readonly attempts: number;
  /** The first attempt, ms since 1970. */
  readonly firstMs: number;
  readonly stack: string;
}

/** What is said of a dead letter; null where its writer did not say. */
export interface DeadLetter {
  readonly error: string | null;
  readonly topic: string | null;
  readonly originalId: string | null;
  readonly group: string | null;
  readonly attempts: number | null;
  /** ms since 1970. */
  readonly firstMs: number | null;
  readonly movedMs: number | null;
  readonly stack: string | null;
}

const pspfNames = ["_error", "_original_stream", "_original_msg_id", "_moved_timestamp"];
const ownNames = ["_group", "_attempts", "_first_timestamp", "_stack"];
/** A stack beyond this is cut, characters: the first lines say where it was. */
const stackMax = 4_096;
const errorMax = 4_096;

export function deadLetterFields(fields: Fields, letter: NewDeadLetter): EncodedFields {
  return [
    ...fields,
    ...Object.entries({
      _error: letter.error.slice(0, errorMax).toWellFormed(),
      _original_stream: letter.topic,
      _original_msg_id: letter.id,
      _moved_timestamp: String(letter.movedMs / 1000),
      _group: letter.group,
      _attempts: String(letter.attempts),
      _first_timestamp: String(letter.firstMs / 1000),
      _stack: letter.stack.slice(0, stackMax).toWellFormed(),
    }).flat(),
  ];
}

/** The event as it was received: without what was written behind it. */
export function originalFields(fields: Fields): Fields {
  return fields.slice(0, tailOf(fields));
}

export function readDeadLetter(fields: Fields): DeadLetter {
  const said = new Map<string, string>();
  for (let at = tailOf(fields); at + 1 < fields.length; at += 2) {
    said.set(text(fields[at]), text(fields[at + 1]));
  }
  const number = (name: string): number | null => {
    const found = said.get(name);
    return found === undefined || !Number.isFinite(Number(found)) ? null : Number(found);
  };
  const ms = (name: string): number | null => {
    const seconds = number(name);
    return seconds === null ? null : Math.round(seconds * 1000);
  };
  return {
    error: said.get("_error") ?? null,
    topic: said.get("_original_stream") ?? null,
    originalId: said.get("_original_msg_id") ?? null,
    group: said.get("_group") ?? null,
    attempts: number("_attempts"),
    firstMs: ms("_first_timestamp"),
    movedMs: ms("_moved_timestamp"),
    stack: said.get("_stack") ?? null,
  };
}

/** Where the tail begins: the last fields whose names are ours or PSPF's. A field of the event's own stands before. */
function tailOf(fields: Fields): number {
  const left = new Set([...pspfNames, ...ownNames]);
  let at = fields.length;
  while (at >= 2 && left.delete(text(fields[at - 2]))) at -= 2;
  return at;
}

/** What is no UTF-8 is shown with U+FFFD in its place. */
function text(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString();
}
