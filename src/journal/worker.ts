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
import { existsSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { systemClock } from "../core/clock.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { Damages } from "./damages.ts";
import { DamagedFile, finishMove, forgetOldest } from "./damaged-file.ts";
import { DiskRoom } from "./disk-room.ts";
import { identify, Ledger, markClosed } from "./ledger.ts";
import { Letters } from "./letters.ts";
import type { JournalIdentity } from "./journal.ts";
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
import { JournalReader } from "./reader.ts";
import { Retention } from "./retention.ts";
import { Rescue, setAside } from "./rescue.ts";
import { isDamage, isFull, openDatabase, type Db } from "./sqlite.ts";
import { TurnWriter } from "./turn.ts";
import { Waiting } from "./waiting.ts";

/** How often a file for which there is no room is tried again, ms. */
const openAgainMs = 1_000;

interface Store {
  readonly db: Db;
  readonly writer: TurnWriter;
  readonly reader: JournalReader;
  readonly identity: JournalIdentity;
  readonly figures: WorkerFigures;
  readonly damages: Damages;
  readonly waiting: Waiting;
  /** While what was left of a damaged file is being taken over. */
  readonly rescue: Rescue | null;
  /** Writes what waited, by the boot that it came in. */
  readonly writerOf: (boot: string) => TurnWriter;
}

const port = parentPort ?? raise("This module runs as a worker thread");
const { setup, openedAt } = workerData as { setup: WorkerSetup; openedAt: Turn["now"] };
const clock = systemClock(() => openedAt.clock);
const monotonicMs = (): number => clock.monotonicMs();
const room = new DiskRoom(setup, monotonicMs);
const wallLessMonotonicMs = openedAt.wallMs - monotonicMs();
let store: Store | undefined;
/** What was known before the file had to be opened again. */
let earlier: Ledger | undefined;

/** Asked while a salvage runs, in their order. Bound: each asker waits for its answer before it asks again. */
let postponed: Request[] = [];
/** SQLite met damage while it served. */
let condemned: string | null = null;

function openStore(): Store {
  finishMove(setup.path);
  try {
    if (condemned !== null) throw new DamagedFile(setup.path, condemned);
    return openFile();
  } catch (error) {
    if (!isDamage(error)) throw error;
    setAside(setup, monotonicMs() + wallLessMonotonicMs);
    condemned = null;
    return openFile();
  }
}

function openFile(): Store {
  const synchronous = setup.durability === "power-loss" ? "FULL" : "NORMAL";
  const [isThere, hadWal] = [existsSync(setup.path), existsSync(`${setup.path}-wal`)];
  const db = openDatabase({
    path: setup.path,
    synchronous: setup.fault === "synchronous-off" ? "OFF" : synchronous,
    leavesFolders: setup.fault === "folder-not-synced",
    maxBytes: setup.maxBytes,
  });
  try {
    return buildStore(db, earlier === undefined && isThere && !hadWal);
  } catch (error) {
    // Left open it would lock out the next attempt.
    db.close();
    throw error;
  }
}

/** `withoutWal`: no log was there, which is right only for a file that was closed in order. */
function buildStore(db: Db, withoutWal = false): Store {
  const rescue = Rescue.of(db, setup.path);
  const openIn = db.prepare("SELECT value FROM meta WHERE name = 'open-in-boot'").pluck().get();
  const lostWal = withoutWal && typeof openIn === "string" && openIn !== "";
  const isNewHistory = rescue?.begin() ?? (lostWal ? { lostOrdinals: 0 } : undefined);
  const { identity, ...ordinals } = identify(db, setup, openedAt, isNewHistory);
  rescue?.begun();
  const ledger = new Ledger(db);
  ledger.load(setup.groups, rescue === null ? earlier : undefined);
  earlier = ledger;
  const letters = new Letters(db, ledger, setup.maxBytes);
  const retention = new Retention(db, ledger, setup);
  room.attach(db, retention);
  const damages = new Damages(db);
  const waiting = new Waiting(db, setup.maxBytes);
  const writer = (boot: number): TurnWriter =>
    new TurnWriter(
      db,
      ledger,
      retention,
      letters,
      { ...ordinals, boot },
      room,
      monotonicMs,
      damages,
      waiting,
    );
  const built = {
    db,
    identity,
    writer: writer(ordinals.boot),
    reader: new JournalReader(db, ledger),
    figures: { ...ledger.everything(), usedBytes: retention.usedBytes() },
    damages,
    waiting,
    rescue,
    writerOf: (boot: string): TurnWriter => {
      db.prepare("INSERT OR IGNORE INTO boot (uuid) VALUES (?)").run(boot);
      return writer(
        db.prepare("SELECT ordinal FROM boot WHERE uuid = ?").pluck().get(boot) as number,
      );
    },
  };
  if (rescue !== null) setImmediate(goOn, built);
  return built;
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
    store = buildStore(current.db);
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
    closeStore();
  }
}

/** What came in during a salvage gets its seqs. Gives back the figures after it. */
function drain(current: Store, now: Turn["now"]): WorkerFigures | null {
  const streams = new Map(current.figures.streams);
  let usedBytes = current.figures.usedBytes;
  for (;;) {
    const waits = current.waiting.next();
    if (waits === null) break;
    const { id, boot, clock: quality, ...kept } = waits;
    const isOwn = boot === setup.bootId;
    const result = (isOwn ? current.writer : current.writerOf(boot)).apply({
      ...kept,
      units: [],
      clock: quality,
      now: isOwn ? now : { ...now, clock: "unsynced" },
      waited: id,
    });
    if (result.kind !== "done") break;
    for (const [stream, status] of result.figures.streams) streams.set(stream, status);
    usedBytes = result.figures.usedBytes;
    if (result.refusedIntake !== null) break;
  }
  return { ...current.figures, streams: [...streams], usedBytes };
}

function turn(ask: Turn): TurnResult {
  try {
    const current = serving();
    if (current.rescue === null && current.waiting.isEmpty) return current.writer.apply(ask);
    if (current.rescue === null) drain(current, ask.now);
    return wait(current, ask);
  } catch (error) {
    if (isDamage(error)) condemned = messageOf(error);
    // Without a store there was no file to open; with one, an I/O error means that its WAL is not to be trusted.
    if (!isFull(error)) closeStore();
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
    figures: { streams: [], cursors: [], usedBytes: figures.usedBytes },
  };
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
  read(ask) {
    const { reader, damages } = serving();
    const result = reader.read(ask);
    if (result.damaged.length > 0) damages.note(result.damaged);
    return result;
  },
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

const postponable: ReadonlySet<RequestKind> = new Set(["read", "state", "retries", "deadLetters"]);

function answer(request: Request): void {
  if (postponable.has(request.kind) && store !== undefined && store.rescue !== null) {
    postponed.push(request);
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
      condemned = messageOf(error);
      closeStore();
    }
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
