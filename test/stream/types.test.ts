/** Types of the library: what the compiler must refuse. `tsc` is the test; the run only sees that nothing throws. */
import { test } from "node:test";
import { number, object, string } from "superstruct";
import { MemoryBackend, Stream } from "../../src/index.ts";

test("Stream hands its schema's type to emit and to handlers", () => {
  const stream = new Stream({
    topic: "readings",
    schema: object({ device: string(), n: number() }),
    backend: new MemoryBackend(),
  });
  stream.subscribe(({ payload }) => {
    const device: string = payload.device;
    // @ts-expect-error n is a number
    const wrong: string = payload.n;
    // @ts-expect-error there is no such field
    return [device, wrong, payload.nothing];
  });
  stream.subscribeBatch((events) => events.map(({ payload }) => payload.n.toFixed(1)));
  stream.subscribe(({ payload }) => payload.level.toFixed(1), {
    topic: "alarms",
    schema: object({ level: number() }),
  });
  const emits = [
    () => stream.emit({ device: "d", n: 1 }),
    () => stream.emit([{ device: "d", n: 1 }]),
    // @ts-expect-error n is missing
    () => stream.emit({ device: "d" }),
    // @ts-expect-error n is a number
    () => stream.emit([{ device: "d", n: "1" }]),
  ];
  const one: Promise<string | null> | undefined =
    emits.length > 9 ? stream.emit({ device: "d", n: 1 }) : undefined;
  void one;
});

test("Stream takes any schema that parses, and its type with it", () => {
  const schema = {
    parse(value: unknown): { readonly level: number } {
      return value as { level: number };
    },
  };
  const stream = new Stream({ topic: "levels", schema, backend: new MemoryBackend() });
  stream.subscribe(({ payload }) => payload.level.toFixed(1));
  // @ts-expect-error level is a number
  stream.subscribe(({ payload }) => payload.level.trim());
});
