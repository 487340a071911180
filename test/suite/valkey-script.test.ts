/** The script that appends and notes, on a real server, against a set of seqs. */
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import fc from "fast-check";
import { deliver, epochsMax, rangesMax } from "../../src/sink/valkey-script.ts";
import { ValkeyConnection, type Reply } from "../../src/valkey/connection.ts";
import { range } from "../support/archive-names.ts";
import { startRedis } from "../support/redis-server.ts";
import { tempDir } from "../support/temp-dir.ts";

class Bench {
  readonly connection: ValkeyConnection;
  readonly key = "stream";
  readonly hash = "{stream}:hash";

  constructor(connection: ValkeyConnection) {
    this.connection = connection;
  }

  static async open(t: TestContext, script = deliver): Promise<Bench> {
    const server = await startRedis(tempDir(t));
    const connection = new ValkeyConnection({ url: server.url }, { deliver: script });
    await connection.open();
    t.after(async () => {
      connection.close();
      await server.kill();
    });
    return new Bench(connection);
  }

  async noted(epoch = "e"): Promise<string> {
    return String((await this.connection.call("HGET", this.hash, epoch)) ?? "");
  }

  /** The span from `from` to `to`, of which these seqs have events. */
  async deliver(
    from: number,
    to: number,
    seqs: readonly number[],
    {
      epoch = "e",
      believed,
      fields = 1,
    }: { epoch?: string; believed?: string; fields?: number } = {},
  ): Promise<Reply> {
    const known = believed ?? (await this.noted(epoch));
    const entries = seqs.flatMap((seq) => [
      seq,
      2 * fields,
      ...range(1, fields).flatMap(() => ["seq", `${seq}`]),
    ]);
    const args = [epoch, known, from, to, `d${to}`, 0, seqs.length, ...entries] as string[];
    return this.connection.script("deliver", [this.key, this.hash], args);
  }

  async seqs(): Promise<number[]> {
    const rows = (await this.connection.call("XRANGE", this.key, "-", "+")) as Reply[][];
    return rows.map(([, fields]) => Number(String((fields as Reply[])[1])));
  }

  async clear(): Promise<void> {
    await this.connection.call("FLUSHALL");
  }
}

const span = fc
  .tuple(
    fc.integer({ min: 1, max: 60 }),
    fc.integer({ min: 0, max: 12 }),
    fc.array(fc.boolean(), { minLength: 13, maxLength: 13 }),
  )
  .map(([from, length, kept]) => ({
    from,
    to: from + length,
    seqs: range(from, from + length).filter((_, index) => kept[index]),
  }));

function property(bench: Bench) {
  return fc.asyncProperty(fc.array(span, { maxLength: 12 }), async (spans) => {
    await bench.clear();
    const covered = new Set<number>();
    const appended: number[] = [];
    for (const { from, to, seqs } of spans) {
      const answer = (await bench.deliver(from, to, seqs)) as readonly [number, Reply];
      assert.equal(answer[0], 1);
      appended.push(...seqs.filter((seq) => !covered.has(seq)));
      for (const seq of range(from, to)) covered.add(seq);
      assert.equal(String(answer[1]).replaceAll(/:\w+/g, ""), rangesOf(covered));
    }
    assert.deepEqual(await bench.seqs(), appended);
  });
}

function rangesOf(covered: ReadonlySet<number>): string {
  const seqs = [...covered].toSorted((a, b) => a - b);
  const starts = seqs.filter((seq) => !covered.has(seq - 1));
  const ends = seqs.filter((seq) => !covered.has(seq + 1));
  return starts.map((from, index) => `${from}-${ends[index]}`).join(",");
}

test("deliver appends what no range covers, once, and keeps the ranges merged", async (t) => {
  await fc.assert(property(await Bench.open(t)), { numRuns: 150 });
});

test("the property sees a high-water mark in place of ranges", async (t) => {
  const ranges = "if seq >= range[1] and seq <= range[2]";
  assert.ok(deliver.includes(ranges));
  const bench = await Bench.open(t, deliver.replace(ranges, "if seq <= range[2]"));
  await assert.rejects(fc.assert(property(bench), { numRuns: 150 }));
});

test("deliver does nothing where the server holds something else than the sender believes", async (t) => {
  const bench = await Bench.open(t);
  await bench.deliver(1, 3, [1, 2, 3]);
  for (const believed of ["", "1-2:d2", "1-3:other"]) {
    const [isDone, held] = (await bench.deliver(4, 5, [4, 5], { believed })) as [number, Reply];
    assert.deepEqual([isDone, String(held)], [0, "1-3:d3"]);
  }
  assert.deepEqual(await bench.seqs(), [1, 2, 3]);
  assert.equal(await bench.noted(), "1-3:d3");
});

test("the digest is that of a range's last event", async (t) => {
  const bench = await Bench.open(t);
  await bench.deliver(5, 9, [5, 9]);
  await bench.deliver(1, 2, [1, 2]);
  await bench.deliver(3, 4, [3]);
  assert.equal(await bench.noted(), "1-9:d9");
  await bench.deliver(20, 21, [20]);
  assert.equal(await bench.noted(), "1-9:d9,20-21:d21");
});

test("an entry that cannot be appended takes back those before it: nothing has happened", async (t) => {
  const bench = await Bench.open(t);
  await bench.deliver(1, 1, [1]);
  const args = ["e", "1-1:d1", 2, 3, "d3", 0, 2, 2, 2, "seq", "2", 3, 0];
  await assert.rejects(
    bench.connection.script("deliver", [bench.key, bench.hash], args),
    /wrong number of arg/i,
  );
  assert.deepEqual(await bench.seqs(), [1]);
  assert.equal(await bench.noted(), "1-1:d1");
});

test("an entry may have 1,000 fields", async (t) => {
  const bench = await Bench.open(t);
  await bench.deliver(1, 1, [1], { fields: 1_000 });
  assert.deepEqual(await bench.seqs(), [1]);
});

test("at most rangesMax ranges and epochsMax epochs are kept: of more the lowest become one, the oldest goes", async (t) => {
  const bench = await Bench.open(t);
  for (let index = 0; index < rangesMax + 5; index++)
    await bench.deliver(10 * index + 1, 10 * index + 2, []);
  const ranges = (await bench.noted()).split(",");
  assert.equal(ranges.length, rangesMax);
  assert.equal(ranges[0], "1-52:d52");
  await bench.clear();
  for (let index = 0; index < epochsMax + 5; index++) {
    await bench.deliver(index + 1, index + 1, [], { epoch: `e${index}` });
  }
  assert.equal(await bench.connection.call("HLEN", bench.hash), epochsMax);
  assert.equal(await bench.noted("e4"), "");
  assert.equal(await bench.noted("e5"), "6-6:d6");
});
