/**
 * An intake whose commits the test makes. What a commit put on "disk" is in `disk`, which a test hands to the next
 * intake to play a crash: everything else of this one is gone.
 */
import type { Intake, Message, Packet } from "../../src/source/source.ts";

export interface HeldDisk {
  readonly payloads: string[];
  readonly messages: Message[];
  readonly packets: Map<number, Packet>;
}

export interface HeldIntake extends Intake {
  readonly disk: HeldDisk;
  /** Accepted and not settled. */
  readonly waiting: number;
  /** How often a commit was asked for. */
  readonly asked: number;
  readonly forgets: number;
  /** Commits what was accepted so far (or the first `count`), and settles it. */
  commit(count?: number): void;
  /** Commits whenever something was accepted, in a microtask. */
  commitAlways(): void;
  hasSpace: boolean;
  /** Space returns. */
  roomReturns(): void;
  /** What `packets.forget` waits for. */
  forgetting: Promise<void>;
}

export function heldIntake(disk?: HeldDisk): HeldIntake {
  const kept: HeldDisk = disk ?? { payloads: [], messages: [], packets: new Map() };
  let waiting: { write: () => void; settled: () => void }[] = [];
  let isAutomatic = false;
  const listeners: (() => void)[] = [];
  const add = (write: () => void, settled: () => void): void => {
    waiting.push({ write, settled });
    if (isAutomatic) queueMicrotask(() => intake.commit());
  };
  let asked = 0;
  let forgets = 0;
  const intake: HeldIntake = {
    disk: kept,
    hasSpace: true,
    forgetting: Promise.resolve(),
    get waiting() {
      return waiting.length;
    },
    get asked() {
      return asked;
    },
    get forgets() {
      return forgets;
    },
    accept(message, settled) {
      const payload = Buffer.from(message.payload).toString();
      add(() => {
        kept.payloads.push(payload);
        kept.messages.push(message);
        if (message.packet !== undefined) kept.packets.set(message.packet.id, message.packet);
      }, settled);
    },
    hasRoom: () => intake.hasSpace,
    onRoom: (listener) => listeners.push(listener),
    commitSoon: () => asked++,
    commit(count = waiting.length) {
      const batch = waiting.slice(0, count);
      waiting = waiting.slice(count);
      for (const { write } of batch) write();
      for (const { settled } of batch) settled();
    },
    commitAlways() {
      isAutomatic = true;
      intake.commit();
    },
    roomReturns() {
      intake.hasSpace = true;
      for (const listener of listeners) listener();
    },
    packets: {
      read: async () => [...kept.packets.values()],
      release: (packetId, settled) => add(() => kept.packets.delete(packetId), settled),
      async forget() {
        forgets++;
        await intake.forgetting;
        kept.packets.clear();
      },
    },
  };
  return intake;
}
