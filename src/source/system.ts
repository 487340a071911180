/**
 * The board's own readings: CPU temperature, throttling, load, memory, disk, network, uptime.
 *
 * Read from /proc and /sys directly, one event a poll. The package systeminformation gives the same and was tried:
 * it forks processes for temperature, disk and network at each reading (`cat`, `df`, `ip`, `sensors`) and costs 7 to
 * 10 MiB of memory; reading the files costs neither.
 */
import { readdir, readFile, statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Context } from "../core/context.ts";
import { group, text, type Infer } from "../core/field.ts";
import { Poll, pollEvery } from "./poll.ts";
import type { Source } from "./source.ts";

export const systemSourceOptions = group(
  {
    stream: text({ doc: "The stream that its events enter", default: "system" }),
    every: pollEvery("10s"),
    root: text({ doc: "Where /proc and /sys are found; another root serves tests", default: "/" }),
  },
  { doc: "The board's own readings: temperature, throttling, load, memory, disk, network, uptime" },
);
export type SystemSourceOptions = Infer<typeof systemSourceOptions>;

/** Interfaces that are told; a board with containers may have hundreds of virtual ones. */
const interfacesMax = 16;

/** get_throttled: the low bits say now, the same 16 higher since boot (raspberrypi.com, vcgencmd). */
const throttleBits = ["underVoltage", "frequencyCapped", "throttled", "temperatureLimit"] as const;

const throttleWords = {
  underVoltage: "under-voltage",
  frequencyCapped: "frequency capped",
  throttled: "throttled",
  temperatureLimit: "temperature limit reached",
} as const;

export function createSystemSource(context: Context, options: SystemSourceOptions): Source {
  let poll: Poll | undefined;
  return {
    async open(intake) {
      const board = new Board(options.root);
      const read = async (signal: AbortSignal): Promise<void> => {
        const told = await board.read();
        if (signal.aborted) return;
        intake.accept({ headers, payload: Buffer.from(JSON.stringify(told)) }, () => undefined);
        report(context, told["throttling"] as Throttling | undefined);
      };
      context.metrics.gauge("holdfast_source_connected", { source: context.name }).set(1);
      context.health.figures(() => ({ skipped: poll?.skipped ?? 0 }));
      poll = new Poll({ context, intake, everyMs: options.every, read });
    },
    async close() {
      await poll?.stop();
    },
  };
}

const headers = Object.freeze({ source: "system" });

type Throttling = Readonly<Record<string, boolean>>;

/** A board that slows itself is seldom noticed, and its power supply or its heat is mostly why. */
function report({ health }: Context, throttling: Throttling | undefined): void {
  const now = throttleBits.filter((name) => throttling?.[name] === true);
  if (now.length === 0) health.report("ok");
  else {
    const words = now.map((name) => throttleWords[name]).join(", ");
    health.report("degraded", `The board says: ${words}; check its power supply and its cooling`);
  }
}

interface CpuTimes {
  readonly busy: number;
  readonly total: number;
}

export class Board {
  readonly #root: string;
  #before: CpuTimes | undefined;

  constructor(root: string) {
    this.#root = root;
  }

  /** What can be read; a figure whose file is not there is left out. */
  async read(): Promise<Record<string, unknown>> {
    const [temperature, throttling, load, cpu, memory, disk, network, uptime] = await Promise.all([
      this.#temperature(),
      this.#throttling(),
      this.#load(),
      this.#cpuShare(),
      this.#memory(),
      this.#disk(),
      this.#network(),
      this.#uptime(),
    ]);
    const all = {
      temperature,
      throttling,
      load,
      cpu,
      memory,
      disk,
      network,
      uptimeSeconds: uptime,
    };
    return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
  }

