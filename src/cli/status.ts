/** `holdfast status`: in ten seconds, what is wrong. */
import { parseArgs } from "node:util";
import { formatDuration, formatSize } from "../core/quantity.ts";
import type { ComponentSnapshot, HealthSnapshot } from "../host/health.ts";
import { adminOptions, connectAdmin } from "./admin-client.ts";
import type { Command, Io } from "./command.ts";
import { groupTable, type GroupRow } from "./groups.ts";
import { count, painter, plain, statusStyles, table } from "./print.ts";

export const statusCommand: Command = {
  name: "status",
  usage: "status [--json]",
  summary: "Show how the agent and its parts are; exit code 1 when it is failing",
  async run(args, io) {
    const { values } = parseArgs({ args, options: adminOptions });
    const admin = await connectAdmin(values);
    const { health, nowMs } = await admin.health();
    const { groups } = (await admin.get("/groups")) as { groups: GroupRow[] };
    if (values.json) io.out(`${JSON.stringify({ ...health, groups })}\n`);
    else io.out(statusText(health, nowMs, groups, io));
    return health.status === "failing" ? 1 : 0;
  },
};

function statusText(
  health: HealthSnapshot,
  nowMs: number,
  groups: readonly GroupRow[],
  io: Io,
): string {
  const paint = painter(io);
  const parts = Object.entries(health.components);
  const word = paint(["bold", statusStyles[health.status]], health.status.toUpperCase());
  const up = formatDuration(Math.max(1, health.uptimeSeconds) * 1000);
  let text = `${word}  ${paint("bold", plain(health.device))}, up ${up}, holdfast ${health.version}\n`;
  for (const [name, part] of parts.filter(([, part]) => part.status !== "ok")) {
    const detail = plain(String(part["detail"] ?? "It gives no reason; the log may"));
    const what = part.kind === "agent" ? name : `${part.kind} ${name}`;
    const since = `${part.status} for ${ageOf(part, nowMs)}`;
    text += `\n${paint(statusStyles[part.status], `${what}: ${since}`)}\n  ${detail}\n`;
  }
  const rows = parts.map(([name, part]) => [
    name,
    part.kind,
    part.status,
    ageOf(part, nowMs),
    brief(part),
  ]);
  text += `\n${table(
    [
      { title: "PART" },
      { title: "KIND" },
      {
        title: "STATUS",
        style: (cell, padded) => paint(statusStyles[cell as keyof typeof statusStyles], padded),
      },
      { title: "FOR", align: "right" },
      { title: "" },
    ],
    rows,
  )}`;
  return groups.length === 0 ? text : `${text}\n${groupTable(groups)}`;
}

/** Both by the agent's own clock, which need not be ours. */
function ageOf(part: ComponentSnapshot, nowMs: number): string {
  return formatDuration(Math.max(1000, nowMs - Date.parse(part.since)));
}

/** How full something is, in a few words. */
function brief(part: ComponentSnapshot): string {
  const number = (key: string): number | undefined => {
    const value = part[key];
    return typeof value === "number" ? value : undefined;
  };
  const [used, most] = [number("usedBytes"), number("maxBytes")];
  if (used !== undefined && most !== undefined && most > 0) {
    return `${formatSize(used)} of ${formatSize(most)} used (${Math.round((used / most) * 100)} %)`;
  }
  const [aDay, years] = [number("bytesADay"), number("cardYears")];
  if (aDay !== undefined) {
    const each = number("writtenForEach");
    const ratio = each === undefined ? "" : `, ${each} for each byte that came`;
    const used = number("cardUsedPercent");
    const guess = years === undefined ? "" : `, the card lasts about ${years} years`;
    const life =
      used === undefined ? guess : `, the card says up to ${used} % of its life are used`;
    return `${formatSize(aDay)} a day to the card${ratio}${life}`;
  }
  const [waiting, oldest] = [number("waiting"), number("oldestUnsentSeconds")];
  if (waiting !== undefined && oldest !== undefined) {
    const [risk, full] = [number("atRiskBytes") ?? 0, number("fullSeconds")];
    const until =
      full === undefined ? "" : `, the journal is full in ${formatDuration(full * 1000)}`;
    const hours = typeof part["waits"] === "string" ? `; waits ${plain(part["waits"])}` : "";
    if (waiting === 0) return `all delivered${hours}`;
    const age = formatDuration(Math.max(1, oldest) * 1000);
    return `${count(waiting)} wait (${formatSize(risk)}), the oldest for ${age}${until}${hours}`;
  }
  const [free, whole] = [number("freeBytes"), number("totalBytes")];
  if (free !== undefined && whole !== undefined)
    return `${formatSize(free)} of ${formatSize(whole)} free`;
  return "";
}
