import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import type { NewDeadLetter, PacketIdentifier } from "../../src/journal/journal.ts";
import { lettersMax } from "../../src/journal/letters.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { tempDir } from "../support/temp-dir.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

const reader = [{ group: "g", streams: ["s"] }];

function letter(stream: string, payload: string): NewDeadLetter {
  return {
    ...event(payload),
    stream,
    seq: null,
    origin: "source",
    originName: "greenhouse",
    code: "EVENT_INVALID",
    reason: "humidity: found 300",
    attempts: 1,
    firstFailedAt: 1,
    lastFailedAt: 2,
  };
}

test("append() gives dense seq from 1 in each stream and survives reopening", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder });
  await Promise.all([
    append(first.journal, "s", event("a")),
    append(first.journal, "u", event("x")),
    append(first.journal, "s", event("b")),
  ]);
  const epoch = first.journal.identity().epoch;
  await first.journal.close();
  const { journal } = await openJournal(t, { folder });
  await append(journal, "s", event("c"));
  assert.deepEqual(await texts(journal, "s"), ["a", "b", "c"]);
  assert.deepEqual(await texts(journal, "s", 2), ["c"]);
  assert.deepEqual(await texts(journal, "u"), ["x"]);
  const { events } = await journal.read("s", 0, 10, 1000);
  assert.deepEqual(
    events.map(({ seq }) => seq),
    [1, 2, 3],
  );
  assert.equal(journal.identity().epoch, epoch);
  assert.ok(events.every((one) => one.epoch === epoch));
});

test("append() groups what waits into few commits and settles in the order of the calls", async (t) => {
  const { journal, context } = await openJournal(t);
  const order: number[] = [];
  await new Promise<void>((resolve) => {
    for (let n = 0; n < 5000; n++) {
      const settled = (): void => {
        if (order.push(n) === 5000) resolve();
      };
      if (n % 100 === 7) journal.appendDeadLetter(letter("s", `${n}`), settled);
      else journal.append("s", event(`${n}`), settled);
    }
  });
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
  const commits = context.sums.get("holdfast_journal_commits_total{}") ?? 0;
  assert.ok(commits >= 1 && commits <= 10, `${commits} commits for 5,000 events`);
});

test("append() waits its stream's linger at the most, and commitSoon() ends the wait", async (t) => {
  const clock = new FakeClock();
  const streams = new Map([["alarms", { lingerMs: 20 }]]);
  const { journal } = await openJournal(t, { clock, linger: 1000, streams });
  let settled = 0;
  journal.append("s", event("slow"), () => settled++);
  clock.advance(900);
  journal.append("alarms", event("quick"), () => settled++);
  clock.advance(19);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(settled, 0);
  clock.advance(1);
  await until("the alarm's linger takes both", () => settled === 2);
  journal.append("s", event("window full"), () => settled++);
  journal.commitSoon();
  await until("commitSoon() to commit", () => settled === 3);
});

test("hasRoom() ends at 8,192 events or 8 MiB and onRoom() tells of its return", async (t) => {
  const { journal } = await openJournal(t, { linger: 1000 });
  let returned = 0;
  journal.onRoom(() => returned++);
  let count = 0;
  while (journal.hasRoom()) journal.append("s", event(`${count++}`), () => undefined);
  // One full turn is on its way, the next waits at its bound.
  assert.ok(count >= 8192 && count <= 8192 + 1024, `${count}`);
  await until("room to return", () => returned === 1);
  assert.ok(journal.hasRoom());
  let bytes = 0;
  while (journal.hasRoom()) {
    journal.append("s", event(new Uint8Array(1 << 20)), () => undefined);
    bytes += 1 << 20;
  }
  assert.ok(bytes >= 8 << 20 && bytes <= 10 << 20, `${bytes}`);
});

