/** A real cluster of three masters on loopback, each ended by its pid. */
import { spawnSync } from "node:child_process";
import { freePort } from "./mosquitto.ts";
import { startRedis, type RedisServer, type RedisServerOptions } from "./redis-server.ts";
import { until } from "./until.ts";

export interface RedisCluster {
  readonly nodes: readonly RedisServer[];
  /** All nodes, for `mode: "cluster"`. */
  readonly url: string;
  /** Which node holds a key's slot now. */
  ownerOf(key: string): RedisServer;
  slotOf(key: string): number;
  /** The name of a node within the cluster. */
  idOf(node: RedisServer): string;
  /** Waits until every node says that all slots are served. */
  healthy(): Promise<void>;
  stop(): Promise<void>;
}

export async function startCluster(
  folder: string,
  options: RedisServerOptions = {},
): Promise<RedisCluster> {
  const nodes = await Promise.all([0, 1, 2].map(() => startNode(folder, options)));
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`);
  const created = spawnSync("redis-cli", ["--cluster", "create", ...addresses, "--cluster-yes"], {
    encoding: "utf8",
  });
  if (created.status !== 0) throw new Error(`No cluster: ${created.stdout}${created.stderr}`);
  const first = nodes[0] as RedisServer;
  const slotOf = (key: string): number => Number(first.cli("CLUSTER", "KEYSLOT", key));
  const cluster: RedisCluster = {
    nodes,
    url: nodes.map(({ url }) => url).join(","),
    slotOf,
    idOf: (node) => node.cli("CLUSTER", "MYID"),
    ownerOf(key) {
      const slot = slotOf(key);
      for (const node of nodes) {
        const own = node
          .cli("CLUSTER", "NODES")
          .split("\n")
          .find((line) => line.includes("myself"));
        const ranges =
          own
            ?.split(" ")
            .slice(8)
            .filter((range) => !range.startsWith("[")) ?? [];
        for (const range of ranges) {
          const [from, to = from] = range.split("-").map(Number);
          if (slot >= Number(from) && slot <= Number(to)) return node;
        }
      }
      throw new Error(`No node holds ${key}`);
    },
    async healthy() {
      const isOk = (node: RedisServer): boolean =>
        node.cli("CLUSTER", "INFO").startsWith("cluster_state:ok");
      await until("a whole cluster", () => nodes.every(isOk), 30_000);
    },
    async stop() {
      await Promise.all(nodes.map((node) => node.stop()));
    },
  };
  await cluster.healthy();
  return cluster;
}

async function startNode(folder: string, options: RedisServerOptions): Promise<RedisServer> {
  const args = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
  // The usual port of its bus, 10,000 above, may not exist.
  args.push("--cluster-port", `${await freePort()}`);
  return startRedis(folder, { ...options, args: [...args, ...(options.args ?? [])] });
}
