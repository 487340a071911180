import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MemoryStore } from "../../src/state/memory.ts";
import type { WorkerUnit } from "../../src/state/state.ts";

/** IDs in the order of the stream; the text order of many of them is another one. */
const ids = Array.from({ length: 40 }, (_, at) => `${7 + Math.floor(at / 13)}-${(at % 13) * 3}`);

type Action =
  | { readonly what: "deliver"; readonly count: number }
  | { readonly what: "deal-with"; readonly picks: readonly number[] }
  | { readonly what: "late"; readonly picks: readonly number[] }
  | { readonly what: "acknowledge" }
  | { readonly what: "compact" }
  | { readonly what: "rewind"; readonly to: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ what: fc.constant("deliver" as const), count: fc.nat(6) }),
  fc.record({
    what: fc.constant("deal-with" as const),
    picks: fc.array(fc.nat(39), { maxLength: 5 }),
  }),
  fc.record({ what: fc.constant("late" as const), picks: fc.array(fc.nat(39), { maxLength: 5 }) }),
  fc.constant({ what: "acknowledge" as const }),
  fc.constant({ what: "compact" as const }),
  fc.record({ what: fc.constant("rewind" as const), to: fc.nat(39) }),
);

/** A group and its store beside a plain set of what was dealt with; `done` says whether they agree. */
async function agrees(
  actions: readonly Action[],
  after: (store: MemoryStore, scope: string, last: string) => Promise<void>,
): Promise<boolean> {
  const store = new MemoryStore({ wallMs: () => 0 });
  const model = new Set<string>();
  const pending = new Set<string>();
  let delivered = 0;
  let [scope, former, bound] = ["s0", "", 0];
  const unit = (done: readonly string[], scope: string): WorkerUnit => ({
    scope,
    done,
    reads: [],
    writes: [],
    emits: [],
  });
  for (const each of actions) {
    if (each.what === "deliver") {
      const to = Math.min(ids.length, delivered + each.count);
      for (const id of ids.slice(delivered, to)) pending.add(id);
      delivered = to;
    } else if (each.what === "deal-with") {
      const picked = each.picks.map((at) => ids[at] ?? "").filter((id) => pending.has(id));
      const done = [...new Set(picked)].filter((id) => !model.has(id));
      if (done.length === 0) continue;
      await store.commit(unit(done, scope));
      await after(store, scope, done.at(-1) ?? "");
      for (const id of done) model.add(id);
    } else if (each.what === "late" && former !== "") {
      // A worker that has not heard of the replay yet: what it commits before the bound counts, the rest does not.
      const done = [...new Set(each.picks.map((at) => ids[at] ?? ""))];
      const known = await store.isDone(former, done);
      await store.commit(
        unit(
          done.filter((id) => !known.has(id)),
          former,
        ),
      );
      for (const id of done) if (ids.indexOf(id) < bound) model.add(id);
      const lastDelivered = ids[bound] ?? "0-0";
      await after(store, former, lastDelivered);
    } else if (each.what === "acknowledge") {
      for (const id of pending) if (model.has(id)) pending.delete(id);
    } else if (each.what === "compact") {
      const lastDelivered = ids[delivered - 1] ?? "0-0";
      await store.compact(scope, { lastDelivered, pending: [...pending] });
    } else if (each.what === "rewind" && each.to < delivered) {
      const from = ids[each.to] ?? "";
      [former, bound] = [scope, each.to];
      scope = `${scope}'`;
      await store.rewind(former, from, scope);
      delivered = each.to;
      for (const id of ids.slice(each.to)) {
        model.delete(id);
        pending.delete(id);
      }
    }
    const found = await store.isDone(scope, ids);
    if (ids.some((id) => found.has(id) !== model.has(id))) return false;
  }
  return true;
}

test("positions agree with a set of IDs, whatever is delivered, dealt with, folded and replayed", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
      assert.ok(await agrees(actions, () => Promise.resolve()));
    }),
    { numRuns: 500 },
  );
});

test("the proof goes red on a high-water mark in place of ranges", async () => {
  const highWater = (store: MemoryStore, scope: string, lastDelivered: string): Promise<void> =>
    store.compact(scope, { lastDelivered, pending: [] });
  const run = await fc.check(
    fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
      assert.ok(await agrees(actions, highWater));
    }),
    { numRuns: 500 },
  );
  assert.ok(run.failed);
});
