/** What a test reads from a running agent's metrics and health. */
import type { ChildAgent, HealthAnswer } from "./child-agent.ts";
import { until } from "./until.ts";

/** One sample of Prometheus text, named with its labels as they are printed; absent: undefined. */
export function figure(metrics: string, name: string): number | undefined {
  const line = metrics.split("\n").find((text) => text.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

export async function untilFigure(
  agent: ChildAgent,
  name: string,
  isReached: (value: number) => boolean,
  timeoutMs = 30_000,
): Promise<void> {
  let last: number | undefined;
  await until(
    `${name} to get there`,
    async () => {
      last = figure(await agent.metrics(), name);
      return last !== undefined && isReached(last);
    },
    timeoutMs,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: it is ${last}\n${agent.output().slice(-4000)}`);
  });
}

/** Resolves with the answer in which the part has that status. */
export async function untilPartIs(
  agent: ChildAgent,
  part: string,
  status: string,
  timeoutMs = 30_000,
): Promise<HealthAnswer> {
  let last: HealthAnswer | undefined;
  await until(
    `${part} to be ${status}`,
    async () => {
      last = await agent.health();
      return last.components[part]?.status === status;
    },
    timeoutMs,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${JSON.stringify(last)}\n${agent.output().slice(-4000)}`);
  });
  if (last === undefined) throw new Error("No answer");
  return last;
}
