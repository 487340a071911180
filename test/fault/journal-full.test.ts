/** A disk that others have filled (ENOSPC): cursors move, trims work, nothing is lost, and it heals by itself. */
import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Journal } from "../../src/journal/journal.ts";
import type { RecordingContext } from "../support/recording-context.ts";
import { diskKinds, smallDisk, type DiskKind, type SmallDisk } from "../support/small-disk.ts";
import { append, event, openJournal, texts, type JournalOptions } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

/** Of 64 MiB the reserve is an eighth; of ext4 there are 57 to share. */
const diskBytes = 64 << 20;
const noiseBytes = 20_000;
const noise = (): Uint8Array => crypto.getRandomValues(new Uint8Array(noiseBytes));
const groups = [{ group: "g", streams: ["s"] }];

async function opened(
  t: TestContext,
  kind: DiskKind,
  options: JournalOptions = {},
): Promise<{ disk: SmallDisk; journal: Journal; context: RecordingContext }> {
  const disk = smallDisk(t, diskBytes, kind);
  const { folder } = disk;
  return { disk, ...(await openJournal(t, { folder, groups, linger: 0, ...options })) };
}

/** 60 events, 1.2 MB: they lie in the WAL and not in the file yet, which is the hardest moment. */
async function load(journal: Journal): Promise<void> {
  for (let n = 0; n < 60; n++) await append(journal, "s", event(noise()));
}

function move(journal: Journal, to: number): Promise<string> {
  const from = journal.cursor("g", "s").seq;
  return journal.commit({ group: "g", cursors: [{ stream: "s", from, to }] }, "soon");
}

const trouble = (context: RecordingContext): unknown => context.readFigures()["trouble"];
const reserveOf = (disk: SmallDisk): number =>
  statSync(join(disk.folder, "journal.db-reserve"), { throwIfNoEntry: false })?.size ?? 0;

