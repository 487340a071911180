/** A failure as a value, for a loop that decides what it means. */
import { HoldfastError } from "../core/errors.ts";

/** What it failed with, null if it did not; our own mistakes pass through. */
export async function failureOf(action: Promise<void>): Promise<HoldfastError | null> {
  try {
    await action;
    return null;
  } catch (error) {
    if (error instanceof HoldfastError) return error;
    throw error;
  }
}
