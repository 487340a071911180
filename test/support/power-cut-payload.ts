import { createHash } from "node:crypto";

/** JSON of 2 to 14 KiB that does not compress and can be told from its number: a chunk takes one page or several. */
export function powerCutPayload(n: number): Buffer {
  const blocks = 24 + ((n * 37) % 160);
  const noise = Array.from({ length: blocks }, (_, index) =>
    createHash("sha512").update(`${n} ${index}`).digest("base64"),
  );
  return Buffer.from(JSON.stringify({ n, noise: noise.join("") }));
}

/** A file that trims all the time, and acknowledges at once. */
export const powerCutSettings = { linger: 0, maxBytes: 1024 * 1024, onFull: "reject" } as const;
