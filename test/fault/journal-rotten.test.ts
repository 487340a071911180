/** A card that has lost a sector under the journal: reads there fail for good, writes do not. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { everything } from "../support/damaged-journal.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { rottenDisk } from "../support/rotten-disk.ts";
import { append, event, openJournal } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const groups = [{ group: "g", streams: ["s"] }];

test("a file that cannot be read for a moment is whole, and one that cannot be read for good is not", async (t) => {
  requireProgram("strace", "strace");
  const { journal, path } = await openJournal(t, { groups, linger: 0 });
  for (let n = 0; n < 40; n++) await append(journal, "s", event(randomBytes(5_000)));
  await journal.close();
  const check = (refused: string): ReturnType<typeof spawnSync> => {
    const inject = `inject=pread64:error=EIO:when=${refused}`;
    const strace = [
      "-f",
      "-qq",
      "-P",
      path,
      "-e",
      "trace=pread64",
      "-e",
      inject,
      "-o",
      "/dev/null",
    ];
    const command = [process.execPath, "src/main.ts", "journal", "check", path];
    return spawnSync("strace", [...strace, ...command], { encoding: "utf8" });
  };
  const moment = check("30..33");
  assert.equal(moment.status, 0, String(moment.stdout));
  assert.match(String(moment.stdout), /The journal is whole/);
  assert.equal(check("30+").status, 1);
});

test("a place that cannot be read any more costs its chunk and no other, which is told, while intake goes on", async (t) => {
  const disk = rottenDisk(t, 160 << 20);
  const { folder } = disk;
  const payloads = Array.from({ length: 40 }, () => randomBytes(20_000));
  const first = await openJournal(t, { folder, groups, linger: 0 });
  for (const payload of payloads) await append(first.journal, "s", event(payload));
  await first.journal.close();
  disk.rot(payloads[24]?.subarray(9_000, 9_064) ?? Buffer.alloc(0));

  const { journal, context } = await openJournal(t, { folder, groups, linger: 0 });
  await assert.rejects(journal.read("s", 24, 1, 1), { code: "JOURNAL_DISK" });
  await append(journal, "s", event("meanwhile"));
  let found: { seq: number }[] = [];
  await until(
    "the rest to be salvaged",
    async () => {
      found = await everything(journal, "s").catch(() => []);
      return found.length > 0;
    },
    60_000,
  );
  const wanted = Array.from({ length: 41 }, (_, index) => index + 1).filter((seq) => seq !== 25);
  assert.deepEqual(
    found.map(({ seq }) => seq),
    wanted,
  );
  const lost = context.sums.get('holdfast_journal_lost_total{stream="s"}');
  assert.equal(lost, 1);
  assert.ok(readdirSync(folder).some((name) => name.includes(".damaged-")));
  await append(journal, "s", event("after"));
  await journal.close();
});
