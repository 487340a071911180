/** What an HTTP route gives back, and its errors as problem details (RFC 9457). */
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import { HoldfastError } from "../core/errors.ts";

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Text as a whole, or written piece by piece for as long as `signal` allows. */
  readonly body: string | ((write: Write, signal: AbortSignal) => Promise<void>);
}

/** Resolves when the client has room for more; rejects when it has gone. */
export type Write = (text: string) => Promise<void>;

export function json(value: unknown, status = 200): Answer {
  const body = `${JSON.stringify(value)}\n`;
  return { status, headers: { "content-type": "application/json; charset=utf-8" }, body };
}

/** Ends a request with a problem: thrown by routes, answered by the server. */
export class Problem extends Error {
  readonly status: number;
  readonly members: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    detail: string,
    members: Readonly<Record<string, unknown>> = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(detail);
    this.status = status;
    this.members = members;
    this.headers = headers;
  }
}

/** RFC 9457: without a `type` it is about:blank, and then `title` is the status code's own phrase. */
export function problemAnswer(problem: Problem): Answer {
  const { status, message, members, headers } = problem;
  const value = { title: STATUS_CODES[status], status, detail: message, ...members };
  return {
    status,
    headers: { ...headers, "content-type": "application/problem+json" },
    body: `${JSON.stringify(value)}\n`,
  };
}

/** What was thrown by a route, as a problem; undefined: it is our own mistake. */
export function asProblem(thrown: unknown): Problem | undefined {
  if (thrown instanceof Problem) return thrown;
  if (!(thrown instanceof HoldfastError)) return undefined;
  const statuses = { transient: 503, fatal: 503, refused: 422, config: 500 } as const;
  return new Problem(statuses[thrown.kind], thrown.message, {
    code: thrown.code,
    hint: thrown.hint,
  });
}

/** Writes an answer out; ends when the client has it or has left. */
export async function sendAnswer(
  message: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
): Promise<void> {
  response.writeHead(answer.status, {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    ...(typeof answer.body === "string" && { "content-length": Buffer.byteLength(answer.body) }),
    ...answer.headers,
  });
  // What was not read of a body must not be taken for the next request.
  if (!message.complete) response.once("finish", () => message.destroy());
  const { body } = answer;
  if (message.method === "HEAD") {
    response.end();
    return;
  }
  if (typeof body === "string") {
    response.end(body);
    return;
  }
  // A follower of a quiet stream shall know at once that it is one.
  response.flushHeaders();
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const write = async (text: string): Promise<void> => {
    gone.signal.throwIfAborted();
    if (response.write(text)) return;
    await new Promise<void>((resolve, reject) => {
      const leave = (): void => reject(gone.signal.reason as Error);
      gone.signal.addEventListener("abort", leave, { once: true });
      response.once("drain", () => {
        gone.signal.removeEventListener("abort", leave);
        resolve();
      });
    });
  };
  try {
    await body(write, gone.signal);
    response.end();
  } catch {
    // The client has left, or the journal is closing: the head is out, so an unfinished body is all we can say.
    response.destroy();
  }
}
