/** Puts the processors of an agent together, as agent.ts does with everything else. */
import type { Config } from "./config/config.ts";
import { HoldfastError, messageOf } from "./core/errors.ts";
import type { StreamRules } from "./flow/admit.ts";
import type { PausedGroups } from "./flow/paused-groups.ts";
import { createProcessing } from "./flow/process.ts";
import { rewind } from "./flow/rewind.ts";
import type { AdminParts } from "./host/admin.ts";
import type { Surroundings } from "./host/surroundings.ts";
import type { Journal } from "./journal/journal.ts";
import type { Plane } from "./plane/plane.ts";
import { createChain } from "./processor/chain.ts";
import { loadHandler } from "./processor/handler.ts";
import { isolateHandler } from "./processor/isolated.ts";
import type { BatchHandler, Handler } from "./processor/processor.ts";

interface ProcessorParts {
  readonly config: Config;
  readonly surroundings: Surroundings;
  readonly journal: Journal;
  readonly stack: AsyncDisposableStack;
  readonly rules: (stream: string) => StreamRules;
  readonly plane: Plane;
  /** Paths of handlers and tables are relative to it. */
  readonly baseDir: string;
  readonly paused: PausedGroups;
  /** Those that run are entered here. */
  readonly processors: Map<string, RunningProcessor>;
  readonly onFatal: (error: HoldfastError) => void;
  /** How long one may take for what is in flight when it is stopped, ms. */
  readonly graceMs: number;
}

/** As the admin API knows it. */
export type RunningProcessor =
  AdminParts["processors"] extends ReadonlyMap<string, infer P> ? P : never;

/** @throws HoldfastError as handlers and steps do when they are opened */
export async function startProcessors(parts: ProcessorParts): Promise<void> {
  const { config, surroundings, journal, stack, rules, plane, baseDir, graceMs } = parts;
  for (const [name, options] of Object.entries(config.processors)) {
    const { retry, onFailure } = options;
    const context = surroundings.context("processor", name);
    const { clock, log } = context;
    const from = [options.from].flat();
    const chain = createChain(options.steps, { name, from, clock, log, baseDir });
    stack.defer(() => chain.close());
    await chain.open();
    const handler = await handlerOf(options, baseDir, stack);
    const processing = createProcessing({
      context,
      journal,
      plane,
      from,
      ...(options.to !== undefined && { to: options.to }),
      chain,
      ...(handler !== undefined && { handler }),
      rulesOf: rules,
      batch: { max: options.batch.max, waitMs: options.batch.wait },
      timeoutMs: options.timeout,
      order: options.order,
      stateBound: options.state,
      policy: {
        attempts: retry.attempts,
        baseMs: retry.backoff,
        maxMs: retry.maxBackoff,
        onFailure,
      },
      onFatal: (error) => parts.onFatal(asFatal(error)),
    });
    stack.defer(() => processing.stop(graceMs));
    parts.paused.add(name, processing);
    processing.start();
    const spaces = [name, ...chain.spaces];
    parts.processors.set(name, {
      from,
      spaces,
      exclusively: (act) => processing.exclusively(act),
      rewind: (order) =>
        processing.exclusively(() => rewind({ journal, group: name, spaces }, order)),
    });
  }
}

async function handlerOf(
  { handler, isolate }: Config["processors"][string],
  baseDir: string,
  stack: AsyncDisposableStack,
): Promise<Handler | BatchHandler | undefined> {
  if (handler === undefined) return undefined;
  if (!isolate) return loadHandler(handler, baseDir);
  const isolated = await isolateHandler(handler, baseDir);
  stack.defer(() => isolated.close());
  return isolated.handler;
}

function asFatal(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  return new HoldfastError("JOURNAL_UNAVAILABLE", `A processor cannot go on: ${messageOf(error)}`, {
    cause: error,
  });
}
