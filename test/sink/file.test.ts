import assert from "node:assert/strict";
import {
  appendFileSync,
  chmodSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { gunzipSync } from "node:zlib";
import { HoldfastError } from "../../src/core/errors.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { createFileSink, diskError, type FileSinkSettings } from "../../src/sink/file.ts";
import type { Position, Sink } from "../../src/sink/sink.ts";
import { namesOf, range, seqsOf } from "../support/archive-names.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvents } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const stream = "readings";
const start: Position = { seq: 0, mark: null };
const never = new AbortController().signal;
const otherEpoch = "0ddba110-0000-4000-8000-000000000000";

class Archive {
  readonly path: string;
  readonly clock = new FakeClock();
  readonly context = recordingContext("archive", this.clock);
  readonly settings: FileSinkSettings;
  #sink: Sink | null = null;

  constructor(t: TestContext, settings: Partial<FileSinkSettings> = {}) {
    this.path = join(tempDir(t), "archive");
    this.settings = {
      from: [stream],
      path: this.path,
      format: "ndjson",
      columns: {},
      rotate: 86_400_000,
      maxFileBytes: 1024 * 1024,
      compress: "none",
      maxBytes: undefined,
      ...settings,
    };
    t.after(() => this.close());
  }

  async open(position: Position): Promise<void> {
    await this.close();
    this.#sink = createFileSink(this.context, this.settings, { device: "box" });
    await this.#sink.open(new Map([[stream, position]]), never);
  }

  /** Where the cursor would stand once this is committed. */
  async send(events: readonly StoredEvent[]): Promise<Position> {
    const result = await this.#sink?.send({ device: "box", stream, events, format: "json" }, never);
    assert.equal(result?.settled, events.length);
    return { seq: events.at(-1)?.seq ?? 0, mark: result?.mark ?? null };
  }

  durable(position: Position): void {
    this.#sink?.durable?.(stream, position);
  }

  /** Nothing is written or synced here: to the files it is the same as a crash. */
  async close(): Promise<void> {
    await this.#sink?.close();
    this.#sink = null;
  }

  names(): string[] {
    return namesOf(this.path, stream);
  }

  seqs(): number[] {
    return seqsOf(this.path, stream);
  }

  only(): string {
    const names = this.names();
    assert.equal(names.length, 1, names.join());
    return join(this.path, stream, names[0] ?? "");
  }
}

test("send() writes each event once and goes on in the same file after an opening", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  await archive.send(storedEvents(1, 3));
  const position = await archive.send(storedEvents(4, 3));
  await archive.open(position);
  await archive.send(storedEvents(7, 3));
  assert.deepEqual(archive.seqs(), range(1, 9));
  assert.deepEqual(archive.names(), ["readings-0000000000000001-5eed0000.ndjson"]);
});

test("send() cuts a torn tail and what was synced but not confirmed", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 5));
  await archive.send(storedEvents(6, 5));
  appendFileSync(archive.only(), '{"device":"box","ep');
  await archive.open(confirmed);
  await archive.send(storedEvents(6, 5));
  assert.deepEqual(archive.seqs(), range(1, 10));
  assert.ok(readFileSync(archive.only(), "utf8").endsWith("}\n"));
});

test("send() begins anew when nothing was ever confirmed", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  await archive.send(storedEvents(1, 5));
  await archive.open(start);
  await archive.send(storedEvents(1, 2));
  assert.deepEqual(archive.seqs(), [1, 2]);
});

test("send() removes a newer file than the mark's, compressed or not", async (t) => {
  const archive = new Archive(t, { maxFileBytes: 1000 });
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 2));
  await archive.send(storedEvents(3, 6));
  await archive.send(storedEvents(9, 6));
  assert.equal(archive.names().length, 3);
  writeFileSync(join(archive.path, stream, "readings-0000000000000011-5eed0000.ndjson.gz"), "");
  await archive.open(confirmed);
  await archive.send(storedEvents(3, 2));
  assert.deepEqual(archive.seqs(), [1, 2, 3, 4]);
});

test("send() leaves the archive of another journal alone", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  await archive.send(storedEvents(1, 3));
  // A new journal: its epoch is new, its cursor stands at 0, and it counts from 1 again.
  await archive.open(start);
  await archive.send(storedEvents(1, 2, { epoch: otherEpoch }));
  assert.deepEqual(
    archive.seqs().toSorted((a, b) => a - b),
    [1, 1, 2, 2, 3],
  );
  assert.equal(archive.names().length, 2);
});

test("send() keeps lines that the journal has lost when a new epoch begins, without their torn end", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 3));
  await archive.send(storedEvents(4, 2));
  appendFileSync(archive.only(), '{"torn');
  await archive.open(confirmed);
  await archive.send(storedEvents(4, 1, { epoch: otherEpoch }));
  assert.deepEqual(archive.seqs(), [1, 2, 3, 4, 5, 4]);
});

