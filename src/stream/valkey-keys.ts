/**
 * The keys that we keep beside a topic. Each ends in the topic's name, and with it in its hash tag: on a cluster they
 * lie where it lies. What stands before is escaped, so that no two have one key (group `a:b` of topic `c`, group `a` of
 * topic `b:c`) and no brace of it is taken for the tag. PSPF's own names are in topic-names.ts.
 */

/** A hash: state key to its end in ms, a colon, and the value's bytes. */
export function stateKey(group: string, topic: string): string {
  return `holdfast:state:${escaped(group)}:${topic}`;
}

/** A sorted set: state keys by their ends in ms, those that have one. */
export function expiriesKey(group: string, topic: string): string {
  return `holdfast:expiries:${escaped(group)}:${topic}`;
}

/** A UUID, new where the topic or the group was made anew. */
export function incarnationKey(group: string, topic: string): string {
  return `holdfast:incarnation:${escaped(group)}:${topic}`;
}

/** A hash: who is alive until when, and whose each slot is (valkey-deal.ts). */
export function membersKey(group: string, topic: string): string {
  return `holdfast:members:${escaped(group)}:${topic}`;
}

/** Which process holds a member's name. */
export function memberKey(group: string, topic: string, name: string): string {
  return `holdfast:member:${escaped(group)}:${escaped(name)}:${topic}`;
}

/** The last `n` that a producer appended to a topic. */
export function producerKey(topic: string, producer: string): string {
  return `holdfast:producer:${escaped(producer)}:${topic}`;
}

function escaped(text: string): string {
  return text.replace(/[%:{}]/g, (letter) => `%${letter.charCodeAt(0).toString(16)}`);
}
