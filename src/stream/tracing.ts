/**
 * W3C trace context (https://www.w3.org/TR/trace-context/) in an event's metadata, by the OpenTelemetry API, whose
 * door this is. Without an SDK the API does nothing, and a trace that came with an event goes on to those that it
 * becomes; with one, emitting and processing are spans of their own, linked through the stream.
 */
import {
  context,
  createTraceState,
  isSpanContextValid,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
} from "@opentelemetry/api";
import { messageOf } from "../core/errors.ts";
import type { TraceHeaders } from "./wire.ts";

const attributes = (topic: string, id?: string): Record<string, string> => ({
  "messaging.system": "holdfast",
  "messaging.destination.name": topic,
  ...(id !== undefined && { "messaging.message.id": id }),
});

/** Runs `emit` as a span, child of `parent` or else of what is active, and gives it the headers to send along. */
export function traceEmit<T>(
  topic: string,
  parent: TraceHeaders | undefined,
  emit: (headers: TraceHeaders) => T,
): T {
  const above = parent?.traceparent === undefined ? context.active() : contextOf(parent);
  const span = tracer().startSpan(
    `${topic} send`,
    { kind: SpanKind.PRODUCER, attributes: attributes(topic) },
    above,
  );
  return ended(span, () => context.with(trace.setSpan(above, span), () => emit(headersOf(span))));
}

/** Runs `process` as a span whose parent came with the event, and gives it the headers of what it emits. */
export function traceProcess<T>(
  topic: string,
  id: string,
  headers: TraceHeaders,
  process: (headers: TraceHeaders) => T,
): T {
  const above = contextOf(headers);
  const options = { kind: SpanKind.CONSUMER, attributes: attributes(topic, id) };
  const span = tracer().startSpan(`${topic} process`, options, above);
  return ended(span, () =>
    context.with(trace.setSpan(above, span), () => process(headersOf(span))),
  );
}

function tracer(): ReturnType<typeof trace.getTracer> {
  return trace.getTracer("holdfast");
}

/** Ends the span with what `run` gives, throws, resolves or rejects. */
function ended<T>(span: Span, run: () => T): T {
  const fail = (thrown: unknown): never => {
    span.recordException(thrown instanceof Error ? thrown : messageOf(thrown));
    span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(thrown) });
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

const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

/** What is not valid begins no trace: the text may be anybody's. */
function contextOf(headers: TraceHeaders): Context {
  const found = pattern.exec(headers.traceparent ?? "");
  if (found === null || found[1] === "ff") return ROOT_CONTEXT;
  const spanContext = {
    traceId: found[2] ?? "",
    spanId: found[3] ?? "",
    traceFlags: Number.parseInt(found[4] ?? "0", 16) & 1,
    isRemote: true,
    ...(headers.tracestate !== undefined && { traceState: createTraceState(headers.tracestate) }),
  };
  if (!isSpanContextValid(spanContext)) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, spanContext);
}

function headersOf(span: Span): TraceHeaders {
  const { traceId, spanId, traceFlags, traceState } = span.spanContext();
  if (!isSpanContextValid(span.spanContext())) return {};
  const flags = traceFlags.toString(16).padStart(2, "0");
  const state = traceState?.serialize() ?? "";
  return {
    traceparent: `00-${traceId}-${spanId}-${flags}`,
    ...(state !== "" && { tracestate: state }),
  };
}
