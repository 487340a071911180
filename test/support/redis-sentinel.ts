/** A real master, its replica and three sentinels on loopback, each ended by its pid. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "./mosquitto.ts";
import { answers, serverProgram, startRedis, type RedisServer } from "./redis-server.ts";
import { until } from "./until.ts";

/** What the sentinels call the master. */
export const masterName = "streams";

export interface RedisSentinels {
  /** The first is the master at the beginning. */
  readonly servers: readonly [RedisServer, RedisServer];
  /** All sentinels, for `mode: "sentinel:streams"`. */
  readonly url: string;
  /** The port of the master, as a sentinel knows it. */
  masterPort(): number;
  stop(): Promise<void>;
}

export async function startSentinels(folder: string): Promise<RedisSentinels> {
  const master = await startRedis(folder);
  const args = ["--replicaof", `127.0.0.1 ${master.port}`];
  const replica = await startRedis(folder, { args });
  await until("the replica", () => /master_link_status:up/.test(replica.cli("INFO")));
  const sentinels = await Promise.all([1, 2, 3].map(() => startSentinel(folder, master.port)));
  const ports = sentinels.map(({ port }) => port);
  const first = ports[0] as number;
  await until("sentinels that know each other", () =>
    ports.every((port) => {
      const said = ask(port, "SENTINEL", "MASTER", masterName).split("\n");
      const value = (name: string): number => Number(said[said.indexOf(name) + 1]);
      return value("num-other-sentinels") === 2 && value("num-slaves") === 1;
    }),
  );
  return {
    servers: [master, replica],
    url: ports.map((port) => `redis://127.0.0.1:${port}`).join(","),
    masterPort: () =>
      Number(ask(first, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).split("\n")[1]),
    async stop() {
      await Promise.all(sentinels.map(({ stop }) => stop()));
      // Also where one was stopped with SIGSTOP.
      await Promise.all([master.kill(), replica.kill()]);
    },
  };
}

async function startSentinel(
  folder: string,
  masterPort: number,
): Promise<{ port: number; stop: () => Promise<void> }> {
  const port = await freePort();
  const file = join(folder, `sentinel-${port}.conf`);
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `sentinel monitor ${masterName} 127.0.0.1 ${masterPort} 2`,
    `sentinel down-after-milliseconds ${masterName} 1000`,
    `sentinel failover-timeout ${masterName} 5000`,
  ];
  writeFileSync(file, `${lines.join("\n")}\n`);
  const child: ChildProcess = spawn(serverProgram(), [file, "--sentinel"], { stdio: "ignore" });
  await until(`a sentinel on port ${port}`, () => answers(port));
  return {
    port,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

function ask(port: number, ...words: readonly string[]): string {
  return spawnSync("redis-cli", ["-p", `${port}`, ...words], { encoding: "utf8" }).stdout.trim();
}
