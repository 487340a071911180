/** A late event whose worker ends between the commit of its effects and the settlement. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { HoldfastError, MemoryBackend, SqliteStore, Stream } from "../../src/index.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

test("a late event that was handled and not settled is moved once, and has its effects once", async (t) => {
  const backend = new MemoryBackend();
  const path = join(tempDir(t), "state.db");
  const create = (): Stream<{ n: number }> => {
    const stream = new Stream<{ n: number }>({
      topic: "t",
      group: "g",
      backend,
      state: new SqliteStore({ path }),
      timeoutMs: 300,
      leaseMs: 300,
      log: quiet,
    });
    t.after(() => stream.stop());
    stream.subscribe(async (event, context) => {
      context.state.put("count", (((await context.state.get("count")) as number) ?? 0) + 1);
      if (event.payload.n === 1) context.late();
    });
    return stream;
  };
  const takeMember = backend.join.bind(backend);
  backend.join = async (membership) => {
    const member = await takeMember(membership);
    member.settle = () => Promise.reject(new HoldfastError("STREAM_DENIED", "asked to fail"));
    return member;
  };
  const first = create();
  await first.emit([{ n: 0 }, { n: 1 }, { n: 2 }]);
  await assert.rejects(first.runForever(), { code: "STREAM_DENIED" });
  backend.join = takeMember;
  const second = create();
  await second.start();
  await until("the late one", async () => (await backend.length("t-late")) > 0);
  const member = await takeMember({ topic: "t", group: "g", from: "start", leaseMs: 1_000 });
  await until("nothing to be left", async () => (await member.lag()).pending === 0);
  await second.stop();
  const store = new SqliteStore({ path });
  await store.open();
  t.after(() => store.close());
  assert.equal(String(Buffer.from((await store.get("g:t", "count")) ?? [])), "3");
  assert.equal(await backend.length("t-late"), 1);
});
