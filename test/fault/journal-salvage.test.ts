/** Journals that are damaged in any way: what is found, what is told, what goes on. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import Database from "better-sqlite3";
import { setAside } from "../../src/journal/rescue.ts";
import { usualRoots } from "../../src/journal/salvage-pages.ts";
import { Salvage } from "../../src/journal/salvage.ts";
import { openDatabase } from "../../src/journal/sqlite.ts";
import {
  copyJournal,
  damage,
  damageKinds,
  everything,
  seeded,
} from "../support/damaged-journal.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal } from "../support/test-journal.ts";

const eventsEach = 400;
const groups = [{ group: "cloud", streams: ["a", "b"] }];
const text = (stream: string, seq: number): string => `${stream}${seq} ${"x".repeat(seq % 700)}`;

/** A journal as a kill leaves it: some of it in the file, the newest in the log. */
async function journalOnDisk(context: TestContext): Promise<string> {
  let { journal, path, folder } = await openJournal(context, { groups });
  for (let seq = 1; seq <= eventsEach; seq += 10) {
    const settled: Promise<void>[] = [];
    for (let each = seq; each < seq + 10; each++)
      for (const stream of ["a", "b"])
        settled.push(append(journal, stream, event(text(stream, each))));
    journal.commitSoon();
    await Promise.all(settled);
    if (seq !== 201) continue;
    // What is closed is in the file.
    await journal.close();
    ({ journal, path, folder } = await openJournal(context, { folder, groups }));
  }
  await journal.commit(
    {
      group: "cloud",
      cursors: [{ stream: "a", from: 0, to: 120, mark: "here" }],
      state: [{ space: "s", key: "k", value: Buffer.from("kept") }],
    },
    "soon",
  );
  const copied = join(tempDir(context), "journal.db");
  copyJournal(path, copied);
  await journal.close();
  return copied;
}

function lostOf(path: string): { stream: string; from: number; to: number }[] {
  const db = new Database(path, { readonly: true });
  const rows = db.prepare('SELECT stream, from_seq AS "from", to_seq AS "to" FROM damage').all();
  db.close();
  return rows as { stream: string; from: number; to: number }[];
}

test("open() of a journal damaged in any way starts, delivers what was appended once, and tells what is missing", async (context) => {
  const whole = await journalOnDisk(context);
  for (let seed = 0; seed < 70; seed++) {
    const kind = damageKinds[seed % damageKinds.length] ?? "cut";
    const label = `seed ${seed}: ${kind}`;
    const folder = tempDir(context);
    const path = join(folder, "journal.db");
    copyJournal(whole, path);
    damage(path, kind, seeded(seed));
    let { journal } = await openJournal(context, { folder, groups }).catch((error: unknown) => {
      throw new Error(label, { cause: error });
    });
    const heads = new Map<string, number>();
    const found = new Map<string, number[]>();
    for (const stream of ["a", "b"]) {
      // The first pass may meet what condemns the file; what was read until then is right as well.
      await everything(journal, stream).catch(() => []);
    }
    await append(journal, "c", event("new"));
    await journal.close();
    ({ journal } = await openJournal(context, { folder, groups }));
    for (const stream of ["a", "b"]) {
      const events = await everything(journal, stream);
      const seqs = events.map(({ seq }) => seq);
      assert.deepEqual(
        seqs,
        [...new Set(seqs)].toSorted((one, two) => one - two),
        label,
      );
      for (const one of events) assert.equal(one.text, text(stream, one.seq), label);
      heads.set(stream, journal.status().streams.get(stream)?.head ?? 0);
      found.set(stream, seqs);
    }
    assert.ok(
      (await everything(journal, "c")).some((one) => one.text === "new"),
      label,
    );
    await journal.close();
    const lost = lostOf(path);
    for (const [stream, seqs] of found) {
      const known = new Set(seqs);
      const missing = Array.from(
        { length: heads.get(stream) ?? 0 },
        (_, index) => index + 1,
      ).filter((seq) => !known.has(seq));
      const told = lost
        .filter((range) => range.stream === stream)
        .flatMap(({ from, to }) => Array.from({ length: to - from + 1 }, (_, nth) => from + nth));
      assert.deepEqual(
        [...new Set(told)].toSorted((x, y) => x - y),
        missing,
        `${label}: ${stream}`,
      );
    }
  }
});

