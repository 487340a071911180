/** What the power-cut proof writes, and how the journal that it writes to gives way. */
import { createHash } from "node:crypto";
import type { JournalSetup } from "../../src/journal/thread.ts";

/** JSON of 2 to 14 KiB that does not compress and can be told from its number: a chunk takes one page or several. */
export function powerCutPayload(n: number): Buffer {
  const blocks = 24 + ((n * 37) % 160);
  const noise = Array.from({ length: blocks }, (_, index) =>
    createHash("sha512").update(`${n} ${index}`).digest("base64"),
  );
  return Buffer.from(JSON.stringify({ n, noise: noise.join("") }));
}

/** One event a second, so that thinning keeps each fourth. */
export const powerCutTime = (n: number): number => 1_780_000_000_000 + n * 1_000;

/**
 * `reject`: a file that trims what was passed, all the time. `drop-oldest` and `thin`: the group falls behind, and what
 * it has not passed gives way. `compact`: the file is compacted while events come in. `upgrade`: begins with a file of format version 1, which has room for all.
 */
export const powerCutPolicies = {
  reject: { settings: { maxBytes: 1024 * 1024, onFull: "reject" }, streams: new Map() },
  "drop-oldest": { settings: { maxBytes: 1024 * 1024, onFull: "drop-oldest" }, streams: new Map() },
  thin: {
    settings: { maxBytes: 1024 * 1024, onFull: "drop-oldest" },
    streams: new Map([["s", { whenFull: "thin", thinMs: 4_000 }]]),
  },
  compact: { settings: { maxBytes: 16 * 1024 * 1024, onFull: "reject" }, streams: new Map() },
  upgrade: { settings: { maxBytes: 16 * 1024 * 1024, onFull: "reject" }, streams: new Map() },
} as const satisfies Record<
  string,
  {
    readonly settings: Partial<JournalSetup["settings"]>;
    readonly streams: JournalSetup["streams"];
  }
>;

export type PowerCutPolicy = keyof typeof powerCutPolicies;

/** The last unit's doing, kept as state. */
export interface LastUnit {
  readonly seq: number;
  /** How many there were. */
  readonly units: number;
  /** The event that is to be tried again; 0: none. */
  readonly retry: number;
}

export const noUnit: LastUnit = { seq: 0, units: 0, retry: 0 };

export function lastUnit(state: Uint8Array | null): LastUnit {
  return state === null ? noUnit : (JSON.parse(Buffer.from(state).toString()) as LastUnit);
}

/** What each of the proof's journals is opened for; `cloud` reads what the file of version 1 has. */
export const powerCutGroups = [
  { group: "g", streams: ["s"] },
  { group: "cloud", streams: ["readings"] },
] as const;