  async #text(path: string): Promise<string | undefined> {
    return await readFile(join(this.#root, path), "utf8").catch(() => undefined);
  }

  /** °C of the first thermal zone that is the CPU's, else of the first one. */
  async #temperature(): Promise<number | undefined> {
    const folder = "sys/class/thermal";
    const names = await readdir(join(this.#root, folder)).catch(() => []);
    let chosen: string | undefined;
    for (const name of names.filter((one) => one.startsWith("thermal_zone")).sort()) {
      const type = (await this.#text(join(folder, name, "type")))?.trim() ?? "";
      if (chosen === undefined || /cpu|soc|x86_pkg/i.test(type)) chosen = name;
      if (/cpu|soc|x86_pkg/i.test(type)) break;
    }
    if (chosen === undefined) return undefined;
    const milli = Number(await this.#text(join(folder, chosen, "temp")));
    return Number.isFinite(milli) ? milli / 1000 : undefined;
  }

  async #throttling(): Promise<Record<string, boolean> | undefined> {
    const found = await this.#text("sys/devices/platform/soc/soc:firmware/get_throttled");
    if (found === undefined) return undefined;
    const bits = Number.parseInt(found.trim().replace(/^0x/, ""), 16);
    const told: Record<string, boolean> = {};
    for (const [bit, name] of throttleBits.entries()) {
      told[name] = (bits & (1 << bit)) !== 0;
      told[`${name}SinceBoot`] = (bits & (1 << (bit + 16))) !== 0;
    }
    return told;
  }

  async #load(): Promise<number[] | undefined> {
    const words = (await this.#text("proc/loadavg"))?.split(" ");
    return words?.slice(0, 3).map(Number);
  }

  /** Share of CPU time that was not idle since the last poll, 0 to 1. */
  async #cpuShare(): Promise<number | undefined> {
    const line = (await this.#text("proc/stat"))?.split("\n")[0]?.trim().split(/\s+/).slice(1);
    if (line === undefined) return undefined;
    // user nice system idle iowait irq softirq steal (proc(5)); guest time is within user.
    const times = line.slice(0, 8).map(Number);
    const total = times.reduce((sum, one) => sum + one, 0);
    const now = { total, busy: total - (times[3] ?? 0) - (times[4] ?? 0) };
    const before = this.#before;
    this.#before = now;
    if (before === undefined || now.total <= before.total) return undefined;
    return Math.round(((now.busy - before.busy) / (now.total - before.total)) * 1000) / 1000;
  }

  async #memory(): Promise<Record<string, number> | undefined> {
    const found = await this.#text("proc/meminfo");
    if (found === undefined) return undefined;
    const bytes = (name: string): number =>
      Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(found)?.[1] ?? 0) * 1024;
    return { totalBytes: bytes("MemTotal"), availableBytes: bytes("MemAvailable") };
  }

  async #disk(): Promise<Record<string, number> | undefined> {
    const found = await statfs(this.#root).catch(() => undefined);
    if (found === undefined) return undefined;
    return {
      totalBytes: found.blocks * found.bsize,
      usedBytes: (found.blocks - found.bfree) * found.bsize,
      // What others than root may still take.
      availableBytes: found.bavail * found.bsize,
    };
  }

  /** Bytes since boot of each interface that is up, but the loopback. */
  async #network(): Promise<Record<string, unknown> | undefined> {
    const lines = (await this.#text("proc/net/dev"))?.split("\n").slice(2);
    const told: Record<string, unknown> = {};
    for (const line of lines ?? []) {
      const [name, figures] = line.split(":");
      const values = figures?.trim().split(/\s+/).map(Number);
      if (name === undefined || values === undefined || name.trim() === "lo") continue;
      if (Object.keys(told).length >= interfacesMax) break;
      // Tunnels say "unknown" and work (RFC 2863).
      const state = (await this.#text(`sys/class/net/${name.trim()}/operstate`))?.trim();
      if (state !== undefined && state !== "up" && state !== "unknown") continue;
      told[name.trim()] = { receivedBytes: values[0], sentBytes: values[8] };
    }
    return lines === undefined ? undefined : told;
  }

  async #uptime(): Promise<number | undefined> {
    const found = await this.#text("proc/uptime");
    return found === undefined ? undefined : Number(found.split(" ")[0]);
  }
}
