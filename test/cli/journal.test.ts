import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { runCommandLine } from "../../src/cli/commands.ts";
import { journalCommand } from "../../src/cli/journal.ts";
import { createAdmin } from "../../src/host/admin.ts";
import type { JournalJson } from "../../src/host/admin-journal.ts";
import { createHealthBook } from "../../src/host/health.ts";
import { compactPathOf } from "../../src/journal/compaction.ts";
import { spoil } from "../support/damaged-journal.ts";
import {
  holedGroups as groups,
  openHoled,
  openLargeHoled,
  text,
} from "../support/holed-journal.ts";
import { recordingIo, type RecordingIo } from "../support/recording-io.ts";
import { noGroups, noneAbsent } from "../support/served-admin.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { append, event, openJournal, texts, type TestJournal } from "../support/test-journal.ts";

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
  copyFileSync(v1, path);
  spoil(path, "reading 9");
  const checked = recordingIo();
  assert.equal(await journalCommand.run(["check", path], checked), 1);
  assert.match(checked.stdout(), /Damaged: readings 9 to 9/);
  const exported = recordingIo();
  await journalCommand.run(["export", path, "--stream", "readings"], exported);
  assert.equal(exported.stdout().trim().split("\n").length, 30);
});

test("journal check --json is one line of JSON", async () => {
  const io = recordingIo();
  assert.equal(await journalCommand.run(["check", v1, "--json"], io), 0);
  assert.equal(io.stdout().split("\n").length, 2);
  const { isWhole, streams } = JSON.parse(io.stdout()) as {
    isWhole: boolean;
    streams: { stream: string; events: number }[];
  };
  assert.equal(isWhole, true);
  assert.equal(streams.find(({ stream }) => stream === "readings")?.events, 31);
});

test("journal compact FILE gives a stopped journal's space back, and is refused while an agent has it", async (t) => {
  const folder = tempDir(t);
  const { journal, path } = await openHoled(t, folder);
  const { epoch } = journal.identity();
  const kept = await texts(journal, "s", 1900);
  await assert.rejects(journalCommand.run(["compact", path], recordingIo()), {
    code: "JOURNAL_LOCKED",
  });
  await journal.close();
  const before = statSync(path).size;
  const io = recordingIo(true);
  assert.equal(await journalCommand.run(["compact", path, "--json"], io), 0);
  assert.match(io.stderr(), /compact \d+ %/);
  const { beforeBytes, afterBytes } = JSON.parse(io.stdout()) as Record<string, number>;
  assert.deepEqual([beforeBytes, afterBytes], [before, statSync(path).size]);
  assert.ok(statSync(path).size < before * 0.8, `${before} to ${statSync(path).size}`);
  assert.ok(!existsSync(compactPathOf(path)) && !existsSync(`${path}-wal`));
  const again = recordingIo();
  assert.equal(await journalCommand.run(["compact", path], again), 0);
  assert.match(again.stdout(), /little to give back/);
  const opened = await openJournal(t, { folder, groups });
  assert.deepEqual(await texts(opened.journal, "s", 1900), kept);
  assert.equal(opened.journal.identity().epoch, epoch);
  assert.equal(opened.journal.cursor("g", "s").seq, 2000);
});

test("journal compact FILE takes in a killed agent's log, and sends to the agent what only it can mend", async (t) => {
  const folder = tempDir(t);
  await (await openHoled(t, folder)).journal.close();
  const { journal, path } = await openJournal(t, { folder, groups });
  await append(journal, "s", event("the last"));
  const killed = join(tempDir(t), "journal.db");
  for (const end of ["", "-wal"]) copyFileSync(path + end, killed + end);
  const lost = join(tempDir(t), "journal.db");
  copyFileSync(path, lost);
  await journal.close();
  await assert.rejects(journalCommand.run(["compact", lost], recordingIo()), /cost it its log/);
  assert.equal(await journalCommand.run(["compact", killed], recordingIo()), 0);
  const opened = await openJournal(t, { folder: join(killed, ".."), groups });
  assert.equal(opened.journal.status().streams.get("s")?.head, 2002);
  assert.deepEqual(await texts(opened.journal, "s", 2000), [text(2001), "the last"]);
  const torn = join(tempDir(t), "journal.db");
  writeFileSync(torn, readFileSync(v1).subarray(0, 5000));
  await assert.rejects(journalCommand.run(["compact", torn], recordingIo()), {
    code: "JOURNAL_UNAVAILABLE",
  });
});

