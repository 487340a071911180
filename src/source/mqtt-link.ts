/** What passes between the MQTT source and one connection to its broker: mqtt-connection.ts makes and keeps it. */
import type { HoldfastError } from "../core/errors.ts";
import type { TlsClientFiles } from "../core/tls.ts";

export type Protocol = 4 | 5;

/** Everything that a connection needs to be made. */
export interface ConnectionPlan {
  readonly host: string;
  readonly port: number;
  /** Null: no TLS. */
  readonly tls: TlsClientFiles | null;
  readonly protocol: Protocol;
  readonly clientId: string;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly keepAliveMs: number;
  readonly sessionExpiryMs: number;
  readonly receiveMaximum: number;
  readonly connectTimeoutMs: number;
}

export interface Session {
  readonly isPresent: boolean;
  /** What the broker keeps it for, where that is less than was asked; MQTT 5 alone says. */
  readonly expiryMs: number | null;
}

/** Why a connection is over. */
export interface End {
  readonly error: HoldfastError;
  /** `yes`: the broker said so. `perhaps`: it hung up on CONNECT, as some do that know 3.1.1 alone. */
  readonly needsOlderProtocol: "yes" | "perhaps" | "no";
  readonly isTakenOver: boolean;
}

export interface Publish {
  readonly topic: string;
  readonly payload: Uint8Array;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  readonly retain: boolean;
  /** 0 at QoS 0. */
  readonly packetId: number;
  /** Not 0: it was too large to be taken in, its payload is not here, it is only to be acknowledged. */
  readonly oversizeBytes: number;
}

export interface Subscription {
  readonly filter: string;
  readonly qos: 0 | 1 | 2;
  /** MQTT 5, 3.8.3.1: 0 send retained messages, 1 only if the subscription is new, 2 never. */
  readonly retainHandling: 0 | 1 | 2;
}

export interface ConnectionListener {
  connected(session: Session): void;
  /** SUBACK: a code for each subscription. */
  subscribed(granted: readonly number[]): void;
  publish(packet: Publish): void;
  /** PUBREL. */
  release(packetId: number): void;
  /** All packets of one chunk of the socket were handed over. */
  chunkEnded(): void;
  /** Once, and the last call; not after `disconnect` or `destroy`. */
  ended(end: End): void;
}
