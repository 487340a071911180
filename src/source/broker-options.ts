/** The embedded broker's options, and what cannot be said about them field by field. */
import type { TlsOptions } from "node:tls";
import {
  group,
  integer,
  listenAddress,
  listOf,
  mapOf,
  optional,
  secret,
  size,
  text,
  type Infer,
} from "../core/field.ts";
import { isLocalAddress } from "../core/loopback.ts";
import { readPem } from "../core/tls.ts";
import { sourceOptions } from "./source.ts";
import { topicPattern } from "./topic-pattern.ts";

const rights = group(
  {
    publish: listOf(topicPattern, { doc: "The topics that the user may publish", default: [] }),
    subscribe: listOf(topicPattern, { doc: "The topics that the user may receive", default: [] }),
  },
  { doc: "What one user may" },
);

export const brokerSourceOptions = group(
  {
    ...sourceOptions,
    listen: listenAddress({
      doc: "Where clients connect (MQTT 3.1.1); beyond loopback it needs users",
      default: "127.0.0.1:1883",
    }),
    topics: listOf(topicPattern, {
      doc: "What enters the stream; other topics only pass between clients",
      default: ["#"],
    }),
    users: mapOf(secret({ doc: "The user's password" }), {
      doc: "Who may connect; left out: anybody on this machine",
    }),
    acl: mapOf(rights, {
      doc: "What each user may; left out: everything, else a user that is not named here may nothing",
    }),
    tls: optional(
      group(
        {
          cert: text({ doc: "PEM file of the certificate", example: "/etc/holdfast/broker.pem" }),
          key: text({ doc: "PEM file of its private key", example: "/etc/holdfast/broker.key" }),
          ca: optional(
            text({ doc: "PEM file of the authorities whose clients may connect; left out: any" }),
          ),
        },
        { doc: "TLS; left out: none" },
      ),
    ),
    maxConnections: integer({
      doc: "Clients at a time; others are turned away",
      default: 100,
      min: 1,
      max: 10_000,
    }),
    limits: group(
      {
        maxPayload: size({
          doc: "A client that sends a larger payload is disconnected",
          default: "1MiB",
          min: "1KiB",
        }),
        queue: integer({
          doc: "Messages kept for a subscriber that is away; what comes then is not kept for it",
          default: 1000,
        }),
        sessions: integer({
          doc: "Clients that are remembered while they are away",
          default: 100,
          min: 1,
        }),
        memory: size({
          doc: "What retained messages and those kept for subscribers may take together",
          default: "16MiB",
        }),
      },
      { doc: "Bounds of what the broker keeps in memory for its clients" },
    ),
  },
  { doc: "An embedded MQTT broker; it acknowledges what is on disk" },
);
export type BrokerSourceOptions = Infer<typeof brokerSourceOptions>;

/** What is wrong with options that are right one by one, as a sentence; null: nothing. */
export function brokerProblem(options: BrokerSourceOptions): string | null {
  if (options.listen.startsWith("unix:")) {
    return `listen is ${options.listen}: clients connect by TCP, give an address such as 127.0.0.1:1883`;
  }
  const users = Object.keys(options.users);
  if (users.length === 0 && !isLocalAddress(options.listen)) {
    return `listen is ${options.listen}, which others can reach: name users, or listen on 127.0.0.1`;
  }
  for (const user of Object.keys(options.acl)) {
    if (!users.includes(user)) return `acl names ${user}, who is not among users`;
  }
  return null;
}

export function listenOf({ listen }: { readonly listen: string }): { host: string; port: number } {
  const colon = listen.lastIndexOf(":");
  const host = listen.slice(0, colon).replaceAll(/^\[|\]$/g, "");
  return { host, port: Number(listen.slice(colon + 1)) };
}

/** @throws HoldfastError SECRET_UNREADABLE */
export function tlsOf(tls: NonNullable<BrokerSourceOptions["tls"]>): TlsOptions {
  return {
    cert: readPem(tls.cert),
    key: readPem(tls.key),
    minVersion: "TLSv1.2",
    ...(tls.ca !== undefined && {
      ca: readPem(tls.ca),
      requestCert: true,
      rejectUnauthorized: true,
    }),
  };
}
