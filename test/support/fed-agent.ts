/** A running agent whose embedded broker puts what is published to `load/{device}` into the stream `load`. */
import type { TestContext } from "node:test";
import { childAgent, type ChildAgent } from "./child-agent.ts";
import { freePort } from "./mosquitto.ts";
import { startPublisher, type Publisher, type PublisherOptions } from "./publishing.ts";

export interface FedAgent {
  readonly agent: ChildAgent;
  /** At QoS 1 to `load/d1`, unless it says otherwise; ends with the test. */
  readonly publish: (load: Feed) => Publisher;
}

export type Feed = Pick<PublisherOptions, "count" | "window"> & Partial<PublisherOptions>;

/**
 * `yaml`: processors and sinks; `stream`: options of the stream beside its linger of 20 ms. It is killed when the test
 * ends.
 */
export async function fedAgent(
  t: TestContext,
  folder: string,
  yaml: string,
  options: { readonly stream?: string; readonly agent?: Parameters<typeof childAgent>[2] } = {},
): Promise<FedAgent> {
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["load/{device}"], stream: load }
streams:
  load: { linger: 20ms${options.stream ?? ""} }
${yaml}`,
    options.agent,
  );
  t.after(() => agent.kill());
  await agent.start();
  const url = `mqtt://127.0.0.1:${port}`;
  return {
    agent,
    publish(load) {
      const publisher = startPublisher({ url, topic: "load/d1", qos: 1, ...load });
      t.after(() => publisher.end());
      return publisher;
    },
  };
}
