import assert from "node:assert/strict";
import Database from "better-sqlite3";
import { test } from "node:test";
import {
  checkChunk,
  sealChunk,
  type ChunkHead,
  type PackedChunk,
} from "../../src/journal/chunk.ts";
import { chunkId } from "../../src/journal/ledger.ts";
import {
  joinChunks,
  joinedBytesMax,
  JoinedReader,
  type JoinedChunk,
} from "../../src/journal/joined.ts";
import { decodeSections, SectionEncoder } from "../../src/journal/section.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";

function chunk(
  first: number,
  payloads: readonly string[],
  more: Partial<ChunkHead> = {},
): PackedChunk {
  const encoder = new SectionEncoder(1_780_000_000_000, 0);
  for (const payload of payloads) encoder.add(event(payload));
  const head = { first, epoch: 1, boot: 1, clock: "synced", ...more } as const;
  return checkChunk(sealChunk([encoder.finish()], head)) ?? assert.fail("It is not whole");
}

function decoded(chunks: readonly JoinedChunk[]): string[] {
  const context = { stream: "s", bootOffsetMs: null };
  return chunks
    .flatMap((one) => decodeSections(one.body, { ...context, ...one, epoch: `e${one.epoch}-` }))
    .map(({ seq, epoch, payload }) => `${epoch}${seq}=${Buffer.from(payload).toString()}`);
}

test("joinChunks() makes one of neighbours of which the same is to be said, with every event in its place", () => {
  const chunks = [chunk(7, ["a", "b"]), chunk(9, ["c"]), chunk(10, ["d", "x".repeat(5000)])];
  const joined = joinChunks(chunks);
  assert.deepEqual([joined.length, joined[0]?.first, joined[0]?.count], [1, 7, 5]);
  const wanted = ["e1-7=a", "e1-8=b", "e1-9=c", "e1-10=d", `e1-11=${"x".repeat(5000)}`];
  assert.deepEqual(decoded(joined), wanted);
});

test("joinChunks() leaves apart what differs in anything that is said of a whole chunk", () => {
  const differing: Partial<ChunkHead>[] = [{ epoch: 2 }, { clock: "provisional" }, { boot: 5 }];
  for (const more of differing) {
    const chunks = [chunk(1, ["a"]), chunk(2, ["b"], more), chunk(3, ["c"])];
    const joined = joinChunks(chunks);
    assert.equal(joined.length, 3, JSON.stringify(more));
    const epoch = more.epoch ?? 1;
    assert.deepEqual(decoded(joined), ["e1-1=a", `e${epoch}-2=b`, "e1-3=c"]);
  }
  assert.deepEqual(joinChunks([]), []);
});

test("joinChunks() fills a joined body up to its bound and no further, and leaves a large one as it is", () => {
  const small = Array.from({ length: 200 }, (_, index) => chunk(index + 1, ["x".repeat(1000)]));
  const each = small[0]?.rawBytes ?? 0;
  const joined = joinChunks(small);
  assert.equal(joined[0]?.count, Math.floor(joinedBytesMax / each));
  for (const { body } of joined) {
    assert.ok(body.length <= joinedBytesMax, `${body.length}`);
    assert.equal(body.buffer.byteLength, body.length);
  }
  assert.equal(decoded(joined).at(-1), `e1-200=${"x".repeat(1000)}`);
  const around = joinChunks([
    chunk(1, ["a"]),
    chunk(2, ["y".repeat(joinedBytesMax)]),
    chunk(3, ["b"]),
  ]);
  assert.deepEqual(
    around.map(({ first, count }) => [first, count]),
    [1, 2, 3].map((first) => [first, 1]),
  );
});

test("joinChunks() ends before a body that does not unpack", () => {
  const torn = { ...chunk(2, ["z".repeat(1000)], { boot: 2 }), stored: Buffer.from("no deflate") };
  assert.deepEqual(decoded(joinChunks([chunk(1, ["a"]), torn])), ["e1-1=a"]);
  assert.deepEqual(joinChunks([torn]), []);
});

test("read() of a page of single events gives each once and in order, wherever it begins", async (t) => {
  const { journal } = await openJournal(t, { linger: 0 });
  const wanted = Array.from({ length: 60 }, (_, index) => `${index + 1}`);
  for (const text of wanted) await append(journal, "s", event(text));
  for (const after of [0, 1, 17, 58, 59, 60]) {
    assert.deepEqual(await texts(journal, "s", after), wanted.slice(after));
  }
  const { events } = await journal.read("s", 5, 7, 1 << 20);
  assert.deepEqual(
    events.map(({ seq }) => seq),
    [6, 7, 8, 9, 10, 11, 12],
  );
});

