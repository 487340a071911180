/**
 * A `Stream` worker in a process of its own, to be killed at any moment. It keeps a count, a sum and the last `n` for each
 * device, emits each event's `n` into another topic, and fails each 53rd event on its first attempt (of all devices in turn).
 *
 * Argument: a WorkerPlan as JSON. Planted faults: see WorkerFault.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Stream, SqliteStore, ValkeyBackend } from "../../src/index.ts";
import type { Member, Settlement, StreamBackend } from "../../src/stream/backend.ts";
import type { WorkerStore } from "../../src/state/state.ts";

/**
 * `told-early`: a commit is told before it is made; `high-water`: all up to the last event that is dealt with counts as
 * dealt with; `two-steps`: state and acknowledgement in two steps of the server.
 */
export type WorkerFault = "told-early" | "high-water" | "two-steps";

export interface WorkerPlan {
  readonly url: string;
  readonly topic: string;
  readonly outTopic: string;
  readonly group: string;
  /** A SQLite file, or `valkey`. */
  readonly state: string;
  readonly isOrdered: boolean;
  readonly fault?: WorkerFault;
}

export interface DeviceState {
  readonly count: number;
  readonly sum: number;
  readonly last: number;
  /** Events that came behind a later one. */
  readonly disorder: number;
}

const text = process.argv[2];
if (text !== undefined) await run(JSON.parse(text) as WorkerPlan);

async function run(plan: WorkerPlan): Promise<void> {
  const backend = new ValkeyBackend({ url: plan.url });
  if (plan.fault === "two-steps") splitSettle(backend);
  const stream = new Stream<{ device: string; n: number }>({
    topic: plan.topic,
    group: plan.group,
    backend,
    state: plan.state === "valkey" ? "valkey" : storeOf(plan),
    ...(plan.isOrdered && { key: "device" }),
    timeoutMs: 2_000,
    leaseMs: 2_000,
    retry: { attempts: 10, backoffMs: 20, maxBackoffMs: 200 },
    log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: say },
  });
  stream.subscribe(async ({ payload: { device, n } }, context) => {
    const known = (await context.state.get(device)) as DeviceState | undefined;
    const { count, sum, last, disorder } = known ?? { count: 0, sum: 0, last: -1, disorder: 0 };
    const next: DeviceState = {
      count: count + 1,
      sum: sum + n,
      last: n,
      disorder: disorder + (n < last ? 1 : 0),
    };
    context.state.put(device, next);
    context.emit(plan.outTopic, { n });
    if (n % 53 === 7 && context.attempt === 1) throw new Error("asked to fail");
  });
  await stream.start();
  process.stdout.write("joined\n");
  await stream.runForever();
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}

function storeOf(plan: WorkerPlan): WorkerStore {
  const store = new SqliteStore({ path: plan.state });
  const commit = store.commit.bind(store);
  if (plan.fault === "told-early") {
    store.commit = async (unit) => {
      void delay(50).then(() => commit(unit));
      return { result: "committed" };
    };
  }
  if (plan.fault === "high-water") {
    store.commit = async (unit) => {
      const done = await commit(unit);
      const lastDelivered = unit.done.at(-1);
      if (lastDelivered !== undefined) {
        await store.compact(unit.scope, { lastDelivered, pending: [] });
      }
      return done;
    };
  }
  return store;
}

function splitSettle(backend: StreamBackend): void {
  const join = backend.join.bind(backend);
  backend.join = async (membership) => {
    const member = await join(membership);
    const settle = member.settle.bind(member);
    member.settle = async (settlement: Settlement): ReturnType<Member["settle"]> => {
      const { effects, ...rest } = settlement;
      if (effects === undefined) return settle(rest);
      const told = await settle({ done: [], failed: [], moved: [], effects });
      if (told.result === "refused") return told;
      await delay(20);
      return settle(rest);
    };
    return member;
  };
}
