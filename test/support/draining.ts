/** A backlog drained by one sink after the other, on this machine: journal → delivery → sink → its far side. */
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import type { Context } from "../../src/core/context.ts";
import { createDelivery } from "../../src/flow/deliver.ts";
import type { Journal, JournalHistory } from "../../src/journal/journal.ts";
import { createJournal } from "../../src/journal/thread.ts";
import type { Sink } from "../../src/sink/sink.ts";
import { journalSetup } from "./journal-setup.ts";
import { recordingContext } from "./recording-context.ts";
import { reading } from "./telemetry.ts";
import { until } from "./until.ts";

const stream = "readings";
const server = `require("node:http").createServer((request, response) => {
  request.resume().on("end", () => response.writeHead(204).end());
}).listen(Number(process.argv[1]), "127.0.0.1")`;

/** A server in a process of its own that reads each body and answers 204. */
export function takingServer(port: number): ChildProcess {
  return spawn(process.execPath, ["-e", server, String(port)], { stdio: "inherit" });
}

export type Sinks = Readonly<Record<string, (context: Context) => Sink>>;

/** Prints a table: each sink drains `count` events of about 90 bytes, as one that has not seen any of them. */
export async function printDrained(folder: string, count: number, sinks: Sinks): Promise<void> {
  const journal = await filledJournal(folder, count, Object.keys(sinks));
  process.stdout.write(`\n${count.toLocaleString("en")} events of about 90 bytes\n\n`);
  process.stdout.write("| what | events/s | CPU µs each | bytes on the wire each |\n");
  process.stdout.write("| --- | ---: | ---: | ---: |\n");
  for (const [name, make] of Object.entries(sinks)) {
    process.stdout.write(`${await drained(name, count, make, journal)}\n`);
  }
  await journal.close();
}

async function drained(
  name: string,
  count: number,
  make: (context: Context) => Sink,
  journal: Journal & JournalHistory,
): Promise<string> {
  const context = recordingContext(name);
  const delivery = createDelivery({
    context,
    journal,
    sink: make(context),
    streams: [stream],
    formats: new Map([[stream, "json"]]),
    device: "box",
  });
  const [began, cpu] = [performance.now(), process.cpuUsage()];
  delivery.start();
  await until(name, () => delivery.lag().get(stream) === 0, 600_000);
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  await delivery.stop(1000);
  const wire = context.sums.get(`holdfast_sink_wire_bytes_total{sink="${name}"}`) ?? 0;
  return `| ${name} | ${Math.round(count / seconds).toLocaleString("en")} | ${((user + system) / count).toFixed(1)} | ${(wire / count).toFixed(1)} |`;
}

async function filledJournal(folder: string, count: number, groups: readonly string[]) {
  const journal = createJournal(
    recordingContext("journal"),
    journalSetup(
      join(folder, "journal.db"),
      { linger: 20, maxBytes: 1024 ** 3, maxAge: 86_400_000, onFull: "reject" },
      { device: "box" },
    ),
  );
  await journal.open(groups.map((group) => ({ group, streams: [stream] })));
  let safe = 0;
  for (let index = 0; index < count; index++) {
    while (!journal.hasRoom()) await new Promise((resolve) => setTimeout(resolve, 5));
    journal.append(stream, reading(index), () => safe++);
  }
  await until("the journal to be filled", () => safe === count, 120_000);
  return journal;
}