async function served(
  t: TestContext,
  { journal, context }: TestJournal,
): Promise<{ url: string; run: (...argv: string[]) => Promise<[number, RecordingIo]> }> {
  const health = createHealthBook({
    clock: context.clock,
    version: "0.1.0",
    device: () => "greenhouse-1",
  });
  const none = (): never => assert.fail("Nobody asked for a replay");
  const rest = {
    sinks: new Map(),
    paused: noGroups,
    absent: noneAbsent,
    processors: new Map(),
    redelivery: { replay: none, replayThese: none },
  };
  const parts = { context, journal, health, formats: new Map(), version: "0.1.0", ...rest };
  const admin = createAdmin({ ...parts, listen: "127.0.0.1:0" });
  await admin.open();
  t.after(() => admin.close());
  const url = `http://${admin.address()}`;
  return {
    url,
    async run(...argv) {
      const io = recordingIo(true);
      return [await runCommandLine(["journal", ...argv, "--url", url], io, "0.1.0"), io];
    },
  };
}

test("journal compact, check and export go through a running agent", async (t) => {
  const opened = await openHoled(t, tempDir(t));
  const { url, run } = await served(t, opened);
  const [code, compacted] = await run("compact");
  assert.equal(code, 0, compacted.stderr());
  assert.match(compacted.stdout(), /^Gave back .+: the file has .+, and had /);
  const journal = (await (await fetch(`${url}/journal`)).json()) as JournalJson;
  const { result, endedAt } = journal.compact ?? { result: null, endedAt: null };
  assert.ok(result !== null && "afterBytes" in result && endedAt !== null);
  assert.equal(journal.work, null);
  assert.ok(Math.abs(journal.fileBytes - result.afterBytes) < 100_000);
  const [, checked] = await run("check", "--json");
  const { events, damaged } = JSON.parse(checked.stdout()) as { events: number; damaged: [] };
  const { first } = opened.journal.status().streams.get("s") ?? { first: 0 };
  assert.deepEqual([events, damaged], [2001 - first + 1, []]);
  const output = join(tempDir(t), "events.ndjson");
  const [exported] = await run("export", "--stream", "s", "--from", "1990", "-o", output);
  assert.equal(exported, 0);
  const seqs = readFileSync(output, "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { seq: number }).seq);
  assert.deepEqual(
    seqs,
    Array.from({ length: 12 }, (_, index) => 1990 + index),
  );
  const [refused, words] = await run("export", "--stream", "none");
  assert.equal(refused, 1);
  assert.match(words.stderr(), /There is no stream none; there is s/);
});

test("journal check through an agent ends with 1 and names what is damaged", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder, groups });
  for (let seq = 1; seq <= 5; seq++) await append(first.journal, "t", event(`short ${seq}`));
  await first.journal.close();
  spoil(first.path, "short 3");
  const { run } = await served(t, await openJournal(t, { folder, groups }));
  const [code, io] = await run("check");
  assert.equal(code, 1);
  assert.match(io.stdout(), /^Read 4 events in 5 chunks/);
  assert.match(io.stdout(), /^Damaged: t 3 to 3$/m);
});

test("POST /journal/… is refused while another goes on, and tells how it ended", async (t) => {
  const opened = await openLargeHoled(t, tempDir(t));
  const { url } = await served(t, opened);
  const post = (what: string): Promise<Response> =>
    fetch(`${url}/journal/${what}`, { method: "POST" });
  const [began, busy] = [await post("compact"), await post("check")];
  assert.deepEqual([began.status, began.headers.get("location")], [202, "/journal"]);
  assert.equal(busy.status, 409);
  assert.equal(((await busy.json()) as { code: string }).code, "JOURNAL_BUSY");
  await opened.journal.close();
  const look = async (): Promise<JournalJson["compact"]> =>
    ((await (await fetch(`${url}/journal`)).json()) as JournalJson).compact;
  await until("the work to end", async () => (await look())?.endedAt !== null);
  const compact = await look();
  assert.equal(compact?.id, 1);
  assert.match(compact?.error?.detail ?? "", /closed|the writer ended/);
});
