/** The kinds of source. Adding one: its file, a line here, a line in the tests' table, the regenerated reference. */
import type { Context } from "../core/context.ts";
import { byType, type AnyField, type Infer } from "../core/field.ts";
import { createBrokerSource } from "./broker.ts";
import { brokerSourceOptions } from "./broker-options.ts";
import { createMqttSource } from "./mqtt.ts";
import { mqttSourceOptions } from "./mqtt-options.ts";
import { createSensorSource, sensorSourceOptions } from "./sensor.ts";
import type { Source } from "./source.ts";
import { createSystemSource, systemSourceOptions } from "./system.ts";

interface SourceParts {
  readonly device: string;
}

interface SourceKind<F extends AnyField> {
  readonly options: F;
  readonly create: (context: Context, options: Infer<F>, parts: SourceParts) => Source;
}

const kind = <F extends AnyField>(options: F, create: SourceKind<F>["create"]): SourceKind<F> => ({
  options,
  create,
});

export const sourceKinds = {
  mqtt: kind(mqttSourceOptions, createMqttSource),
  broker: kind(brokerSourceOptions, createBrokerSource),
  system: kind(systemSourceOptions, createSystemSource),
  sensor: kind(sensorSourceOptions, createSensorSource),
} as const;

/** An entry of `sources`. */
export const sourceEntryOptions = byType(
  {
    mqtt: sourceKinds.mqtt.options,
    broker: sourceKinds.broker.options,
    system: sourceKinds.system.options,
    sensor: sourceKinds.sensor.options,
  },
  { doc: "Where events come from; the key is the source's name" },
);
