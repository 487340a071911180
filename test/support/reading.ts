/** The readings that processing is measured with: 20 sensors in turn, ten readings a second in their own time. */

export const sensors = 20;
const start = Date.UTC(2026, 0, 1);

export interface Reading {
  readonly device: string;
  readonly temperature: number;
  readonly humidity: number;
  readonly n: number;
  readonly ts: number;
}

export function readingOf(n: number): Reading {
  const device = `sensor-${n % sensors}`;
  const temperature = Math.round((20 + 5 * Math.sin(n / 500) + (n % 7) / 10) * 10) / 10;
  return { device, temperature, humidity: 40 + (n % 30), n, ts: start + n * 100 };
}
