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
import { Checkup } from "./checkup.ts";
import { Compaction, isWorthIt, spaceOf, takePlace } from "./compaction.ts";
import type { CheckResult, CompactResult, Work } from "./journal.ts";
import { forgetOldest } from "./damaged-file.ts";
import { Chores } from "./chores.ts";
import { DiskRoom } from "./disk-room.ts";
import type {
  News,
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
import { isDamage, isFull } from "./sqlite.ts";
import { closeStore, StoreOpener, type Store } from "./store.ts";

/** How often a file for which there is no room is tried again, ms. */
const openAgainMs = 1_000;
/** Between slices of 1 MiB that nobody waits for, ms: 2 GiB in ten minutes, a tenth of what a card reads. */
const checkPauseMs = 250;

const port = parentPort ?? raise("This module runs as a worker thread");
const { setup, openedAt } = workerData as { setup: WorkerSetup; openedAt: Turn["now"] };
const clock = systemClock(() => openedAt.clock);
const monotonicMs = (): number => clock.monotonicMs();
const room = new DiskRoom(setup, monotonicMs);
const opener = new StoreOpener(setup, openedAt, room, monotonicMs);
let store: Store | undefined;
/** Asked while a salvage runs, in their order. Bound: each asker waits for its answer before it asks again. */
let postponed: Request[] = [];
const chores = new Chores(
  (what, progress) => port.postMessage({ kind: "working", what, progress } satisfies News),
  monotonicMs,
);
/** A crash left the file open, and it was not read through since. */
let isUnread = false;

function serving(): Store {
  if (store === undefined) {
    store = room.opening(() => opener.open());
    if (store.rescue !== null) setImmediate(goOn, store);
    isUnread ||= store.wasLeftOpen;
    if (isUnread) setImmediate(readThrough);
  }
  return store;
}

function letGo(): void {
  chores.abandon();
  const closing = store;
  store = undefined;
  closeStore(closing);
}

/** What a crash may have done shows here, long before a reader comes to it. */
function readThrough(): void {
  if (!isUnread || store === undefined || !isServing(store)) return;
  // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
  check(false).catch(() => {
    // Busy with what was asked for, or condemned: begun again where it is still to be done.
  });
}

/** With the file as it is to stay. */
function isServing(current: Store): boolean {
  return current.rescue === null && current.waiting.isEmpty;
}

async function check(isAsked: boolean): Promise<CheckResult | null> {
  const current = undisturbed();
  try {
    const result = await chores.run("check", isAsked, () => {
      const pauseMs = isAsked ? 0 : checkPauseMs;
      return new Checkup(current, () => new Promise((resolve) => clock.after(pauseMs, resolve)));
    });
    if (result === null) return null;
    isUnread = false;
    port.postMessage({ kind: "checked", result } satisfies News);
    return result;
  } catch (error) {
    if (isDamage(error) && store === current) {
      opener.condemnFor(error);
      letGo();
    }
    throw error;
  }
}

async function compact(): Promise<CompactResult | null> {
  const { db } = undisturbed();
  const space = spaceOf(db);
  const beforeBytes = space.fileBytes;
  if (!isWorthIt(space)) return { beforeBytes, afterBytes: beforeBytes };
  const result = await chores.run("compact", true, () => {
    const copy = new Compaction(db, setup.path, setup.maxBytes);
    return Object.assign(copy, {
      finish(): CompactResult {
        copy.complete();
        closeStore(store);
        store = undefined;
        takePlace(setup.path);
        return { beforeBytes, afterBytes: spaceOf(serving().db).fileBytes };
      },
    });
  });
  setImmediate(readThrough);
  return result;
}

/** @throws HoldfastError JOURNAL_BUSY while a salvage is under way */
function undisturbed(): Store {
  const current = serving();
  if (isServing(current)) return current;
  throw new HoldfastError(
    "JOURNAL_BUSY",
    "The journal is busy with what is left of a damaged file",
  );
}

/** One step of a salvage; turns come in between. */
function goOn(current: Store): void {
  const { rescue } = current;
  if (store !== current || rescue === null) return;
  try {
    const progress = rescue.step(monotonicMs());
    if (progress !== "done") {
      if (progress !== null)
        port.postMessage({ kind: "salvaging", file: rescue.file, progress } satisfies News);
      setImmediate(goOn, current);
      return;
    }
    const { damaged, heads } = rescue.finish(current.damages);
    forgetOldest(setup.path);
    store = opener.build(current.db);
    const rest = drain(store, openedAt);
    const { identity } = store;
    const figures = rest ?? store.figures;
    port.postMessage({
      kind: "salvaged",
      file: rescue.file,
      identity,
      figures,
      damaged,
      heads,
    } satisfies News);
    const asked = postponed;
    postponed = [];
    for (const request of asked) answer(request);
  } catch {
    // The disk fails or is full: it begins again with the next turn.
    letGo();
  }
}

/** What came in during a salvage gets its seqs. Gives back the figures after it. */
function drain(current: Store, now: Turn["now"]): WorkerFigures | null {
  const streams = new Map(current.figures.streams);
  let { usedBytes, fileBytes } = current.figures;
  for (;;) {
    const waits = current.waiting.next();
    if (waits === null) break;
    const { id, boot, clock: quality, ...kept } = waits;
    const isOwn = boot === setup.bootId;
    const result = (isOwn ? current.writer : current.writerOf(boot)).apply({
      ...kept,
      units: [],
      releases: [],
      forgets: [],
      clock: quality,
      now: isOwn ? now : { ...now, clock: "unsynced" },
      waited: id,
    });
    if (result.kind !== "done") break;
    for (const [stream, status] of result.figures.streams) streams.set(stream, status);
    ({ usedBytes, fileBytes } = result.figures);
    if (result.refusedIntake !== null) break;
  }
  return { ...current.figures, streams: [...streams], usedBytes, fileBytes };
}

function turn(ask: Turn): TurnResult {
  try {
    const current = serving();
    if (current.rescue === null && current.waiting.isEmpty) return current.writer.apply(ask);
    if (current.rescue === null) drain(current, ask.now);
    return wait(current, ask);
  } catch (error) {
    opener.condemnFor(error);
    // Without a store there was no file to open; with one, an I/O error means that its WAL is not to be trusted.
    if (!isFull(error)) letGo();
    const full = isFull(error) || room.isNoRoom(error);
    return { kind: "failed", turn: ask, full, message: messageOf(error), disk: room.state() };
  }
}

/** Takes the intake as it is; units come back until the cursors that they start from are known for sure. */
function wait({ waiting, figures }: Store, ask: Turn): TurnResult {
  const began = monotonicMs();
  const { hasRoom } = waiting;
  if (hasRoom) waiting.put(ask, setup.bootId);
  return {
    kind: "done",
    refusedIntake: hasRoom ? null : ask.intake,
    units: ask.units.map((unit) => ({ waits: unit })),
    purged: ask.purges.map(() => 0),
    dropped: [],
    commits: 1,
    commitMs: monotonicMs() - began,
    disk: room.state(),
    figures: { ...figures, streams: [], cursors: [], forgotten: [] },
  };
}

const handlers: {
  [K in Exclude<RequestKind, Work>]: (ask: Requests[K]["ask"]) => Requests[K]["answer"];
} = {
  turn,
  read(ask) {
    const { reader, damages } = serving();
    const result = reader.read(ask);
    if (result.damaged.length > 0) damages.note(result.damaged);
    return result;
  },
  state: ({ space, key }) => serving().reader.state(space, key),
  retries: ({ group }) => serving().reader.retries(group),
  states: (ask) => serving().reader.states(ask),
  endedStates: (ask) => serving().reader.endedStates(ask),
  stateSpaces: () => serving().reader.stateSpaces(),
  deadLetters: (ask) => serving().reader.deadLetters(ask),
  packetIds: ({ source }) => serving().reader.packetIds(source),
  beginEpoch({ wallMs, ...start }) {
    const { identity, epochs } = undisturbed();
    const { uuid: epoch, parent } = epochs.begin(start, wallMs);
    return { ...identity, epoch, parent };
  },
  close() {
    letGo();
    return null;
  },
};

/** Those that take their time; null: the file was closed meanwhile. */
const longHandlers: Record<Work, () => Promise<Requests[Work]["answer"] | null>> = {
  check: () => check(true),
  compact,
};

async function answerLater(id: number, what: Work): Promise<void> {
  try {
    const result = await longHandlers[what]();
    const reply: Reply =
      result === null ? { id, error: "The journal was closed meanwhile" } : { id, answer: result };
    port.postMessage(reply);
  } catch (error) {
    port.postMessage({ id, ...told(error) } satisfies Reply);
  }
}

const postponable: ReadonlySet<RequestKind> = new Set([
  "read",
  "state",
  "states",
  "stateSpaces",
  "endedStates",
  "retries",
  "deadLetters",
]);

function answer(request: Request): void {
  if (postponable.has(request.kind) && store !== undefined && store.rescue !== null) {
    postponed.push(request);
    return;
  }
  if (request.kind === "check" || request.kind === "compact") {
    // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
    answerLater(request.id, request.kind);
    return;
  }
  try {
    const handle = handlers[request.kind] as (ask: unknown) => unknown;
    const result = handle(request.ask);
    port.postMessage(
      { id: request.id, answer: result } satisfies Reply,
      transferables(request.kind, result),
    );
  } catch (error) {
    if (isDamage(error)) {
      opener.condemnFor(error);
      letGo();
    }
    port.postMessage({ id: request.id, ...told(error) } satisfies Reply);
  }
  if (request.kind === "close") port.close();
}

/** A file that was served and cannot be opened again is the disk's trouble: it passes, where at the start it is final. */
function told(error: unknown): { readonly error: string; readonly code?: string } {
  const isFinal = error instanceof HoldfastError && error.code !== "JOURNAL_UNAVAILABLE";
  return { error: messageOf(error), ...(isFinal && { code: error.code }) };
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
    const current = serving();
    const { identity, rescue, damages } = current;
    const isWaiting = rescue === null && !current.waiting.isEmpty;
    const figures = (isWaiting ? drain(current, openedAt) : null) ?? current.figures;
    const [disk, salvaging] = [room.state(), rescue?.file ?? null];
    const damaged = damages.all();
    port.postMessage({
      kind: "opened",
      identity,
      figures,
      disk,
      salvaging,
      damaged,
      lostAfter: current.lostAfter,
    } satisfies Opening);
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
