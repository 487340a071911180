/** What `holdfast run` does without a file. */
import assert from "node:assert/strict";
import { homedir } from "node:os";
import { join } from "node:path";
import { environment } from "../core/environment.ts";
import type { Config } from "./config.ts";
import { formatProblem, loadConfigText } from "./load.ts";

const builtInText = `
streams:
  messages: { format: text }
sources:
  broker: { type: broker, listen: 127.0.0.1:1883, topics: ["#"], stream: messages }
  board: { type: system, every: 10s, stream: system }
sinks:
  console: { type: console, from: [messages, system] }
`;

export function builtInConfig(): Config {
  const loaded = loadConfigText(builtInText, "built-in");
  if ("config" in loaded) return loaded.config;
  return assert.fail(loaded.problems.map(formatProblem).join("; "));
}

/**
 * Where the journal lies when nobody says: systemd.exec(5), StateDirectory= (the first of several), else the XDG
 * Base Directory Specification's state home (a relative path there is to be ignored).
 */
export function stateFolder(): string {
  const [service] = (environment("STATE_DIRECTORY") ?? "").split(":");
  if (service !== undefined && service !== "") return service;
  const given = environment("XDG_STATE_HOME") ?? "";
  return join(given.startsWith("/") ? given : join(homedir(), ".local", "state"), "holdfast");
}
