/**
 * The plane is the projection of the journal's newest part from which the agent's processors read: Valkey Streams,
 * or process memory. It can be lost at any moment and nothing is lost, because a group's true position is the
 * journal's cursor.
 */
import type { StoredEvent } from "../core/event.ts";

export interface Plane {
  open(): Promise<void>;
  close(): Promise<void>;
  /**
   * Where the filling of a stream begins or goes on: after this seq, `head` being the journal's; null: the plane
   * wants nothing of that stream.
   */
  resume(stream: string, head: number): Promise<number | null>;
  /** `listener` is called when the plane was lost or another one took its place: every stream is to be resumed. */
  onAnew(listener: () => void): void;
  /**
   * Adds events whose seq ascend. What is already there is skipped. Who needs what lies in a hole between them is
   * `behind`.
   */
  append(stream: string, events: readonly StoredEvent[]): Promise<void>;
  /** Sets a group's position: it will read what comes after `after`. */
  attach(stream: string, group: string, after: number): Promise<void>;
  /**
   * The next events of a group, each handed out once between `attach`es; waits up to `waitMs` for a first one.
   * `behind`: what it needs is not here (any more); read it from the journal and `attach` again.
   */
  read(
    stream: string,
    group: string,
    maxEvents: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<readonly StoredEvent[] | "behind">;
  /** The group has dealt with everything up to `seq`, durably. */
  acknowledge(stream: string, group: string, seq: number): Promise<void>;
}
