/**
 * A process with a worker's store, to be killed or to share a file: `store-child.ts KIND PATH MODE [COUNT]`.
 * - `units`: commits unit after unit, each with its number as position, state and emitted event; says each that is told
 * - `add`: adds COUNT times one to a number that others add to as well
 * - `hold`: opens the store and keeps it
 */
import { writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { RocksDbStore } from "../../src/state/rocksdb.ts";
import { SqliteStore } from "../../src/state/sqlite.ts";

const [kind = "", path = "", mode = "", count = "0"] = process.argv.slice(2);
/** At once, so that what was said is not lost with the process. */
const say = (line: string): number => writeSync(1, `${line}\n`);
const store = kind === "RocksDbStore" ? new RocksDbStore({ path }) : new SqliteStore({ path });
await store.open();
say("open");

const bytes = (n: number): Uint8Array => Buffer.from(String(n));

if (mode === "units") {
  for (let n = 1; ; n += 1) {
    const writes = [{ space: "p", key: "last", value: bytes(n) }];
    const emits = [{ topic: "out", fields: ["n", String(n)] }];
    await store.commit({ scope: "s", done: [`${n}-0`], reads: [], writes, emits });
    if (n % 50 === 0) await store.compact("s", { lastDelivered: `${n}-0`, pending: [] });
    say(String(n));
  }
} else if (mode === "add") {
  for (let added = 0; added < Number(count);) {
    const value = await store.get("p", "sum");
    const sum = value === null ? 0 : Number(Buffer.from(value).toString());
    const { result } = await store.commit({
      scope: `s${process.pid}`,
      done: [`${added + 1}-0`],
      reads: [{ space: "p", key: "sum", value }],
      writes: [{ space: "p", key: "sum", value: bytes(sum + 1) }],
      emits: [],
    });
    if (result === "committed") added += 1;
  }
  await store.close();
} else await delay(60_000);
