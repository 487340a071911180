/** What the user writes about an MQTT source, and what a connection takes from it. */
import {
  duration,
  group,
  integer,
  listOf,
  oneOf,
  optional,
  secret,
  text,
  url,
  type Infer,
} from "../core/field.ts";
import { addressOf, credentialsOf, type FarAddress } from "../core/far-address.ts";
import { readTlsClient, tlsClientOptions } from "../core/tls.ts";
import type { ConnectionPlan, Protocol } from "./mqtt-link.ts";
import { sourceOptions } from "./source.ts";
import { topicPattern } from "./topic-pattern.ts";

export const mqttSourceOptions = group(
  {
    ...sourceOptions,
    url: url({
      doc: "The broker",
      protocols: ["mqtt", "mqtts"],
      example: "mqtts://broker.local:8883",
    }),
    username: optional(text({ doc: "The user name, if the broker wants one" })),
    password: optional(secret({ doc: "The password, if the broker wants one" })),
    topics: listOf(topicPattern, { doc: "What to subscribe to", min: 1 }),
    qos: oneOf([0, 1, 2], {
      doc: "0: may lose; 1: none is lost, a broker may repeat some, marked `dup`; 2: exactly once",
      default: 1,
    }),
    clientId: optional(
      text({ doc: "Names the session at the broker; left out: holdfast-DEVICE-SOURCE" }),
    ),
    sessionExpiry: duration({
      doc: "How long the broker is asked to keep what arrives while we are away (MQTT 5)",
      default: "7d",
    }),
    retained: oneOf(["new-only", "accept", "ignore"], {
      doc: "Retained messages: only when a subscription is new, at each connection, or never",
      default: "new-only",
    }),
    receiveMaximum: integer({
      doc: "How many unacknowledged messages a broker is asked to send at most (MQTT 5)",
      default: 2048,
      min: 1,
      max: 65_535,
    }),
    keepAlive: duration({
      doc: "A connection that was silent for as long is probed, and given up after one and a half times that",
      default: "30s",
      min: "1s",
      // Two bytes of seconds on the wire.
      max: "18h",
    }),
    connectTimeout: duration({
      doc: "How long name look-up, TCP, TLS and the broker's answer may take together",
      default: "30s",
      min: "1s",
    }),
    protocol: oneOf(["auto", 5, "3.1.1"], {
      doc: "The MQTT version; auto: 5, or 3.1.1 where the broker knows no better",
      default: "auto",
    }),
    tls: tlsClientOptions,
  },
  { doc: "Messages of an MQTT broker, acknowledged when they are on disk" },
);
export type MqttSourceOptions = Infer<typeof mqttSourceOptions>;

/**
 * What a connection needs. Files are read each time, so that rotated ones are seen.
 * @throws HoldfastError SECRET_UNREADABLE
 */
export function connectionPlan(
  options: MqttSourceOptions,
  clientId: string,
  protocol: Protocol,
): ConnectionPlan {
  const url = new URL(options.url);
  const isSecure = url.protocol === "mqtts:";
  const own = credentialsOf(url);
  return {
    // Its schemes are known there.
    ...(addressOf(url) as FarAddress),
    tls: isSecure ? readTlsClient(options.tls) : null,
    protocol,
    clientId,
    username: options.username ?? own.username,
    password: options.password?.reveal() ?? own.password,
    keepAliveMs: options.keepAlive,
    sessionExpiryMs: options.sessionExpiry,
    receiveMaximum: options.receiveMaximum,
    connectTimeoutMs: options.connectTimeout,
  };
}
