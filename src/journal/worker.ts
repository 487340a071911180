/**
 * The disk's half of the journal: a worker thread that alone owns the file.
 *
 *   opening ── ok ──► serving ── turn fails with an I/O error ──► reopening ──► serving
 *      └─ refused: says why and ends                                  └─ fails: tried again at the next turn
 *
 * The main thread gathers what waits into one turn and sends the next when this one has answered; reads come in
 * between. After a failed write or fsync the turn's frames in the WAL are made void (turn.ts), the file is closed and
 * opened again, and the turn goes back whole: what was not acknowledged is written anew, once (invariant 3).
 */
import { parentPort, workerData } from "node:worker_threads";
import { systemClock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { DiskRoom } from "./disk-room.ts";
import { identify, Ledger, markClosed } from "./ledger.ts";
import { Letters } from "./letters.ts";
import type { JournalIdentity } from "./journal.ts";
import type {
  Opening,
  Reply,
  Request,
  RequestKind,
  Requests,
  Turn,
  TurnResult,
  WorkerFigures,
  WorkerSetup,
} from "./protocol.ts";
import { JournalReader } from "./reader.ts";
import { Retention } from "./retention.ts";
import { isFull, openDatabase, type Db } from "./sqlite.ts";
import { TurnWriter } from "./turn.ts";

/** How often a file for which there is no room is tried again, ms. */
const openAgainMs = 1_000;

interface Store {
  readonly db: Db;
  readonly writer: TurnWriter;
  readonly reader: JournalReader;
  readonly identity: JournalIdentity;
  readonly figures: WorkerFigures;
}

const port = parentPort ?? raise("This module runs as a worker thread");
const { setup, openedAt } = workerData as { setup: WorkerSetup; openedAt: Turn["now"] };
const clock = systemClock(() => openedAt.clock);
const monotonicMs = (): number => clock.monotonicMs();
const room = new DiskRoom(setup, monotonicMs);
let store: Store | undefined;
/** What was known before the file had to be opened again. */
let earlier: Ledger | undefined;

function openStore(): Store {
  const synchronous = setup.durability === "power-loss" ? "FULL" : "NORMAL";
  const db = openDatabase({
    path: setup.path,
    synchronous: setup.fault === "synchronous-off" ? "OFF" : synchronous,
    maxBytes: setup.maxBytes,
  });
  try {
    return buildStore(db);
  } catch (error) {
    // Left open it would lock out the next attempt.
    db.close();
    throw error;
  }
}

function buildStore(db: Db): Store {
  const { identity, ...ordinals } = identify(db, setup, openedAt);
  const ledger = new Ledger(db);
  ledger.load(setup.groups, earlier);
  earlier = ledger;
  const letters = new Letters(db, ledger, setup.maxBytes);
  const retention = new Retention(db, ledger, setup);
  room.attach(db, retention);
  return {
    db,
    identity,
    writer: new TurnWriter(db, ledger, retention, letters, ordinals, room, monotonicMs),
    reader: new JournalReader(db, ledger),
    figures: { ...ledger.everything(), usedBytes: retention.usedBytes() },
  };
}

function turn(ask: Turn): TurnResult {
  try {
    return serving().writer.apply(ask);
  } catch (error) {
    // Without a store there was no file to open; with one, an I/O error means that its WAL is not to be trusted.
    if (!isFull(error)) closeStore();
    const full = isFull(error) || room.isNoRoom(error);
    return { kind: "failed", turn: ask, full, message: messageOf(error), disk: room.state() };
  }
}

function closeStore(): void {
  const closing = store;
  store = undefined;
  try {
    closing?.db.close();
  } catch {
    // The disk fails: what could be lost by that was never acknowledged.
  }
}

const handlers: { [K in RequestKind]: (ask: Requests[K]["ask"]) => Requests[K]["answer"] } = {
  turn,
  read: (ask) => serving().reader.read(ask),
  state: ({ space, key }) => serving().reader.state(space, key),
  retries: ({ group }) => serving().reader.retries(group),
  deadLetters: ({ stream, limit }) => serving().reader.deadLetters(stream, limit),
  packetIds: ({ source }) => serving().reader.packetIds(source),
  close() {
    try {
      if (store !== undefined) markClosed(store.db);
    } catch {
      // Without room the next start finds it as after a kill.
    }
    closeStore();
    return null;
  },
};

function serving(): Store {
  store ??= room.opening(openStore);
  return store;
}

function answer(request: Request): void {
  try {
    const handle = handlers[request.kind] as (ask: unknown) => unknown;
    const result = handle(request.ask);
    port.postMessage(
      { id: request.id, answer: result } satisfies Reply,
      transferables(request.kind, result),
    );
  } catch (error) {
    port.postMessage({ id: request.id, error: messageOf(error) } satisfies Reply);
  }
  if (request.kind === "close") port.close();
}

/** Bodies and refused sections change hands instead of being copied. */
function transferables(kind: RequestKind, result: unknown): ArrayBuffer[] {
  if (kind === "read")
    return (result as Requests["read"]["answer"]).chunks.map(({ body }) => body.buffer);
  if (kind !== "turn") return [];
  const outcome = result as TurnResult;
  if (outcome.kind === "done") {
    const waiting = outcome.units.flatMap((unit) => ("waits" in unit ? unit.waits.sections : []));
    return [...(outcome.refusedIntake?.sections ?? []), ...waiting].map(
      ({ bytes }) => bytes.buffer,
    );
  }
  const { intake, units } = outcome.turn;
  return [...intake.sections, ...units.flatMap((unit) => unit.sections)].map(
    ({ bytes }) => bytes.buffer,
  );
}

function raise(message: string): never {
  throw new Error(message);
}

/** A disk that others have filled is waited for. */
function begin(): void {
  try {
    const { identity, figures } = serving();
    const disk = room.state();
    port.postMessage({ kind: "opened", identity, figures, disk } satisfies Opening);
    port.on("message", (request: Request) => answer(request));
  } catch (error) {
    const code = error instanceof HoldfastError ? error.code : "JOURNAL_UNAVAILABLE";
    const message = messageOf(error);
    if (code === "JOURNAL_FULL") {
      port.postMessage({ kind: "waiting", message, disk: room.state() } satisfies Opening);
      // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects, and keeps the thread
      clock.sleep(openAgainMs).then(begin);
    } else port.postMessage({ kind: "refused", code, message } satisfies Opening);
  }
}

begin();
