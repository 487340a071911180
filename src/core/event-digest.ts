/**
 * Tells two events of one name apart: whether a far side that says "I hold seq 180" means ours.
 *
 * Of key, payload and the time that the payload gave. A time of receipt is left out: it is put right when the clock
 * is (invariant 9), and a digest may not change. So of two histories whose events carry nothing but the same value
 * at the same seq nobody can say that they differ.
 */
import { hash } from "node:crypto";
import type { StoredEvent } from "./event.ts";

/** 96 bits, as text: 16 characters. */
const digestLetters = 16;

export function digestOf({ key, time, receivedAt, payload }: StoredEvent): string {
  const own = time === receivedAt ? "" : String(time);
  const head = Buffer.from(`${JSON.stringify([key, own])}\n`);
  return hash("sha256", Buffer.concat([head, payload]), "base64url").slice(0, digestLetters);
}
