import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { journalCommand } from "../../src/cli/journal.ts";
import { recordingIo } from "../support/recording-io.ts";
import { tempDir } from "../support/temp-dir.ts";

const v1 = join(import.meta.dirname, "../journal/formats/v1.db");
const digest = (path: string): string =>
  createHash("sha256").update(readFileSync(path)).digest("hex");

test("journal check and export read a stopped agent's journal and leave every byte of it", async (context) => {
  const folder = tempDir(context);
  const path = join(folder, "journal.db");
  copyFileSync(v1, path);
  const checked = recordingIo();
  assert.equal(await journalCommand.run(["check", path], checked), 0, checked.stdout());
  assert.match(checked.stdout(), /readings +1 +31 +31/);
  assert.match(checked.stdout(), /cloud has passed readings up to 12/);
  const exported = recordingIo();
  await journalCommand.run(["export", path, "--stream", "readings", "--from", "30"], exported);
  const lines = exported.stdout().trim().split("\n");
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { seq: number }).seq),
    [30, 31],
  );
  assert.equal(digest(path), digest(v1));
  assert.deepEqual(readdirSync(folder), ["journal.db"]);
});

test("journal check names what is damaged and ends with 1, and export gives the rest", async (context) => {
  const path = join(tempDir(context), "journal.db");
  const bytes = readFileSync(v1);
  const place = bytes.indexOf("reading 9");
  assert.ok(place > 0);
  bytes[place] = 0;
  writeFileSync(path, bytes);
  const checked = recordingIo();
  assert.equal(await journalCommand.run(["check", path], checked), 1);
  assert.match(checked.stdout(), /Damaged: readings 9 to 9/);
  const exported = recordingIo();
  await journalCommand.run(["export", path, "--stream", "readings"], exported);
  assert.equal(exported.stdout().trim().split("\n").length, 30);
});
