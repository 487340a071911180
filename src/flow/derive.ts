/**
 * What a processor's output becomes: an event of its target stream, held to that stream's rules as anything from
 * outside is (flow/admit.ts).
 *
 * Unless the handler says otherwise it carries on what the event it came of had: its time, its headers (topic,
 * `dup`, `traceparent`), and its key where the target stream takes none out of the payload. `receivedAt` is now, by this
 * device's clock: the event was made here.
 */
import type { Clock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { PayloadFormat } from "../core/event.ts";
import type { Derive } from "../processor/batch-processor.ts";
import { admit, type StreamRules } from "./admit.ts";

export function createDerive(rulesOf: (stream: string) => StreamRules, clock: Clock): Derive {
  return (stream, payload, base, options, original) => {
    checkOptions(stream, options);
    const rules = rulesOf(stream);
    const bytes = original ?? encodePayload(payload, rules.format, stream);
    const headers = options.headers ?? base.headers;
    const admitted = admit(rules, { headers, payload: bytes }, clock.wallMs());
    if (admitted instanceof HoldfastError) {
      throw new HoldfastError(admitted.code, `Cannot emit into ${stream}: ${admitted.message}`, {
        cause: admitted,
      });
    }
    return {
      ...admitted,
      key: options.key ?? admitted.key ?? base.key,
      time: options.time ?? base.time,
    };
  };
}

/** The furthest that a Date reaches from 1970, ms (ECMA-262, Time Values and Time Range). */
const timeMax = 8.64e15;

/** A handler is a user's own JavaScript: what it gives is checked as anything from outside is. */
function checkOptions(stream: string, { key, time, headers }: Parameters<Derive>[3]): void {
  const refuse = (what: string): never => {
    throw failed(`Cannot emit into ${stream}: ${what}`);
  };
  if (typeof stream !== "string" || stream === "") refuse("a stream's name is text");
  if (key !== undefined && typeof key !== "string") refuse("its key is not a string");
  if (time !== undefined && !(Math.abs(time) <= timeMax))
    refuse("its time is not in ms since 1970");
  const isText = (value: unknown): boolean => typeof value === "string";
  if (headers !== undefined && !Object.values(headers).every(isText))
    refuse("a header is not a string");
}

function encodePayload(payload: unknown, format: PayloadFormat, stream: string): Uint8Array {
  if (format === "json") return Buffer.from(toJson(payload, stream));
  if (format === "text" && typeof payload === "string") return Buffer.from(payload);
  if (format === "bytes" && payload instanceof Uint8Array) return payload;
  const wanted = format === "text" ? "a string" : "a Uint8Array";
  throw failed(`Cannot emit into ${stream}: its format ${format} asks for ${wanted}`);
}

function toJson(payload: unknown, stream: string): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(payload) as string | undefined;
  } catch (cause) {
    throw failed(`Cannot emit into ${stream}: ${messageOf(cause)}`, cause);
  }
  if (json === undefined) throw failed(`Cannot emit into ${stream}: ${typeof payload} is not JSON`);
  return json;
}

function failed(message: string, cause?: unknown): HoldfastError {
  return new HoldfastError("HANDLER_FAILED", message, { cause });
}
