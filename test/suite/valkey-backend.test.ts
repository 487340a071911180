/** What `ValkeyBackend` promises beyond the contract that all backends share (backends.test.ts). */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test, type TestContext } from "node:test";
import { Stream, ValkeyBackend } from "../../src/index.ts";
import type { Member, Membership, Settlement } from "../../src/stream/backend.ts";
import { ValkeyConnection } from "../../src/valkey/connection.ts";
import { PspfWorker } from "../support/pspf-worker.ts";
import { startRedis, type RedisServer } from "../support/redis-server.ts";
import { tempDirAll } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import type { MemberPlan } from "../support/member-child.ts";
import { quiet } from "../support/quiet-log.ts";

const folder = tempDirAll(after);
let server: RedisServer;
before(async () => {
  server = await startRedis(folder);
});
after(() => server.stop());

const never = new AbortController().signal;
const nothing: Settlement = { done: [], failed: [], moved: [] };
const bytes = (text: string): Uint8Array => Buffer.from(text);
const idsOf = (batch: { deliveries: readonly { id: string }[] }): string[] =>
  batch.deliveries.map(({ id }) => id);
let count = 0;

async function opened(t: TestContext): Promise<{
  backend: ValkeyBackend;
  topic: string;
  join: (over?: Partial<Membership>) => Promise<Member>;
}> {
  const backend = new ValkeyBackend({ url: server.url });
  t.after(() => backend.close());
  await backend.open();
  const topic = `topic-${++count}`;
  const join = (over: Partial<Membership> = {}): Promise<Member> =>
    backend.join({ topic, group: "g", from: "start", leaseMs: 5_000, ...over });
  return { backend, topic, join };
}

/** Another client's connection, for what is not ours to do. */
async function raw(t: TestContext): Promise<ValkeyConnection> {
  const connection = new ValkeyConnection({ url: server.url });
  await connection.open();
  t.after(() => connection.close());
  return connection;
}

test("settle() with effects happens as a whole: state, emitted events, acknowledgement", async (t) => {
  const { backend, topic, join } = await opened(t);
  const member = await join();
  await backend.append(topic, [
    ["n", "1"],
    ["n", "2"],
    ["n", "3"],
  ]);
  const [a, b, c] = idsOf(await member.read(3, 0, never)) as [string, string, string];
  const write = (key: string, value: string | null, expiresAt?: number) => ({
    space: "s",
    key,
    value: value === null ? null : bytes(value),
    ...(expiresAt !== undefined && { expiresAt }),
  });
  const emits = [{ topic: `${topic}-out`, fields: ["n", "out"] }];
  const first = {
    reads: [{ space: "s", key: "sum", value: null }],
    writes: [write("sum", "1"), write("odd:key", "\0:\xff"), write("gone", "x", Date.now() - 1)],
    emits,
  };
  const settled = { result: "settled", lost: [] };
  assert.deepEqual(await member.settle({ ...nothing, done: [a], effects: first }), settled);
  assert.equal(Buffer.from((await member.readState("s", "sum")) ?? []).toString(), "1");
  assert.deepEqual(await member.readState("s", "odd:key"), Buffer.from("\0:\xff"));
  assert.equal(await member.readState("s", "gone"), null);
  const stale = {
    reads: [{ space: "s", key: "sum", value: bytes("0") }],
    writes: [write("sum", "9")],
    emits,
  };
  const refused = await member.settle({ ...nothing, done: [b], effects: stale });
  assert.deepEqual(refused, { result: "refused", lost: [] });
  const mine = { reads: [], writes: [write("sum", "7")], emits };
  const twice = await member.settle({ done: [b], failed: [], moved: [], effects: mine });
  assert.deepEqual(twice, settled);
  const late = await member.settle({
    done: [b, c],
    failed: [],
    moved: [],
    effects: { ...mine, writes: [write("sum", "8")] },
  });
  assert.deepEqual(late, { result: "refused", lost: [b] });
  assert.equal(Buffer.from((await member.readState("s", "sum")) ?? []).toString(), "7");
  assert.equal(await backend.length(`${topic}-out`), 2);
  const deleted = {
    reads: [{ space: "s", key: "sum", value: bytes("7") }],
    writes: [write("sum", null)],
    emits: [],
  };
  assert.deepEqual(await member.settle({ ...nothing, done: [c], effects: deleted }), settled);
  assert.equal(await member.readState("s", "sum"), null);
  assert.deepEqual(await member.lag(), { waiting: 0, pending: 0 });
});

