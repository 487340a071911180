/** Parts that cannot both have what they ask for: an address, a folder, a name at a broker; and who may reach them. */
import { resolve } from "node:path";
import { isLocalAddress } from "../core/loopback.ts";
import { brokerProblem } from "../source/broker-options.ts";
import { configOptions, type Config } from "./config.ts";
import {
  entriesOf,
  fieldAt,
  formatPath,
  isMap,
  shown,
  valueAt,
  type Finding,
  type Path,
} from "./finding.ts";

export function checkAddresses(value: unknown): Finding[] {
  return [
    ...checkListens(value),
    ...checkAdmin(value),
    ...checkOpenBrokers(value),
    ...checkFolders(value),
    ...checkClients(value),
  ];
}

/** What only a broker itself can judge. */
export function checkBrokers(config: Config): Finding[] {
  return Object.entries(config.sources).flatMap(([name, source]): Finding[] => {
    // checkOpenBrokers has told of an open one, at its own line.
    const isJudged = source.type === "broker" && !isOpenBroker(source);
    const found = isJudged ? brokerProblem(source) : null;
    return found === null ? [] : [{ path: ["sources", name], at: "key", found }];
  });
}

function checkListens(value: unknown): Finding[] {
  const brokers = entriesOf(value, "sources")
    .filter(([, source]) => valueAt(source, ["type"]) === "broker")
    .map(([name]): Path => ["sources", name, "listen"]);
  const findings: Finding[] = [];
  /** Those that were met, by port or socket. */
  const met = new Map<string, Path[]>();
  for (const path of [["http", "listen"], ["admin", "listen"], ...brokers]) {
    const [host, port] = splitAddress(listenAt(value, path));
    if (port === "0") continue;
    const others = met.get(port) ?? [];
    met.set(port, [...others, path]);
    const other = others.find((each) => areOne(host, splitAddress(listenAt(value, each))[0]));
    if (other === undefined) continue;
    // Who took the default is not to blame.
    const isGiven = valueAt(value, path) !== undefined;
    const [blamed, partner] = isGiven ? [path, other] : [other, path];
    const found = `found ${shown(listenAt(value, blamed))}`;
    const allowed = `another address than ${formatPath(partner)}`;
    findings.push({ path: blamed, at: "value", found, allowed });
  }
  return findings;
}

/** Host and port; a socket's path counts as the port of no host. */
function splitAddress(address: string): readonly [string, string] {
  const match = /^(.*):(\d+)$/s.exec(address);
  return match === null || address.startsWith("unix:")
    ? ["", address]
    : [match[1] ?? "", String(Number(match[2]))];
}

/** Whether two that listen on one port on these hosts stand in each other's way. */
function areOne(host: string, other: string): boolean {
  const everywhere = ["0.0.0.0", "[::]"];
  return host === other || everywhere.includes(host) || everywhere.includes(other);
}

function listenAt(value: unknown, path: Path): string {
  const listen = valueAt(value, path);
  return String(listen ?? fieldAt(configOptions, value, path)?.about.default);
}

function checkAdmin(value: unknown): Finding[] {
  const path = ["admin", "listen"];
  const listen = listenAt(value, path);
  if (isLocalAddress(listen) || valueAt(value, ["admin", "token"]) !== undefined) return [];
  const allowed = "with admin.token; without one only an address of this machine";
  return [{ path, at: "value", found: `found ${shown(listen)}`, allowed }];
}

function checkOpenBrokers(value: unknown): Finding[] {
  return entriesOf(value, "sources").flatMap(([name, source]): Finding[] => {
    if (valueAt(source, ["type"]) !== "broker" || !isOpenBroker(source)) return [];
    const found = `found ${shown(valueAt(source, ["listen"]))}`;
    const allowed = "with users; without them only an address of this machine";
    return [{ path: ["sources", name, "listen"], at: "value", found, allowed }];
  });
}

function isOpenBroker(source: unknown): boolean {
  const listen = valueAt(source, ["listen"]);
  const users = valueAt(source, ["users"]);
  const isAnonymous = users === undefined || (isMap(users) && Object.keys(users).length === 0);
  return isAnonymous && typeof listen === "string" && !isLocalAddress(listen);
}

/** Each archive tidies its folder, and would take the other's files for its own. */
function checkFolders(value: unknown): Finding[] {
  const folders = entriesOf(value, "sinks").flatMap(([name, sink]): Claim[] => {
    const path = valueAt(sink, ["path"]);
    if (valueAt(sink, ["type"]) !== "file" || typeof path !== "string") return [];
    return [{ path: ["sinks", name, "path"], what: resolve(path) }];
  });
  return claimedTwice(value, folders, (owner) => `another folder than ${owner}`);
}

/** [MQTT-3.1.4-3]: a broker ends the connection of the client that was there before, and so on for ever. */
function checkClients(value: unknown): Finding[] {
  const clients = ["sources", "sinks"].flatMap((room) =>
    entriesOf(value, room).flatMap(([name, entry]): Claim[] => {
      const [url, id] = [valueAt(entry, ["url"]), valueAt(entry, ["clientId"])];
      const isWhole = typeof url === "string" && URL.canParse(url) && typeof id === "string";
      if (valueAt(entry, ["type"]) !== "mqtt" || !isWhole) return [];
      const { hostname, port, protocol } = new URL(url);
      // IANA's ports, which both packages take where a URL has none.
      const standard = protocol === "mqtts:" ? "8883" : "1883";
      const what = JSON.stringify([hostname, port || standard, id]);
      return [{ path: [room, name, "clientId"], what }];
    }),
  );
  return claimedTwice(value, clients, (owner) => `another name than ${owner} has at that broker`);
}

interface Claim {
  readonly path: Path;
  readonly what: string;
}

function claimedTwice(
  value: unknown,
  claims: readonly Claim[],
  allowed: (owner: string) => string,
): Finding[] {
  const owners = new Map<string, Path>();
  return claims.flatMap(({ path, what }): Finding[] => {
    const owner = owners.get(what);
    owners.set(what, owner ?? path);
    if (owner === undefined) return [];
    const found = `found ${shown(valueAt(value, path))}`;
    return [{ path, at: "value", found, allowed: allowed(formatPath(owner.slice(0, -1))) }];
  });
}
