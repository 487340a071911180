/** The kinds of sink. Adding one: its file, a line here, a line in the shared suite's table, the regenerated reference. */
import type { Context } from "../core/context.ts";
import {
  byType,
  checked,
  group,
  type AnyField,
  type Field,
  type Fields,
  type Infer,
  type InferAll,
} from "../core/field.ts";
import { consoleSinkOptions, createConsoleSink } from "./console.ts";
import { deliveryOptions, orderOptions } from "./delivery-options.ts";
import { createFileSink, fileSinkOptions } from "./file.ts";
import { createHttpSink, httpKindOptions } from "./http.ts";
import { createInfluxSink, influxOptions } from "./influx.ts";
import { createMqttSink, mqttSinkOptions } from "./mqtt.ts";
import { createRemoteWriteSink, remoteWriteOptions } from "./remote-write.ts";
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
  http: kind(httpKindOptions, createHttpSink),
  influx: kind(influxOptions, createInfluxSink),
  "remote-write": kind(remoteWriteOptions, createRemoteWriteSink),
  file: kind(fileSinkOptions, createFileSink),
  console: kind(consoleSinkOptions, createConsoleSink),
} as const;

/** The same options, and those of the delivery. */
function withDelivery<F extends AnyField, M extends Fields>(
  field: F,
  more: M,
): Field<Infer<F> & InferAll<M>> {
  const { fields = {}, doc, problem } = field.about;
  const whole = group({ ...fields, ...more }, { doc });
  const asked = problem === undefined ? whole : checked(whole, problem as () => string | null);
  return asked as unknown as Field<Infer<F> & InferAll<M>>;
}

const anyOrder = { ...deliveryOptions, ...orderOptions };

/** An entry of `sinks`. A file and a console are in the order of seq, always. */
export const sinkEntryOptions = byType(
  {
    valkey: withDelivery(sinkKinds.valkey.options, anyOrder),
    mqtt: withDelivery(sinkKinds.mqtt.options, anyOrder),
    http: withDelivery(sinkKinds.http.options, anyOrder),
    influx: withDelivery(sinkKinds.influx.options, anyOrder),
    "remote-write": withDelivery(sinkKinds["remote-write"].options, anyOrder),
    file: withDelivery(sinkKinds.file.options, deliveryOptions),
    console: withDelivery(sinkKinds.console.options, deliveryOptions),
  },
  { doc: "Where events go; the key is the sink's name" },
);