test("settle() ends nothing when its dead letter cannot be written", async (t) => {
  const { backend, topic, join } = await opened(t);
  const member = await join();
  await backend.append(topic, [["n", "1"]]);
  const [id] = idsOf(await member.read(1, 0, never)) as [string];
  server.cli("SET", `${topic}-dlq`, "no stream");
  const moved = [{ id, topic: `${topic}-dlq`, fields: ["n", "1"] }];
  const effects = { reads: [], writes: [{ space: "s", key: "k", value: bytes("v") }], emits: [] };
  for (const settlement of [
    { ...nothing, moved },
    { ...nothing, moved, effects },
  ]) {
    await assert.rejects(member.settle(settlement), { code: "STREAM_INVALID", message: /-dlq/ });
  }
  assert.equal(await member.readState("s", "k"), null);
  assert.deepEqual(await member.lag(), { waiting: 0, pending: 1 });
  server.cli("DEL", `${topic}-dlq`);
  assert.deepEqual((await member.settle({ ...nothing, moved })).lost, []);
  assert.equal(await backend.length(`${topic}-dlq`), 1);
});

test("settle() and move() carry entries with more fields than a script can write", async (t) => {
  const { backend, topic, join } = await opened(t);
  const client = await raw(t);
  const many = Array.from({ length: 10_000 }, (_, n) => `${n}`);
  await client.call("XADD", topic, "*", ...many);
  const member = await join({ consumer: "me" });
  const [entry] = (await member.read(1, 0, never)).deliveries;
  assert.equal(entry?.fields.length, 10_000);
  const moved = [{ id: entry.id, topic: `${topic}-dlq`, fields: [...entry.fields, "_error", "x"] }];
  assert.deepEqual(await member.settle({ ...nothing, moved }), { result: "settled", lost: [] });
  assert.deepEqual(await member.lag(), { waiting: 0, pending: 0 });
  const [letter] = await backend.range(`${topic}-dlq`, "-", 1);
  assert.equal(letter?.fields.length, 10_002);
  assert.equal(await backend.move(`${topic}-dlq`, letter.id, topic, entry.fields), true);
  assert.equal(await backend.move(`${topic}-dlq`, letter.id, topic, entry.fields), false);
  assert.equal(await backend.length(`${topic}-dlq`), 0);
  await member.leave();
  const again = await join({ consumer: "me" });
  const back = await again.read(1, 0, never);
  assert.equal(back.deliveries[0]?.fields.length, 10_000);
});

test("join() gives each live member a name of its own, and the same one after a restart", async (t) => {
  const { topic, join } = await opened(t);
  const [one, two, three] = [await join(), await join(), await join()];
  const names = [one, two, three].map(({ consumer }) => consumer);
  assert.equal(new Set(names).size, 3);
  await two.leave();
  assert.equal((await join()).consumer, names[1]);
  await assert.rejects(join({ consumer: names[0] as string }), {
    code: "STREAM_UNREACHABLE",
    message: /is held by/,
  });
  const other = new ValkeyBackend({ url: server.url });
  t.after(() => other.close());
  await other.open();
  const fourth = await other.join({ topic, group: "g", from: "start", leaseMs: 5_000 });
  assert.ok(!names.includes(fourth.consumer));
});