test("commit() makes everything of a unit durable, and nothing of one whose cursors have moved", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder, groups: reader });
  await append(first.journal, "s", event("a"));
  const { events } = await first.journal.read("s", 0, 10, 1000);
  const source = events[0];
  assert.ok(source !== undefined);
  const row = { event: source, attempts: 2, dueAt: 5, firstFailedAt: 4, error: "boom" };
  const unit = {
    group: "g",
    cursors: [{ stream: "s", from: 0, to: 1, mark: "here" }],
    emits: [{ stream: "out", event: event("derived") }],
    state: [{ space: "p", key: "k", value: Buffer.from("1") }],
    retries: { put: [row], remove: [] },
    deadLetters: [letter("s", "bad")],
  };
  assert.equal(await first.journal.commit(unit, "soon"), "committed");
  assert.equal(await first.journal.commit(unit, "soon"), "refused");
  await first.journal.close();
  const { journal } = await openJournal(t, { folder, groups: reader });
  assert.deepEqual(journal.cursor("g", "s"), { seq: 1, mark: "here" });
  assert.deepEqual(await texts(journal, "out"), ["derived"]);
  assert.deepEqual(Buffer.from((await journal.readState("p", "k")) ?? []).toString(), "1");
  const rows = await journal.readRetries("g");
  assert.deepEqual(
    rows.map(({ event: { seq, payload }, ...rest }) => ({
      ...rest,
      seq,
      text: Buffer.from(payload).toString(),
    })),
    [{ attempts: 2, dueAt: 5, firstFailedAt: 4, error: "boom", seq: 1, text: "a" }],
  );
  const [dead] = await journal.readDeadLetters("s", 10);
  assert.equal(dead?.reason, "humidity: found 300");
  assert.equal(journal.status().streams.get("s")?.deadLetters, 1);
  const undo = { group: "g", cursors: [], retries: { put: [], remove: [{ stream: "s", seq: 1 }] } };
  await journal.commit({ ...undo, state: [{ space: "p", key: "k", value: null }] }, "soon");
  assert.equal(await journal.readState("p", "k"), null);
  assert.deepEqual(await journal.readRetries("g"), []);
  assert.equal(await journal.purgeDeadLetters("s"), 1);
});

test("commit() of a unit that SQLite refuses leaves its neighbours alone", async (t) => {
  const { journal } = await openJournal(t, { groups: reader, linger: 1000 });
  const bad = { space: "p", key: "k", value: {} as unknown as Uint8Array };
  const [a, b, c] = await Promise.allSettled([
    journal.commit(
      { group: "g", cursors: [], emits: [{ stream: "out", event: event("1") }] },
      "linger",
    ),
    journal.commit(
      { group: "g", cursors: [], emits: [{ stream: "out", event: event("2") }], state: [bad] },
      "linger",
    ),
    journal.commit(
      { group: "g", cursors: [], emits: [{ stream: "out", event: event("3") }] },
      "soon",
    ),
  ]);
  assert.deepEqual([a?.status, b?.status, c?.status], ["fulfilled", "rejected", "fulfilled"]);
  assert.deepEqual(await texts(journal, "out"), ["1", "3"]);
});

test("commit() takes an idle cursor move along with the next commit, or after 5 s", async (t) => {
  const clock = new FakeClock();
  const { journal, context } = await openJournal(t, { clock, groups: reader });
  let done = 0;
  const move = async (from: number): Promise<void> => {
    await journal.commit({ group: "g", cursors: [{ stream: "s", from, to: from + 1 }] }, "idle");
    done++;
  };
  const first = move(0);
  journal.append("s", event("a"), () => undefined);
  clock.advance(5);
  await first;
  assert.equal(context.sums.get("holdfast_journal_commits_total{}"), 1);
  const second = move(1);
  clock.advance(4990);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(done, 1);
  clock.advance(10);
  await second;
});

test("packet identifiers are durable with their event until they are released or forgotten", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder });
  const packet = (id: number): PacketIdentifier => ({ source: "m", id, digest: 7 });
  await new Promise<void>((resolve) => {
    first.journal.append("s", event("a"), () => undefined, packet(1));
    first.journal.append("s", event("b"), () => undefined, packet(2));
    first.journal.appendDeadLetter(letter("s", "c"), resolve, packet(3));
  });
  await new Promise<void>((resolve) => first.journal.releasePacketId(packet(2), resolve));
  await first.journal.close();
  const { journal } = await openJournal(t, { folder });
  assert.deepEqual(await journal.readPacketIds("m"), [
    { source: "m", id: 1, digest: 7 },
    { source: "m", id: 3, digest: 7 },
  ]);
  await journal.forgetPacketIds("m");
  assert.deepEqual(await journal.readPacketIds("m"), []);
});

