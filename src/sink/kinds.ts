/** The kinds of sink. Adding one: its file, a line here, a line in the shared suite's table, the regenerated reference. */
import type { Context } from "../core/context.ts";
import { byType, type AnyField, type Infer } from "../core/field.ts";
import { consoleSinkOptions, createConsoleSink } from "./console.ts";
import { createFileSink, fileSinkOptions } from "./file.ts";
import { createMqttSink, mqttSinkOptions } from "./mqtt.ts";
import type { Sink } from "./sink.ts";
import { createValkeySink, valkeySinkOptions } from "./valkey.ts";

interface SinkParts {
  readonly device: string;
}

interface SinkKind<F extends AnyField> {
  readonly options: F;
  readonly create: (context: Context, options: Infer<F>, parts: SinkParts) => Sink;
}

const kind = <F extends AnyField>(options: F, create: SinkKind<F>["create"]): SinkKind<F> => ({
  options,
  create,
});

export const sinkKinds = {
  valkey: kind(valkeySinkOptions, createValkeySink),
  mqtt: kind(mqttSinkOptions, createMqttSink),
  file: kind(fileSinkOptions, createFileSink),
  console: kind(consoleSinkOptions, createConsoleSink),
} as const;

/** An entry of `sinks`. */
export const sinkEntryOptions = byType(
  {
    valkey: sinkKinds.valkey.options,
    mqtt: sinkKinds.mqtt.options,
    file: sinkKinds.file.options,
    console: sinkKinds.console.options,
  },
  { doc: "Where events go; the key is the sink's name" },
);