test("send() begins a new file where the epoch changes inside a batch", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 1));
  const mixed = [...storedEvents(2, 2), ...storedEvents(4, 2, { epoch: otherEpoch })];
  await archive.send(mixed);
  assert.deepEqual(archive.seqs(), range(1, 5));
  // The crash came before the cursor: both files are taken back and written again.
  await archive.open(confirmed);
  const position = await archive.send(mixed);
  await archive.open(position);
  await archive.send(storedEvents(6, 1, { epoch: otherEpoch }));
  assert.deepEqual(archive.seqs(), range(1, 6));
  assert.equal(archive.names().length, 2);
});

test("send() writes nothing twice when the cursor was put back", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  const { mark } = await archive.send(storedEvents(1, 6));
  await archive.open({ seq: 2, mark });
  await archive.send(storedEvents(3, 2));
  const position = await archive.send(storedEvents(5, 4));
  assert.deepEqual(archive.seqs(), range(1, 8));
  assert.equal((JSON.parse(position.mark ?? "") as { seq: number }).seq, 8);
});

test("send() begins a new file when the mark's is gone or was cut by somebody else, and says so", async (t) => {
  const archive = new Archive(t);
  await archive.open(start);
  const first = await archive.send(storedEvents(1, 3));
  writeFileSync(archive.only(), readFileSync(archive.only()).subarray(0, 200));
  await archive.open(first);
  const second = await archive.send(storedEvents(4, 1));
  assert.ok(archive.context.lines.some((line) => /lost \d+ bytes/.test(line.message)));
  rmSync(join(archive.path, stream, (JSON.parse(second.mark ?? "") as { file: string }).file));
  await archive.open(second);
  await archive.send(storedEvents(5, 1));
  assert.ok(archive.context.lines.some((line) => line.message.includes("is gone")));
  assert.equal(archive.names().at(-1), "readings-0000000000000005-5eed0000.ndjson");
});

test("send() rotates by age, and a clock that is put back costs no file", async (t) => {
  const archive = new Archive(t, { rotate: 60_000 });
  await archive.open(start);
  await archive.send(storedEvents(1, 1));
  archive.clock.wall -= 3_600_000;
  await archive.send(storedEvents(2, 1));
  archive.clock.advance(59_999);
  await archive.send(storedEvents(3, 1));
  assert.equal(archive.names().length, 1);
  archive.clock.advance(1);
  await archive.send(storedEvents(4, 1));
  assert.equal(archive.names().length, 2);
  assert.deepEqual(archive.seqs(), range(1, 4));
});

test("send() rotates by size, and the age of a file outlives an opening", async (t) => {
  const archive = new Archive(t, { maxFileBytes: 2000, rotate: 60_000 });
  await archive.open(start);
  let position = start;
  for (const first of range(0, 9)) position = await archive.send(storedEvents(1 + first * 4, 4));
  const before = archive.names();
  assert.ok(before.length > 3);
  for (const name of before)
    assert.ok(statSync(join(archive.path, stream, name)).size <= 2000, name);
  archive.clock.advance(60_000);
  await archive.open(position);
  await archive.send(storedEvents(41, 1));
  assert.equal(archive.names().length, before.length + 1);
  assert.deepEqual(archive.seqs(), range(1, 41));
});

test("durable() compresses closed files, and none that the cursor on disk still needs", async (t) => {
  const archive = new Archive(t, { compress: "gzip", maxFileBytes: 600 });
  await archive.open(start);
  const first = await archive.send(storedEvents(1, 2));
  const second = await archive.send(storedEvents(3, 2));
  const third = await archive.send(storedEvents(5, 2));
  archive.durable(second);
  await until(
    "the first file to be compressed",
    () => archive.names()[0]?.endsWith(".gz") ?? false,
  );
  await until("the plain one to be gone", () => archive.names().length === 3);
  assert.deepEqual(
    archive.names().map((name) => name.endsWith(".gz")),
    [true, false, false],
  );
  archive.durable(third);
  await until(
    "the second",
    () => archive.names().filter((name) => name.endsWith(".gz")).length === 2,
  );
  assert.deepEqual(archive.seqs(), range(1, 6));
  const name = (JSON.parse(first.mark ?? "") as { file: string }).file;
  const text = gunzipSync(readFileSync(join(archive.path, stream, `${name}.gz`))).toString();
  assert.equal(text.split("\n").length, 3);
});

test("durable() ends what a crash in the middle of compressing left", async (t) => {
  const archive = new Archive(t, { compress: "gzip", maxFileBytes: 600 });
  await archive.open(start);
  await archive.send(storedEvents(1, 2));
  const position = await archive.send(storedEvents(3, 2));
  archive.durable(position);
  await until(
    "the first file",
    () => archive.names().length === 2 && archive.names()[0]?.endsWith(".gz") === true,
  );
  const folder = join(archive.path, stream);
  const compressed = join(folder, archive.names()[0] ?? "");
  // As if the machine had died between the rename and the removal, and once before the rename.
  writeFileSync(compressed.slice(0, -3), gunzipSync(readFileSync(compressed)));
  writeFileSync(`${compressed}.tmp`, "half");
  await archive.open(position);
  archive.durable(position);
  await until("one form of each", () => archive.names().length === 2);
  assert.deepEqual(archive.seqs(), range(1, 4));
});

