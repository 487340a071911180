/**
 * The status page: one HTML file with nothing to load. A technician with a phone sees in ten seconds what is wrong:
 * the word, then each trouble in a sentence, then every part with its figures. It works without JavaScript.
 */
import { createHash } from "node:crypto";
import type { Figures, HealthStatus } from "../core/context.ts";
import { formatDuration, formatSize } from "../core/quantity.ts";
import type { ComponentKind, ComponentSnapshot, HealthSnapshot } from "./health.ts";
import { statusScript } from "./status-script.ts";
import { statusStyle } from "./status-style.ts";

const hash = (text: string): string =>
  `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** Nothing is loaded but what the page holds itself; no other page may frame it. */
export const statusPagePolicy = [
  "default-src 'none'",
  `style-src ${hash(statusStyle)}`,
  `script-src ${hash(statusScript)}`,
  "img-src data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const words: Record<HealthStatus, string> = { ok: "OK", degraded: "Degraded", failing: "Failing" };
const headings: readonly (readonly [ComponentKind, string])[] = [
  ["source", "Sources: what comes in"],
  ["processor", "Processors"],
  ["sink", "Sinks: what goes out"],
  ["agent", "This device"],
];
const worstFirst: readonly HealthStatus[] = ["failing", "degraded", "ok"];
const iconColours: Record<HealthStatus, string> = {
  ok: "#23704a",
  degraded: "#c77700",
  failing: "#c0261f",
};

type Part = readonly [string, ComponentSnapshot];

/** `nowMs` is wall clock time, against which `since` is shown as a length of time. */
export function renderStatusPage(snapshot: HealthSnapshot, nowMs: number): string {
  const parts = Object.entries(snapshot.components);
  const rank = (part: Part): number => worstFirst.indexOf(part[1].status);
  const troubles = parts
    .filter(([, part]) => part.status !== "ok")
    .sort((a, b) => rank(a) - rank(b));
  const { status } = snapshot;
  const device = escape(snapshot.device);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<title>${words[status]} · ${device}</title>
<link rel="icon" href="${icon(status)}">
<noscript><meta http-equiv="refresh" content="5"></noscript>
<style>${statusStyle}</style>
</head>
<body>
<header><b>${device}</b><span>up ${escape(formatDuration(snapshot.uptimeSeconds * 1000))}</span></header>
<p class="quiet" role="alert"></p>
<main>
<section class="hero ${status}">${mark(status)}<div><h1>${words[status]}</h1>
<p>${escape(summary(snapshot, troubles))}</p></div></section>
${troubles.length > 0 ? `<ul class="troubles">${troubles.map((part) => trouble(part, nowMs)).join("")}</ul>` : ""}
${headings.map(([kind, heading]) => section(kind, heading, parts, nowMs)).join("")}
</main>
<footer><a href="/health">Health as JSON</a><a href="/metrics">Metrics</a>
<p>holdfast ${escape(snapshot.version)}</p></footer>
<script>${statusScript}</script>
</body>
</html>
`;
}

function summary(snapshot: HealthSnapshot, troubles: readonly Part[]): string {
  if (snapshot.status === "ok") return "Every part is working. Nothing needs you.";
  if (snapshot.status === "failing") {
    return "The journal cannot be written: nothing is accepted until this is mended.";
  }
  const count = troubles.length === 1 ? "One part is" : `${troubles.length} parts are`;
  // A journal in trouble (full, slow) says itself what that means for what was accepted.
  const isSafe = snapshot.components["journal"]?.status !== "degraded";
  return `${count} in trouble.${isSafe ? " What was accepted is safe in the journal." : ""}`;
}

function trouble([name, part]: Part, nowMs: number): string {
  const what = part.kind === "agent" ? capital(name) : `${capital(part.kind)} ${name}`;
  const detail = part["detail"] ?? "It gives no reason; the log may.";
  return `<li class="${part.status}">${mark(part.status)}<div><h2><span>${escape(what)}</span>
<em>${words[part.status].toLowerCase()} for ${escape(age(part, nowMs))}</em></h2><p>${escape(String(detail))}</p></div></li>`;
}

function capital(word: string): string {
  return `${word.charAt(0).toUpperCase()}${word.slice(1)}`;
}

function section(
  kind: ComponentKind,
  heading: string,
  all: readonly Part[],
  nowMs: number,
): string {
  const parts = all.filter(([, part]) => part.kind === kind);
  if (parts.length === 0) return "";
  const rows = parts.map(([name, part]) => {
    const since = `${part.status === "ok" ? "" : `${words[part.status].toLowerCase()} `}for ${age(part, nowMs)}`;
    return `<article class="part ${part.status}"><h4>${mark(part.status)}<span>${escape(name)}</span>
<small>${escape(since)}</small></h4>${figures(name, part)}</article>`;
  });
  return `<h3>${heading}</h3><div class="parts">${rows.join("")}</div>`;
}

