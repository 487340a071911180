import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";

const formats = join(import.meta.dirname, "formats");
const digest = (path: string): string =>
  createHash("sha256").update(readFileSync(path)).digest("hex");
const schemaOf = (path: string): unknown => {
  const db = new Database(path, { readonly: true });
  try {
    return db
      .prepare(
        "SELECT m.name AS tbl, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c ORDER BY 1, 2",
      )
      .all();
  } finally {
    db.close();
  }
};

test("open() migrates a journal of version 1 with all that it holds, and keeps the file as it was until the next clean start", async (context) => {
  const folder = tempDir(context);
  const path = join(folder, "journal.db");
  const original = join(formats, "v1.db");
  copyFileSync(original, path);
  const groups = [{ group: "cloud", streams: ["readings"] }];
  let { journal } = await openJournal(context, { folder, groups });
  const backup = `${path}.backup-v1`;
  assert.equal(digest(backup), digest(original));
  assert.deepEqual(
    await texts(journal, "readings"),
    Array.from({ length: 31 }, (_, index) => `reading ${index + 1}`),
  );
  assert.deepEqual(journal.cursor("cloud", "readings"), { seq: 12, mark: "m" });
  assert.equal(Buffer.from((await journal.readState("s", "k")) ?? []).toString(), "v1");
  assert.equal((await journal.readRetries("cloud"))[0]?.event.seq, 5);
  assert.equal((await journal.readDeadLetters("readings", 9))[0]?.code, "INVALID");
  assert.deepEqual(await journal.readPacketIds("mqtt"), [{ source: "mqtt", id: 7, digest: null }]);
  await append(journal, "readings", event("reading 32"));
  await journal.close();
  const fresh = await openJournal(context);
  await fresh.journal.close();
  assert.deepEqual(schemaOf(path), schemaOf(fresh.path));
  assert.ok(existsSync(backup));
  ({ journal } = await openJournal(context, { folder, groups }));
  assert.equal((await texts(journal, "readings")).at(-1), "reading 32");
  await journal.close();
  assert.equal(existsSync(backup), false);
});

test("open() refuses a file from the future with both versions named, and touches nothing", async (context) => {
  const folder = tempDir(context);
  const path = join(folder, "journal.db");
  copyFileSync(join(formats, "v1.db"), path);
  const db = new Database(path);
  db.pragma("user_version = 99");
  db.close();
  const [before, files] = [digest(path), readdirSync(folder)];
  await assert.rejects(openJournal(context, { folder }), {
    code: "JOURNAL_FOREIGN",
    kind: "config",
    message: /version 99, this program knows 2/,
  });
  assert.equal(digest(path), before);
  assert.deepEqual(readdirSync(folder), files);
});
