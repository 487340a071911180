/** Tells the plane what a group is done with. */
import type { Context } from "../core/context.ts";
import { messageOf } from "../core/errors.ts";
import type { Plane } from "../plane/plane.ts";

/** A plane that does not answer keeps a little longer what it may forget: no more than that. */
export async function acknowledge(
  { plane, context }: { readonly plane: Plane; readonly context: Context },
  stream: string,
  seq: number,
): Promise<void> {
  try {
    await plane.acknowledge(stream, context.name, seq);
  } catch (thrown) {
    context.log.debug("The plane takes no acknowledgement", { reason: messageOf(thrown) });
  }
}
