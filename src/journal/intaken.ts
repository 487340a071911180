/** What sources handed over, seen stream by stream: each has room of its own, or waits for it. */
import type { Intaken } from "./protocol.ts";

/** Keys, names and reasons beside a row's bytes, about. */
export const rowOverheadBytes = 256;

const noIntake: Intaken = { sections: [], letters: [], packets: [] };

export function isEmpty({ sections, letters, packets }: Intaken): boolean {
  return sections.length + letters.length + packets.length === 0;
}

export function intakeBytes(intake: Intaken): number {
  return [...bytesByStream(intake).values()].reduce((sum, bytes) => sum + bytes, 0);
}

export function bytesByStream({ sections, letters, packets }: Intaken): Map<string, number> {
  const bytes = new Map<string, number>();
  const add = (stream: string, more: number): unknown =>
    bytes.set(stream, (bytes.get(stream) ?? 0) + more);
  for (const { stream, bytes: section } of sections) add(stream, section.length);
  for (const { stream, payload } of letters) add(stream, payload.length + rowOverheadBytes);
  for (const { stream } of packets) add(stream, 0);
  return bytes;
}

/** Parts the streams that are `refused` from the others. */
export function divided(
  intake: Intaken,
  refused: ReadonlySet<string>,
): { taken: Intaken; held: Intaken } {
  if (refused.size === 0) return { taken: intake, held: noIntake };
  const of = (isHeld: boolean): Intaken => ({
    sections: intake.sections.filter(({ stream }) => refused.has(stream) === isHeld),
    letters: intake.letters.filter(({ stream }) => refused.has(stream) === isHeld),
    packets: intake.packets.filter(({ stream }) => refused.has(stream) === isHeld),
  });
  return { taken: of(false), held: of(true) };
}