for (const kind of diskKinds) {
  test(`a full ${kind} withholds what it is given while cursors move, and takes it where a trim made room`, async (t) => {
    const { disk, journal, context } = await opened(t, kind, { onFull: "reject" });
    await load(journal);
    assert.ok(reserveOf(disk) >= 6 << 20, "The reserve was not made");
    disk.fill();
    let settled = 0;
    for (let n = 0; n < 12; n++) journal.append("s", event(noise()), () => settled++);
    await until("the full disk to be told", () => trouble(context) === "disk-full");
    const { status, detail } = context.now();
    assert.equal(status, "degraded");
    assert.match(detail ?? "", /^The disk under \S+ is full: acknowledgements are withheld/);
    assert.deepEqual([journal.status().full, journal.status().failure], [true, null]);
    await delay(1200);
    assert.deepEqual([settled, journal.hasRoom()], [0, false]);

    assert.equal(await move(journal, 30), "committed");
    assert.equal(journal.cursor("g", "s").seq, 30);
    await until("what waits to be taken, in the place of what was passed", () => settled === 12);
    assert.equal(trouble(context), "disk-full");
    assert.ok((await texts(journal, "s", 30)).length === 42);
    disk.empty();
    await until("it to heal", () => context.now().status === "ok", 10_000);
    assert.equal(trouble(context), null);
    await until("the reserve to be whole", () => reserveOf(disk) >= 6 << 20);
    await load(journal);
    await journal.close();
    const after = await openJournal(t, { folder: disk.folder, groups });
    assert.deepEqual(
      [after.journal.status().streams.get("s")?.head, after.journal.cursor("g", "s").seq],
      [132, 30],
    );
    assert.equal((await texts(after.journal, "s", 30)).length, 102, "each once");
  });

  test(`a full ${kind} under drop-oldest goes on taking events, drops the oldest, counts them, and heals`, async (t) => {
    const { disk, journal, context } = await opened(t, kind, { onFull: "drop-oldest" });
    await load(journal);
    disk.fill();
    for (let n = 0; n < 200; n++) await append(journal, "s", event(noise()));
    assert.equal(trouble(context), "disk-full");
    const { first, head } = journal.status().streams.get("s") ?? { first: 0, head: 0 };
    assert.equal(head, 260);
    const dropped = context.sums.get('holdfast_journal_dropped_total{stream="s",reason="quota"}');
    assert.equal(dropped, first - 1);
    assert.ok(first > 150 && first < 230, String(first));
    assert.equal((await texts(journal, "s", first - 1)).length, head - first + 1);
    assert.equal(await move(journal, 255), "committed");
    assert.ok(reserveOf(disk) > 0, "Something is left for cursors");
    const inFile = statSync(join(disk.folder, "journal.db")).size;
    disk.empty();
    // What was dropped degrades it for some minutes more (losses.ts).
    await until("it to heal", () => trouble(context) === null, 10_000);
    await load(journal);
    await load(journal);
    await journal.close();
    assert.ok(statSync(join(disk.folder, "journal.db")).size > inFile, "It grows again");
  });

  test(`a journal opens, moves its cursors and closes on a full ${kind}`, async (t) => {
    const { disk, journal } = await opened(t, kind, { onFull: "reject" });
    await load(journal);
    await journal.close();
    disk.fill();
    const again = await openJournal(t, { folder: disk.folder, groups, linger: 0 });
    assert.equal(await move(again.journal, 60), "committed");
    assert.equal(trouble(again.context), "disk-full");
    await append(again.journal, "s", event("new"));
    await again.journal.close();
    const third = await openJournal(t, { folder: disk.folder, groups, linger: 0 });
    assert.equal(third.journal.cursor("g", "s").seq, 60);
    assert.deepEqual(await texts(third.journal, "s", 60), ["new"]);
  });

  test(`a new journal on a full ${kind} is waited for, and opens when there is room`, async (t) => {
    const disk = smallDisk(t, diskBytes, kind);
    disk.fill();
    const folder = join(disk.folder, "state");
    let context: RecordingContext | undefined;
    const opening = openJournal(t, { folder, groups, onContext: (made) => (context = made) });
    await until("it to be told", () => context?.now().status === "degraded");
    assert.match(context?.now().detail ?? "", /full: the journal cannot be opened/);
    assert.equal(existsSync(join(folder, "journal.db-wal")), false);
    disk.empty();
    const { journal } = await opening;
    await append(journal, "s", event("first"));
    assert.equal(context?.now().status, "ok");
    assert.deepEqual(await texts(journal, "s"), ["first"]);
  });

  test(`${kind} that fills and empties again and again loses nothing and takes each once`, async (t) => {
    const { disk, journal, context } = await opened(t, kind, { onFull: "reject" });
    let settled = 0;
    let given = 0;
    for (let round = 0; round < 8; round++) {
      // At another place of the WAL and of a turn each time.
      for (let n = 0; n < 17 + round * 13; n++) {
        given++;
        journal.append("s", event(Buffer.concat([Buffer.from(`${given} `), noise()])), () => {
          settled++;
        });
        if (n % 7 === round) await delay(2);
        if (n === 9 + round * 5) disk.fill();
      }
      const to = Math.min(settled, journal.status().streams.get("s")?.head ?? 0);
      assert.equal(await move(journal, Math.max(to, journal.cursor("g", "s").seq)), "committed");
      disk.empty();
      await until("all to be taken", () => settled === given, 15_000);
    }
    // What was dropped degrades it for some minutes more (losses.ts).
    await until("it to heal", () => trouble(context) === null, 10_000);
    const from = (journal.status().streams.get("s")?.first ?? 0) - 1;
    await journal.close();
    const after = await openJournal(t, { folder: disk.folder, groups });
    const found = (await texts(after.journal, "s", from)).map((text) => parseInt(text, 10));
    const expected = Array.from({ length: given - from }, (_, index) => from + index + 1);
    assert.deepEqual(found, expected);
  });
}

test("without a reserve the cursor stands still on a full disk: the proof can fail", async (t) => {
  const { disk, journal } = await opened(t, "tmpfs", { onFull: "reject", fault: "no-reserve" });
  await load(journal);
  disk.fill();
  // The WAL's last block may have room for the first moves.
  let waiting: Promise<string> | undefined;
  for (let to = 1; to <= 30 && waiting === undefined; to++) {
    const moved = move(journal, to);
    const outcome = await Promise.race([moved, delay(1500).then(() => "waits")]);
    if (outcome === "waits") waiting = moved;
  }
  assert.ok(waiting !== undefined, "All moves were committed");
  disk.empty();
  assert.equal(await waiting, "committed");
});
