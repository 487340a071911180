import assert from "node:assert/strict";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Intake, Message } from "../../src/source/source.ts";
import { Board, createSystemSource } from "../../src/source/system.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

test("Board reads temperature, throttling, load, memory, network and uptime of a recorded Raspberry Pi 4", async () => {
  const { disk, ...told } = await new Board("test/source/recorded/pi4").read();
  assert.deepEqual(told, {
    temperature: 48.312,
    throttling: {
      underVoltage: true,
      underVoltageSinceBoot: true,
      frequencyCapped: false,
      frequencyCappedSinceBoot: false,
      throttled: true,
      throttledSinceBoot: true,
      temperatureLimit: false,
      temperatureLimitSinceBoot: false,
    },
    load: [0.52, 0.58, 0.59],
    memory: { totalBytes: 3_884_396 * 1024, availableBytes: 2_912_345 * 1024 },
    // wlan0 is down, lo is left out.
    network: {
      eth0: { receivedBytes: 987_654, sentBytes: 123_456 },
      wg0: { receivedBytes: 1500, sentBytes: 2500 },
    },
    uptimeSeconds: 12_345.67,
  });
  assert.ok((disk as { totalBytes: number }).totalBytes > 0);
});

test("Board gives the CPU's share between two readings", async (t) => {
  const root = tempDir(t);
  cpSync("test/source/recorded/pi4/proc", join(root, "proc"), { recursive: true });
  const board = new Board(root);
  assert.equal((await board.read())["cpu"], undefined);
  writeFileSync(join(root, "proc/stat"), "cpu  1030 0 520 8040 510 0 0 0 0 0\n");
  assert.equal((await board.read())["cpu"], 0.5);
});

test("Board leaves out what a machine does not have", async (t) => {
  const told = await new Board(tempDir(t)).read();
  assert.deepEqual(Object.keys(told), ["disk"]);
});

test("a system source hands over one event a poll", async (t) => {
  const context = recordingContext("board");
  const events: Record<string, unknown>[] = [];
  const source = createSystemSource(context, { stream: "system", every: 60_000, root: "/" });
  t.after(() => source.close(0));
  const accept = ({ payload }: Message): void => {
    events.push(JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>);
  };
  await source.open({ hasRoom: () => true, accept } as unknown as Intake);
  await until("the first event", () => events.length === 1);
  assert.ok(Number((events[0]?.["memory"] as { totalBytes?: number } | undefined)?.totalBytes) > 0);
  assert.ok(Number(events[0]?.["uptimeSeconds"]) > 0);
});

test("a board that slows itself is told in health, and so is its recovery", async (t) => {
  const root = tempDir(t);
  const folder = join(root, "sys/devices/platform/soc/soc:firmware");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "get_throttled"), "50005\n");
  const clock = new FakeClock();
  const context = recordingContext("board", clock);
  const source = createSystemSource(context, { stream: "system", every: 10_000, root });
  t.after(() => source.close(0));
  await source.open({ hasRoom: () => true, accept: () => undefined } as unknown as Intake);
  await until("a reading", () => context.reports.length === 1);
  assert.deepEqual(context.now(), {
    status: "degraded",
    detail: "The board says: under-voltage, throttled; check its power supply and its cooling",
  });
  // It was so since boot, and is not any more.
  writeFileSync(join(folder, "get_throttled"), "50000\n");
  clock.advance(10_000);
  await until("a reading", () => context.reports.length === 2);
  assert.equal(context.now().status, "ok");
});

test("Board tells sixteen interfaces at the most", async (t) => {
  const root = tempDir(t);
  mkdirSync(join(root, "proc/net"), { recursive: true });
  const lines = Array.from({ length: 200 }, (_, n) => `veth${n}: 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0`);
  writeFileSync(join(root, "proc/net/dev"), ["a", "b", ...lines, ""].join("\n"));
  const { network } = await new Board(root).read();
  assert.equal(Object.keys(network as object).length, 16);
});
