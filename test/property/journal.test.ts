/** Random work against a list: whatever is asked in whatever order, the journal says what the list says. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { NewEvent } from "../../src/core/event.ts";
import { openChunk, sealChunk } from "../../src/journal/chunk.ts";
import { decodeSections, SectionEncoder } from "../../src/journal/section.ts";
import type { Journal } from "../../src/journal/journal.ts";
import { openJournal } from "../support/test-journal.ts";

const headers = fc.dictionary(fc.string(), fc.string(), { maxKeys: 5 });
const someHeaders = fc.array(headers, { minLength: 1, maxLength: 4 });
const timeMs = fc.integer({ min: -8.64e15, max: 8.64e15 });
const events = someHeaders.chain((pool) =>
  fc.array(
    fc.record<NewEvent>({
      key: fc.option(fc.string({ unit: "grapheme" })),
      time: timeMs,
      receivedAt: fc.integer({ min: 0, max: 2e12 }),
      // The same object for many events, as sources do.
      headers: fc.constantFrom(...pool),
      payload: fc.uint8Array({ maxLength: 300 }),
    }),
    { minLength: 1, maxLength: 20 },
  ),
);
const plain = ({ key, time, receivedAt, headers, payload }: NewEvent): unknown => {
  return [
    key,
    time,
    receivedAt,
    Object.entries(headers).sort(([a], [b]) => (a < b ? -1 : 1)),
    [...payload],
  ];
};

test("a chunk gives back any events: any bytes, keys, headers and times", () => {
  fc.assert(
    fc.property(fc.array(events, { minLength: 1, maxLength: 3 }), (sections) => {
      const packed = sections.map((list) => {
        const encoder = new SectionEncoder(list[0]?.receivedAt ?? 0, 5);
        for (const event of list) encoder.add(event);
        return encoder.finish();
      });
      const chunk = sealChunk(packed, { first: 7, epoch: 1, boot: 1, clock: "synced" });
      const opened = openChunk(chunk) ?? assert.fail("The chunk does not open");
      const context = {
        stream: "s",
        epoch: "e",
        clock: "synced",
        first: 7,
        bootOffsetMs: 1,
      } as const;
      const found = decodeSections(opened.body, context);
      assert.deepEqual(found.map(plain), sections.flat().map(plain));
      assert.deepEqual(
        found.map(({ seq }) => seq),
        found.map((_, index) => index + 7),
      );
    }),
    { numRuns: 300 },
  );
});

const stream = fc.constantFrom("a", "b");
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant("append" as const), stream, events }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("unit" as const),
      stream,
      /** From where it says it starts: 0 is right. */
      off: fc.constantFrom(0, 0, 0, 1),
      to: fc.nat(30),
      emits: fc.option(events),
      value: fc.option(fc.uint8Array({ maxLength: 20 })),
      mark: fc.option(fc.string({ maxLength: 10 }), { nil: undefined }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("read" as const),
      stream,
      after: fc.nat(60),
      most: fc.integer({ min: 1, max: 30 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reopen" as const) }) },
);
type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

/** What the journal is to be, in lists. */
class Model {
  readonly streams = new Map<string, NewEvent[]>([
    ["a", []],
    ["b", []],
    ["out", []],
  ]);
  readonly cursors = new Map<string, { seq: number; mark: string | null }>();
  state: Uint8Array | null = null;
  events = (name: string): NewEvent[] => this.streams.get(name) ?? [];
  cursor = (name: string) => this.cursors.get(name) ?? { seq: 0, mark: null };
}

async function perform(step: Action, journal: Journal, model: Model): Promise<void> {
  if (step.do === "append") {
    const order: number[] = [];
    await new Promise<void>((resolve) => {
      for (const [index, event] of step.events.entries()) {
        journal.append(step.stream, event, () => {
          order.push(index);
          if (order.length === step.events.length) resolve();
        });
      }
    });
    assert.deepEqual(order, [...step.events.keys()], "settled in the order of the calls");
    model.events(step.stream).push(...step.events);
  } else if (step.do === "unit") {
    const { stream, value, mark, emits } = step;
    const stands = model.cursor(stream);
    const cursors = [
      { stream, from: stands.seq + step.off, to: step.to, ...(mark !== undefined && { mark }) },
    ];
    const state = [{ space: "p", key: "k", value }];
    const unit = {
      group: "g",
      cursors,
      state,
      emits: (emits ?? []).map((event) => ({ stream: "out", event })),
    };
    const outcome = await journal.commit(unit, "soon");
    assert.equal(outcome, step.off === 0 ? "committed" : "refused");
    if (outcome === "refused") return;
    model.cursors.set(stream, { seq: step.to, mark: mark === undefined ? stands.mark : mark });
    model.events("out").push(...(emits ?? []));
    model.state = value;
  } else if (step.do === "read") {
    const { stream, after, most } = step;
    const found = await journal.read(stream, after, most, 1 << 20);
    // A page may end early, where a chunk does, but never empty while there is more.
    const kept = model.events(stream).slice(after, after + most);
    const expected = kept.slice(0, Math.max(1, found.events.length));
    assert.ok(found.events.length <= most);
    assert.deepEqual(found.events.map(plain), expected.map(plain));
    assert.deepEqual(
      found.events.map(({ seq }) => seq),
      expected.map((_, index) => after + index + 1),
    );
    assert.deepEqual([found.first, found.head], [1, model.events(stream).length]);
  }
}

async function check(journal: Journal, model: Model): Promise<void> {
  for (const [name, list] of model.streams) {
    const { events, head } = await journal.read(name, 0, 100_000, 1 << 30);
    assert.equal(head, list.length);
    assert.deepEqual(events.map(plain), list.slice(0, events.length).map(plain));
  }
  for (const name of ["a", "b"]) assert.deepEqual(journal.cursor("g", name), model.cursor(name));
  const state = await journal.readState("p", "k");
  assert.deepEqual(state && [...state], model.state && [...model.state]);
}

test("a journal says what a list says, through any work and any reopening", async (t) => {
  const groups = [{ group: "g", streams: ["a", "b"] }];
  const open = async (folder: string): Promise<Journal> =>
    (await openJournal(t, { folder, groups, linger: 0 })).journal;
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 25 }), async (steps) => {
      const folder = mkdtempSync(join(tmpdir(), "holdfast-test-"));
      let journal = await open(folder);
      try {
        const model = new Model();
        for (const step of steps) {
          if (step.do === "reopen") {
            await journal.close();
            journal = await open(folder);
          } else await perform(step, journal, model);
        }
        await check(journal, model);
      } finally {
        await journal.close();
        rmSync(folder, { recursive: true, force: true });
      }
    }),
    { numRuns: 30 },
  );
});
