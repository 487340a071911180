import assert from "node:assert/strict";
import { test } from "node:test";
import { LinkMonitor } from "../../src/flow/link-monitor.ts";
import type { FarAddress } from "../../src/core/far-address.ts";
import { FakeClock } from "../support/fake-clock.ts";

const address: FarAddress = { host: "cloud", port: 1883 };
const second = 1_000;

function monitored() {
  const [clock, woken, asked] = [new FakeClock(), [] as string[], [] as string[]];
  const there = new Set<string>();
  const answers = ({ host }: FarAddress): Promise<boolean> => {
    asked.push(host);
    return Promise.resolve(there.has(host));
  };
  const link = new LinkMonitor({ clock, answers });
  const sleeps = (name: string, host: string | null = name): void => {
    const given = host === null ? null : { ...address, host };
    link.sleeps(name, () => void woken.push(name), given);
  };
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  };
  return { clock, link, there, woken, asked, sleeps, pass };
}

test("a probe that reaches a far side which was silent wakes all that sleep", async () => {
  const { there, woken, asked, sleeps, pass } = monitored();
  for (const name of ["a", "b"]) sleeps(name);
  sleeps("files", null);
  await pass(10 * second);
  assert.deepEqual([woken, asked], [[], ["a", "b"]]);
  there.add("b");
  await pass(9 * second);
  assert.deepEqual(woken, []);
  await pass(second);
  assert.deepEqual(woken, ["a", "b", "files"]);
});

test("a far side that answers all along wakes nobody: its trouble is another", async () => {
  const { there, woken, asked, sleeps, pass } = monitored();
  there.add("a");
  sleeps("a");
  for (let probe = 0; probe < 5; probe++) await pass(10 * second);
  assert.deepEqual([woken, asked.length], [[], 5]);
});

test("nothing is probed while nobody sleeps, or nobody has an address; a sleeper leaves no timer behind", async () => {
  const { clock, link, asked, sleeps, pass } = monitored();
  sleeps("files", null);
  assert.equal(clock.waiting, 0);
  sleeps("a");
  assert.equal(clock.waiting, 1);
  link.awake("a");
  link.awake("files");
  assert.equal(clock.waiting, 0);
  await pass(60 * second);
  assert.deepEqual(asked, []);
});
