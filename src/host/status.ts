/**
 * Port 8000, read only: health, readiness, metrics and the status page. Figures and health, never a payload: this
 * port may be open to a whole network.
 */
import type { Clock } from "../core/clock.ts";
import { json, type Answer } from "./answer.ts";
import type { HealthBook } from "./health.ts";
import type { Route } from "./http.ts";
import type { MetricsBook } from "./metrics.ts";
import { renderStatusPage, statusPagePolicy } from "./status-page.ts";

export interface StatusParts {
  readonly clock: Clock;
  readonly health: HealthBook;
  readonly metrics: MetricsBook;
  /** True once everything is open, false again while stopping. */
  readonly isReady: () => boolean;
}

export function statusRoutes({ clock, health, metrics, isReady }: StatusParts): Route[] {
  return [
    healthRoute(health),
    {
      method: "GET",
      path: "/ready",
      summary: "200 once everything is open, 503 before and while stopping",
      handle: () => json({ ready: isReady() }, isReady() ? 200 : 503),
    },
    {
      method: "GET",
      path: "/metrics",
      summary: "The metrics, as Prometheus text or OpenMetrics",
      async handle(request): Promise<Answer> {
        const { contentType, body } = await metrics.render(request.header("accept"));
        return { status: 200, headers: { "content-type": contentType, vary: "accept" }, body };
      },
    },
    {
      method: "GET",
      path: "/",
      summary: "The status page",
      handle: (): Answer => ({
        status: 200,
        headers: {
          "content-type": "text/html; charset=utf-8",
          "content-security-policy": statusPagePolicy,
          "referrer-policy": "no-referrer",
        },
        body: renderStatusPage(health.snapshot(), clock.wallMs()),
      }),
    },
  ];
}

/** The same on both ports. */
export function healthRoute(health: HealthBook): Route {
  return {
    method: "GET",
    path: "/health",
    summary: "What every part says of itself: 200 when ok or degraded, 503 when failing",
    handle() {
      const snapshot = health.snapshot();
      return json(snapshot, snapshot.status === "failing" ? 503 : 200);
    },
  };
}