async function memberChild(plan: MemberPlan) {
  const args = ["test/support/member-child.ts", JSON.stringify(plan)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(createInterface(child.stdout), "line")) as [string];
  const said = JSON.parse(line) as { consumer: string; ids: string[] };
  return {
    ...said,
    async kill() {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

test("a member that was killed gives its name to the next of its host, with what was pending", async (t) => {
  const { backend, topic, join } = await opened(t);
  await backend.append(topic, [
    ["n", "1"],
    ["n", "2"],
    ["n", "3"],
  ]);
  const child = await memberChild({ url: server.url, topic, group: "g", take: 2 });
  const beside = await join();
  assert.notEqual(beside.consumer, child.consumer);
  await child.kill();
  const heir = await join();
  assert.equal(heir.consumer, child.consumer);
  assert.deepEqual(idsOf(await heir.recover("", 10)), child.ids);
});

test("reclaim() takes from a member that was killed, not from one that is slow and alive", async (t) => {
  const { backend, topic, join } = await opened(t);
  await backend.append(
    topic,
    Array.from({ length: 10 }, (_, n) => ["n", `${n}`]),
  );
  const plan = { url: server.url, topic, group: "g", take: 5 };
  const [dead, alive] = [await memberChild(plan), await memberChild(plan)];
  t.after(() => alive.kill());
  const heir = await join();
  await dead.kill();
  const taken = new Set<string>();
  await until("what the dead one had", async () => {
    for (const id of idsOf(await heir.reclaim(400, 2))) taken.add(id);
    await heir.renew([...taken]);
    return taken.size === 5;
  });
  await new Promise((resolve) => setTimeout(resolve, 600));
  await heir.renew([...taken]);
  assert.deepEqual(idsOf(await heir.reclaim(400, 10)), []);
  assert.deepEqual([...taken].sort(), dead.ids);
});

test("renew() takes another name when its own was lost, and lets go of what was pending under it", async (t) => {
  const { backend, topic, join } = await opened(t);
  const member = await join();
  await backend.append(topic, [["n", "1"]]);
  const ids = idsOf(await member.read(1, 0, never));
  const before = member.consumer;
  server.cli("DEL", `holdfast:member:g:${before}:${topic}`);
  const thief = await join();
  assert.equal(thief.consumer, before);
  assert.deepEqual(await member.renew(ids), ids);
  assert.notEqual(member.consumer, before);
  assert.deepEqual(idsOf(await thief.recover("", 10)), ids);
  await backend.append(topic, [["n", "2"]]);
  const next = idsOf(await member.read(1, 0, never));
  assert.deepEqual(await member.renew(next), []);
  assert.deepEqual(await member.settle({ ...nothing, done: next }), {
    result: "settled",
    lost: [],
  });
});

test("prune() removes the silent who have nothing pending, and nobody else", async (t) => {
  const { backend, topic, join } = await opened(t);
  const [me, busy, idle] = [
    await join({ consumer: "me" }),
    await join({ consumer: "busy" }),
    await join({ consumer: "silent" }),
  ];
  await backend.append(topic, [
    ["n", "1"],
    ["n", "2"],
    ["n", "3"],
  ]);
  await busy.read(1, 0, never);
  await idle.settle({ ...nothing, done: idsOf(await idle.read(1, 0, never)) });
  await me.settle({ ...nothing, done: idsOf(await me.read(1, 0, never)) });
  const names = (): string =>
    ["me", "busy", "silent"]
      .filter((name) => server.cli("XINFO", "CONSUMERS", topic, "g").split("\n").includes(name))
      .join(" ");
  await me.prune(60_000);
  assert.equal(names(), "me busy silent");
  await new Promise((resolve) => setTimeout(resolve, 60));
  await me.prune(50);
  assert.equal(names(), "me busy");
  assert.equal((await me.lag()).pending, 1);
});

test("append() compares IDs as numbers when it makes room: 999-9 is before 1000-0, 1000-9 before 1000-10", async (t) => {
  for (const [pending, till] of [
    ["999-9", "1000-0"],
    ["1000-9", "1000-10"],
  ] as const) {
    const { backend, topic, join } = await opened(t);
    const all = ["998-1", "998-2", "999-9", "1000-0", "1000-9", "1000-10", "1000-11", "1001-0"];
    for (const id of all) server.cli("XADD", topic, id, "n", id);
    const [left, right] = [await join({ group: "left" }), await join({ group: "right" })];
    await left.read(10, 0, never);
    await right.read(10, 0, never);
    await left.settle({ ...nothing, done: all.filter((id) => id !== pending) });
    await right.settle({ ...nothing, done: all.filter((id) => id !== till) });
    await assert.rejects(backend.append(topic, [["n", "new"]], { maxLength: 2 }), {
      code: "STREAM_FULL",
    });
    const [oldest] = await backend.range(topic, "-", 1);
    assert.equal(oldest?.id, pending);
    assert.equal(await backend.length(topic), all.length - all.indexOf(pending));
  }
});

test("append() brings a topic that has grown far beyond its bound back to it, step by step", async (t) => {
  const { backend, topic, join } = await opened(t);
  const member = await join();
  const entries = Array.from({ length: 10_000 }, () => ["n", "1"]);
  for (let turn = 0; turn < 3; turn += 1) await backend.append(topic, entries);
  for (let read = 0; read < 30_000;) {
    const ids = idsOf(await member.read(5_000, 0, never));
    read += ids.length;
    await member.settle({ ...nothing, done: ids });
  }
  const bound = { maxLength: 1_000 };
  await backend.append(topic, [["n", "2"]], bound);
  assert.ok((await backend.length(topic)) < 12_000);
  await backend.append(topic, [["n", "2"]], bound);
  assert.ok((await backend.length(topic)) <= 1_000);
  assert.equal((await member.read(10, 0, never)).deliveries.length, 2);
});

test("groups and topics whose names run together have nothing in common", async (t) => {
  const { backend } = await opened(t);
  const of = async (group: string, topic: string): Promise<Member> => {
    const member = await backend.join({ topic, group, from: "start", leaseMs: 5_000 });
    await backend.append(topic, [["n", "1"]]);
    const done = idsOf(await member.read(1, 0, never));
    const writes = [{ space: "s", key: "k", value: bytes(`${group} of ${topic}`) }];
    await member.settle({ ...nothing, done, effects: { reads: [], writes, emits: [] } });
    return member;
  };
  const one = await of("a:b", "c");
  const two = await of("a", "b:c");
  assert.notEqual(one.incarnation, two.incarnation);
  assert.equal(Buffer.from((await one.readState("s", "k")) ?? []).toString(), "a:b of c");
});

test("a group made again begins a new incarnation and loses nothing that was appended meanwhile", async (t) => {
  for (const from of ["start", "now"] as const) {
    for (const loss of ["topic", "group"] as const) {
      const { backend, topic, join } = await opened(t);
      await backend.append(topic, [["n", "before"]]);
      const member = await join({ from });
      const first = member.incarnation;
      if (from === "start") await member.read(1, 0, never);
      if (loss === "topic") server.cli("DEL", topic);
      else server.cli("XGROUP", "DESTROY", topic, "g");
      await backend.append(topic, [["n", "meanwhile"]]);
      const seen: string[] = [];
      await until("the group", async () => {
        const { deliveries } = await member.read(10, 0, never);
        seen.push(...deliveries.map(({ fields }) => Buffer.from(fields[1] ?? []).toString()));
        return seen.includes("meanwhile");
      });
      // Who destroys a group that was to begin at the start asks for all of it again.
      const again = from === "start" && loss === "group" ? ["before", "meanwhile"] : ["meanwhile"];
      assert.deepEqual(seen, again, `${loss} lost, from ${from}`);
      assert.notEqual(member.incarnation, first);
    }
  }
});

test("members with keyField see that another made the group again", async (t) => {
  const { backend, topic, join } = await opened(t);
  const keyed = { keyField: "k" };
  const [one, two] = [await join(keyed), await join(keyed)];
  const entries = Array.from({ length: 40 }, (_, n) => ["k", `${n}`]);
  const done = new Set<string>();
  const both = async (): Promise<void> => {
    for (const member of [one, two]) {
      const { deliveries } = await member.read(100, 0, never);
      for (const { fields } of deliveries) done.add(Buffer.from(fields[1] ?? []).toString());
      await member.settle({ ...nothing, done: deliveries.map(({ id }) => id) });
    }
  };
  await both();
  await backend.append(topic, entries);
  await until("all", async () => {
    await both();
    return done.size === 40;
  });
  server.cli("DEL", topic);
  done.clear();
  // Half of the new topic's IDs are far behind those that both know.
  for (let n = 0; n < 20; n += 1) server.cli("XADD", topic, `5-${n}`, "k", `${n}`);
  await backend.append(topic, entries.slice(20));
  await until("all again", async () => {
    await both();
    return done.size === 40;
  });
  assert.equal(one.incarnation, two.incarnation);
});

test("with keyField, what a dead member had is dealt out, and counts as delivered once more where it had been given it", async (t) => {
  const { backend, topic, join } = await opened(t);
  const dead = await join({ keyField: "n", consumer: "dead", leaseMs: 300 });
  const numbers = Array.from({ length: 10 }, (_, n) => ["n", `${n}`]);
  const ids = (await backend.append(topic, numbers)) as string[];
  assert.deepEqual(idsOf(await dead.read(10, 0, never)), ids);
  // Dealt to it, and not given: its own read asks for none of them.
  const heir = await join({ keyField: "n", consumer: "heir", leaseMs: 5_000 });
  assert.deepEqual(idsOf(await heir.read(1, 0, never)), []);
  ids.push(...((await backend.append(topic, numbers)) as string[]));
  const early = idsOf(await heir.read(10, 0, never));
  const found: [string, number][] = [];
  await until("all of them", async () => {
    const { deliveries, dealtAnew } = await heir.read(20, 100, never);
    if (dealtAnew) found.length = 0;
    found.push(...deliveries.map((each) => [each.id, each.deliveries] as [string, number]));
    return found.length === 20;
  });
  assert.deepEqual(early, []);
  assert.deepEqual(
    found,
    ids.map((id, at) => [id, at < 10 ? 2 : 1]),
  );
});

test("with keyField, what a consumer that is no member leaves behind is dealt out when it has lain long enough", async (t) => {
  const { backend, topic, join } = await opened(t);
  const member = await join({ keyField: "k", consumer: "me" });
  await member.read(1, 0, never);
  await backend.append(topic, [
    ["k", "1"],
    ["k", "2"],
  ]);
  server.cli("XREADGROUP", "GROUP", "g", "worker-0badcafe", "COUNT", "10", "STREAMS", topic, ">");
  await member.reclaim(60_000, 10);
  assert.deepEqual(idsOf(await member.read(10, 0, never)), []);
  await new Promise((resolve) => setTimeout(resolve, 120));
  await member.reclaim(100, 10);
  const batch = await member.read(10, 0, never);
  assert.equal(batch.deliveries.length, 2);
  assert.ok(batch.dealtAnew);
  assert.deepEqual(await member.settle({ ...nothing, done: idsOf(batch) }), {
    result: "settled",
    lost: [],
  });
});

test("a worker of PSPF and one of ours share a group: each event is handled once, failures are counted by both", async (t) => {
  const topic = `shared-${++count}`;
  const stream = new Stream<{ n: number }>({
    topic,
    group: "g",
    backend: new ValkeyBackend({ url: server.url }),
    state: "valkey",
    log: quiet,
    timeoutMs: 300,
    leaseMs: 300,
    batch: { max: 5 },
    retry: { attempts: 3, backoffMs: 10, maxBackoffMs: 10 },
  });
  t.after(() => stream.stop());
  const [ours, theirs] = [new Map<number, number>(), new Set<number>()];
  const twice: number[] = [];
  stream.subscribe(async ({ payload: { n } }, context) => {
    if (ours.has(n) || theirs.has(n)) twice.push(n);
    if (n % 50 === 1) throw new Error("never");
    ours.set(n, context.attempt);
    await new Promise((resolve) => setTimeout(resolve, 2));
  });
  const foreign = new PspfWorker({
    url: server.url,
    topic,
    group: "g",
    handle(fields) {
      const n = Number(fields.get("n"));
      if (ours.has(n) || theirs.has(n)) twice.push(n);
      if (n % 10 === 1) throw new Error("not by this one");
      theirs.add(n);
    },
  });
  await foreign.start();
  await stream.emit(Array.from({ length: 400 }, (_, n) => ({ n })));
  await stream.start();
  const letters = stream.deadLetters();
  await until("all of them", async () => ours.size + theirs.size + (await letters.count()) === 400);
  await foreign.stop();
  assert.ok(ours.size > 20 && theirs.size > 20, `${ours.size} and ${theirs.size}`);
  assert.deepEqual(twice, []);
  assert.equal(await letters.count(), 8);
  // PSPF had failed on some of those that we did: the count went on where it stood.
  assert.ok([...ours.values()].includes(2), "no event was tried by both");
  await until("the counts", () => server.cli("HLEN", `pspf:retries:g:${topic}`) === "0");
  const [entry] = await letters.list();
  assert.equal(entry?.topic, topic);
  assert.equal(entry?.attempts, 3);
});

test("emit() refuses an event that is too large, and its neighbours are stored", async (t) => {
  const topic = `large-${++count}`;
  const backend = new ValkeyBackend({ url: server.url });
  const stream = new Stream<Record<string, unknown>>({ topic, backend, log: quiet });
  t.after(() => stream.stop());
  const wide = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`f${n}`, n]));
  const told = { code: "EVENT_TOO_LARGE", kind: "refused" };
  const results = await Promise.allSettled([
    stream.emit({ n: 1 }),
    stream.emit(wide),
    stream.emit({ text: "é".repeat(600_000) }),
    stream.emit({ n: 2, text: "x".repeat(900_000) }),
  ]);
  assert.deepEqual(
    results.map(({ status }) => status),
    ["fulfilled", "rejected", "rejected", "fulfilled"],
  );
  await assert.rejects(stream.emit(wide), { ...told, message: /1003 fields.*compact/ });
  await assert.rejects(stream.emit([{ n: 3 }, wide]), told);
  assert.equal(await backend.length(topic), 2);
});
