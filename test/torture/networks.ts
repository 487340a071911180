/**
 * Networks that lie: the whole agent with a sink of each kind, before real far sides behind a link that is cut, silent,
 * lossy, slow, far, without names, captive, with the wrong certificate, half open, dying or flapping. Load goes on
 * meanwhile. After each: everything is there, at Valkey and in the files exactly once and in order, at HTTP and MQTT at
 * least once under the same names; health said it, and says when it is over; memory is bounded.
 *
 * Long delays are made by a way that holds bytes back, as not every kernel has netem.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { farNetwork, type Ends, type FarNetwork } from "../support/far-network.ts";
import { farPorts } from "../support/far-ports.ts";
import { freePort } from "../support/mosquitto.ts";
import { startPublisher } from "../support/publishing.ts";
import { until } from "../support/until.ts";

const remote = ["valkey", "bus", "api", "secure"] as const;
type Remote = (typeof remote)[number];

interface Condition {
  /** Puts it upon the network for so long, and takes it off again. */
  readonly holds: (network: FarNetwork, forMs: number) => Promise<void>;
  /** Which sinks cannot deliver meanwhile, so that health must say it. */
  readonly stops: readonly Remote[];
  /** So long it holds at least: what stops must have shown (a silent server after 10 s), ms. */
  readonly shortMs: number;
}

/** And so long in the long form, ms. */
const [longMs, flappingLongMs] = [45_000, 600_000];

const services = `{ ${[farPorts.valkey, farPorts.mqtt, farPorts.http, farPorts.secure].join(", ")} }`;
/** Who is connected hears of it. */
const resets = `chain resets { type filter hook input priority 0; iifname "lo" accept; tcp dport ${services} reject with tcp reset; }`;

const held =
  (begin: (network: FarNetwork) => Ends) =>
  async (network: FarNetwork, forMs: number): Promise<void> => {
    const ends = begin(network);
    await delay(forMs);
    await ends();
  };

const redirected =
  (port: (service: number) => number) =>
  async (network: FarNetwork, forMs: number): Promise<void> => {
    const to = [farPorts.valkey, farPorts.mqtt, farPorts.http, farPorts.secure].map(
      (service) => `iifname != "lo" tcp dport ${service} redirect to :${port(service)};`,
    );
    const chain = `chain other { type nat hook prerouting priority -100; ${to.join(" ")} }`;
    const ends = network.nft(`${resets}\n${chain}`);
    await delay(forMs);
    await ends();
    network.tell({ does: "cut" });
  };

const certified =
  (which: "expired" | "early") =>
  async (network: FarNetwork, forMs: number): Promise<void> => {
    network.tell({ does: "tls", ...network.certs[which] });
    await delay(forMs);
    network.tell({ does: "tls", ...network.certs.good });
  };

const dropAll = (rule: string): string =>
  `chain drops { type filter hook input priority -10; iifname "lo" accept; ${rule} drop; }`;

const flapping = "the link flaps every 3 s";

