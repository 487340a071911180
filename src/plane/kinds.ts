/** Which plane an agent gets: what it asks for, where that can be had. */
import type { Context } from "../core/context.ts";
import type { PayloadFormat } from "../core/event.ts";
import { EmbeddedValkey } from "./embedded-valkey.ts";
import { MemoryPlane } from "./memory.ts";
import type { PlaneSettings } from "./options.ts";
import type { Plane } from "./plane.ts";
import { findServer, serverSocket } from "./server-program.ts";
import { SwitchingPlane } from "./switching.ts";
import { ValkeyPlane } from "./valkey.ts";

export interface PlaneParts {
  readonly context: Context;
  readonly settings: PlaneSettings;
  readonly device: string;
  /** The journal's present epoch. */
  readonly epoch: string;
  /** The journal's file, and where it would lie if nobody had said. */
  readonly journal: string;
  readonly defaultJournal: string;
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  /** Whether a processor reads a stream. */
  readonly isRead: (stream: string) => boolean;
}

export function createPlane(parts: PlaneParts): Plane {
  const { context, settings, device, epoch, formats, isRead } = parts;
  const { clock } = context;
  const { url, maxMemory } = settings.valkey;
  const memory = new MemoryPlane({ clock, isRead });
  if (settings.kind === "memory") return memoryAlone(context, memory);
  if (settings.kind === "auto" && url === undefined && findServer() === null) {
    context.log.info("Processors read from memory: no valkey-server or redis-server is on PATH");
    return memoryAlone(context, memory);
  }
  const socket = serverSocket(parts.journal, parts.defaultJournal);
  const own =
    url === undefined ? new EmbeddedValkey({ context, socket, maxBytes: maxMemory }) : null;
  const server = new ValkeyPlane({
    url: url ?? own?.url ?? "",
    device,
    epoch,
    maxBytes: maxMemory,
    formats,
    clock,
  });
  const plane = new SwitchingPlane({ context, server, own, memory });
  context.health.figures(() => ({
    from: plane.isOnServer ? "valkey" : "memory",
    server: server.description,
    ...(own !== null && { pid: own.pid, restarts: own.restarts }),
  }));
  return plane;
}

/** Memory as it was asked for, or as the best there is. */
function memoryAlone({ health, metrics }: Context, memory: MemoryPlane): Plane {
  health.figures(() => ({ from: "memory" }));
  metrics.gauge("holdfast_plane_connected", {}).set(1);
  metrics.gauge("holdfast_plane_info", { kind: "memory" }).set(1);
  metrics.gauge("holdfast_plane_info", { kind: "valkey" }).set(0);
  return memory;
}
