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
import { metricsClass, samplingMs } from "./config/sampling.ts";
import { stateFolder } from "./config/built-in.ts";
import { classOf, groupsOf, listOf, streamsOf } from "./config/streams.ts";
import { unlessAborted } from "./core/abort.ts";
import { messageOf, type HoldfastError } from "./core/errors.ts";
import type { PayloadFormat } from "./core/event.ts";
import type { Pulse } from "./core/pulse.ts";
import { createDelivery } from "./flow/deliver.ts";
import type { Delivery } from "./flow/delivery.ts";
import type { Context } from "./core/context.ts";
import { metricsStream } from "./core/series.ts";
import { createIntake } from "./flow/ingest.ts";
import { tellEpoch } from "./flow/epoch-notice.ts";
import { LinkMonitor } from "./flow/link-monitor.ts";
import { AbsentGroups } from "./flow/absent-groups.ts";
import { PausedGroups } from "./flow/paused-groups.ts";
import type { StreamRules } from "./flow/admit.ts";
import { createProjection } from "./flow/project.ts";
import { startProcessors, type RunningProcessor } from "./agent-processors.ts";
import { createRedelivery } from "./flow/redeliver.ts";
import { createAdmin } from "./host/admin.ts";
import type { ReloadControl } from "./host/admin-reload.ts";
import { boardSerial, defaultDeviceId } from "./host/board.ts";
import { readCardLife } from "./host/card.ts";
import { sharedHealth } from "./host/health.ts";
import { createDiskWatch } from "./host/disk.ts";
import { createHttpServer, type HttpServer } from "./host/http.ts";
import { parseListen } from "./host/listen.ts";
import { isAnyUp } from "./host/network.ts";
import { answers } from "./host/probe.ts";
import { statusRoutes } from "./host/status.ts";
import { openSurroundings, type Surroundings } from "./host/surroundings.ts";
import { createWearMeter, type WearMeter } from "./host/wear.ts";
import { createJournal, type JournalSetup } from "./journal/thread.ts";
import type { WholeJournal } from "./journal/journal.ts";
import { farAddressOf } from "./core/far-address.ts";
import { paceOf } from "./sink/delivery-options.ts";
import { sinkKinds } from "./sink/kinds.ts";
import { sourceKinds } from "./source/kinds.ts";
import { createMetricsSource } from "./source/metrics.ts";
import type { Source } from "./source/source.ts";
import { createPlane } from "./plane/kinds.ts";
import type { Plane } from "./plane/plane.ts";
import { compileStream, defaultStreamOptions } from "./schema/schema.ts";

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
  /** Reads the configuration again, where it can be asked for. */
  readonly reload?: ReloadControl;
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
  /** Those that run, for the admin API, which is there before: filled as they start. */
  readonly sinks: Map<string, Delivery>;
  readonly processors: Map<string, RunningProcessor>;
  readonly paused: PausedGroups;
  readonly absent: AbsentGroups;
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
  const opened: Opened = {
    config,
    surroundings,
    journal,
    wear,
    stack,
    path,
    rules,
    formats,
    sinks: new Map(),
    processors: new Map(),
    paused: new PausedGroups(journal, log),
    absent: watchAbsent(config, surroundings, journal, stack),
  };
  const admin = await openAdmin(opened, setup);
  startSinks(opened);
  await startProcessing(opened, setup);
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
    pulses: [journal.pulse(), ...[...opened.sinks.values()].map(({ pulse }) => pulse)],
    close: () => stack.disposeAsync(),
  };
}

function defaultJournal(): string {
  return `${stateFolder()}/journal.db`;
}

async function startProcessing(opened: Opened, { configFile, onFatal }: AgentSetup): Promise<void> {
  const baseDir = configFile === undefined ? "." : dirname(resolve(configFile));
  const plane = await openPlane(opened);
  await startProcessors({ ...opened, plane, baseDir, onFatal, graceMs });
}

async function openAdmin(opened: Opened, { version, reload }: AgentSetup): Promise<HttpServer> {
  const { config, surroundings, stack, journal, rules, processors } = opened;
  const { clock, health } = surroundings;
  const { listen, token } = config.admin;
  const admin = createAdmin({
    ...opened,
    context: surroundings.context("agent", "admin"),
    health,
    redelivery: createRedelivery({ journal, clock, rulesOf: rules, processors }),
    listen,
    version,
    ...(token !== undefined && { token }),
    ...(reload !== undefined && { reload }),
  });
  stack.defer(() => admin.close());
  await admin.open();
  return admin;
}

function watchAbsent(
  config: Config,
  surroundings: Surroundings,
  journal: WholeJournal,
  stack: AsyncDisposableStack,
): AbsentGroups {
  const absent = new AbsentGroups({
    journal,
    clock: surroundings.clock,
    log: surroundings.log,
    present: new Set(groupsOf(config).map(({ group }) => group)),
    retentionMs: config.journal.cursorRetention,
  });
  stack.defer(() => absent.stop());
  absent.start();
  return absent;
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
  const context = surroundings.context("agent", "journal");
  const journal = createJournal(context, {
    settings: config.journal,
    path,
    device,
    board: boardSerial(),
    streams: new Map([
      [metricsStream, metricsClass],
      ...Object.entries(config.streams).map(([name, options]) => [name, classOf(options)] as const),
    ]),
    onFatal: setup.onFatal,
    lingerMs: () => wear.lingerMs(),
    ...(setup.journalFault !== undefined && { fault: setup.journalFault }),
  });
  stack.defer(() => journal.close());
  await journal.open(groupsOf(config));
  // A salvage answers only when it is done: nobody waits for it.
  // oxlint-disable-next-line typescript/no-floating-promises -- it never rejects
  tellEpoch({ context, journal }).catch((error: unknown) => {
    context.log.info(`The new epoch is told at the next start: ${messageOf(error)}`);
  });
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
  const link = new LinkMonitor({ clock: surroundings.clock, answers });
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
      address: farAddressOf(options),
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

/** Opened last, closed first, all at once: the grace counts for all of them together. */
async function openSources(opened: Opened): Promise<void> {
  const { config, surroundings, journal, wear, stack, rules } = opened;
  const onBytes = (bytes: number): void => wear.accepted(bytes);
  const { device } = journal.identity();
  const sources: Source[] = [];
  stack.defer(async () => {
    await Promise.all(sources.map((source) => source.close(graceMs)));
  });
  const start = async (context: Context, stream: string, source: Source): Promise<void> => {
    // A signal has ended the start: what is opened now nobody would close.
    if (stack.disposed) return;
    sources.push(source);
    await source.open(createIntake({ context, journal, stream, rules: rules(stream), onBytes }));
  };
  for (const [name, options] of Object.entries(config.sources)) {
    const context = surroundings.context("source", name);
    const source = sourceKinds[options.type].create(context, options as never, { device });
    await start(context, options.stream, source);
  }
  const everyMs = samplingMs(config);
  if (everyMs === null) return;
  const context = surroundings.context("agent", metricsStream);
  const sample = () => surroundings.metrics.sample();
  await start(context, metricsStream, createMetricsSource(context, { everyMs, sample, root: "/" }));
}
