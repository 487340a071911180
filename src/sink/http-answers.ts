/**
 * What a server's answers mean for a sink: which trouble passes, which a person must mend, which is some event's.
 *
 *   2xx ─────────────────────────────────► confirmed (a web page is none: a captive portal answers so)
 *   400, 409, 422 ───────────────────────► some event's fault: the batch is halved until it is found
 *   413 ─────────────────────────────────► too large: halved; one event alone is refused
 *   408, 423, 425, 429, 5xx, 302, 303, 307 ► passes by itself, after Retry-After where it says so
 *   anything with Retry-After ───────────► the same, whatever the status
 *   401, 403, 404, 407, 415, 301, 501 … ─► a person must act: it is the URL, the right or the format that is wrong,
 *                                          and to dead-letter for that would empty the journal to where nobody looks
 */
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { HttpAnswer } from "./http-client.ts";

export type Verdict =
  /** `refused`: what the far side named as bad; the rest it has taken. Left out: nothing. */
  | { readonly as: "confirmed"; readonly refused?: readonly Culprit[] }
  /** Some event of these: which one is not known. */
  | {
      readonly as: "refused";
      readonly error: HoldfastError;
      /** For its time alone: that says nothing of how the far side was configured. */
      readonly isLate?: true;
    }
  | { readonly as: "too-large"; readonly error: HoldfastError }
  /** No event's fault. */
  | { readonly as: "failure"; readonly error: HoldfastError };

export interface Culprit {
  /** Among the events of that request. */
  readonly index: number;
  readonly error: HoldfastError;
}

const eventsFault = new Set([400, 409, 422]);
/** Beside all 5xx but those that say "never". */
const passing = new Set([302, 303, 307, 408, 423, 425, 429]);
const never = new Set([501, 505]);

/** No far side may silence a device for longer: what it says may be a mistake of its own. */
export const retryAfterMsMax = 3_600_000;

/** `wallMs`: our clock, for an answer without a date of its own. */
export function judge(answer: HttpAnswer, far: string, wallMs: number): Verdict {
  const { status } = answer;
  const words = `it answered ${status}${reasonOf(answer)}`;
  if (status >= 200 && status < 300) {
    if (!isWebPage(answer)) return { as: "confirmed" };
    const why = "it answered with a web page, as a captive portal does";
    return failure("SINK_UNREACHABLE", far, why);
  }
  const retryAfterMs = readRetryAfter(answer, wallMs);
  const passes = passing.has(status) || (status >= 500 && !never.has(status));
  if (passes || retryAfterMs !== undefined) {
    return failure("SINK_UNREACHABLE", far, words, retryAfterMs);
  }
  const refusal = new HoldfastError("SINK_REFUSED", `Refused by ${far}: ${words}`);
  if (eventsFault.has(status)) return { as: "refused", error: refusal };
  if (status === 413) return { as: "too-large", error: refusal };
  return failure("SINK_DENIED", far, words);
}

function failure(
  code: "SINK_UNREACHABLE" | "SINK_DENIED",
  far: string,
  why: string,
  retryAfterMs?: number,
): Verdict {
  const error = new HoldfastError(code, `Cannot deliver to ${far}: ${why}`, { retryAfterMs });
  return { as: "failure", error };
}

/** The longest that is told of an answer's body: it goes into a dead letter's reason and a line of the log. */
const reasonMax = 200;

/** The status's own words would say nothing more; the body does. A redirect says where to. */
export function reasonOf({ body, headers }: HttpAnswer): string {
  if (headers.location !== undefined)
    return `, which leads to ${headers.location.slice(0, reasonMax)}`;
  const text = body.replaceAll(/\s+/g, " ").trim();
  if (text === "" || isMarkup(text)) return "";
  return `: ${text.length > reasonMax ? `${text.slice(0, reasonMax)}…` : text}`;
}

/** Both: simple frameworks call any text HTML. */
function isWebPage({ headers, body }: HttpAnswer): boolean {
  return /^text\/html/i.test(headers["content-type"] ?? "") && isMarkup(body.trimStart());
}

function isMarkup(text: string): boolean {
  return text.startsWith("<");
}

/** RFC 9110, 10.2.3: seconds, or a date, which is measured by the server's own clock where it tells it. */
function readRetryAfter({ headers }: HttpAnswer, wallMs: number): number | undefined {
  const text = headers["retry-after"]?.trim();
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, retryAfterMsMax);
  const at = readDate(text);
  if (at === undefined) return undefined;
  const now = readDate(headers.date) ?? wallMs;
  return Math.min(Math.max(at - now, 0), retryAfterMsMax);
}

/** RFC 9110, 5.6.7: three formats, all of which begin with a day's name. */
function readDate(text: string | undefined): number | undefined {
  if (text === undefined || !/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text)) return undefined;
  // asctime names no zone and means UTC.
  const ms = Date.parse(text.endsWith("GMT") ? text : `${text} GMT`);
  return Number.isNaN(ms) ? undefined : ms;
}

/** What Node's TLS says of a certificate that is not good; CERT_NOT_YET_VALID may be our clock and passes. */
const badCertificate =
  /^(CERT_(?!NOT_YET_VALID)|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|HOSTNAME_MISMATCH|INVALID_CA|ERR_TLS_CERT|ERR_OSSL)/;

/** What ended without an answer. A name with several addresses fails with an error for each and no message. */
export function connectionError(far: string, cause: unknown): HoldfastError {
  if (cause instanceof HoldfastError) return cause;
  const all: readonly unknown[] = cause instanceof AggregateError ? cause.errors : [cause];
  const { code } = cause as { code?: unknown };
  const isPersons = typeof code === "string" && badCertificate.test(code);
  const message = `Cannot deliver to ${far}: ${all.map(messageOf).join(", ")}`;
  return new HoldfastError(isPersons ? "SINK_DENIED" : "SINK_UNREACHABLE", message, { cause });
}
