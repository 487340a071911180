/**
 * The compact encoding: field `~1` is the payload as JSON, whatever JSON can hold; then `i` the event's ID, `e` its
 * type, `t` its time in ms, and where there are any `k` key, `p` traceparent, `s` tracestate. The first field's name says
 * that it is this encoding, and its version.
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import { textOf, type Encoding, type Fields } from "./wire.ts";

/** The name of the first field. */
export const compactMark = "~1";
/** The field that holds the key. */
export const compactKeyField = "k";
const mark = Buffer.from(compactMark);

export function isCompact(fields: Fields): boolean {
  const first = fields[0];
  return first?.length === 2 && first[0] === mark[0] && first[1] === mark[1];
}

export const compact: Encoding = {
  encode({ id, type, time, key, payload, trace }) {
    const text = jsonOf(payload);
    const fields = [compactMark, text, "i", id, "e", type, "t", String(Math.round(time))];
    if (key !== null) fields.push(compactKeyField, key.toWellFormed());
    if (trace.traceparent !== undefined) fields.push("p", trace.traceparent);
    if (trace.tracestate !== undefined) fields.push("s", trace.tracestate);
    return fields;
  },

  decode(fields) {
    const values = new Map<string, string>();
    for (let at = 0; at + 1 < fields.length; at += 2) {
      const name = textOf(fields[at] as Uint8Array, `${at / 2 + 1}'s name`);
      values.set(name, textOf(fields[at + 1] as Uint8Array, name));
    }
    let payload: unknown;
    try {
      payload = JSON.parse(values.get(compactMark) ?? "");
    } catch (cause) {
      throw new HoldfastError("EVENT_MALFORMED", `Payload is no JSON: ${messageOf(cause)}`, {
        cause,
      });
    }
    const [traceparent, tracestate] = [values.get("p"), values.get("s")];
    const time = Number(values.get("t"));
    return {
      id: values.get("i") ?? null,
      type: values.get("e") ?? null,
      time: values.has("t") && Number.isFinite(time) ? time : null,
      key: values.get(compactKeyField) ?? null,
      payload,
      trace: {
        ...(traceparent !== undefined && { traceparent }),
        ...(tracestate !== undefined && { tracestate }),
      },
      alternatives: () => [],
    };
  },
};

function jsonOf(payload: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(payload);
  } catch (cause) {
    throw new HoldfastError("EVENT_INVALID", `Payload cannot be JSON: ${messageOf(cause)}`, {
      cause,
    });
  }
  if (text === undefined) {
    throw new HoldfastError("EVENT_INVALID", `Payload cannot be JSON: it is ${typeof payload}`);
  }
  return text;
}
