import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Intake, Message } from "../../src/source/source.ts";
import { createSensorSource, type SensorSourceOptions } from "../../src/source/sensor.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
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
  assert.match(detail, /28-000000000bad: wrong CRC/);
  assert.match(detail, /28-00000000f085: 85 °C is the power-on value/);
  assert.match(detail, /28-0000000000aa: all zeros/);
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
  assert.match(context.now().detail ?? "", /dht11: no channel can be read/);
});

test("hwmon gives labelled inputs in SI units and leaves out what the kernel calls faulty", async (t) => {
  const { events, context } = await readOnce(t, { driver: "hwmon" });
  assert.deepEqual(events, [
    { sensor: "cpu_thermal", temperature1: 48.312 },
    { sensor: "ina219", current1: 0.312, voltage_bus_voltage: 5.012, power1: 1.56 },
    { sensor: "pwmfan", fan1: 2950 },
  ]);
  assert.match(context.now().detail ?? "", /rpi_volt: no input can be read/);
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