test("open() of a file whose beginning is gone salvages chunks, cursors and state, and begins an epoch", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  const bytes = readFileSync(path);
  bytes.fill(0, 0, 4096);
  writeFileSync(path, bytes);
  writeFileSync(`${path}-wal`, "");
  const { journal, context: seen } = await openJournal(context, { folder, groups });
  const kept = await everything(journal, "a");
  assert.ok(kept.length > 100, `${kept.length} events`);
  assert.ok(readdirSync(folder).some((name) => name.includes(".damaged-")));
  assert.match(JSON.stringify(seen), /salvaged/);
  const before = journal.status().streams.get("a")?.head ?? 0;
  await append(journal, "a", event("next"));
  assert.equal(journal.status().streams.get("a")?.head, before + 1);
});

test("open() without the log of a file that was not closed tells after which seq what came is gone, and begins an epoch", async (context) => {
  for (const lose of [rmSync, (log: string) => writeFileSync(log, "")]) {
    const path = await journalOnDisk(context);
    const folder = join(path, "..");
    lose(`${path}-wal`);
    const { journal, context: seen } = await openJournal(context, { folder, groups });
    const head = journal.status().streams.get("a")?.head ?? 0;
    assert.ok(head >= 200 && head < eventsEach, `${head}`);
    assert.match(JSON.stringify(seen.reports), new RegExp(`what came after .*seq ${head} of a`));
    assert.notEqual(journal.identity().parent, null, "a new epoch, of the one before");
    await journal.close();
  }
});

test("append() during a salvage is durable at once and gets its seq behind what was salvaged", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  const bytes = readFileSync(path);
  bytes.fill(0, 0, 100);
  writeFileSync(path, bytes);
  const { journal } = await openJournal(context, { folder, groups });
  const settled = append(journal, "a", event("meanwhile"));
  journal.commitSoon();
  await settled;
  const events = await everything(journal, "a");
  assert.equal(events.at(-1)?.text, "meanwhile");
  assert.deepEqual(
    events.slice(0, -1).map(({ text: one }) => one),
    Array.from({ length: eventsEach }, (_, index) => text("a", index + 1)),
  );
  assert.deepEqual(journal.cursor("cloud", "a"), { seq: 120, mark: "here" });
  assert.equal(Buffer.from((await journal.readState("s", "k")) ?? []).toString(), "kept");
});

test("a salvage takes in what intake needs first, also where the schema is gone, and tables that grow step by step", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  const { journal } = await openJournal(context, { folder, groups });
  const packet = { source: "m", id: 7, digest: 1 };
  await new Promise<void>((resolve) => journal.append("a", event("x"), resolve, packet));
  const state = Array.from({ length: 3_000 }, (_, nth) => ({
    space: "s",
    key: `key ${nth}`,
    value: Buffer.alloc(1_000, nth),
  }));
  await journal.commit({ group: "cloud", cursors: [], state }, "soon");
  await journal.close();
  const bytes = readFileSync(path);
  const pageBytes = bytes.readUInt16BE(16);
  bytes.fill(0, 0, pageBytes);
  writeFileSync(path, bytes);
  const db = openDatabase({ path: join(folder, "new.db"), synchronous: "OFF", maxBytes: 1e9 });
  const count = (table: string): unknown =>
    db.prepare(`SELECT count(*) FROM ${table}`).pluck().get();
  const salvage = new Salvage(db, path);
  assert.deepEqual(salvage.begin(), { lostOrdinals: false });
  assert.deepEqual(
    ["cursor", "packet_id", "stream", "state", "salvage_chunk"].map(count),
    [1, 1, 2, 0, 0],
  );
  let steps = 0;
  for (const _step of salvage.steps()) steps += 1;
  assert.ok(steps >= 4, `${steps} steps`);
  assert.equal(count("state"), 3_001);
  salvage.close();
  db.close();
});

test("a new file's tables begin where a salvage without a schema looks for them", (context) => {
  const path = join(tempDir(context), "journal.db");
  const db = openDatabase({ path, synchronous: "OFF", maxBytes: 1e9 });
  // SQLite puts files beside what it opens.
  const copy = join(tempDir(context), "v1.db");
  copyJournal(join(import.meta.dirname, "../journal/formats/v1.db"), copy);
  const old = new Database(copy, { readonly: true });
  for (const [pageBytes, file] of [
    [1024, db],
    [4096, old],
  ] as const) {
    for (const [name, root] of Object.entries(usualRoots[pageBytes] ?? {})) {
      const found = file.prepare("SELECT rootpage FROM sqlite_master WHERE name = ?").pluck();
      assert.equal(found.get(name), root, name);
    }
    file.close();
  }
});

