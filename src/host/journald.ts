/** What journald takes off the front of a line: its priority (sd-daemon(3)). */
import { fstatSync } from "node:fs";
import { environment } from "../core/environment.ts";

export const priority = { debug: "<7>", info: "<6>", warn: "<4>", error: "<3>" } as const;

/** Whether what is written to this file descriptor goes to journald (systemd.exec(5), $JOURNAL_STREAM). */
export function isJournald(fileDescriptor: number): boolean {
  const stream = environment("JOURNAL_STREAM");
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fileDescriptor, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** What is written to standard error, as journald is to take it: each line is an error. */
export function asErrors(text: string): string {
  return text.replaceAll(/^(?=.)/gm, priority.error);
}
