import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { test } from "node:test";
import { answers } from "../../src/host/probe.ts";

test("answers() says whether somebody listens", async () => {
  const server = createServer((socket) => socket.on("error", () => undefined)).listen(
    0,
    "127.0.0.1",
  );
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  assert.equal(await answers({ host: "127.0.0.1", port }), true);
  server.close();
  await once(server, "close");
  assert.equal(await answers({ host: "127.0.0.1", port }), false);
  assert.equal(await answers({ host: "nowhere.invalid", port }), false);
});
