/** The file sink against a list: whatever crashes wherever, each event is in the files once and in order. */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync, rmSync, mkdtempSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { createFileSink } from "../../src/sink/file.ts";
import type { Position, Sink } from "../../src/sink/sink.ts";
import { namesOf, range, seqsOf } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent } from "../support/stored-event.ts";

const stream = "readings";
const never = new AbortController().signal;

type Action =
  | { readonly kind: "send"; readonly events: number }
  | { readonly kind: "commit" }
  | { readonly kind: "age" }
  | { readonly kind: "reopen" }
  /** `keep`: the share of what lies behind the mark that reached the disk; `junk`: what tore the last line. */
  | { readonly kind: "crash"; readonly keep: number; readonly junk: string };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant("send" as const),
      events: fc.integer({ min: 1, max: 12 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("commit" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("age" as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reopen" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("crash" as const),
      keep: fc.double({ min: 0, max: 1, noNaN: true }),
      junk: fc.constantFrom("", '{"device":"b', "\0\0\0\0", "}\n{}\n"),
    }),
  },
);

test("send() leaves each event in the files once and in order, whatever crashes wherever", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { minLength: 1, maxLength: 40 }),
      fc.integer({ min: 1, max: 60 }),
      fc.constantFrom("gzip" as const, "none" as const),
      async (actions, epochEvery, compress) => {
        const folder = mkdtempSync(join(tmpdir(), "holdfast-property-"));
        try {
          await run(join(folder, "archive"), actions, epochEvery, compress);
        } finally {
          rmSync(folder, { recursive: true, force: true });
        }
      },
    ),
    { numRuns: 60 },
  );
});

async function run(
  path: string,
  actions: readonly Action[],
  epochEvery: number,
  compress: "gzip" | "none",
): Promise<void> {
  const clock = new FakeClock();
  const settings = {
    from: [stream],
    path,
    format: "ndjson" as const,
    columns: {},
    rotate: 60_000,
    maxFileBytes: 1200,
    compress,
    maxBytes: undefined,
  };
  let durable: Position = { seq: 0, mark: null };
  let confirmed = durable;
  let sink = null as Sink | null;
  let newest = 0;
  const open = async (position: Position): Promise<void> => {
    await sink?.close();
    sink = createFileSink(recordingContext("archive", clock), settings, { device: "box" });
    await sink.open(new Map([[stream, position]]), never);
    confirmed = position;
    sink.durable?.(stream, durable);
  };
  const send = async (count: number): Promise<void> => {
    const events = range(confirmed.seq + 1, confirmed.seq + count).map((seq) =>
      storedEvent({ seq, epoch: epochOf(seq, epochEvery) }),
    );
    const result = await sink?.send({ device: "box", stream, events, format: "json" }, never);
    confirmed = { seq: confirmed.seq + count, mark: result?.mark ?? null };
    newest = Math.max(newest, confirmed.seq);
  };
  const commit = (): void => {
    durable = confirmed;
    sink?.durable?.(stream, durable);
  };
  await open(durable);
  for (const step of actions) {
    if (step.kind === "send") await send(step.events);
    else if (step.kind === "commit") commit();
    else if (step.kind === "age") clock.advance(60_000);
    else if (step.kind === "reopen") await open(confirmed);
    else {
      await sink?.close();
      tear(join(path, stream), namesOf(path, stream), durable, step.keep, step.junk);
      await open(durable);
    }
  }
  // What was sent before a crash is in the journal, and follows again.
  await send(newest + 1 - confirmed.seq);
  commit();
  await sink?.close();
  assert.deepEqual(seqsOf(path, stream), range(1, confirmed.seq));
}

/** The seq decides the epoch, as the journal's chunks do. */
function epochOf(seq: number, epochEvery: number): string {
  const number = Math.floor(seq / epochEvery).toString(16);
  return `${number.padStart(8, "0")}-0000-4000-8000-000000000000`;
}

/** What is behind the mark may have reached the disk or not: the newest file loses its end, or gains junk. */
function tear(
  folder: string,
  names: readonly string[],
  durable: Position,
  keep: number,
  junk: string,
): void {
  const name = names.filter((file) => file.endsWith(".ndjson")).at(-1);
  if (name === undefined) return;
  const mark =
    durable.mark === null ? null : (JSON.parse(durable.mark) as { file: string; bytes: number });
  const file = join(folder, name);
  const size = readFileSync(file).length;
  const synced = mark?.file === name ? mark.bytes : 0;
  // A file before the mark's is synced as a whole.
  if (mark !== null && name < mark.file) return;
  truncateSync(file, synced + Math.floor((size - synced) * keep));
  appendFileSync(file, junk);
}
