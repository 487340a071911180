/** What a process has used of the processor so far, all its threads. */
import { readFileSync } from "node:fs";

/** proc_pid_stat(5): fields 14 and 15, in ticks of 10 ms. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
