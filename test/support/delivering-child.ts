/**
 * A process to be killed: a real journal, the delivery loop and a sink, under a stream of events.
 *
 *   node test/support/delivering-child.ts FOLDER load|drain [URL]
 *
 * The sink is an HTTP server where there is a URL, else files in FOLDER/archive.
 *
 * `load` appends without end and prints `safe N` when N events are on disk. `drain` appends nothing, delivers what
 * is left, prints `head N`, and ends with 0.
 */
import { join } from "node:path";
import { createDelivery } from "../../src/flow/deliver.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { createFileSink } from "../../src/sink/file.ts";
import { createHttpSink } from "../../src/sink/http.ts";
import { httpSettings } from "./http-settings.ts";
import { journalSetup } from "./journal-setup.ts";
import { recordingContext } from "./recording-context.ts";
import { until } from "./until.ts";

const [folder = "", mode, url] = process.argv.slice(2);
const stream = "readings";
const group = "out";
const context = recordingContext(group);
const journal = createJournal(
  recordingContext("journal"),
  journalSetup(
    join(folder, "journal.db"),
    { linger: 20, maxBytes: 256 * 1024 * 1024, maxAge: 86_400_000, onFull: "reject" },
    { device: "box" },
  ),
);
await journal.open([{ group, streams: [stream] }]);
const archive = {
  from: [stream],
  path: join(folder, "archive"),
  format: "ndjson",
  columns: {},
  rotate: 86_400_000,
  // Some five batches: kills meet files that grow, rotation and compression.
  maxFileBytes: 256 * 1024,
  compress: "gzip",
  maxBytes: undefined,
} as const;
const sink =
  url === undefined
    ? createFileSink(context, archive, { device: "box" })
    : createHttpSink(
        context,
        { ...httpSettings(url), idempotency: "crash", answerTimeout: 300 },
        { device: "box" },
      );
const delivery = createDelivery({
  context,
  journal,
  sink,
  streams: [stream],
  formats: new Map([[stream, "json"]]),
  device: "box",
});
delivery.start();
const head = (): number => journal.status().streams.get(stream)?.head ?? 0;

if (mode === "load") {
  let safe = head();
  for (;;) {
    for (let count = 0; count < 50 && journal.hasRoom(); count++) {
      const now = Date.now();
      const payload = Buffer.from(JSON.stringify({ at: now, count }));
      journal.append(
        stream,
        { key: null, time: now, receivedAt: now, headers: {}, payload },
        () => safe++,
      );
    }
    process.stdout.write(`safe ${safe}\n`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
await until("all to be delivered", () => delivery.lag().get(stream) === 0, 60_000);
process.stdout.write(`head ${head()}\n`);
await delivery.stop(1000);
await journal.close();