for (const onFull of ["drop-oldest", "reject"] as const) {
  test(`a full journal under ${onFull} goes on draining and heals`, async (t) => {
    const { journal, context } = await openJournal(t, {
      groups: [{ group: "g", streams: ["s", "_gaps"] }],
      maxBytes: 1 << 20,
      onFull,
    });
    let settled = 0;
    let sent = 0;
    const fill = (): void => {
      while (sent < 3000 && journal.hasRoom()) {
        sent++;
        // Noise does not compress: 3,000 KiB into 1 MiB.
        const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(1024)));
        journal.append("s", event(noise), () => settled++);
        if (sent % 50 === 0) return;
      }
    };
    const timer = setInterval(fill, 2);
    t.after(() => clearInterval(timer));
    if (onFull === "drop-oldest") {
      await until("all to be taken", () => settled === 3000);
      const { first = 0, head = 0 } = journal.status().streams.get("s") ?? {};
      assert.equal(head, 3000);
      assert.ok(first > 1500 && first < 2900, `${first}`);
      const dropped = context.sums.get('holdfast_journal_dropped_total{stream="s",reason="quota"}');
      assert.equal(dropped, first - 1);
      return;
    }
    await until("the journal to be full", () => journal.status().full);
    assert.equal(context.now().status, "degraded");
    const before = settled;
    assert.ok(before > 500 && before < 1024, `${before}`);
    assert.ok(!journal.hasRoom());
    // What is there can be read, and passing it makes room for the rest: nothing was lost.
    let seen = 0;
    await until("everything to be drained", async () => {
      const { events } = await journal.read("s", seen, 500, 1 << 20);
      const to = events.at(-1)?.seq ?? seen;
      if (to === seen) return seen === 3000;
      assert.equal(events[0]?.seq, seen + 1);
      await journal.commit({ group: "g", cursors: [{ stream: "s", from: seen, to }] }, "soon");
      seen = to;
      return false;
    });
    await until("all to be settled", () => settled === 3000);
    assert.ok(!journal.status().full);
    assert.equal(context.now().status, "ok");
    assert.equal(
      [...context.sums.keys()].some((key) => key.includes("dropped")),
      false,
    );
  });
}

test("drops are told in _gaps as merged ranges", async (t) => {
  const clock = new FakeClock();
  const groups = [{ group: "g", streams: ["s"] }];
  const streams = new Map([["s", { maxBytes: 5000 }]]);
  const { journal } = await openJournal(t, { clock, groups, streams });
  for (let n = 0; n < 20; n++) {
    const done = append(journal, "s", event(crypto.getRandomValues(new Uint8Array(1000))));
    clock.advance(1001);
    await done;
  }
  clock.advance(60_000);
  await until("the gap to be sealed", () => (journal.status().streams.get("_gaps")?.head ?? 0) > 0);
  const told = (await texts(journal, "_gaps")).map(
    (text) => JSON.parse(text) as Record<string, unknown>,
  );
  const { first = 0 } = journal.status().streams.get("s") ?? {};
  assert.ok(first > 10);
  const last = told.at(-1);
  assert.equal(last?.["to"], first - 1);
  assert.equal(told[0]?.["from"], 1);
  assert.ok(told.length <= 2, JSON.stringify(told));
  assert.deepEqual([last?.["stream"], last?.["reason"], last?.["kept"]], ["s", "stream-bytes", 0]);
});

test("maxAge trims what every group has passed, never what one has not, and counts only synced time", async (t) => {
  const clock = new FakeClock();
  const { journal, context } = await openJournal(t, { clock, groups: reader, maxAge: 60_000 });
  const one = async (text: string): Promise<void> => {
    const done = append(journal, "s", event(text));
    clock.advance(5);
    await done;
  };
  await one("a");
  await one("b");
  await journal.commit({ group: "g", cursors: [{ stream: "s", from: 0, to: 1 }] }, "soon");
  clock.clockQuality = "unsynced";
  clock.advance(120_000);
  await one("c");
  assert.equal(journal.status().streams.get("s")?.first, 1);
  clock.clockQuality = "synced";
  clock.advance(10_000);
  await one("d");
  assert.equal(journal.status().streams.get("s")?.first, 2, "the second was not passed");
  assert.equal(
    [...context.sums.keys()].some((key) => key.includes("dropped")),
    false,
  );
});

test("a stream that was trimmed empty goes on counting after reopening", async (t) => {
  const folder = tempDir(t);
  const clock = new FakeClock();
  const first = await openJournal(t, { folder, clock, maxAge: 1000 });
  const done = append(first.journal, "s", event("a"));
  clock.advance(5);
  await done;
  clock.advance(10_000);
  await until("the stream to be empty", () => first.journal.status().streams.get("s")?.first === 2);
  await first.journal.close();
  const { journal } = await openJournal(t, { folder });
  await append(journal, "s", event("b"));
  assert.equal((await journal.read("s", 0, 10, 1000)).events[0]?.seq, 2);
});

test("dead letters of a stream are bounded, and the expiry is counted", async (t) => {
  const { journal, context } = await openJournal(t);
  let settled = 0;
  for (let n = 0; n < lettersMax + 5; n++)
    journal.appendDeadLetter(letter("s", `${n}`), () => settled++);
  await until("all to be settled", () => settled === lettersMax + 5);
  assert.equal(journal.status().streams.get("s")?.deadLetters, lettersMax);
  const [oldest] = await journal.readDeadLetters("s", 1);
  assert.equal(Buffer.from(oldest?.payload ?? []).toString(), "5");
  assert.equal(
    context.sums.get('holdfast_journal_dropped_total{stream="s",reason="dead-letter-bound"}'),
    5,
  );
});

