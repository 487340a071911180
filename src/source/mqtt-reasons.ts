/** A broker's codes in words, and what kind of trouble each is. */
import { HoldfastError, messageOf } from "../core/errors.ts";

/** MQTT 5, 2.4: what CONNACK, SUBACK and DISCONNECT may say. */
const reasons: Readonly<Record<number, string>> = {
  0x80: "unspecified error",
  0x81: "malformed packet",
  0x82: "protocol error",
  0x83: "implementation specific error",
  0x84: "unsupported protocol version",
  0x85: "client identifier not valid",
  0x86: "bad user name or password",
  0x87: "not authorized",
  0x88: "server unavailable",
  0x89: "server busy",
  0x8a: "banned",
  0x8b: "server shutting down",
  0x8c: "bad authentication method",
  0x8d: "keep-alive timeout",
  0x8e: "session taken over: another client uses this client ID",
  0x8f: "topic filter invalid",
  0x90: "topic name invalid",
  0x91: "packet identifier in use",
  0x93: "receive maximum exceeded",
  0x94: "topic alias invalid",
  0x95: "packet too large",
  0x96: "message rate too high",
  0x97: "quota exceeded",
  0x98: "administrative action",
  0x99: "payload format invalid",
  0x9a: "retain not supported",
  0x9b: "QoS not supported",
  0x9c: "use another server",
  0x9d: "server moved",
  0x9e: "shared subscriptions not supported",
  0x9f: "connection rate exceeded",
  0xa0: "maximum connect time",
  0xa1: "subscription identifiers not supported",
  0xa2: "wildcard subscriptions not supported",
};

/** MQTT 3.1.1, 3.2.2.3, as the MQTT 5 codes that mean the same. */
const modernCodes: Readonly<Record<number, number>> = {
  1: 0x84,
  2: 0x85,
  3: 0x88,
  4: 0x86,
  5: 0x87,
};

/** The broker is there but not now: nothing that a user name or an access rule would mend. */
const passing = new Set([0x88, 0x89, 0x8b, 0x8d, 0x96, 0x98, 0x9c, 0x9d, 0x9f, 0xa0]);

export const unsupportedProtocol = 0x84;
export const sessionTakenOver = 0x8e;

/** A broker that knows 3.1.1 alone answers an MQTT 5 CONNECT with a 3.1.1 code, which is below 0x80. */
export function modernCode(code: number): number {
  return modernCodes[code] ?? code;
}

/** `code` as MQTT 5 has it. */
export function reasonText(code: number): string {
  return reasons[code] ?? `code 0x${code.toString(16).padStart(2, "0")}`;
}

/** What a CONNACK or DISCONNECT means; `words` are the broker's own (MQTT 5 reason string). */
export function refusal(what: string, code: number, words?: string): HoldfastError {
  const said = words === undefined || words === "" ? "" : ` (${words.slice(0, 200)})`;
  return new HoldfastError(
    passing.has(code) ? "SOURCE_UNREACHABLE" : "SOURCE_REFUSED",
    `${what}: ${reasonText(code)}${said}`,
  );
}

/** Why a socket failed. `wallMs` is told where it decides, since a device without a battery clock may be wrong. */
export function socketProblem(cause: Error, wallMs: number): string {
  // One error for each address that was tried, in an AggregateError without a message of its own.
  const first = cause instanceof AggregateError ? (cause.errors[0] as unknown) : cause;
  const code = (cause as NodeJS.ErrnoException).code ?? "";
  if (code !== "CERT_NOT_YET_VALID" && code !== "CERT_HAS_EXPIRED") return messageOf(first);
  return `${messageOf(first)}; the clock here says ${new Date(wallMs).toISOString()}`;
}