export const conditions = {
  "the link is cut": { holds: held((network) => network.cut()), stops: remote, shortMs: 13_000 },
  "packets vanish without a word": {
    holds: held((network) => network.nft(dropAll("ip protocol { tcp, udp }"))),
    stops: remote,
    shortMs: 13_000,
  },
  "30 % of the packets are lost": {
    holds: held((network) => network.nft(dropAll("numgen random mod 100 < 30"))),
    stops: [],
    shortMs: 6_000,
  },
  "the link carries 64 kbit/s": {
    holds: held((network) => network.slow("64kbit")),
    stops: [],
    shortMs: 6_000,
  },
  "an answer takes 2 s": {
    holds: redirected((service) => service + farPorts.slow),
    stops: [],
    shortMs: 9_000,
  },
  "no name is known": {
    holds: held((network) => network.nft(`${resets}\n${dropAll("udp dport 53")}`)),
    stops: remote,
    shortMs: 5_000,
  },
  "a captive portal answers 200 with HTML": {
    holds: redirected(() => farPorts.portal),
    stops: remote,
    shortMs: 5_000,
  },
  "the certificate has expired": { holds: certified("expired"), stops: ["secure"], shortMs: 4_000 },
  "the clock is wrong, so that the certificate is not valid yet": {
    holds: certified("early"),
    stops: ["secure"],
    shortMs: 4_000,
  },
  "old connections are half open": {
    holds: held((network) => network.nft(dropAll(`tcp sport ${network.clientPorts()}`))),
    stops: [],
    shortMs: 8_000,
  },
  "the far side accepts and dies before it answers": {
    holds: redirected(() => farPorts.dies),
    stops: remote,
    shortMs: 5_000,
  },
  "the far side accepts and never answers": {
    holds: redirected(() => farPorts.hangs),
    stops: remote,
    shortMs: 13_000,
  },
  [flapping]: {
    async holds(network, forMs) {
      for (const end = performance.now() + forMs; performance.now() < end;) {
        const ends = network.cut();
        await delay(1_500);
        await ends();
        await delay(1_500);
      }
    },
    stops: [],
    shortMs: 12_000,
  },
} satisfies Record<string, Condition>;

export type ConditionName = keyof typeof conditions;

export interface NetworksPlan {
  readonly folder: string;
  readonly names: readonly ConditionName[];
  readonly isLong: boolean;
  /** Messages a second. */
  readonly rate: number;
  /** A planted fault: what the far side is given back to begin anew. */
  readonly fault?: (network: FarNetwork) => void;
}

export interface NetworksReport {
  readonly events: number;
  readonly seconds: number;
  readonly conditions: readonly {
    readonly name: string;
    /** Until all was delivered after it was over, s. */
    readonly healedIn: number;
    /** Sinks that could not deliver and were called ok, or that were not called ok when it was over. */
    readonly untrue: readonly string[];
  }[];
  readonly repeated: { readonly api: number; readonly secure: number; readonly bus: number };
  /** What is not as promised; empty: nothing. */
  readonly wrong: readonly string[];
  readonly rssGrewKiB: number;
}

export async function networksRun(plan: NetworksPlan): Promise<NetworksReport> {
  const { folder, names, isLong, rate } = plan;
  const began = performance.now();
  const network = await farNetwork(folder, 1_000);
  const port = await freePort();
  const agent = await childAgent(folder, configOf(folder, port, network), {
    within: network.within,
  });
  try {
    await agent.start();
    let events = 0;
    const told: NetworksReport["conditions"][number][] = [];
    const rss = { before: 0, most: 0 };
    for (const name of names) {
      const { holds, stops, shortMs }: Condition = conditions[name];
      const longest = name === flapping ? flappingLongMs : longMs;
      const forMs = isLong ? longest : shortMs;
      const count = Math.ceil((rate * (forMs + 1_000)) / 1_000);
      const load = { topic: "load/d1", count, rate, from: events, qos: 1, window: 100 } as const;
      const publisher = startPublisher({ url: `mqtt://127.0.0.1:${port}`, ...load });
      try {
        await until("the load to run", () => publisher.acknowledged() > rate / 2);
        rss.before ||= agent.rssKiB();
        const over = holds(network, forMs);
        // Just before it ends.
        await delay(forMs - 500);
        const calledOk = await calledWell(agent);
        const untrue = stops.filter((sink) => calledOk.has(sink));
        rss.most = Math.max(rss.most, agent.rssKiB());
        await over;
        await publisher.done;
        events += count;
        plan.fault?.(network);
        const overAt = performance.now();
        await until(`all to be delivered after: ${name}`, () => isDrained(agent), 120_000);
        const healedIn = (performance.now() - overAt) / 1_000;
        const wellAgain = await calledWell(agent);
        untrue.push(...remote.filter((sink) => !wellAgain.has(sink)));
        told.push({ name, healedIn, untrue });
      } catch (error) {
        const { components } = await agent.health();
        throw new Error(`${JSON.stringify(components, null, 1)}\n${agent.output()}`, {
          cause: error,
        });
      } finally {
        await publisher.end();
      }
    }
    const [api, secure] = [await one(network, farPorts.http), await one(network, farPorts.plain)];
    const arrived = await arrivedOf(network, events);
    const bus = [...arrived.values()].reduce((sum, count) => sum + count - 1, 0);
    const wrong = [
      ...differences("files", archived(folder), events),
      ...differences("valkey", entries(network), events),
      ...(arrived.size === events ? [] : [`bus: ${arrived.size} of ${events}`]),
      ...[api, secure].flatMap(({ held, missing }, index) =>
        held.length === 1 && held[0]?.[1] === events && missing.length === 0
          ? []
          : [`receiver ${index}: ${JSON.stringify(held)} of ${events}`],
      ),
    ];
    return {
      events,
      seconds: (performance.now() - began) / 1_000,
      conditions: told,
      repeated: { api: api.repeated, secure: secure.repeated, bus },
      wrong,
      rssGrewKiB: rss.most - rss.before,
    };
  } finally {
    await agent.kill();
    await network.close();
  }
}

