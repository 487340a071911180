/** The plane's options, declared where the plane lives. */
import { group, oneOf, optional, size, url, type Infer } from "../core/field.ts";

const valkeyOptions = group(
  {
    url: optional(
      url({
        doc: "A server that is there already, for this agent alone; left out: the agent starts valkey-server or redis-server itself, where one is installed",
        example: "unix:///run/valkey/valkey.sock",
        protocols: ["unix", "valkey", "valkeys", "redis", "rediss"],
      }),
    ),
    maxMemory: size({
      doc: "The most that the agent's own server may take; of another one, that our streams may take. Half of it is for entries",
      default: "64MiB",
      min: "4MiB",
    }),
  },
  { doc: "The server, for auto and valkey" },
);

export const planeOptions = group(
  {
    kind: oneOf(["auto", "valkey", "memory"], {
      doc: "Where processors read from: auto is Valkey if it can be had within 3 s, else memory; valkey goes on trying and says so; memory is this process",
      default: "auto",
    }),
    valkey: valkeyOptions,
  },
  {
    doc: "The copy of the newest events from which processors, and with Valkey other programs on the device, read; losing it loses nothing",
  },
);
export type PlaneSettings = Infer<typeof planeOptions>;
