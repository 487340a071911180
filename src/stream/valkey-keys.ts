/**
 * The keys that we keep beside a topic. Each holds the topic's name, and with it its hash tag: on a cluster they lie
 * where it lies. PSPF's own (retries, dead letters) are in wire-pspf.ts.
 */

/** A hash: state key to its end in ms, a colon, and the value's bytes. */
export function stateKey(group: string, topic: string): string {
  return `holdfast:state:${group}:${topic}`;
}

/** A UUID, new where the topic or the group was made anew. */
export function incarnationKey(group: string, topic: string): string {
  return `holdfast:incarnation:${group}:${topic}`;
}

/** A hash: who is alive until when (`m:`), whose each slot is (`s:`), how often they moved (`g`). */
export function membersKey(group: string, topic: string): string {
  return `holdfast:members:${group}:${topic}`;
}

/** Which process holds a member's name. */
export function memberKey(group: string, topic: string, name: string): string {
  return `holdfast:member:${group}:${topic}:${name}`;
}

/** The last `n` that a producer appended to a topic. */
export function producerKey(topic: string, producer: string): string {
  return `holdfast:producer:${topic}:${producer}`;
}
