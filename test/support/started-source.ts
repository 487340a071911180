/** An MQTT source on a clock that stands still, against a broker and an intake that the test leads. */
import type { TestContext } from "node:test";
import { create } from "superstruct";
import { mqttSourceOptions, type MqttSourceOptions } from "../../src/source/mqtt-options.ts";
import { createMqttSource } from "../../src/source/mqtt.ts";
import type { Source } from "../../src/source/source.ts";
import { FakeClock } from "./fake-clock.ts";
import { heldIntake, type HeldIntake } from "./held-intake.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";
import { scriptedBroker, type ScriptedBroker } from "./scripted-broker.ts";
import { until } from "./until.ts";

export interface StartedSource {
  readonly source: Source;
  readonly broker: ScriptedBroker;
  readonly intake: HeldIntake;
  readonly clock: FakeClock;
  readonly context: RecordingContext;
  /** Lets time pass until connection `number` is made. */
  readonly reconnect: (number: number) => Promise<void>;
}

export function mqttOptions(
  url: string,
  more: Readonly<Record<string, unknown>> = {},
): MqttSourceOptions {
  return create(
    { url, topics: ["load/{device}"], stream: "load", ...more },
    mqttSourceOptions.struct,
  );
}

export async function startedSource(
  test: TestContext,
  more: Readonly<Record<string, unknown>> = {},
  parts: { intake?: HeldIntake; broker?: ScriptedBroker } = {},
): Promise<StartedSource> {
  const clock = new FakeClock();
  const context = recordingContext("load", clock);
  const broker = parts.broker ?? (await scriptedBroker(test));
  const intake = parts.intake ?? heldIntake();
  const source = createMqttSource(context, mqttOptions(broker.url, more), { device: "d1" });
  test.after(async () => {
    const closing = source.close(0);
    clock.advance(1000);
    await closing;
  });
  await source.open(intake);
  return {
    source,
    broker,
    intake,
    clock,
    context,
    async reconnect(number) {
      await until(`connection ${number}`, () => {
        clock.advance(100);
        return broker.clients.length >= number;
      });
    },
  };
}
