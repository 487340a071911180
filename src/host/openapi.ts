/** `GET /openapi.json`, from the table of routes. */
import type { Route } from "./http.ts";

/** OpenAPI 3.1.0: only what the routes' table knows, so that it cannot go stale. */
export function openApi(routes: readonly Route[], version: string): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => ({
      name: match[1],
      in: "path",
      required: true,
      schema: { type: "string" },
    }));
    const inQuery = Object.entries(route.query ?? {}).map(([name, description]) => ({
      name,
      in: "query",
      description,
      schema: { type: "string" },
    }));
    paths[route.path] = {
      ...paths[route.path],
      [route.method.toLowerCase()]: {
        summary: route.summary,
        parameters: [...inPath, ...inQuery],
        responses: {
          ...(route.isBegun
            ? { "202": { description: "Begun" } }
            : { "200": { description: "Done" } }),
          default: {
            description: "A problem (RFC 9457)",
            content: { "application/problem+json": { schema: { type: "object" } } },
          },
        },
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "holdfast admin API", version },
    security: [{ token: [] }],
    components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
    paths,
  };
}
