import assert from "node:assert/strict";
import { test } from "node:test";
import { credentialsOf, farAddressOf } from "../../src/core/far-address.ts";

test("farAddressOf() reads the first address, with the scheme's own port where none is named", () => {
  const told = (url: string) => farAddressOf({ url });
  assert.deepEqual(told("mqtts://broker.example"), { host: "broker.example", port: 8883 });
  assert.deepEqual(told("https://api.example/v1/{device}/{stream}"), {
    host: "api.example",
    port: 443,
  });
  assert.deepEqual(told("http://user:pass@[::1]:8086/"), { host: "::1", port: 8086 });
  assert.deepEqual(told("rediss://a:6380,rediss://b:6381"), { host: "a", port: 6380 });
  assert.deepEqual(told("redis://10.0.0.7"), { host: "10.0.0.7", port: 6379 });
});

test("farAddressOf() knows none where a sink has no address, or none of the network", () => {
  assert.equal(farAddressOf({ path: "/tmp" }), null);
  assert.equal(farAddressOf({ url: "unix:///run/valkey.sock" }), null);
  assert.equal(farAddressOf({ url: "nothing" }), null);
});

test("credentialsOf() takes what is encoded wrongly as it stands", () => {
  const told = (who: string) => credentialsOf(new URL(`mqtt://${who}far.example`));
  assert.deepEqual(told(""), {});
  assert.deepEqual(told("me@"), { username: "me" });
  assert.deepEqual(told("m%40e:50%25@"), { username: "m@e", password: "50%" });
  assert.deepEqual(told("me:50%@"), { username: "me", password: "50%" });
  assert.deepEqual(told("me:%ff@"), { username: "me", password: "%ff" });
});
