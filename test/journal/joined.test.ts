import assert from "node:assert/strict";
import { test } from "node:test";
import { joinChunks, joinedBytesMax } from "../../src/journal/joined.ts";
import type { ReadChunk } from "../../src/journal/protocol.ts";
import { decodeSections, SectionEncoder } from "../../src/journal/section.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";

function chunk(
  first: number,
  payloads: readonly string[],
  more: Partial<ReadChunk> = {},
): ReadChunk {
  const encoder = new SectionEncoder(1_780_000_000_000, 0);
  for (const payload of payloads) encoder.add(event(payload));
  // Cut to its size, as the worker's bodies are.
  const body = Uint8Array.from(encoder.finish());
  const plain = { epoch: "e", clock: "synced", bootOffsetMs: null, seqs: null } as const;
  return { first, count: payloads.length, body, ...plain, ...more };
}

function decoded(chunks: readonly ReadChunk[]): string[] {
  return chunks
    .flatMap((one) => decodeSections(one.body, { stream: "s", ...one }))
    .map(({ seq, epoch, payload }) => `${epoch}${seq}=${Buffer.from(payload).toString()}`);
}

test("joinChunks() makes one of neighbours that follow each other, with every event in its place", () => {
  const chunks = [chunk(7, ["a", "b"]), chunk(9, ["c"]), chunk(10, ["d", "e"])];
  const joined = joinChunks(chunks);
  assert.deepEqual([joined.length, joined[0]?.first, joined[0]?.count], [1, 7, 5]);
  assert.deepEqual(decoded(joined), ["e7=a", "e8=b", "e9=c", "e10=d", "e11=e"]);
  assert.deepEqual(decoded(joined), decoded(chunks));
});

test("joinChunks() leaves apart what differs in anything that is said of a whole chunk, and what has a gap before it", () => {
  const differing: Partial<ReadChunk>[] = [
    { epoch: "f" },
    { clock: "provisional" },
    { bootOffsetMs: 5 },
    { seqs: [2] },
  ];
  for (const more of differing) {
    const chunks = [chunk(1, ["a"]), chunk(2, ["b"], more), chunk(3, ["c"])];
    assert.equal(joinChunks(chunks).length, 3, JSON.stringify(more));
    assert.deepEqual(decoded(joinChunks(chunks)), decoded(chunks));
  }
  assert.equal(joinChunks([chunk(1, ["a"]), chunk(3, ["b"])]).length, 2);
  assert.deepEqual(joinChunks([]), []);
});

test("joinChunks() fills a joined body up to its bound and no further, and leaves a large one as it is", () => {
  const small = Array.from({ length: 200 }, (_, index) => chunk(index + 1, ["x".repeat(1000)]));
  const each = small[0]?.body.length ?? 0;
  const joined = joinChunks(small);
  assert.equal(joined[0]?.count, Math.floor(joinedBytesMax / each));
  for (const { body } of joined) {
    assert.ok(body.length <= joinedBytesMax, `${body.length}`);
    assert.equal(body.buffer.byteLength, body.length);
  }
  assert.deepEqual(decoded(joined), decoded(small));
  const large = chunk(2, ["y".repeat(joinedBytesMax)]);
  const around = joinChunks([chunk(1, ["a"]), large, chunk(3, ["b"])]);
  assert.deepEqual([around.length, around[1]], [3, large]);
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
