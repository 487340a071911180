/** Every way to a backend, each on a real server: what the suites of the contract stand on. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { MemoryBackend, ValkeyBackend } from "../../src/index.ts";
import type { StreamBackend } from "../../src/stream/backend.ts";
import { requireProgram, freePort } from "./mosquitto.ts";
import { startCluster, type RedisCluster } from "./redis-cluster.ts";
import { masterName, startSentinels, type RedisSentinels } from "./redis-sentinel.ts";
import { startRedis, type RedisServer } from "./redis-server.ts";

export interface BackendServers {
  readonly single: RedisServer;
  readonly cluster: RedisCluster;
  readonly sentinels: RedisSentinels;
  readonly tlsPort: number;
  readonly ca: string;
  stop(): Promise<void>;
}

export async function startServers(folder: string): Promise<BackendServers> {
  const { ca, key } = certificate(folder);
  const tlsPort = await freePort();
  const tls = ["--tls-port", `${tlsPort}`, "--tls-cert-file", ca, "--tls-key-file", key];
  const single = await startRedis(folder, { args: [...tls, "--tls-auth-clients", "no"] });
  single.cli("ACL", "SETUSER", "worker", "on", ">secret:@/", "~*", "+@all", "-@dangerous", "+info");
  const cluster = await startCluster(folder);
  const sentinels = await startSentinels(folder);
  return {
    single,
    cluster,
    sentinels,
    tlsPort,
    ca,
    async stop() {
      await Promise.all([single.stop(), cluster.stop(), sentinels.stop()]);
    },
  };
}

/** By name, how a backend is made. */
export const backendKinds: Record<string, (servers: BackendServers) => StreamBackend> = {
  "one server": ({ single }) => new ValkeyBackend({ url: single.url }),
  "a unix socket": ({ single }) => new ValkeyBackend({ url: `unix://${single.socket}` }),
  TLS: ({ tlsPort, ca }) =>
    new ValkeyBackend({ url: `valkeys://localhost:${tlsPort}`, tls: { ca } }),
  "a user with a password": ({ single }) =>
    new ValkeyBackend({
      url: `redis://worker:${encodeURIComponent("secret:@/")}@127.0.0.1:${single.port}`,
    }),
  "a database number": ({ single }) => new ValkeyBackend({ url: `${single.url}/3` }),
  sentinels: ({ sentinels }) =>
    new ValkeyBackend({ url: sentinels.url, mode: `sentinel:${masterName}` }),
  "a cluster": ({ cluster }) => new ValkeyBackend({ url: cluster.url, mode: "cluster" }),
  memory: () => new MemoryBackend(),
};

/** A certificate that is its own authority, for localhost. */
function certificate(folder: string): { ca: string; key: string } {
  requireProgram("openssl", "openssl");
  const [ca, key] = [join(folder, "server.pem"), join(folder, "server.key")];
  const names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  execFileSync("openssl", ["req", "-x509", ...curve, "-keyout", key, "-out", ca, ...names], {
    stdio: "ignore",
  });
  return { ca, key };
}
