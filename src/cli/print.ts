/** Output for people: aligned tables, and colours where somebody can see them. */
import { styleText } from "node:util";
import type { HealthStatus } from "../core/context.ts";
import { environment } from "../core/environment.ts";
import type { Io } from "./command.ts";

export type Paint = (style: Parameters<typeof styleText>[0], text: string) => string;

/** no-color.org: any value but an empty one turns colours off. */
export function painter(io: Io): Paint {
  const isColoured = io.isTerminal && (environment("NO_COLOR") ?? "") === "";
  return (style, text) => (isColoured ? styleText(style, text, { validateStream: false }) : text);
}

export const statusStyles: Record<HealthStatus, "green" | "yellow" | "red"> = {
  ok: "green",
  degraded: "yellow",
  failing: "red",
};

export interface Column {
  readonly title: string;
  readonly align?: "right";
  readonly style?: (cell: string, padded: string) => string;
}

/** Columns as wide as their widest cell, two spaces between. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...rows.map((row) => row[index]?.length ?? 0)),
  );
  const line = (cells: readonly string[], styled: boolean): string =>
    columns
      .map((column, index) => {
        const cell = cells[index] ?? "";
        const width = widths[index] ?? 0;
        // The last column has nothing to its right that would need padding.
        const isLast = index === columns.length - 1;
        const left = isLast ? cell : cell.padEnd(width);
        const padded = column.align === "right" ? cell.padStart(width) : left;
        return styled ? (column.style?.(cell, padded) ?? padded) : padded;
      })
      .join("  ")
      .trimEnd();
  return [
    line(
      columns.map((column) => column.title),
      false,
    ),
    ...rows.map((row) => line(row, true)),
  ]
    .map((text) => `${text}\n`)
    .join("");
}

export function count(value: number): string {
  return value.toLocaleString("en", { maximumFractionDigits: 1 });
}

/** What came from a device may hold escape sequences for the reader's terminal. */
export function plain(text: string): string {
  return text.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** `2026-11-23T18:00:00.123Z` → `2026-11-23 18:00:00Z`. */
export function shortTime(iso: string): string {
  return iso.replace("T", " ").replace(/\.\d+Z$/, "Z");
}
