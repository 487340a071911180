/**
 * W3C trace context (https://www.w3.org/TR/trace-context/) in an event's metadata, by the OpenTelemetry API, whose
 * door this is. Without an SDK the API does nothing, and a trace that came with an event goes on to those that it
 * becomes; with one, emitting and processing are spans of their own, linked through the stream, with the names and
 * attributes of OpenTelemetry's messaging conventions
 * (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
 *
 * The API's version is kept low on purpose: a library that asks for a newer one than the user's SDK has registered is
 * answered by nothing, while an older one is served by all that came after it.
 */
import {
  context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
} from "@opentelemetry/api";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { TraceHeaders } from "../wire/wire.ts";

const system = { "messaging.system": "holdfast" };

/** What an operation is about, for its span: one event by its ID, or a batch by its size. */
export type Subject = { readonly id: string } | { readonly count: number };

/**
 * Runs `emit` as a span, child of what is active, and gives it the headers to send along: those of a list are one
 * span's, and all of its events carry them.
 */
export function traceEmit<T>(
  topic: string,
  subject: Subject,
  emit: (headers: TraceHeaders) => T,
): T {
  const above = context.active();
  const attributes = attributesOf("send", topic, subject);
  const span = tracer().startSpan(`send ${topic}`, { kind: SpanKind.PRODUCER, attributes }, above);
  return ended(span, () =>
    context.with(trace.setSpan(above, span), () => emit(headersOf(span, {}))),
  );
}

/** An event that a handler emits: a span of no length below the handler's, whose headers go with the event. */
export function traceCreate(topic: string, id: string, handling: TraceHeaders): TraceHeaders {
  const attributes = attributesOf("create", topic, { id });
  const options = { kind: SpanKind.PRODUCER, attributes };
  const span = tracer().startSpan(`create ${topic}`, options, contextOf(handling));
  span.end();
  return headersOf(span, handling);
}

/**
 * Runs `process` as a span, and gives it the headers of what it emits. One event's span is a child of what came with
 * the event; a batch's begins a trace. Either links to what came with each of its events.
 */
export function traceProcess<T>(
  { topic, group }: { readonly topic: string; readonly group: string },
  subject: Subject,
  headers: readonly TraceHeaders[],
  process: (headers: TraceHeaders) => T,
): T {
  const came = headers.map(contextOf);
  const above = ("id" in subject ? came[0] : undefined) ?? ROOT_CONTEXT;
  const span = tracer().startSpan(
    `process ${topic}`,
    {
      kind: SpanKind.CONSUMER,
      attributes: {
        ...attributesOf("process", topic, subject),
        "messaging.consumer.group.name": group,
      },
      links: came.flatMap((each) => {
        const linked = trace.getSpanContext(each);
        return linked === undefined ? [] : [{ context: linked }];
      }),
    },
    above,
  );
  return ended(span, () =>
    context.with(trace.setSpan(above, span), () => process(headersOf(span, common(headers)))),
  );
}

/** What all of them say; of a batch whose events come from several traces nothing can be said. */
function common(headers: readonly TraceHeaders[]): TraceHeaders {
  const [first = {}] = headers;
  const isSame = headers.every(
    ({ traceparent, tracestate }) =>
      traceparent === first.traceparent && tracestate === first.tracestate,
  );
  return isSame ? first : {};
}

function attributesOf(
  operation: "send" | "create" | "process",
  topic: string,
  subject: Subject,
): Attributes {
  return {
    ...system,
    "messaging.operation.name": operation,
    "messaging.operation.type": operation,
    "messaging.destination.name": topic,
    ...("id" in subject
      ? { "messaging.message.id": subject.id }
      : { "messaging.batch.message_count": subject.count }),
  };
}

function tracer(): ReturnType<typeof trace.getTracer> {
  return trace.getTracer("holdfast");
}

/** Ends the span with what `run` gives, throws, resolves or rejects. */
function ended<T>(span: Span, run: () => T): T {
  const fail = (thrown: unknown): never => {
    span.recordException(thrown instanceof Error ? thrown : messageOf(thrown));
    span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(thrown) });
    span.setAttribute("error.type", kindOf(thrown));
    span.end();
    throw thrown;
  };
  let result: T;
  try {
    result = run();
  } catch (thrown) {
    return fail(thrown);
  }
  if (result instanceof Promise) {
    return result.then((value: unknown) => {
      span.end();
      return value;
    }, fail) as T;
  }
  span.end();
  return result;
}

function kindOf(thrown: unknown): string {
  if (thrown instanceof HoldfastError) return thrown.code;
  return thrown instanceof Error ? thrown.name : "_OTHER";
}

/** Version 00 ends here; later ones may say more behind it. */
const pattern =
  /^(?:00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})|(?!ff|00)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?)$/;

/** What is not valid begins no trace: the text may be anybody's. */
function contextOf({ traceparent, tracestate }: TraceHeaders): Context {
  const found = traceparent === undefined ? null : pattern.exec(traceparent);
  if (found === null) return ROOT_CONTEXT;
  const spanContext = {
    traceId: found[1] ?? found[4] ?? "",
    spanId: found[2] ?? found[5] ?? "",
    traceFlags: Number.parseInt(found[3] ?? found[6] ?? "0", 16) & 1,
    isRemote: true,
    ...(tracestate !== undefined && { traceState: createTraceState(tracestate) }),
  };
  if (!isSpanContextValid(spanContext)) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, spanContext);
}

/** The span's own headers; where it has no ID of its own (no SDK), what came goes on as it came. */
function headersOf(span: Span, came: TraceHeaders): TraceHeaders {
  const own = span.spanContext();
  const above = trace.getSpanContext(contextOf(came));
  if (above !== undefined && (!isSpanContextValid(own) || own.spanId === above.spanId)) return came;
  if (!isSpanContextValid(own)) return {};
  const flags = own.traceFlags.toString(16).padStart(2, "0");
  const state = own.traceState?.serialize() ?? "";
  return {
    traceparent: `00-${own.traceId}-${own.spanId}-${flags}`,
    ...(state !== "" && { tracestate: state }),
  };
}
