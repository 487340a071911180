import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "superstruct";
import { readTlsClient, tlsClientOptions } from "../../src/core/tls.ts";
import { tempDir } from "../support/temp-dir.ts";

test("readTlsClient() names the files that are no certificate or key, before a socket meets them", (t) => {
  const cert = join(tempDir(t), "client.pem");
  writeFileSync(cert, "garbage");
  assert.throws(() => readTlsClient(create({ cert, key: cert }, tlsClientOptions.struct)), {
    code: "SECRET_UNREADABLE",
    message: /Cannot use certificate or key .*client\.pem, .*client\.pem: .*PEM/,
  });
});

test("readTlsClient() names a file that is not there", () => {
  assert.throws(() => readTlsClient(create({ ca: "/nowhere/ca.pem" }, tlsClientOptions.struct)), {
    code: "SECRET_UNREADABLE",
    message: /\/nowhere\/ca\.pem/,
  });
});