test("durable() removes the oldest closed files when all hold more than maxBytes", async (t) => {
  const archive = new Archive(t, { maxFileBytes: 600, maxBytes: 2000 });
  await archive.open(start);
  let position = start;
  for (const n of range(0, 9)) {
    position = await archive.send(storedEvents(1 + n * 2, 2));
    archive.durable(position);
  }
  const bytes = (): number =>
    archive.names().reduce((sum, name) => sum + statSync(join(archive.path, stream, name)).size, 0);
  await until("the oldest to go", () => bytes() <= 2000);
  assert.equal(archive.seqs().at(-1), 20);
  assert.ok((archive.seqs()[0] ?? 0) > 10);
});

test("open() reports a folder that cannot be made as something for a person", async (t) => {
  const folder = tempDir(t);
  writeFileSync(join(folder, "file"), "");
  chmodSync(join(folder, "file"), 0o444);
  const archive = new Archive(t, { path: join(folder, "file", "archive") });
  await assert.rejects(archive.open(start), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "SINK_DENIED");
    assert.equal(error.kind, "config");
    return true;
  });
});

test("a used-up quota, for which libuv has no name, is transient like a full disk, and a mistake of ours is not", () => {
  const message = "Unknown system error -122: write";
  const quota = Object.assign(new Error(message), {
    errno: -122,
    code: "Unknown system error -122",
  });
  const told = diskError(quota, "/archive");
  assert.ok(told instanceof HoldfastError);
  assert.equal(told.code, "SINK_UNREACHABLE");
  const mistake = Object.assign(new TypeError("not a path"), { code: "ERR_INVALID_ARG_TYPE" });
  assert.equal(diskError(mistake, "/archive"), mistake);
});

test("send() reports a full disk as transient, and nothing is torn after it has room again", async (t) => {
  // /dev/full answers every write with ENOSPC, full(4).
  const archive = new Archive(t);
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 2));
  const file = archive.only();
  await archive.close();
  renameSync(file, `${file}.kept`);
  symlinkSync("/dev/full", file);
  await archive.open({
    seq: 2,
    mark: JSON.stringify({ ...JSON.parse(confirmed.mark ?? "{}"), bytes: 0 }),
  });
  await assert.rejects(archive.send(storedEvents(3, 2)), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "SINK_UNREACHABLE");
    assert.equal(error.kind, "transient");
    return true;
  });
  await archive.close();
  renameSync(`${file}.kept`, file);
  await archive.open(confirmed);
  await archive.send(storedEvents(3, 2));
  assert.deepEqual(archive.seqs(), range(1, 4));
});

test("durable() never takes a file that is just being begun for a closed one", async (t) => {
  const archive = new Archive(t, { compress: "gzip", maxFileBytes: 1 });
  await archive.open(start);
  let confirmed = await archive.send(storedEvents(1, 1));
  for (let seq = 2; seq <= 200; seq++) {
    // Tidied at each moment while the next file is made.
    const before = confirmed;
    const made = new AbortController();
    const tidying = (async () => {
      while (!made.signal.aborted) {
        archive.durable(before);
        await new Promise(setImmediate);
      }
    })();
    confirmed = await archive.send(storedEvents(seq, 1));
    made.abort();
    await tidying;
    const newest = `readings-${String(seq).padStart(16, "0")}-5eed0000.ndjson`;
    assert.ok(archive.names().includes(newest), `${newest} is gone`);
  }
  await archive.close();
  assert.deepEqual(archive.seqs(), range(1, 200));
});

test("send() writes CSV: names at the top of each file, each event once after a crash and a change of format", async (t) => {
  const csv = { format: "csv", columns: { n: "n" }, maxFileBytes: 700 } as const;
  const archive = new Archive(t, csv);
  await archive.open(start);
  const confirmed = await archive.send(storedEvents(1, 3));
  await archive.send(storedEvents(4, 3));
  appendFileSync(join(archive.path, stream, archive.names().at(-1) ?? ""), '7,"torn');
  await archive.open(confirmed);
  let position = await archive.send(storedEvents(4, 30));
  await archive.close();
  const rows = archive.names().flatMap((name) => {
    const [head, ...lines] = readFileSync(join(archive.path, stream, name), "utf8").split("\r\n");
    assert.match(head ?? "", /^device,.*,key,n$/);
    assert.equal(lines.pop(), "");
    return lines.map((line) => Number(line.split(",").at(-1)));
  });
  assert.deepEqual(rows, range(1, 33));
  assert.ok(archive.names().length > 1 && archive.names().every((name) => name.endsWith(".csv")));
  const sink = createFileSink(
    archive.context,
    { ...archive.settings, format: "ndjson" },
    { device: "box" },
  );
  t.after(() => sink.close());
  await sink.open(new Map([[stream, position]]), never);
  const result = await sink.send({ device: "box", stream, events: storedEvents(34, 2) }, never);
  position = { seq: 35, mark: result.mark ?? null };
  assert.deepEqual(seqsOf(archive.path, stream), [34, 35]);
});
