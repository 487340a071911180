import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { constants, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { SensorFiles } from "../../src/source/sensor-files.ts";
import type { Intake, Message, Source } from "../../src/source/source.ts";
import { createSensorSource, type SensorSourceOptions } from "../../src/source/sensor.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const root = "test/source/recorded/pi4";

async function readOnce(
  t: TestContext,
  options: Partial<SensorSourceOptions> & Pick<SensorSourceOptions, "driver">,
): Promise<{ events: Record<string, unknown>[]; context: RecordingContext }> {
  const context = recordingContext("probe");
  const events: Record<string, unknown>[] = [];
  const intake = {
    hasRoom: () => true,
    accept: ({ payload }: Message) => {
      events.push(JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>);
    },
  } as unknown as Intake;
  const source = createSensorSource(context, {
    stream: "readings",
    every: 60_000,
    only: [],
    root,
    ...options,
  });
  t.after(() => source.close(0));
  await source.open(intake);
  await until("the first reading", () => context.reports.length > 0);
  return { events, context };
}

test("w1 gives what passed its CRC, and refuses the power-on value and a wire held low", async (t) => {
  const { events, context } = await readOnce(t, { driver: "w1" });
  assert.deepEqual(events, [
    { sensor: "28-00000000ee85", temperature: 85 },
    { sensor: "28-0316a2795b00", temperature: -10.125 },
    { sensor: "28-0316a2795bff", temperature: 22.375 },
  ]);
  const { status, detail = "" } = context.now();
  assert.equal(status, "degraded");
  assert.match(detail, /28-000000000bad: temperature has a wrong CRC/);
  assert.match(detail, /28-00000000f085: temperature is 85 °C, the power-on value/);
  assert.match(detail, /28-0000000000aa: temperature is all zeros/);
});

test("only reads the sensors that are named, and misses one that is not there", async (t) => {
  const good = await readOnce(t, { driver: "w1", only: ["28-0316a2795bff"] });
  assert.equal(good.events.length, 1);
  assert.equal(good.context.now().status, "ok");
  const gone = await readOnce(t, { driver: "w1", only: ["28-0316a2795bff", "28-ffffffffffff"] });
  assert.equal(gone.events.length, 1);
  assert.match(gone.context.now().detail ?? "", /28-ffffffffffff: not there/);
});

test("iio gives (raw + offset) × scale in SI units, the channel's own scale before the shared one", async (t) => {
  const { events, context } = await readOnce(t, { driver: "iio" });
  assert.deepEqual(events, [
    { sensor: "bme280", humidity: 48.212, pressure: 101_325, temperature: 21.53 },
    { sensor: "ads1015", voltage0: 2.2, voltage1: -0.015 },
    { sensor: "ads1015-3", temperature: 21 },
  ]);
  assert.match(context.now().detail ?? "", /dht11: it has no channel that is known here/);
});

test("hwmon gives labelled inputs in SI units and leaves out what the kernel calls faulty", async (t) => {
  const { events, context } = await readOnce(t, { driver: "hwmon" });
  assert.deepEqual(events, [
    { sensor: "cpu_thermal", temperature: 48.312 },
    { sensor: "ina219", current: 0.312, voltage: 5.012, power: 1.56 },
    { sensor: "pwmfan", fan: 2950 },
  ]);
  // rpi_volt, on every Raspberry Pi, has an alarm and nothing to measure: no fault of its own.
  assert.equal(
    context.now().detail,
    "SOURCE_ABSENT: pwmfan: temperature is faulty, the kernel says; tried again at each poll",
  );
});

test("thermal gives each zone by its type", async (t) => {
  const { events, context } = await readOnce(t, { driver: "thermal" });
  assert.deepEqual(events, [{ sensor: "cpu-thermal", temperature: 48.312 }]);
  assert.equal(context.now().status, "ok");
});

test("a root without sensors is told in health, with what to check", async (t) => {
  const { events, context } = await readOnce(t, {
    driver: "w1",
    root: "test/source/recorded/none",
  });
  assert.deepEqual(events, []);
  assert.match(context.now().detail ?? "", /no w1 sensor is there; check the wiring/);
});

interface Polled {
  readonly root: string;
  readonly events: Record<string, unknown>[];
  readonly context: RecordingContext;
  readonly clock: FakeClock;
  readonly source: Source;
  /** Lets one poll fall due and end. */
  readonly next: () => Promise<void>;
}

/** Two w1 sensors, `28-000000000001` and `…2`, that a test may tamper with, polled each `every` ms. */
async function polled(t: TestContext, every = 5000): Promise<Polled> {
  const root = tempDir(t);
  for (const name of ["28-000000000001", "28-000000000002"]) {
    mkdirSync(join(root, devices, name), { recursive: true });
    writeFileSync(join(root, devices, name, "w1_slave"), good);
  }
  const clock = new FakeClock();
  const context = recordingContext("probe", clock);
  const events: Record<string, unknown>[] = [];
  const accept = ({ payload }: Message): void => {
    events.push(JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>);
  };
  const options = { stream: "readings", every, only: [], root, driver: "w1" } as const;
  const source = createSensorSource(context, options);
  t.after(() => source.close(0));
  await source.open({ hasRoom: () => true, accept } as unknown as Intake);
  await until("the first poll", () => context.reports.length === 1);
  const next = async (): Promise<void> => {
    const before = context.reports.length;
    clock.advance(every);
    await until("the next poll", () => context.reports.length > before);
  };
  return { root, events, context, clock, source, next };
}

const devices = "sys/bus/w1/devices";
const good = "65 01 4b 46 7f ff 0c 10 1f : crc=1f YES\n65 01 4b 46 7f ff 0c 10 1f t=22312\n";

/** Frees whoever waits for a pipe; a test that left one would not end. */
async function feed(path: string): Promise<void> {
  let pipe: FileHandle | undefined;
  // fifo(7): with O_NONBLOCK it is an error that nobody has opened it to read yet.
  const tryOpen = async (): Promise<boolean> => {
    pipe = await open(path, constants.O_WRONLY | constants.O_NONBLOCK).catch(() => undefined);
    return pipe !== undefined;
  };
  await until("a reader", tryOpen);
  await pipe?.write(good);
  await pipe?.close();
}

test("a sensor that was there and is gone is missed, and heals when it is back", async (t) => {
  const { root, events, context, next } = await polled(t);
  assert.equal(context.now().status, "ok");
  const folder = join(root, devices, "28-000000000002");
  renameSync(folder, join(root, "away"));
  await next();
  assert.equal(context.now().status, "degraded");
  assert.match(context.now().detail ?? "", /^SOURCE_ABSENT: 28-000000000002: not there;/);
  assert.equal(events.length, 3);
  renameSync(join(root, "away"), folder);
  await next();
  assert.equal(context.now().status, "ok");
  assert.equal(events.length, 5);
});

test("a sensor that stays dead is logged once an hour, not at each poll", async (t) => {
  const { root, context, next } = await polled(t, 600_000);
  writeFileSync(join(root, devices, "28-000000000001/w1_slave"), "");
  const warnings = (): number => context.lines.filter(({ level }) => level === "warn").length;
  for (let count = 0; count < 6; count++) await next();
  assert.equal(warnings(), 1);
  await next();
  assert.equal(warnings(), 2);
});

test("a file that hangs costs its own sensor only, is not read again, and heals", async (t) => {
  const { root, events, context, clock } = await polled(t);
  assert.equal(events.length, 2);
  const path = join(root, devices, "28-000000000001/w1_slave");
  rmSync(path);
  // A pipe without a writer: open(2) does not return.
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  try {
    // The poll falls due and hangs; the next one is skipped for it; its time-out is at 5 s.
    clock.advance(5000);
    await until("the read", () => clock.waiting === 2);
    clock.advance(5000);
    await until("the other sensor", () => events.length === 3);
    assert.deepEqual(events[2], { sensor: "28-000000000002", temperature: 22.312 });
    const hangs = /28-000000000001: temperature has not answered for 5 s/;
    await until("health", () => hangs.test(context.now().detail ?? ""));
    assert.equal(context.readFigures()["hanging"], 1);
    assert.equal(context.readFigures()["skipped"], 1);
    clock.advance(5000);
    await until("the other sensor again", () => events.length === 4);
    assert.equal(context.readFigures()["hanging"], 1);
  } finally {
    await feed(path);
  }
  await until("the read to end", () => context.readFigures()["hanging"] === 0);
  rmSync(path);
  writeFileSync(path, good);
  clock.advance(5000);
  await until("both", () => events.length === 6);
  await until("health", () => context.now().status === "ok");
});

test("SensorFiles reads nothing while two files hang, so that threads are left to others", async (t) => {
  const folder = tempDir(t);
  const clock = new FakeClock();
  const files = new SensorFiles(clock);
  const paths = ["a", "b"].map((name) => join(folder, name));
  for (const path of paths) assert.equal(spawnSync("mkfifo", [path]).status, 0);
  try {
    for (const path of paths) {
      const reading = files.text(path);
      clock.advance(5000);
      assert.equal(await reading, undefined);
    }
    writeFileSync(join(folder, "c"), "1");
    assert.equal(await files.text(join(folder, "c")), undefined);
    assert.equal(files.why(join(folder, "c")), "waits for sensors that hang");
    assert.equal(clock.waiting, 0);
  } finally {
    for (const path of paths) await feed(path);
  }
  await until("both to end", () => files.late === 0);
  assert.equal(await files.text(join(folder, "c")), "1");
});

test("close() does not wait for a file that hangs, and nothing enters after it", async (t) => {
  const { root, events, clock, source } = await polled(t);
  const path = join(root, devices, "28-000000000001/w1_slave");
  rmSync(path);
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  clock.advance(5000);
  await until("the read", () => clock.waiting === 2);
  await source.close(0);
  await feed(path);
  await until("the read to end", () => clock.waiting === 0);
  assert.equal(events.length, 2);
});
