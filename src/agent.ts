/**
 * The only place where parts are put together, inner to outer: what is opened last (the sources) is closed first,
 * so that nothing comes in that could not be made durable any more.
 *
 * Stopping has 5 s: sources acknowledge what settles, processors and sinks end or abort what is in flight, the
 * journal commits what is left and closes. What is cut off there is not lost: every cursor stands where it was
 * confirmed.
 */
import { systemRandom } from "./core/random.ts";
import { dirname, resolve } from "node:path";
import type { Config } from "./config/config.ts";
import { stateFolder } from "./config/built-in.ts";
import { unlessAborted } from "./core/abort.ts";
import { HoldfastError, messageOf } from "./core/errors.ts";
import type { PayloadFormat } from "./core/event.ts";
import type { Pulse } from "./core/pulse.ts";
import { createDelivery, type Delivery } from "./flow/deliver.ts";
import { createIntake } from "./flow/ingest.ts";
import { LinkMonitor } from "./flow/link-monitor.ts";
import { PausedGroups } from "./flow/paused-groups.ts";
import type { StreamRules } from "./flow/admit.ts";
import { createProcessing } from "./flow/process.ts";
import { createProjection } from "./flow/project.ts";
import { createAdmin } from "./host/admin.ts";
import { boardSerial, defaultDeviceId } from "./host/board.ts";
import { readCardLife } from "./host/card.ts";
import { sharedHealth } from "./host/health.ts";
import { createDiskWatch } from "./host/disk.ts";
import { createHttpServer, type HttpServer } from "./host/http.ts";
import { parseListen } from "./host/listen.ts";
import { isAnyUp } from "./host/network.ts";
import { statusRoutes } from "./host/status.ts";
import { openSurroundings, type Surroundings } from "./host/surroundings.ts";
import { createWearMeter, type WearMeter } from "./host/wear.ts";
import { createJournal, type JournalSetup } from "./journal/thread.ts";
import type { GroupDeclaration, WholeJournal } from "./journal/journal.ts";
import type { StreamQuota } from "./journal/protocol.ts";
import { loadHandler } from "./processor/handler.ts";
import { createStep } from "./processor/kinds.ts";
import { paceOf } from "./sink/delivery-options.ts";
import { sinkKinds } from "./sink/kinds.ts";
import { sourceKinds } from "./source/kinds.ts";
import type { Source } from "./source/source.ts";
import { createPlane } from "./plane/kinds.ts";
import type { Plane } from "./plane/plane.ts";
import { compileStream, defaultStreamOptions } from "./stream/schema.ts";

export interface Agent {
  /** Addresses in use. */
  readonly listens: { readonly http: string; readonly admin: string };
  /** What of it must go on moving, for the watchdog. */
  readonly pulses: readonly Pulse[];
  /** Stops within 5 s. May be called twice. */
  close(): Promise<void>;
}

export interface AgentSetup {
  readonly version: string;
  /** Handler paths are relative to its folder; left out: to the working directory. */
  readonly configFile?: string;
  /** The journal cannot go on: the process must end. */
  readonly onFatal: (error: HoldfastError) => void;
  /** Ends the start too: a full disk may keep the journal from opening for as long as it likes. */
  readonly signal?: AbortSignal;
  /** Planted faults for the tests of the proofs. */
  readonly journalFault?: JournalSetup["fault"];
}

/** How long sources may wait for what they accepted, and processors and sinks for what is in flight, ms. */
const graceMs = 1_500;

interface Opened {
  readonly config: Config;
  readonly surroundings: Surroundings;
  readonly journal: WholeJournal;
  readonly wear: WearMeter;
  readonly stack: AsyncDisposableStack;
  /** Of the journal's file. */
  readonly path: string;
  readonly rules: (stream: string) => StreamRules;
  readonly formats: ReadonlyMap<string, PayloadFormat>;
  /** Filled as they start: the admin API is there before. */
  readonly sinks: Map<string, Delivery>;
  readonly paused: PausedGroups;
}

