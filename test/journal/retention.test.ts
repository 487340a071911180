import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "../support/fake-clock.ts";
import { append, event, openJournal, texts } from "../support/test-journal.ts";
import { until } from "../support/until.ts";

/** Does not compress. */
const noise = (bytes: number): Uint8Array => crypto.getRandomValues(new Uint8Array(bytes));
const small = 1 << 20;

test("a burst at a small journal is never larger than the journal can hold", async (t) => {
  const { journal } = await openJournal(t, { maxBytes: small });
  let settled = 0;
  let sent = 0;
  for (; sent < 3000 && journal.hasRoom(); sent++) {
    journal.append("s", event(noise(1000)), () => settled++);
  }
  assert.ok(sent < 200, `${sent} of 1,000 bytes were taken at once`);
  await append(journal, "s", event("last"));
  assert.equal(settled, sent);
});

test("a unit that finds no room does not stop the cursor whose move makes room for it", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: small,
    onFull: "reject",
    groups: [{ group: "sink", streams: ["out"] }],
  });
  let committed = 0;
  const units = Array.from({ length: 40 }, () =>
    journal
      .commit(
        { group: "p", cursors: [], emits: [{ stream: "out", event: event(noise(40_000)) }] },
        "soon",
      )
      .then((outcome) => outcome === "committed" && committed++),
  );
  await until("the rest of the file to be used up", () => journal.status().usedBytes > small * 0.9);
  while (committed < units.length) {
    const from = journal.cursor("sink", "out").seq;
    const to = journal.status().streams.get("out")?.head ?? 0;
    const cursors = [{ stream: "out", from, to }];
    assert.equal(await journal.commit({ group: "sink", cursors }, "soon"), "committed");
  }
  await Promise.all(units);
  assert.equal(journal.status().streams.get("out")?.head, units.length, "each unit once");
});

test("close() does not wait for a unit that finds no room", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: small,
    onFull: "reject",
    groups: [{ group: "sink", streams: ["out"] }],
  });
  const outcomes = Array.from({ length: 40 }, () =>
    journal
      .commit(
        { group: "p", cursors: [], emits: [{ stream: "out", event: event(noise(40_000)) }] },
        "soon",
      )
      .catch(() => "rejected"),
  );
  await until("the rest of the file to be used up", () => journal.status().usedBytes > small * 0.9);
  await journal.close();
  const told = await Promise.all(outcomes);
  assert.ok(told.includes("committed") && told.includes("rejected"));
});

test("units alone make room for themselves under drop-oldest", async (t) => {
  const { journal } = await openJournal(t, {
    maxBytes: small,
    groups: [{ group: "sink", streams: ["out"] }],
  });
  for (let unit = 0; unit < 60; unit++) {
    const emits = [{ stream: "out", event: event(noise(40_000)) }];
    assert.equal(await journal.commit({ group: "p", cursors: [], emits }, "soon"), "committed");
  }
  const { first = 0, head } = journal.status().streams.get("out") ?? {};
  assert.equal(head, 60);
  assert.ok(first > 30, `${first}`);
});

test("drops are counted each and logged once a minute", async (t) => {
  const { journal, context } = await openJournal(t, {
    maxBytes: small,
    linger: 0,
    groups: [{ group: "g", streams: ["s"] }],
  });
  for (let index = 0; index < 1500; index++) await append(journal, "s", event(noise(700)));
  const { first = 0 } = journal.status().streams.get("s") ?? {};
  const dropped = context.sums.get('holdfast_journal_dropped_total{stream="s",reason="quota"}');
  assert.ok(first > 300);
  assert.equal(dropped, first - 1);
  assert.equal(context.lines.filter(({ level }) => level === "warn").length, 1);
});

test("maxAge takes what came before the first sync as well, once the boot's offset is known", async (t) => {
  const clock = new FakeClock();
  clock.clockQuality = "unsynced";
  clock.wall = 0;
  const { journal } = await openJournal(t, { clock, maxAge: 60_000 });
  const add = async (text: string): Promise<void> => {
    const done = append(journal, "s", event(text, { receivedAt: clock.wall }));
    journal.commitSoon();
    await done;
  };
  await add("before");
  clock.wall = Date.UTC(2026, 0, 1);
  clock.clockQuality = "synced";
  await add("after");
  assert.deepEqual(await texts(journal, "s"), ["before", "after"], "both are young");
  await until("both to be trimmed", () => {
    clock.advance(10_000);
    return journal.status().streams.get("s")?.first === 3;
  });
});