/** Sizes that end a query, a body and a page at many places; bytes that are no text. */
const sizes = Array.from({ length: 400 }, (_, n) =>
  n % 61 === 60 ? 150_000 : n % 17 === 16 ? 9_000 : (n * 37) % 300,
);
const noise = (n: number): Buffer =>
  Buffer.from(Array.from({ length: sizes[n] ?? 0 }, (_, at) => (at * 31 + n * (at >> 3)) & 255));

test("read() gives chunks of all sizes and any bytes, once and in order, by pages of all sizes", async (t) => {
  const { journal } = await openJournal(t, { linger: 0, durability: "crash" });
  for (const n of sizes.keys()) await append(journal, "s", event(noise(n)));
  for (const [maxEvents, maxBytes] of [
    [1, 1 << 20],
    [7, 20_000],
    [1000, 1 << 20],
    [1000, 1],
  ] as const) {
    let after = 0;
    while (after < sizes.length) {
      const { events, first } = await journal.read("s", after, maxEvents, maxBytes);
      assert.equal(first, 1);
      assert.ok(events.length > 0 && events.length <= maxEvents, `${events.length} after ${after}`);
      for (const { seq, payload } of events) {
        assert.equal(seq, ++after);
        assert.ok(noise(seq - 1).equals(payload), `seq ${seq}`);
      }
    }
  }
});

test("JoinedReader.read() unpacks no more than was asked for and one chunk, however small it is as stored", async (t) => {
  const { journal, path } = await openJournal(t, { linger: 0 });
  for (let n = 0; n < 20; n++) await append(journal, "s", event("x".repeat(100_000)));
  await journal.close();
  const db = new Database(path);
  t.after(() => db.close());
  const [stored, all] = db.prepare("SELECT sum(size), count(*) FROM chunk").raw().get() as number[];
  assert.ok((stored ?? 0) < 65_536 && all === 20, "one query has them all");
  const start = { stream: 1, first: 1, storedBefore: 0 };
  assert.ok(db.prepare("SELECT 1 FROM chunk WHERE id = ?").get(chunkId(1, 1)), "stream 1 is it");
  const bytes = new JoinedReader(db)
    .read(start, 20, 250_000)
    .map(({ body }) => body.length)
    .reduce((sum, length) => sum + length, 0);
  assert.ok(bytes >= 250_000 && bytes < 350_100, `${bytes}`);
});

test("read() of more than there is reads this stream to its end, and not into the next", async (t) => {
  const before = await openJournal(t, { linger: 0 });
  for (const stream of ["s", "next", "next"]) await append(before.journal, stream, event(stream));
  await before.journal.close();
  // The next stream begins where this one ends, so that seqs alone tell nothing.
  const db = new Database(before.path);
  db.prepare("DELETE FROM chunk WHERE id = ?").run(chunkId(2, 1));
  db.close();
  const { journal } = await openJournal(t, { folder: before.folder });
  const { events } = await journal.read("s", 0, Number.MAX_SAFE_INTEGER, 1 << 20);
  assert.deepEqual(
    events.map(({ payload }) => Buffer.from(payload).toString()),
    ["s"],
  );
});

test("read() takes no chunk for another: two that changed places are damage, though each is whole", async (t) => {
  const before = await openJournal(t, { linger: 0 });
  for (const text of ["a", "b", "c", "d"]) await append(before.journal, "s", event(text));
  await before.journal.close();
  const db = new Database(before.path);
  const rows = db.prepare("SELECT id, body FROM chunk ORDER BY id").all() as {
    id: number;
    body: Buffer;
  }[];
  const put = db.prepare("UPDATE chunk SET body = ? WHERE id = ?");
  put.run(rows[2]?.body, rows[1]?.id);
  put.run(rows[1]?.body, rows[2]?.id);
  db.close();
  const { journal, context } = await openJournal(t, { folder: before.folder });
  const page = await journal.read("s", 0, 10, 1000);
  assert.deepEqual(
    page.events.map(({ seq }) => seq),
    [1],
  );
  const next = await journal.read("s", 1, 10, 1000);
  assert.deepEqual([next.first, ...next.events.map(({ seq }) => seq)], [4, 4]);
  assert.equal(context.now().status, "degraded");
});
