/** Durations and sizes as people write them: `250ms`, `30d`, `64KiB`. */

const durationUnitsMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const sizeUnitsBytes = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

/** ms, or undefined when `text` is not a duration, or one that no number holds. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/.exec(text.trim());
  if (match === null) return undefined;
  return held(Number(match[1]) * durationUnitsMs[match[2] as keyof typeof durationUnitsMs]);
}

/** Bytes, or undefined when `text` is not a size, or one that no number holds. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)$/.exec(text.trim());
  if (match === null) return undefined;
  return held(
    Math.round(Number(match[1]) * sizeUnitsBytes[match[2] as keyof typeof sizeUnitsBytes]),
  );
}

function held(value: number): number | undefined {
  return value <= Number.MAX_SAFE_INTEGER ? value : undefined;
}

/** `1m 20s`, `3d 4h`, `250ms`: two units at the most, for people. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)}ms`;
  const parts: string[] = [];
  let rest = Math.round(ms / 1000) * 1000;
  for (const unit of ["d", "h", "m", "s"] as const) {
    const count = Math.floor(rest / durationUnitsMs[unit]);
    if (count > 0) parts.push(`${count}${unit}`);
    rest -= count * durationUnitsMs[unit];
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** `12.3 MiB`, for people. */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"] as const) {
    if (bytes >= sizeUnitsBytes[unit])
      return `${(bytes / sizeUnitsBytes[unit]).toFixed(1)} ${unit}`;
  }
  return `${bytes} B`;
}
