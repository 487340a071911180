/** The defaults of the mqtt sink, as a configuration without a word would have them. */
import type { MqttSinkSettings } from "../../src/sink/mqtt.ts";

export function mqttSettings(url: string, given: Partial<MqttSinkSettings> = {}): MqttSinkSettings {
  return {
    from: ["readings"],
    url,
    topic: "{device}/{stream}",
    qos: 1,
    retain: false,
    username: undefined,
    password: undefined,
    statusTopic: undefined,
    clientId: undefined,
    protocol: "auto",
    window: 256,
    ackTimeout: 30_000,
    tls: { ca: undefined, cert: undefined, key: undefined, verify: true },
    ...given,
  };
}
