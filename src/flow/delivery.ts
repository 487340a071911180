/** What the delivery loop is given, and what can be asked of it (deliver.ts). */
import type { Context } from "../core/context.ts";
import type { PayloadFormat } from "../core/event.ts";
import type { Pulse } from "../core/pulse.ts";
import type { RewindOrder, RewindReport } from "../core/replay.ts";
import type { Journal, JournalHistory } from "../journal/journal.ts";
import type { FarAddress } from "../core/far-address.ts";
import type { Sink } from "../sink/sink.ts";
import type { LinkMonitor } from "./link-monitor.ts";
import type { Pace } from "./pacing.ts";

export interface DeliveryParts {
  /** Of the sink; its name is the group's. */
  readonly context: Context;
  readonly journal: Pick<
    Journal,
    "read" | "commit" | "commitSoon" | "cursor" | "status" | "onAppended" | "identity"
  > &
    JournalHistory;
  readonly sink: Sink;
  /** The order is the priority. */
  readonly streams: readonly string[];
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  readonly device: string;
  /** When, how fast and in which order; left out: at once, as fast as it goes, by seq. */
  readonly pace?: Pace;
  /** Shared by all sinks; left out: this one knows of no other. */
  readonly link?: LinkMonitor;
  /** Where the far side listens; left out: not known, or not on a network. */
  readonly address?: FarAddress | null;
}

export interface Delivery {
  start(): void;
  /** What is being sent ends, or is aborted after `graceMs`; the last cursors become durable. May be called twice. */
  stop(graceMs: number): Promise<void>;
  /** Events that the sink has not confirmed, by stream. */
  lag(): ReadonlyMap<string, number>;
  /** Delivers what waits by now, whatever its hours and its back-off say. */
  sync(): void;
  /** How much of that is still to be done; null: nothing, or it has failed. */
  syncing(): number | null;
  /** Stands still, unconnected, until `resume`; what is being sent ends first. */
  pause(why: string): void;
  resume(): void;
  isPaused(): boolean;
  /** Of its rests, for the watchdog. */
  readonly pulse: Pulse;
  /** The streams that it delivers. */
  readonly from: readonly string[];
  /** Goes back in one of them. @throws HoldfastError REPLAY_REFUSED */
  rewind(order: RewindOrder): Promise<RewindReport>;
}
