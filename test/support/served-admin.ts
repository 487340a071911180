/** A real admin API on a free loopback port, over a journal that a test fills. */
import type { TestContext } from "node:test";
import type { PayloadFormat } from "../../src/core/event.ts";
import type { RedeliveryReport } from "../../src/core/replay.ts";
import { Secret } from "../../src/core/secret.ts";
import { createAdmin } from "../../src/host/admin.ts";
import type { PauseControl } from "../../src/host/admin-pause.ts";
import type { AbsentControl, SinkControl } from "../../src/host/admin-routes.ts";
import { createHealthBook, type HealthBook } from "../../src/host/health.ts";
import { FakeClock } from "./fake-clock.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";
import { shelfJournal, type ShelfJournal } from "./shelf-journal.ts";

export interface ServedAdmin {
  readonly url: string;
  readonly journal: ShelfJournal;
  /** Filled by the test. */
  readonly sinks: Map<string, SinkControl>;
  readonly health: HealthBook;
  readonly clock: FakeClock;
  readonly context: RecordingContext;
  close(): Promise<void>;
}

/** Where nothing is to be paused. */
export const noGroups: PauseControl = {
  names: () => [],
  isPaused: () => false,
  set: () => Promise.resolve(),
};

/** Where the configuration names all. */
export const noneAbsent: AbsentControl = {
  isPresent: () => true,
  names: () => [],
  since: () => null,
  drop: () => Promise.resolve(),
};

/** A shelf has nothing to send anywhere. */
const nothing = (): Promise<RedeliveryReport> =>
  Promise.resolve({ replayed: 0, refused: [], last: null, isFull: false });

export async function servedAdmin(
  t: TestContext,
  options: { token?: string; listen?: string } = {},
): Promise<ServedAdmin> {
  const clock = new FakeClock();
  const context = recordingContext("admin", clock);
  const journal = shelfJournal();
  const health = createHealthBook({ clock, version: "0.1.0", device: () => "greenhouse-1" });
  const formats = new Map<string, PayloadFormat>([
    ["readings", "json"],
    ["notes", "text"],
    ["frames", "bytes"],
  ]);
  const paused = new Set<string>();
  const sinks = new Map<string, SinkControl>();
  const admin = createAdmin({
    sinks,
    paused: {
      names: () => ["cloud"],
      isPaused: (group) => paused.has(group),
      async set(group, isPaused) {
        await Promise.resolve();
        if (isPaused) paused.add(group);
        else paused.delete(group);
      },
    },
    absent: noneAbsent,
    context,
    journal,
    health,
    formats,
    processors: new Map(),
    redelivery: { replay: nothing, replayThese: nothing },
    version: "0.1.0",
    listen: options.listen ?? "127.0.0.1:0",
    ...(options.token !== undefined && { token: new Secret({ text: options.token }) }),
  });
  await admin.open();
  t.after(() => admin.close());
  const address = admin.address();
  const url = address.startsWith("unix:") ? address : `http://${address}`;
  return { url, journal, sinks, health, clock, context, close: () => admin.close() };
}
