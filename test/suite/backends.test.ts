/** The contract of stream/backend.ts, on every way to a server and in memory. */
import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import type { Member, Membership, Settlement, StreamBackend } from "../../src/stream/backend.ts";
import { compareIds } from "../../src/stream/entry-id.ts";
import { backendKinds, startServers, type BackendServers } from "../support/backend-kinds.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const folder = tempDirAll(after);
let servers: BackendServers;
before(async () => {
  servers = await startServers(folder);
});
after(() => servers.stop());

const never = new AbortController().signal;
const nothing: Settlement = { done: [], failed: [], moved: [] };
const textOf = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString();
const valuesOf = (batch: { deliveries: readonly { fields: readonly Uint8Array[] }[] }): string[] =>
  batch.deliveries.map(({ fields }) => textOf(fields[1]));
const idsOf = (batch: { deliveries: readonly { id: string }[] }): string[] =>
  batch.deliveries.map(({ id }) => id);
const numbered = (count: number): string[][] =>
  Array.from({ length: count }, (_, n) => ["n", `${n}`, "device", `d${n % 7}`]);
let count = 0;

for (const [kind, make] of Object.entries(backendKinds)) {
  /** An opened backend of the test's own and a topic that nobody else uses. */
  const opened = async (
    t: TestContext,
  ): Promise<{
    backend: StreamBackend;
    topic: string;
    join: (over?: Partial<Membership>) => Promise<Member>;
  }> => {
    const backend = make(servers);
    t.after(() => backend.close());
    await backend.open();
    const topic = `{topic-${++count}}`;
    const join = (over: Partial<Membership> = {}): Promise<Member> =>
      backend.join({ topic, group: "g", from: "start", leaseMs: 5_000, ...over });
    return { backend, topic, join };
  };

  test(`append() stores a repeated producer's entries once, and what is new behind them: ${kind}`, async (t) => {
    const { backend, topic } = await opened(t);
    const first = await backend.append(topic, numbered(5), { producer: { id: "p", first: 1 } });
    assert.equal(new Set(first).size, 5);
    assert.ok(!first.includes(null));
    const again = await backend.append(topic, numbered(7), { producer: { id: "p", first: 1 } });
    assert.deepEqual(again.slice(0, 5), [null, null, null, null, null]);
    assert.equal(await backend.length(topic), 7);
    await backend.append(topic, numbered(2), { producer: { id: "other", first: 1 } });
    const sparse = { id: "p", first: 9, ns: [9, 12] };
    await backend.append(topic, numbered(2), { producer: sparse });
    assert.deepEqual(await backend.append(topic, numbered(2), { producer: sparse }), [null, null]);
    assert.equal(await backend.length(topic), 11);
    assert.deepEqual(await backend.append(topic, []), []);
  });

  test(`append() gives IDs in the order of the entries, a burst within a millisecond too: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const ids = (await backend.append(topic, numbered(2_000))) as string[];
    assert.ok(
      ids.some((id) => Number(id.split("-")[1]) > 10),
      "no burst within a millisecond",
    );
    for (let at = 1; at < ids.length; at += 1) {
      assert.ok(compareIds(ids[at - 1] as string, ids[at] as string) < 0);
    }
    const member = await join();
    const seen: string[] = [];
    while (seen.length < 2_000) seen.push(...idsOf(await member.read(300, 1_000, never)));
    assert.deepEqual(seen, ids);
  });

  test(`join() begins a new group at the first entry, behind the last, or at a time: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    await backend.append(topic, numbered(2));
    await new Promise((resolve) => setTimeout(resolve, 20));
    const [third] = await backend.append(topic, [["n", "2"]]);
    const now = await join({ group: "now", from: "now" });
    const time = await join({ group: "time", from: Number(third?.split("-")[0]) });
    const start = await join({ group: "start" });
    await backend.append(topic, [["n", "3"]]);
    assert.deepEqual(valuesOf(await now.read(10, 0, never)), ["3"]);
    assert.deepEqual(valuesOf(await time.read(10, 0, never)), ["2", "3"]);
    assert.deepEqual(valuesOf(await start.read(10, 0, never)), ["0", "1", "2", "3"]);
    assert.notEqual(now.incarnation, start.incarnation);
    const second = await join({ group: "start", from: "now" });
    assert.equal(second.incarnation, start.incarnation);
    assert.deepEqual(valuesOf(await second.read(10, 0, never)), []);
  });

  test(`read() waits for an entry, and takes nothing once it is aborted: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const member = await join();
    const waiting = member.read(10, 4_000, never);
    await backend.append(topic, [["n", "late"]]);
    let found = await waiting;
    if (found.deliveries.length === 0) found = await member.read(10, 4_000, never);
    assert.deepEqual(valuesOf(found), ["late"]);
    const ending = new AbortController();
    const aborted = member.read(10, 4_000, ending.signal);
    await new Promise((resolve) => setTimeout(resolve, 50));
    ending.abort();
    assert.deepEqual((await aborted).deliveries, []);
    await backend.append(topic, [["n", "behind"]]);
    assert.deepEqual((await member.read(10, 10, ending.signal)).deliveries, []);
    assert.deepEqual(valuesOf(await member.read(10, 1_000, never)), ["behind"]);
  });

  test(`recover() gives a member that comes back what it had, in order, page by page: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const first = await join({ consumer: "me" });
    await backend.append(topic, numbered(25));
    const had = idsOf(await first.read(25, 0, never));
    await first.settle({ ...nothing, done: [had[3] as string] });
    await first.leave();
    const again = await join({ consumer: "me" });
    const one = await again.recover("", 10);
    const two = await again.recover(one.deliveries.at(-1)?.id ?? "", 100);
    assert.deepEqual([...idsOf(one), ...idsOf(two)], had.toSpliced(3, 1));
    assert.ok(one.deliveries.every(({ deliveries }) => deliveries === 2));
    const other = await join({ consumer: "other" });
    assert.deepEqual((await other.recover("", 10)).deliveries, []);
  });

  test(`reclaim() takes what lies too long, and renew() keeps what is worked on: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const [slow, silent, heir] = [
      await join({ consumer: "slow" }),
      await join({ consumer: "silent" }),
      await join({ consumer: "heir" }),
    ];
    await backend.append(topic, numbered(4));
    const worked = idsOf(await slow.read(2, 0, never));
    const left = idsOf(await silent.read(2, 0, never));
    assert.deepEqual((await heir.reclaim(60_000, 10)).deliveries, []);
    for (let turn = 0; turn < 4; turn += 1) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      assert.deepEqual(await slow.renew(worked), []);
    }
    const taken = await heir.reclaim(200, 10);
    assert.deepEqual(idsOf(taken), left);
    assert.deepEqual(
      taken.deliveries.map(({ deliveries }) => deliveries),
      [2, 2],
    );
    assert.deepEqual(await silent.renew(left), left);
    assert.deepEqual((await slow.settle({ ...nothing, done: worked })).lost, []);
    const late = await silent.settle({
      ...nothing,
      failed: [{ id: left[0] as string, failures: 1 }],
      moved: [{ id: left[1] as string, topic: `${topic}-dlq`, fields: ["n", "9"] }],
    });
    assert.deepEqual([...late.lost].sort(compareIds), left);
    assert.equal(await backend.length(`${topic}-dlq`), 0);
  });

  test(`settle() ends, counts and moves in one step, and tells who comes second: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const member = await join({ consumer: "me" });
    await backend.append(topic, numbered(4));
    const [a, b, c, d] = idsOf(await member.read(4, 0, never)) as [string, string, string, string];
    const moved = [{ id: c, topic: `${topic}-dlq`, fields: ["n", "2", "_error", "x"] }];
    const settlement = { done: [a], failed: [{ id: b, failures: 3 }], moved };
    assert.deepEqual(await member.settle(settlement), { result: "settled", lost: [] });
    const second = await member.settle({ ...nothing, moved });
    assert.deepEqual(second.lost, [c]);
    assert.equal(await backend.length(`${topic}-dlq`), 1);
    const [letter] = await backend.range(`${topic}-dlq`, "-", 10);
    assert.deepEqual(letter?.fields.map(textOf), ["n", "2", "_error", "x"]);
    assert.deepEqual(await member.progress(10), { lastDelivered: d, pending: [b, d] });
    assert.equal(await member.progress(1), null);
    await member.leave();
    const again = await join({ consumer: "me" });
    const back = await again.recover("", 10);
    assert.deepEqual(
      back.deliveries.map(({ id, failures }) => [id, failures]),
      [
        [b, 3],
        [d, 0],
      ],
    );
    assert.deepEqual(await again.lag(), { waiting: 0, pending: 2 });
  });

  test(`rewind() has a group read again, and only it: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const [member, other] = [await join(), await join({ group: "other" })];
    const ids = (await backend.append(topic, numbered(12))) as string[];
    const read = idsOf(await member.read(20, 0, never));
    await member.settle({ ...nothing, done: read });
    await other.settle({ ...nothing, done: idsOf(await other.read(20, 0, never)) });
    assert.deepEqual(await member.lag(), { waiting: 0, pending: 0 });
    const before = other.incarnation;
    await backend.rewind(topic, "g", ids[9] as string, "another life");
    const again = await member.read(20, 100, never);
    assert.deepEqual([idsOf(again), again.incarnation], [ids.slice(9), "another life"]);
    assert.equal(other.incarnation, before);
    assert.deepEqual((await other.read(20, 0, never)).deliveries, []);
    await backend.rewind(topic, "g", "0-0", "a third");
    assert.deepEqual(idsOf(await member.read(20, 100, never)), ids);
  });

  test(`move(), remove(), range() and length() do what they say: ${kind}`, async (t) => {
    const { backend, topic } = await opened(t);
    const ids = (await backend.append(topic, numbered(5))) as [
      string,
      string,
      string,
      string,
      string,
    ];
    assert.equal(await backend.move(topic, ids[1], `${topic}-to`, ["n", "moved"]), true);
    assert.equal(await backend.move(topic, ids[1], `${topic}-to`, ["n", "moved"]), false);
    assert.equal(await backend.length(`${topic}-to`), 1);
    assert.equal(await backend.remove(topic, [ids[0], ids[1]]), 1);
    assert.equal(await backend.remove(topic, []), 0);
    const rest = await backend.range(topic, "-", 2);
    assert.deepEqual(
      rest.map(({ id }) => id),
      [ids[2], ids[3]],
    );
    const behind = await backend.range(topic, `(${ids[3]}`, 10);
    assert.deepEqual(
      behind.map(({ id }) => id),
      [ids[4]],
    );
    assert.equal(await backend.length(topic), 3);
    assert.deepEqual(await backend.range(`${topic}-none`, "-", 10), []);
  });

  test(`append() with a bound drops what every group has dealt with, and never anything else: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const [fast, slow] = [await join({ group: "fast" }), await join({ group: "slow" })];
    const bound = { maxLength: 100 };
    const ids = (await backend.append(topic, numbered(100), bound)) as string[];
    await fast.settle({ ...nothing, done: idsOf(await fast.read(100, 0, never)) });
    await assert.rejects(backend.append(topic, numbered(1), bound), { code: "STREAM_FULL" });
    const read = idsOf(await slow.read(60, 0, never));
    // The 12th stays pending: whatever lies behind it was handed out and dealt with.
    await slow.settle({ ...nothing, done: read.filter((_id, index) => index !== 11) });
    await backend.append(topic, numbered(10), bound);
    await assert.rejects(backend.append(topic, numbered(10), bound), { code: "STREAM_FULL" });
    const kept = await backend.range(topic, "-", 1_000);
    assert.ok(
      kept.some(({ id }) => id === ids[11]),
      "what is pending was trimmed",
    );
    assert.ok(kept.length <= 100);
    await slow.settle({ ...nothing, done: [ids[11] as string] });
    await backend.append(topic, numbered(40), bound);
    assert.ok((await backend.length(topic)) <= 100);
    const rest = await slow.read(1_000, 0, never);
    assert.deepEqual(idsOf(rest).slice(0, 40), ids.slice(60));
    assert.equal(rest.deliveries.length, 90);
  });

  test(`append() keeps values as they are, whatever they hold: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const odd: Record<string, (string | Uint8Array)[]> = {
      empty: ["", ""],
      "a NUL byte": ["n\0", "\0"],
      "no UTF-8": ["n", Buffer.from([0xff, 0xfe, 0x00, 0xc3])],
      unicode: ["naïve ✓", "\u{1f321}\ufeff"],
      "a megabyte": ["n", "x".repeat(1_000_000)],
      "a thousand fields": Array.from({ length: 2_000 }, (_, n) => `${n}`),
      "a repeated name": ["n", "1", "n", "2"],
    };
    for (const fields of Object.values(odd)) await backend.append(topic, [fields]);
    const member = await join();
    const read = await member.read(100, 0, never);
    Object.entries(odd).forEach(([name, fields], index) => {
      const found = read.deliveries[index]?.fields.map((value) =>
        Buffer.from(value).toString("hex"),
      );
      assert.deepEqual(
        found,
        fields.map((value) => Buffer.from(value).toString("hex")),
        name,
      );
    });
    const dlq = `${topic}-dlq`;
    const moved = read.deliveries.map(({ id, fields }) => ({
      id,
      topic: dlq,
      fields: [...fields, ...Array.from({ length: 16 }, (_, n) => `_${n}`)],
    }));
    assert.deepEqual((await member.settle({ ...nothing, moved })).lost, []);
    assert.equal(await backend.length(dlq), Object.keys(odd).length);
    if (kind === "memory") return;
    const many = Array.from({ length: 2_002 }, (_, n) => `${n}`);
    await assert.rejects(backend.append(topic, [many]), { code: "EVENT_TOO_LARGE" });
  });

  test(`a topic may be named as one likes: ${kind}`, async (t) => {
    const { backend, join } = await opened(t);
    for (const name of ["with spaces", "a:b", "größe/№1", "}{", "{}{x}", "\0", "-", "{a}{b}"]) {
      const tag = `{names-${++count}}`;
      const topic = kind === "a cluster" ? `${tag}${name}` : `${name}${tag}`;
      const member = await join({ topic });
      await backend.append(topic, [["n", name]], { producer: { id: "p", first: 1 } });
      assert.deepEqual(valuesOf(await member.read(1, 1_000, never)), [name]);
      await member.leave();
    }
    await assert.rejects(join({ topic: "" }), { code: "STREAM_INVALID" });
    await assert.rejects(join({ group: "" }), { code: "STREAM_INVALID" });
  });

  test(`members with keyField have each key to themselves, in order, and share what one leaves: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const [one, two] = [
      await join({ keyField: "device", consumer: "one" }),
      await join({ keyField: "device", consumer: "two" }),
    ];
    await one.read(1, 0, never);
    await two.read(1, 0, never);
    const owner = new Map<string, Member>();
    const last = new Map<string, string>();
    const look = async (member: Member): Promise<number> => {
      const batch = await member.read(50, 0, never);
      for (const { id, fields } of batch.deliveries) {
        const device = textOf(fields[3]);
        assert.equal(owner.get(device) ?? member, member, `${device} has two owners`);
        owner.set(device, member);
        assert.ok(compareIds(last.get(device) ?? "0-0", id) < 0, `${device} is out of order`);
        last.set(device, id);
      }
      await member.settle({ ...nothing, done: idsOf(batch) });
      return batch.deliveries.length;
    };
    await backend.append(topic, numbered(500));
    let seen = 0;
    await until("all entries", async () => {
      seen += (await look(one)) + (await look(two));
      return seen === 500;
    });
    await backend.append(topic, numbered(70));
    const left = await one.read(100, 0, never);
    await one.leave();
    const rest: string[] = [];
    await until("what was left", async () => {
      const batch = await two.read(100, 0, never);
      rest.push(...idsOf(batch));
      await two.settle({ ...nothing, done: idsOf(batch) });
      return rest.length >= 70;
    });
    assert.equal(rest.length, 70);
    assert.ok(idsOf(left).every((id) => rest.includes(id)));
    if (kind !== "memory") assert.ok(owner.size === 7 && new Set(owner.values()).size === 2);
  });

  test(`read() from the start gives what a member has again, the oldest first, and counts no delivery: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const member = await join({ keyField: "device", consumer: "me" });
    const [a, b, c, d, e, f] = (await backend.append(topic, numbered(6))) as string[];
    assert.deepEqual(idsOf(await member.read(4, 0, never)), [a, b, c, d]);
    await member.settle({ ...nothing, done: [b as string] });
    const again = await member.read(2, 0, never, true);
    assert.deepEqual(idsOf(again), [a, c]);
    assert.ok(again.deliveries.every(({ deliveries }) => deliveries === 1));
    const rest = [
      ...idsOf(await member.read(2, 0, never)),
      ...idsOf(await member.read(2, 0, never)),
    ];
    assert.deepEqual(rest, [d, e, f]);
  });

  test(`a member that joins gets nothing of a key of which something is under way elsewhere: ${kind}`, async (t) => {
    const { backend, topic, join } = await opened(t);
    const one = await join({ keyField: "device", consumer: "one" });
    const ids = (await backend.append(topic, numbered(70))) as string[];
    const held = idsOf(await one.read(100, 0, never));
    assert.deepEqual(held, ids);
    // One of each device.
    const underWay = held.slice(0, 7);
    const early = await join({ keyField: "device", consumer: "early" });
    const devices = (batch: { deliveries: readonly { fields: readonly Uint8Array[] }[] }) =>
      new Set(batch.deliveries.map(({ fields }) => textOf(fields[3])));
    assert.deepEqual(idsOf(await early.read(100, 0, never)), []);
    ids.push(...((await backend.append(topic, numbered(7))) as string[]));
    assert.deepEqual(idsOf(await early.read(100, 0, never)), []);
    // Of what it has not heard of yet it gives nothing up: more may be under way by now.
    await one.handOver(underWay);
    assert.deepEqual(await one.renew(held), []);
    const own = await one.read(100, 0, never);
    assert.equal(own.isHandingOver, kind !== "memory");
    // What is its own still is given to it once more.
    const all = [...new Set([...held, ...idsOf(own)])];
    await one.handOver(underWay);
    const lost = new Set(await one.renew(all));
    assert.ok(underWay.every((id) => !lost.has(id)));
    assert.equal(lost.size > 0, kind !== "memory");
    assert.deepEqual(idsOf(await early.read(100, 0, never)), [], "it did not wait for the rest");
    // Nor does one that was killed, and comes back under its name.
    assert.deepEqual(idsOf(await early.recover("", 100)), []);
    const [failing] = underWay as [string];
    const failed = [{ id: failing, failures: 2 }];
    await one.settle({ ...nothing, failed, done: underWay.slice(1) });
    const kept = all.filter((id) => !lost.has(id) && !underWay.includes(id));
    await one.handOver([]);
    const gone = await one.renew([failing, ...kept]);
    const theirs: string[] = [];
    if (kind !== "memory") {
      const batch = await early.read(100, 1_000, never);
      assert.ok(batch.dealtAnew);
      theirs.push(...idsOf(batch));
      assert.deepEqual(theirs, [...theirs].sort(compareIds));
      assert.ok([...lost].every((id) => theirs.includes(id)));
      assert.ok(devices(batch).size > 0 && devices(batch).size < 7);
      const [first] = batch.deliveries;
      assert.equal(first?.failures, gone.includes(failing) ? 2 : 0);
      assert.ok(batch.deliveries.every(({ deliveries }) => deliveries === 1));
    }
    const mine = [failing, ...kept].filter((id) => !gone.includes(id));
    const rest = [...underWay.slice(1), ...mine, ...theirs];
    assert.deepEqual(rest.sort(compareIds), ids);
  });
}
