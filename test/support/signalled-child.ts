/**
 * A `Stream` with two subscriptions in a process of its own, to be sent signals. Arguments: the server's URL or `memory`
 * (then it emits by itself), and what its handlers do: `slow` (200 ms for each event) or `stuck` (for ever, deaf to its signal).
 */
import { setTimeout as delay } from "node:timers/promises";
import { MemoryBackend, MemoryStore, Stream, ValkeyBackend } from "../../src/index.ts";

const [url, what] = process.argv.slice(2);
if (url !== undefined) {
  const stream = new Stream<{ n: number }>({
    topic: "one",
    group: "g",
    backend: url === "memory" ? new MemoryBackend() : new ValkeyBackend({ url }),
    state: new MemoryStore({ wallMs: () => Date.now() }),
    timeoutMs: 60_000,
    batch: { max: 1 },
  });
  const handle = async (event: { topic: string; payload: unknown }): Promise<void> => {
    process.stdout.write(`began ${event.topic}\n`);
    await delay(what === "stuck" ? 3_600_000 : 200);
    process.stdout.write(`ended ${event.topic}\n`);
  };
  stream.subscribe(handle).subscribe(handle, { topic: "two" });
  if (url === "memory") await stream.emit({ n: 1 });
  await stream.runForever();
  process.stdout.write("stopped\n");
}
