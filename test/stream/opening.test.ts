/** What a `Stream` takes where nothing was chosen for it. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Stream } from "../../src/index.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

function surroundings(t: TestContext, values: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name];
    process.env[name] = value;
    t.after(() => {
      if (before === undefined) delete process.env[name];
      else process.env[name] = before;
    });
  }
}

const warnings: string[] = [];
const log = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message: string) => void warnings.push(message),
  error: () => undefined,
};

/** A server that answers everything with `reply`, or not at all. */
async function answering(t: TestContext, reply: string | null): Promise<string> {
  const sockets = new Set<{ destroy(): void }>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("data", () => reply !== null && socket.write(reply));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return `valkey://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
}

for (const what of ["refuses the connection", "accepts it and says nothing"]) {
  test(`Stream falls back to memory, saying so, where a server ${what}`, async (t) => {
    const folder = tempDir(t);
    const url = what.startsWith("refuses") ? "valkey://127.0.0.1:1" : await answering(t, null);
    surroundings(t, { VALKEY_URL: url, XDG_STATE_HOME: folder });
    warnings.length = 0;
    const stream = new Stream<{ n: number }>({ topic: "t", group: "g/1", log });
    t.after(() => stream.stop());
    const seen: number[] = [];
    stream.subscribe((event, context) => {
      context.state.put("last", event.payload.n);
      seen.push(event.payload.n);
    });
    await stream.emit({ n: 1 });
    await stream.start();
    await until("the event", () => seen.length === 1);
    assert.equal((await stream.health()).backend, "memory");
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /^Events of t are kept in memory and end with this process: /);
    await until("its state, in the group's own file", () =>
      existsSync(join(folder, "holdfast", "g%2F1.db")),
    );
    // Before its folder goes.
    await stream.stop();
  });
}

test("Stream does not fall back to memory where the server does not let it in", async (t) => {
  surroundings(t, { VALKEY_URL: await answering(t, "-NOAUTH Authentication required.\r\n") });
  const stream = new Stream<{ n: number }>({ topic: "t", log });
  t.after(() => stream.stop());
  await assert.rejects(stream.emit({ n: 1 }), { code: "STREAM_DENIED" });
});