test("open() goes on from between any two renames of a file that is set aside", async (context) => {
  const whole = await journalOnDisk(context);
  const bytes = readFileSync(whole);
  bytes.fill(0, 0, 100);
  writeFileSync(whole, bytes);
  const wanted = Array.from({ length: eventsEach }, (_, index) => text("a", index + 1));
  const log = "journal.db-wal";
  for (const undone of [0, 1, 2, 3]) {
    const folder = tempDir(context);
    const path = join(folder, "journal.db");
    copyJournal(whole, path);
    setAside({ path, maxBytes: 1e9 }, Date.UTC(2026, 0, 1));
    const damaged = join(folder, "journal.db.damaged-20260101T000000Z");
    assert.ok(existsSync(damaged) && existsSync(`${damaged}-wal`));
    // The renames in the order in which they are undone.
    const renames = [
      [path, `${path}.new`],
      [`${damaged}-wal`, join(folder, log)],
      [damaged, path],
    ] as const;
    for (const [now, before] of renames.slice(0, undone)) renameSync(now, before);
    const { journal } = await openJournal(context, { folder, groups });
    const found = (await everything(journal, "a")).map(({ text: one }) => one);
    assert.deepEqual(found, wanted, `${undone} renames are missing`);
    assert.equal(journal.cursor("cloud", "a").seq, 120);
    await journal.close();
    assert.equal(existsSync(`${path}.new`), false);
  }
});

test("open() leaves at most two damaged files", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  for (let round = 0; round < 4; round++) {
    const bytes = readFileSync(path);
    bytes.fill(0, 0, 100);
    writeFileSync(path, bytes);
    const { journal } = await openJournal(context, { folder, groups });
    await everything(journal, "a");
    await journal.close();
  }
  const left = readdirSync(folder).filter(
    (name) => /damaged-[^.]*$/.test(name) && !name.endsWith("-wal"),
  );
  assert.equal(left.length, 2);
  assert.equal(existsSync(`${path}.new`), false);
});

test("open() goes on after kills in the middle of a salvage, and nothing is lost or there twice", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  const bytes = readFileSync(path);
  bytes.fill(0, 0, 100);
  writeFileSync(path, bytes);
  const child = join(import.meta.dirname, "../support/salvage-child.ts");
  for (let round = 0; round < 4; round++) {
    const run = spawn(process.execPath, [child, path, `during ${round}`], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(run, "exit");
    await once(run.stdout, "data");
    run.kill("SIGKILL");
    await ended;
  }
  const { journal } = await openJournal(context, { folder, groups });
  const found = (await everything(journal, "a")).map(({ text: one }) => one);
  const salvaged = Array.from({ length: eventsEach }, (_, index) => text("a", index + 1));
  assert.deepEqual(found, [...salvaged, "during 0", "during 1", "during 2", "during 3"]);
});

test("read() of a damaged chunk tells its range in _gaps and in the metric once, also after a restart", async (context) => {
  const path = await journalOnDisk(context);
  const folder = join(path, "..");
  const first = await openJournal(context, { folder, groups });
  await first.journal.close();
  const db = new Database(path);
  db.prepare("UPDATE chunk SET body = zeroblob(size) WHERE (id & 1099511627775) = 11").run();
  db.close();
  for (let run = 0; run < 2; run++) {
    const { journal, context: seen } = await openJournal(context, { folder, groups });
    await everything(journal, "a");
    await append(journal, "c", event("a turn"));
    const gaps = (await everything(journal, "_gaps")).map(({ text: one }) => one);
    assert.deepEqual(gaps, ['{"stream":"a","from":11,"to":20,"kept":0,"reason":"damaged"}']);
    const lost = [...seen.sums].filter(([name]) => name.startsWith("holdfast_journal_lost_total"));
    assert.deepEqual(
      lost.map(([, sum]) => sum),
      [10],
    );
    assert.equal(seen.now().status, "degraded");
    await journal.close();
  }
});
