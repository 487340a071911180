/**
 * How long a fresh event takes to be confirmed upstream while 1,000,000 that waited drain beside it: a real journal,
 * synced, a real server on loopback, the valkey sink. `strict` for comparison: there a fresh event waits behind them all.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { noHeaders, type NewEvent } from "../../src/core/event.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import { createJournal } from "../../src/journal/thread.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { createValkeySink } from "../../src/sink/valkey.ts";
import { appendGroup, benchJournal } from "../support/contenders.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { recordingContext } from "../support/recording-context.ts";
import { startRedis } from "../support/redis-server.ts";
import { valkeySettings } from "../support/valkey-far-side.ts";

const waiting = 1_000_000;
const freshEachSecond = 200;
const lingerMs = 1_000;
/** The stream that `contenders.ts` fills. */
const stream = "s";
const say = (line: string): boolean => process.stdout.write(`${line}\n`);

function made(n: number): NewEvent {
  const at = Date.now() - 86_400_000;
  const payload = Buffer.from(`{"device":"d1","temperature":${20 + (n % 100) / 10},"n":${n}}`);
  return { key: "d1", time: at, receivedAt: at, headers: noHeaders, payload };
}

/** Notes when the far side has confirmed a fresh event. */
function watched(sink: Sink, confirmed: (sentMs: number, isBackfill: boolean) => void): Sink {
  return {
    open: (positions, signal) => sink.open(positions, signal),
    close: () => sink.close(),
    onLost: (listener) => sink.onLost?.(listener),
    held: (name) => sink.held?.(name) ?? [],
    async send(batch, signal) {
      const result = await sink.send(batch, signal);
      for (const { payload } of batch.events.slice(0, result.settled)) {
        const { sent } = JSON.parse(Buffer.from(payload).toString()) as { sent?: number };
        if (sent !== undefined) confirmed(performance.now() - sent, batch.backfill ?? false);
      }
      return result;
    },
  };
}

async function measure(order: "strict" | "live-first", bytesPerSecond?: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const server = await startRedis(folder);
  const path = join(folder, "journal.db");
  const filling = benchJournal(path, lingerMs, false);
  await filling.open([]);
  for (let n = 0; n < waiting; n += 1_000) await appendGroup(filling, n, n + 1_000, made);
  await filling.close();
  const settings = { durability: "power-loss", linger: lingerMs, maxBytes: 8 * 2 ** 30 } as const;
  const context = recordingContext("cloud");
  const journal = createJournal(recordingContext("journal"), journalSetup(path, settings));
  await journal.open([{ group: "cloud", streams: [stream] }]);
  const latencies: number[] = [];
  const sink = watched(
    createValkeySink(context, valkeySettings(server.url), { device: "box" }),
    (ms) => latencies.push(ms),
  );
  const pace = {
    ...(order === "live-first" && { backlogShare: 0.5 }),
    ...(bytesPerSecond !== undefined && { bytesPerSecond }),
  };
  const formats = new Map([[stream, "json" as const]]);
  const parts = { context, journal, sink, streams: [stream], formats, device: "box", pace };
  const delivery = createDelivery(parts);
  const began = performance.now();
  delivery.start();
  let appended = 0;
  const publishing = setInterval(() => {
    const due = ((performance.now() - began) / 1000) * freshEachSecond;
    for (; appended < due; appended++) {
      const now = Date.now();
      const payload = Buffer.from(
        JSON.stringify({ device: "d1", temperature: 21.5, sent: performance.now() }),
      );
      journal.append(
        stream,
        { key: "d1", time: now, receivedAt: now, headers: noHeaders, payload },
        () => {},
      );
    }
  }, 10);
  const cpu = process.cpuUsage();
  const drained = async (): Promise<void> => {
    const backlog = context.sums;
    const name = 'holdfast_sink_events_total{sink="cloud",status="delivered"}';
    while ((backlog.get(name) ?? 0) - latencies.length < waiting)
      await new Promise((resolve) => setTimeout(resolve, 50));
  };
  await drained();
  const seconds = (performance.now() - began) / 1000;
  clearInterval(publishing);
  const { user, system } = process.cpuUsage(cpu);
  await delivery.stop(5_000);
  await journal.close();
  await server.kill();
  rmSync(folder, { recursive: true });
  const sorted = latencies.toSorted((a, b) => a - b);
  const at = (share: number): string =>
    ((sorted[Math.floor(sorted.length * share)] ?? NaN) / 1000).toFixed(2);
  const rate = Math.round(waiting / seconds);
  const wire = context.sums.get('holdfast_sink_wire_bytes_total{sink="cloud"}') ?? 0;
  const sent = context.sums.get('holdfast_sink_events_total{sink="cloud",status="sent"}') ?? 1;
  const limit = bytesPerSecond === undefined ? "none" : `${bytesPerSecond / 2 ** 20} MiB/s`;
  say(
    `| ${order} | ${limit} | ${seconds.toFixed(1)} | ${rate} | ${((user + system) / sent).toFixed(1)} | ${Math.round(wire / sent)} | ${sorted.length} | ${at(0.5)} | ${at(0.99)} | ${at(0.9999)} |`,
  );
}

export async function run(): Promise<void> {
  say(
    `1,000,000 events drain, ${freshEachSecond} fresh ones come each second, linger ${lingerMs / 1000} s:`,
  );
  say("");
  say(
    "| order | rateLimit | s | drained a second | CPU µs an event | bytes an event | fresh | p50 s | p99 s | p99.99 s |",
  );
  say("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
  await measure("strict");
  await measure("live-first");
  await measure("live-first", 8 * 2 ** 20);
}