const ownMembers = new Set(["status", "kind", "since", "detail"]);

/** Two figures that together say how full something is: what is full, what may be, and whether the first is free. */
const fills = [
  { part: "usedBytes", whole: "maxBytes", isFree: false, label: "space used" },
  { part: "freeBytes", whole: "totalBytes", isFree: true, label: "space used" },
] as const;

function figures(name: string, part: ComponentSnapshot): string {
  const shown = new Map(Object.entries(part).filter(([key]) => !ownMembers.has(key)));
  let bars = "";
  for (const fill of fills) {
    const [value, whole] = [shown.get(fill.part), shown.get(fill.whole)];
    if (typeof value !== "number" || typeof whole !== "number" || whole <= 0) continue;
    shown.delete(fill.part);
    shown.delete(fill.whole);
    const usedBytes = fill.isFree ? whole - value : value;
    bars += bar(usedBytes, whole, fill.label);
  }
  const isWide = (value: unknown): boolean => typeof value === "string" && value.length > 14;
  const items = [...shown]
    .filter(([, value]) => value !== null)
    .sort((a, b) => Number(isWide(a[1])) - Number(isWide(b[1])))
    .map(([key, value]) => {
      const id = `${name}-${key}`.replaceAll(/[^\w.-]/g, "");
      const count = isCount(key, value) ? ` id="${id}" data-count="${value}"` : "";
      const wide = isWide(value) ? ' class="wide"' : "";
      return `<div${wide}><dt>${escape(label(key))}</dt><dd${count}>${escape(formatFigure(key, value))}</dd></div>`;
    });
  return bars === "" && items.length === 0 ? "" : `<dl>${bars}${items.join("")}</dl>`;
}

/** Drawn as SVG, since the policy allows no style attribute. */
function bar(usedBytes: number, wholeBytes: number, word: string): string {
  const percent = Math.min(100, Math.max(0, (usedBytes / wholeBytes) * 100));
  return `<div class="wide"><dt>${word}</dt><dd>${formatSize(usedBytes)} of ${formatSize(wholeBytes)}
<small>${percent.toFixed(percent < 10 ? 1 : 0)} %</small><div class="bar${percent >= 90 ? " high" : ""}">
<svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true"><rect width="${percent.toFixed(1)}" height="1"/></svg></div></dd></div>`;
}

const units = /(Bytes|Seconds|Ms|Celsius|PerSecond|Share)$/;

/** Whether the change of a figure in time says something: events, not seconds or sizes. */
function isCount(key: string, value: unknown): boolean {
  return typeof value === "number" && !units.test(key);
}

/** `oldestUnsentSeconds` → `oldest unsent`. */
export function label(key: string): string {
  return key
    .replace(units, "")
    .replaceAll(/([a-z\d])([A-Z])/g, "$1 $2")
    .toLowerCase();
}

/** A figure with the unit that its name ends in, for people. */
export function formatFigure(key: string, value: Figures[string]): string {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value;
  const unit = units.exec(key)?.[1];
  if (unit === "Bytes") return formatSize(value);
  if (unit === "Seconds" && value === 0) return "0s";
  if (unit === "Seconds") return formatDuration(value * 1000);
  if (unit === "Ms") return formatDuration(value);
  if (unit === "Share") return `${Math.round(value * 100)} %`;
  const digits = value.toLocaleString("en", { maximumFractionDigits: 1 });
  if (unit === "Celsius") return `${digits} °C`;
  return unit === "PerSecond" ? `${digits}/s` : digits;
}

function age(part: ComponentSnapshot, nowMs: number): string {
  return formatDuration(Math.max(1000, nowMs - Date.parse(part.since)));
}

/** Told apart by shape too, not by colour alone. */
function mark(status: HealthStatus): string {
  const inner = {
    ok: '<circle cx="12" cy="12" r="11"/><path d="m7.2 12.4 3.3 3.3 6.4-7"/>',
    degraded: '<path class="solid" d="M12 2.2 22.4 21H1.6Z"/><path d="M12 9.2v5M12 17.6v.1"/>',
    failing: '<rect x="1.5" y="1.5" width="21" height="21" rx="5"/><path d="m8 8 8 8m0-8-8 8"/>',
  };
  return `<svg class="mark" viewBox="0 0 24 24" role="img" aria-label="${words[status]}">${inner[status]}</svg>`;
}

function icon(status: HealthStatus): string {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${iconColours[status]}"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

function escape(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replaceAll(/[&<>"]/g, (character) => entities[character] ?? character);
}
