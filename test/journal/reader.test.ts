import assert from "node:assert/strict";
import Database from "better-sqlite3";
import { test } from "node:test";
import { append, event, openJournal, texts } from "../support/test-journal.ts";

test("read() gets a reader past a damaged chunk, also where that is the newest", async (t) => {
  const before = await openJournal(t);
  for (const text of ["a", "b", "c"]) await append(before.journal, "s", event(text));
  await before.journal.close();
  const db = new Database(before.path);
  const rows = db.prepare("SELECT id, body FROM chunk ORDER BY id").all() as {
    id: number;
    body: Buffer;
  }[];
  for (const { id, body } of rows.slice(1)) {
    body.writeUInt8(body.readUInt8(body.length - 1) ^ 1, body.length - 1);
    db.prepare("UPDATE chunk SET body = ? WHERE id = ?").run(body, id);
  }
  db.close();
  const { journal, context } = await openJournal(t, { folder: before.folder });
  const whole = await journal.read("s", 0, 10, 1000);
  assert.deepEqual([whole.events.length, whole.first], [1, 1]);
  const damaged = await journal.read("s", 1, 10, 1000);
  assert.deepEqual([damaged.events.length, damaged.first, damaged.head], [0, 4, 3]);
  assert.equal(context.now().status, "degraded");
  await append(journal, "s", event("d"));
  assert.deepEqual(await texts(journal, "s", 3), ["d"]);
});

test("read() ends a page before a damaged chunk amid small ones, and the next page passes it", async (t) => {
  const before = await openJournal(t, { linger: 0 });
  for (const text of ["a", "b", "c", "d", "e"]) await append(before.journal, "s", event(text));
  await before.journal.close();
  const db = new Database(before.path);
  const { id, body } = db
    .prepare("SELECT id, body FROM chunk ORDER BY id LIMIT 1 OFFSET 2")
    .get() as { id: number; body: Buffer };
  body.writeUInt8(body.readUInt8(body.length - 1) ^ 1, body.length - 1);
  db.prepare("UPDATE chunk SET body = ? WHERE id = ?").run(body, id);
  db.close();
  const { journal } = await openJournal(t, { folder: before.folder });
  const page = async (after: number): Promise<unknown> => {
    const { events, first } = await journal.read("s", after, 10, 1000);
    return [first, ...events.map(({ seq, payload }) => `${seq}${Buffer.from(payload).toString()}`)];
  };
  assert.deepEqual(await page(0), [1, "1a", "2b"]);
  assert.deepEqual(await page(2), [4, "4d", "5e"]);
});
