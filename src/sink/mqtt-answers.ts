/** What a broker's answers mean for a sink: which trouble passes, which a person must mend, which is one event's. */
import { HoldfastError } from "../core/errors.ts";

/** CONNACK: protocol version not supported, in MQTT 5 (3.2.2.2) and in 3.1.1 (3.2.2.3). */
export const unsupportedVersions: readonly unknown[] = [0x84, 1];

/**
 * CONNACK and DISCONNECT codes that pass by themselves. MQTT 5, 2.4: server unavailable, busy, shutting down,
 * keep alive timeout, session taken over, packet too large, message rate too high, quota exceeded, administrative
 * action, use another server, connection rate exceeded, maximum connect time; and 3.1.1's 3, server unavailable.
 * What is not here (user name, client ID, not authorized, banned …) waits for a person.
 */
const passing = new Set([
  3, 0x88, 0x89, 0x8b, 0x8d, 0x8e, 0x93, 0x95, 0x96, 0x97, 0x98, 0x9c, 0x9f, 0xa0,
]);

/** What Node's TLS says of a certificate that is not good; CERT_NOT_YET_VALID may be our clock and passes. */
const badCertificate =
  /^(CERT_(?!NOT_YET_VALID)|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|HOSTNAME_MISMATCH|INVALID_CA|ERR_TLS_CERT|ERR_OSSL)/;

/** An error of the connection. `code`: an MQTT reason, an errno name, or nothing that is known. */
export function connectionError(
  far: string,
  reason: string,
  code: unknown,
  cause?: unknown,
): HoldfastError {
  const forPerson =
    typeof code === "number"
      ? !passing.has(code)
      : typeof code === "string" && badCertificate.test(code);
  const message = `Cannot deliver to ${far}: ${reason}`;
  const options = cause === undefined ? {} : { cause };
  return new HoldfastError(forPerson ? "SINK_DENIED" : "SINK_UNREACHABLE", message, options);
}

/** PUBACK codes (MQTT 5, 3.4.2.1) that are not about this one event. */
const notAuthorized = 0x87;
const packetIdInUse = 0x91;
const quotaExceeded = 0x97;

/**
 * An error that PUBACK told. Most are one event's for good (topic name or payload format invalid, unspecified);
 * a quota passes; where we may not publish, a person must say so: to dead-letter everything would empty the
 * journal into a place where nobody looks.
 */
export function publishError(topic: string, reason: string, code: number): HoldfastError {
  const message = `Broker refused a message to ${topic}: ${reason}`;
  if (code === notAuthorized) return new HoldfastError("SINK_DENIED", message);
  if (code === quotaExceeded || code === packetIdInUse) {
    return new HoldfastError("SINK_UNREACHABLE", message);
  }
  return new HoldfastError("SINK_REFUSED", message);
}

/** The longest UTF-8 string in MQTT, 1.5.4. */
const topicBytesMax = 65_535;

/** Why `topic` cannot be published to; null: it can. */
export function topicProblem(topic: string): string | null {
  if (topic === "") return "Topic is empty [MQTT-4.7.3-1]";
  if (/[+#]/.test(topic)) return `Topic ${topic} has a wildcard [MQTT-3.3.2-2]`;
  if (topic.includes("\0")) return "Topic has a null character [MQTT-4.7.3-2]";
  if (topic.length * 3 > topicBytesMax && Buffer.byteLength(topic) > topicBytesMax) {
    return `Topic has more than ${topicBytesMax} bytes [MQTT-4.7.3-3]`;
  }
  return null;
}
