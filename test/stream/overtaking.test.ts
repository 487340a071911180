/** By key, a worker that hears that something of what it holds is another's asks for all of it again. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryBackend, Stream } from "../../src/index.ts";
import { until } from "../support/until.ts";
import { quiet } from "../support/quiet-log.ts";

for (const [what, batchMax] of [
  ["while it reads", 10],
  ["while it has no room to read", 2],
] as const) {
  test(`what a worker lost ${what} is not overtaken by what lies behind it`, async (t) => {
    const backend = new MemoryBackend();
    const join = backend.join.bind(backend);
    const reads: boolean[] = [];
    let lost: string | undefined;
    backend.join = async (membership) => {
      const member = await join(membership);
      const [read, renew] = [member.read.bind(member), member.renew.bind(member)];
      member.read = async (max, waitMs, signal, fromStart) => {
        reads.push(fromStart === true);
        return read(max, waitMs, signal, fromStart);
      };
      // It ran, and an answer was lost: the server has it settled, and says that it is not this member's.
      member.renew = async (ids) => {
        const gone = await renew(ids);
        const told = lost === undefined ? [] : [lost];
        lost = undefined;
        return [...gone, ...told];
      };
      return member;
    };
    const stream = new Stream<{ device: string; n: number }>({
      topic: "t",
      group: "g",
      key: "device",
      batch: { max: batchMax },
      backend,
      leaseMs: 150,
      log: quiet,
    });
    t.after(() => stream.stop());
    await stream.emit(Array.from({ length: 8 }, (_, n) => ({ device: "d", n })));
    const handled: number[] = [];
    let [open, isIn] = [(): void => undefined, false];
    const gate = new Promise<void>((resolve) => (open = resolve));
    stream.subscribe(async ({ payload, entryId }) => {
      if (payload.n === 0) {
        isIn = true;
        lost = entryId;
        await gate;
      }
      handled.push(payload.n);
    });
    await stream.start();
    await until("the first to run", () => isIn);
    await until("it to be said lost, and all to be asked for again", () => reads.includes(true));
    open();
    await until("all to be handled", () => handled.length >= 8);
    assert.deepEqual(handled, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.equal(reads.filter((isFromStart) => isFromStart).length, 1);
  });
}