/** @throws HoldfastError as its parts say; the reason of `setup.signal` where that ended the start */
export async function openAgent(config: Config, setup: AgentSetup): Promise<Agent> {
  const stack = new AsyncDisposableStack();
  try {
    const agent = assemble(config, setup, stack);
    // What goes on assembling after that meets a stack that is disposed of, and ends.
    return await (setup.signal === undefined ? agent : unlessAborted(agent, setup.signal));
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function assemble(
  config: Config,
  setup: AgentSetup,
  stack: AsyncDisposableStack,
): Promise<Agent> {
  let ready = false;
  let journal: WholeJournal | undefined;
  const device = config.device.id ?? defaultDeviceId();
  const surroundings = stack.use(
    await openSurroundings({
      level: config.log.level,
      version: setup.version,
      device: () => journal?.identity().device ?? device,
      clockWaitMs: config.clock.wait,
      random: systemRandom,
    }),
  );
  const { clock, health, metrics, log } = surroundings;
  // Health answers from the first moment: a technician must see that the journal is being opened.
  const http = createHttpServer({
    log,
    listen: parseListen(config.http.listen),
    routes: statusRoutes({ clock, health, metrics, isReady: () => ready }),
  });
  stack.defer(() => http.close());
  await http.open();

  const path = config.journal.path ?? defaultJournal();
  const wear = startWear(config, surroundings, path, stack);
  journal = await openJournal(config, setup, surroundings, {
    device,
    wear,
    stack,
    path,
  });
  const rules = rulesOf(config);
  const formats = new Map(streamsOf(config).map((stream) => [stream, rules(stream).format]));
  const sinks = new Map<string, Delivery>();
  const paused = new PausedGroups(journal, log);
  const kept = { journal, wear, stack, path, rules, formats, sinks, paused };
  const opened: Opened = { config, surroundings, ...kept };
  const admin = await openAdmin(opened, setup);
  startSinks(opened);
  await startProcessors(opened, setup);
  await openSources(opened);
  stack.defer(() => {
    ready = false;
  });
  ready = true;
  log.info("The agent is ready", {
    device: journal.identity().device,
    epoch: journal.identity().epoch,
  });
  return {
    listens: { http: http.address(), admin: admin.address() },
    pulses: [journal.pulse(), ...[...sinks.values()].map(({ pulse }) => pulse)],
    close: () => stack.disposeAsync(),
  };
}

function defaultJournal(): string {
  return `${stateFolder()}/journal.db`;
}

async function openAdmin(opened: Opened, { version }: AgentSetup): Promise<HttpServer> {
  const { config, surroundings, stack } = opened;
  const { listen, token } = config.admin;
  const admin = createAdmin({
    ...opened,
    context: surroundings.context("agent", "admin"),
    health: surroundings.health,
    listen,
    version,
    ...(token !== undefined && { token }),
  });
  stack.defer(() => admin.close());
  await admin.open();
  return admin;
}

function startWear(
  config: Config,
  surroundings: Surroundings,
  path: string,
  stack: AsyncDisposableStack,
): WearMeter {
  const { wearBudget, cardEndurance, linger } = config.journal;
  const wear = createWearMeter({
    context: surroundings.context("agent", "wear"),
    enduranceBytes: cardEndurance,
    lingerMs: linger,
    life: () => readCardLife(dirname(resolve(path))),
    ...(wearBudget !== undefined && { budgetBytes: wearBudget }),
  });
  stack.defer(() => wear.stop());
  wear.start();
  return wear;
}

interface JournalPlace {
  readonly device: string;
  readonly wear: WearMeter;
  readonly stack: AsyncDisposableStack;
  readonly path: string;
}

async function openJournal(
  config: Config,
  setup: AgentSetup,
  surroundings: Surroundings,
  { device, wear, stack, path }: JournalPlace,
): Promise<WholeJournal> {
  const disk = createDiskWatch({
    context: surroundings.context("agent", "disk"),
    folder: dirname(resolve(path)),
  });
  const journal = createJournal(surroundings.context("agent", "journal"), {
    settings: config.journal,
    path,
    device,
    board: boardSerial(),
    streams: new Map(
      Object.entries(config.streams).map(([name, options]) => [name, classOf(options)]),
    ),
    onFatal: setup.onFatal,
    lingerMs: () => wear.lingerMs(),
    ...(setup.journalFault !== undefined && { fault: setup.journalFault }),
  });
  stack.defer(() => journal.close());
  await journal.open(groupsOf(config));
  const fixed = journal.identity().device;
  if (config.device.id !== undefined && fixed !== config.device.id) {
    surroundings.log.warn(
      `device.id ${config.device.id} is not used: the journal was made by ${fixed}, and its events carry that name`,
    );
  }
  stack.defer(() => disk.stop());
  await disk.start();
  return journal;
}

/** What the journal is told of a stream. */
function classOf(options: Config["streams"][string]): StreamQuota & { readonly lingerMs?: number } {
  const { linger, maxBytes, maxAge, priority, whenFull, thin } = options;
  return {
    priority,
    ...(linger !== undefined && { lingerMs: linger }),
    ...(maxBytes !== undefined && { maxBytes }),
    ...(maxAge !== undefined && { maxAgeMs: maxAge }),
    ...(whenFull !== undefined && { whenFull }),
    ...(thin !== undefined && { thinMs: thin }),
  };
}

function groupsOf(config: Config): GroupDeclaration[] {
  return [
    ...Object.entries(config.processors).map(([group, { from }]) => ({
      group,
      streams: listOf(from),
    })),
    ...Object.entries(config.sinks).map(([group, { from }]) => ({ group, streams: from })),
  ];
}

function listOf(from: string | readonly string[]): readonly string[] {
  return typeof from === "string" ? [from] : from;
}

/** Every stream that the configuration names anywhere. */
function streamsOf(config: Config): string[] {
  return [
    ...new Set([
      ...Object.keys(config.streams),
      ...Object.values(config.sources).map(({ stream }) => stream),
      ...groupsOf(config).flatMap(({ streams }) => streams),
      ...Object.values(config.processors).flatMap(({ to }) => (to === undefined ? [] : [to])),
    ]),
  ];
}

/** A stream that is not declared has the declaration's defaults. */
function rulesOf(config: Config): (stream: string) => StreamRules {
  const compiled = new Map<string, StreamRules>();
  return (stream) => {
    let rules = compiled.get(stream);
    if (rules === undefined) {
      rules = compileStream(stream, config.streams[stream] ?? defaultStreamOptions());
      compiled.set(stream, rules);
    }
    return rules;
  };
}

function startSinks(opened: Opened): void {
  const { config, surroundings, journal, stack, formats, sinks, paused } = opened;
  const { device } = journal.identity();
  const link = new LinkMonitor();
  for (const [name, options] of Object.entries(config.sinks)) {
    const context = surroundings.context("sink", name);
    const sink = sinkKinds[options.type].create(context, options as never, { device });
    const delivery = createDelivery({
      context,
      journal,
      sink,
      streams: options.from,
      formats,
      device,
      pace: paceOf(options, isAnyUp),
      link,
    });
    stack.defer(() => delivery.stop(graceMs));
    paused.add(name, delivery);
    delivery.start();
    sinks.set(name, delivery);
  }
}

/** The plane, and what fills it. */
async function openPlane({
  config,
  surroundings,
  journal,
  stack,
  path,
  formats,
}: Opened): Promise<Plane> {
  const context = surroundings.context("agent", "plane");
  const [ofPlane, ofProjection] = sharedHealth(context.health);
  const read = new Set(Object.values(config.processors).flatMap(({ from }) => listOf(from)));
  const plane = createPlane({
    context: { ...context, health: ofPlane },
    settings: config.plane,
    ...journal.identity(),
    journal: path,
    defaultJournal: defaultJournal(),
    formats,
    isRead: (stream) => read.has(stream),
  });
  stack.defer(() => plane.close());
  await plane.open();
  const projection = createProjection({
    context: { ...context, health: ofProjection },
    journal,
    plane,
    streams: streamsOf(config),
  });
  stack.defer(() => projection.stop());
  projection.start();
  return plane;
}

async function startProcessors(opened: Opened, setup: AgentSetup): Promise<void> {
  const { config, surroundings, journal, stack, rules, paused } = opened;
  const processors = Object.entries(config.processors);
  const plane = await openPlane(opened);
  const baseDir = setup.configFile === undefined ? "." : dirname(resolve(setup.configFile));
  for (const [name, options] of processors) {
    const { retry, onFailure } = options;
    const processing = createProcessing({
      context: surroundings.context("processor", name),
      journal,
      plane,
      from: listOf(options.from),
      ...(options.to !== undefined && { to: options.to }),
      steps: options.steps.map(createStep),
      ...(options.handler !== undefined && {
        handler: await loadHandler(options.handler, baseDir),
      }),
      rulesOf: rules,
      batch: { max: options.batch.max, waitMs: options.batch.wait },
      timeoutMs: options.timeout,
      order: options.order,
      policy: {
        attempts: retry.attempts,
        baseMs: retry.backoff,
        maxMs: retry.maxBackoff,
        onFailure,
      },
      onFatal: (error) => setup.onFatal(asFatal(error)),
    });
    stack.defer(() => processing.stop(graceMs));
    paused.add(name, processing);
    processing.start();
  }
}

function asFatal(error: unknown): HoldfastError {
  if (error instanceof HoldfastError) return error;
  return new HoldfastError("JOURNAL_UNAVAILABLE", `A processor cannot go on: ${messageOf(error)}`, {
    cause: error,
  });
}

/** Opened last, closed first, all at once: the grace counts for all of them together. */
async function openSources(opened: Opened): Promise<void> {
  const { config, surroundings, journal, wear, stack, rules } = opened;
  const onBytes = (bytes: number): void => wear.accepted(bytes);
  const { device } = journal.identity();
  const sources: Source[] = [];
  stack.defer(async () => {
    await Promise.all(sources.map((source) => source.close(graceMs)));
  });
  for (const [name, options] of Object.entries(config.sources)) {
    // A signal has ended the start: what is opened now nobody would close.
    if (stack.disposed) return;
    const context = surroundings.context("source", name);
    const source = sourceKinds[options.type].create(context, options as never, { device });
    sources.push(source);
    const { stream } = options;
    await source.open(createIntake({ context, journal, stream, rules: rules(stream), onBytes }));
  }
}
