/** The library: what a handler module or a worker of one's own imports. */
import type { Event, Handler, HandlerContext } from "./processor/processor.ts";

export type { Event, Handler, HandlerContext };
export type { Headers, StoredEvent } from "./core/event.ts";
export { HoldfastError } from "./core/errors.ts";

/**
 * Types a handler module's default export; it gives the function back as it is. `P` is the payload's type, which
 * the stream's schema has checked.
 */
export function defineHandler<P = unknown>(
  handler: (event: Event<P>, context: HandlerContext) => unknown,
): Handler {
  return handler as Handler;
}