function configOf(folder: string, port: number, { name, certs }: FarNetwork): string {
  const http = "connectTimeout: 10s, answerTimeout: 5s";
  return `
device: { id: box }
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms }
sinks:
  files: { type: file, path: ${join(folder, "archive")}, from: [load] }
  valkey: { type: valkey, url: "redis://${name}", answerTimeout: 5s, from: [load] }
  bus: { type: mqtt, url: "mqtt://${name}", topic: "up/{stream}", ackTimeout: 5s, from: [load] }
  api: { type: http, url: "http://${name}:${farPorts.http}/", ${http}, from: [load] }
  secure: { type: http, url: "https://${name}:${farPorts.secure}/", ${http}, tls: { ca: ${certs.ca} }, from: [load] }
`;
}

/** The sinks that health calls ok. */
async function calledWell(agent: ChildAgent): Promise<ReadonlySet<string>> {
  const { components } = await agent.health();
  return new Set(Object.keys(components).filter((name) => components[name]?.status === "ok"));
}

async function isDrained(agent: ChildAgent): Promise<boolean> {
  const { components } = await agent.health();
  return ["files", ...remote].every((name) => {
    const told = components[name];
    return told?.["waiting"] === 0 && told.status === "ok";
  });
}

async function one(network: FarNetwork, port: number) {
  const [told] = Object.values(await network.receiver(port));
  return told ?? { held: [], repeated: 0, missing: [] };
}

/** What the broker has acknowledged it passes on in its own time. */
async function arrivedOf(network: FarNetwork, events: number) {
  let arrived = await network.arrived();
  for (let turns = 0; arrived.size < events && turns < 150; turns += 1) {
    await delay(100);
    arrived = await network.arrived();
  }
  return arrived;
}

const archived = (folder: string): number[] =>
  readArchive(join(folder, "archive"), "load").map(({ payload }) => Number(payload["n"]) + 1);

/** PSPF's wire format: the name DEVICE/EPOCH/STREAM/SEQ is the entry's event ID. */
const entries = (network: FarNetwork): number[] =>
  [...network.cli("XRANGE", "box:load", "-", "+").matchAll(/^box\/[^/\n]+\/load\/(\d+)$/gm)].map(
    ([, seq]) => Number(seq),
  );

/** From 1 on, each once, in order. */
function differences(what: string, found: readonly number[], events: number): string[] {
  const at = found.findIndex((seq, index) => seq !== index + 1);
  const isRight = found.length === events && at < 0;
  return isRight ? [] : [`${what}: ${found.length} of ${events}, the first that differs at ${at}`];
}