test("dead letters expire by age, counted, but for those of a clock that was not set", async (t) => {
  const clock = new FakeClock();
  const { journal, context } = await openJournal(t, { clock, maxAge: 60_000 });
  const put = async (name: string, lastFailedAt: number): Promise<void> => {
    const settled = new Promise<void>((resolve) => {
      journal.appendDeadLetter({ ...letter("s", name), lastFailedAt }, resolve);
    });
    clock.advance(10_000);
    await settled;
  };
  const count = (): number => journal.status().streams.get("s")?.deadLetters ?? 0;
  await put("old", clock.wallMs());
  clock.advance(70_000);
  await until("the old one to expire", async () => {
    clock.advance(10_000);
    return count() === 0;
  });
  const name = 'holdfast_journal_dropped_total{stream="s",reason="dead-letter-age"}';
  assert.equal(context.sums.get(name), 1);
  await put("in 1970", 5_000);
  for (let turns = 0; turns < 5; turns++) {
    clock.advance(70_000);
    await append(journal, "other", event("x"));
  }
  assert.equal(count(), 1);
});

test("open() begins a new epoch on another board and keeps counting", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder, board: "A" });
  await append(first.journal, "s", event("a"));
  const before = first.journal.identity();
  await first.journal.close();
  const { journal } = await openJournal(t, { folder, board: "B" });
  await append(journal, "s", event("b"));
  const after = journal.identity();
  assert.notEqual(after.epoch, before.epoch);
  assert.equal(after.parent, before.epoch);
  assert.equal(after.device, "board-1");
  const { events } = await journal.read("s", 0, 10, 1000);
  assert.deepEqual(
    events.map(({ seq, epoch }) => [seq, epoch]),
    [
      [1, before.epoch],
      [2, after.epoch],
    ],
  );
});

test("open() begins a new epoch after an unclean reboot only under durability crash", async (t) => {
  for (const durability of ["crash", "power-loss"] as const) {
    const folder = tempDir(t);
    const first = await openJournal(t, { folder, durability });
    const { epoch } = first.journal.identity();
    await first.journal.close();
    // What a power cut leaves: still marked as open, in a boot that is gone, and a log.
    const db = new Database(join(folder, "journal.db"));
    db.exec("UPDATE meta SET value = 'an-earlier-boot' WHERE name = 'open-in-boot'");
    db.close();
    writeFileSync(join(folder, "journal.db-wal"), Buffer.alloc(100));
    const { journal } = await openJournal(t, { folder, durability });
    assert.equal(journal.identity().epoch === epoch, durability === "power-loss", durability);
  }
});

test("open() leaves a stranger's file and one from the future as they are", async (t) => {
  const folder = tempDir(t);
  const path = join(folder, "journal.db");
  writeFileSync(path, "x".repeat(5000));
  await assert.rejects(openJournal(t, { folder }), { code: "JOURNAL_FOREIGN", kind: "config" });
  assert.equal(readFileSync(path, "utf8"), "x".repeat(5000));
  const other = tempDir(t);
  const first = await openJournal(t, { folder: other });
  await first.journal.close();
  const db = new Database(join(other, "journal.db"));
  const version = db.pragma("user_version", { simple: true }) as number;
  db.pragma("user_version = 99");
  db.close();
  const bytes = readFileSync(join(other, "journal.db"));
  await assert.rejects(openJournal(t, { folder: other }), /from version 99, this program knows \d/);
  const backup = join(other, `journal.db.backup-v${version}`);
  writeFileSync(backup, "");
  await assert.rejects(openJournal(t, { folder: other }), new RegExp(`or go back to ${backup}`));
  assert.deepEqual(readFileSync(join(other, "journal.db")), bytes);
});

test("open() refuses a journal that is open elsewhere", async (t) => {
  const { folder } = await openJournal(t);
  await assert.rejects(openJournal(t, { folder }), { code: "JOURNAL_LOCKED" });
});

test("read() skips a damaged chunk, tells its range, and gives what lies around it", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder });
  for (const text of ["a", "b", "c"]) await append(first.journal, "s", event(text));
  await first.journal.close();
  const db = new Database(join(folder, "journal.db"));
  db.exec("UPDATE chunk SET body = zeroblob(length(body)) WHERE last = 2");
  db.close();
  const { journal, context } = await openJournal(t, { folder });
  assert.deepEqual(await texts(journal, "s"), ["a", "c"]);
  assert.equal(context.now().status, "degraded");
  assert.match(context.now().detail ?? "", /events 2 to 2 are damaged/);
});

test("close() commits what waits and may be called twice", async (t) => {
  const folder = tempDir(t);
  const first = await openJournal(t, { folder, linger: 60_000 });
  let settled = 0;
  first.journal.append("s", event("a"), () => settled++);
  await first.journal.close();
  await first.journal.close();
  assert.equal(settled, 1);
  const { journal } = await openJournal(t, { folder });
  assert.deepEqual(await texts(journal, "s"), ["a"]);
});
