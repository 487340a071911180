/**
 * A far side in a network namespace of its own, behind a real link that can be made as bad as links are: nftables
 * drops, resets and redirects, tc slows, `ip link` cuts. In it: a Valkey or Redis server, mosquitto, the receiver of
 * device/receiver twice (once behind TLS), and far-program.ts.
 *
 * Root is needed, as for the small disks of other tests.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { endProcess } from "./end-process.ts";
import { farPorts, type FarCommand, type FarCount } from "./far-ports.ts";
import { requireProgram } from "./mosquitto.ts";
import { serverProgram } from "./redis-server.ts";
import { certificates, type Certificates } from "./certificates.ts";
import { until } from "./until.ts";

/** What is put upon the link; resolves when it holds, with what ends it. */
export type Ends = () => Promise<void>;

export interface FarNetwork {
  /** As the resolver of whoever is run `within` knows it. */
  readonly name: string;
  readonly certs: Certificates;
  /** Puts before a command that is to use our resolver. */
  readonly within: readonly string[];
  /** What the receiver behind a port tells. */
  receiver(port: number): Promise<Readonly<Record<string, ReceiverTold>>>;
  /** How often each seq arrived at the broker. */
  arrived(): Promise<ReadonlyMap<number, number>>;
  /** What redis-cli prints there. */
  cli(...words: readonly string[]): string;
  nft(rules: string): Ends;
  cut(): Ends;
  slow(rate: string): Ends;
  /** The client's ends of all connections, as a set for nft. */
  clientPorts(): string;
  tell(command: FarCommand): void;
  close(): Promise<void>;
}

export interface ReceiverTold {
  readonly held: readonly (readonly [number, number])[];
  readonly repeated: number;
  readonly missing: readonly (readonly [number, number])[];
}

const hostName = "far.test";
let made = 0;

export async function farNetwork(folder: string, delayMs: number): Promise<FarNetwork> {
  requireProgram("ip", "iproute2");
  requireProgram("tc", "iproute2");
  requireProgram("nft", "nftables");
  requireProgram("mosquitto", "mosquitto mosquitto-clients");
  const number = ++made;
  // Tests of several processes may run at once: the process's number tells them apart, in names and in addresses.
  const id = `${process.pid}-${number}`;
  const [space, near, far] = [`hf-${id}`, `hn${id}`, `hf${id}`];
  const net = `10.${64 + number}.${process.pid % 250}`;
  const [nearAddress, address] = [`${net}.1`, `${net}.2`];
  run("ip", "netns", "add", space);
  run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", space);
  run("ip", "addr", "add", `${nearAddress}/24`, "dev", near);
  run("ip", "link", "set", near, "up");
  run("ip", "-n", space, "addr", "add", `${address}/24`, "dev", far);
  run("ip", "-n", space, "link", "set", far, "up");
  run("ip", "-n", space, "link", "set", "lo", "up");
  const children: ChildProcess[] = [];
  const start = (program: string, ...args: readonly string[]): void => {
    const all = ["netns", "exec", space, program, ...args];
    children.push(spawn("ip", all, { stdio: ["ignore", "ignore", "ignore"] }));
  };
  const certs = certificates(folder, hostName);
  const data = join(folder, "far");
  mkdirSync(data);
  const redis = ["--port", `${farPorts.valkey}`, "--bind", "0.0.0.0", "--protected-mode", "no"];
  start(serverProgram(), ...redis, "--dir", data, "--appendonly", "yes", "--loglevel", "warning");
  const mosquitto = join(folder, "mosquitto.conf");
  const lines = [`listener ${farPorts.mqtt} 0.0.0.0`, "allow_anonymous true", "user root"];
  writeFileSync(mosquitto, [...lines, "max_queued_messages 0", "log_type error", ""].join("\n"));
  start("mosquitto", "-c", mosquitto);
  const receivers = [farPorts.http, farPorts.plain];
  for (const port of receivers) {
    const file = join(data, `${port}.ndjson`);
    start(process.execPath, "device/receiver/receiver.mjs", `${port}`, file);
  }
  for (const port of [farPorts.valkey, farPorts.mqtt, ...receivers])
    await until(`the far side's port ${port}`, () => isOpen(address, port));
  const script = new URL("far-program.ts", import.meta.url).pathname;
  const args = [script, address, certs.good.cert, certs.good.key, String(delayMs)];
  const program = spawn("ip", ["netns", "exec", space, process.execPath, ...args], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.push(program);
  await once(program, "message");

  const resolver = join(folder, "resolv.conf");
  writeFileSync(resolver, `nameserver ${address}\noptions timeout:1 attempts:1\n`);
  const mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
  return {
    name: hostName,
    certs,
    within: ["unshare", "--mount", "sh", "-c", mount, resolver],
    async receiver(port) {
      const answer = await fetch(`http://${address}:${port}/`);
      return (await answer.json()) as Readonly<Record<string, ReceiverTold>>;
    },
    async arrived() {
      const answer = once(program, "message");
      program.send({ does: "count" } satisfies FarCommand);
      const [{ seqs }] = (await answer) as [FarCount];
      return new Map(seqs);
    },
    cli: (...words) => run("ip", "netns", "exec", space, "redis-cli", ...words),
    nft(rules) {
      const text = `table inet bad {\n${rules}\n}\n`;
      runWith(text, "ip", "netns", "exec", space, "nft", "-f", "-");
      return async () =>
        void run("ip", "netns", "exec", space, "nft", "delete", "table", "inet", "bad");
    },
    cut() {
      run("ip", "-n", space, "link", "set", far, "down");
      return async () => void run("ip", "-n", space, "link", "set", far, "up");
    },
    slow(rate) {
      const queue = ["root", "tbf", "rate", rate, "burst", "4kb", "latency", "800ms"];
      run("tc", "qdisc", "add", "dev", near, ...queue);
      run("tc", "-n", space, "qdisc", "add", "dev", far, ...queue);
      return async () => {
        run("tc", "qdisc", "del", "dev", near, "root");
        run("tc", "-n", space, "qdisc", "del", "dev", far, "root");
      };
    },
    clientPorts() {
      const all = run("ip", "netns", "exec", space, "ss", "-Htn", "state", "established");
      const ports = [
        ...all.matchAll(new RegExp(`${nearAddress.replaceAll(".", "\\.")}:(\\d+)`, "g")),
      ];
      return `{ ${ports.map(([, port]) => port).join(", ")} }`;
    },
    tell: (command) => void program.send(command),
    async close() {
      // `ip netns exec` becomes the program that it runs.
      await Promise.all(children.map((child) => endProcess(child, "SIGKILL")));
      run("ip", "netns", "del", space);
    },
  };
}

function run(program: string, ...args: readonly string[]): string {
  return runWith("", program, ...args);
}

function runWith(input: string, program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  });
  if (status === 0) return stdout.trim();
  throw new Error(`${program} ${args.join(" ")} (needs root): ${error?.message ?? stderr}`);
}

function isOpen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    const end = (open: boolean) => (): void => {
      socket.destroy();
      resolve(open);
    };
    socket.once("connect", end(true));
    socket.once("error", end(false));
  });
}
