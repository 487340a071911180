/**
 * The admin API, port 8001: what `holdfast status`, `tail` and the other commands talk to. It shows payloads and
 * removes dead letters, so it asks for a token, or listens where only this machine can reach it.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { HoldfastError } from "../core/errors.ts";
import type { Secret } from "../core/secret.ts";
import { journalRoutes } from "./admin-journal.ts";
import { deadLetterRoutes } from "./admin-dlq.ts";
import { processorRoutes } from "./admin-groups.ts";
import { pauseRoutes } from "./admin-pause.ts";
import { reloadRoutes, type ReloadControl } from "./admin-reload.ts";
import { dropGroupRoute, groupsRoute, streamRoutes, type AdminView } from "./admin-routes.ts";
import { sinkRoutes } from "./admin-sinks.ts";
import { json, Problem } from "./answer.ts";
import type { HealthBook } from "./health.ts";
import { createHttpServer, type HttpServer, type Request, type Route } from "./http.ts";
import { isLocal, parseListen } from "./listen.ts";
import { openApi } from "./openapi.ts";
import { createRates } from "./rates.ts";
import { healthRoute } from "./status.ts";

export interface AdminParts extends AdminView {
  readonly health: HealthBook;
  readonly listen: string;
  readonly token?: Secret;
  readonly version: string;
  /** Left out: the configuration is not from a file that could be read again. */
  readonly reload?: ReloadControl;
}

/**
 * Its `open` also throws SECRET_UNREADABLE.
 * @throws HoldfastError LISTEN_FAILED when it would be open to others without a token
 */
export function createAdmin(parts: AdminParts): HttpServer {
  const listen = parseListen(parts.listen);
  if (parts.token === undefined && !isLocal(listen)) {
    throw new HoldfastError(
      "LISTEN_FAILED",
      `Cannot offer the admin API on ${parts.listen}: beyond loopback it needs admin.token`,
    );
  }
  const rates = createRates(parts.context.clock, parts.journal);
  const routes: Route[] = [
    healthRoute(parts.health),
    ...streamRoutes(parts),
    groupsRoute(parts, rates),
    ...pauseRoutes(parts),
    dropGroupRoute(parts),
    ...deadLetterRoutes(parts),
    ...processorRoutes(parts),
    ...journalRoutes(parts),
    ...sinkRoutes(parts),
    ...(parts.reload === undefined ? [] : reloadRoutes(parts.reload)),
  ];
  routes.push({
    method: "GET",
    path: "/openapi.json",
    summary: "This API",
    handle: () => json(openApi(routes, parts.version)),
  });
  const { token } = parts;
  const server = createHttpServer({
    log: parts.context.log,
    listen,
    routes,
    ...(token !== undefined && { admit: (request) => checkToken(request, token) }),
  });
  return {
    ...server,
    async open() {
      // A token that cannot be read shall be told at the start, not to whoever comes first.
      token?.reveal();
      await server.open();
      rates.start();
    },
    async close() {
      rates.stop();
      await server.close();
    },
  };
}

/** Hashed first, so that the comparison takes the same time whatever the length (RFC 6750 for the form). */
function checkToken(request: Request, token: Secret): void {
  const given = /^bearer +(\S+)$/i.exec(request.header("authorization") ?? "")?.[1] ?? "";
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  if (timingSafeEqual(digest(given), digest(token.reveal())) && given !== "") return;
  const why = given === "" ? "A token is needed" : "The token is not the right one";
  throw new Problem(401, why, {}, { "www-authenticate": 'Bearer realm="holdfast"' });
}
