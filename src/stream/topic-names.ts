/** PSPF's names beside a topic: workers of both share dead letters, late events and the counts of failures. */
import { HoldfastError } from "../core/errors.ts";
import type { Membership } from "./backend.ts";

export function deadLetterTopic(topic: string): string {
  return `${topic}-dlq`;
}

export function lateTopic(topic: string): string {
  return `${topic}-late`;
}

/** A hash: entry ID to how often it has failed. */
export function retryKey(group: string, topic: string): string {
  return `pspf:retries:${group}:${topic}`;
}

/** A group's name stands before the topic's in the names of keys: a brace in it would be a cluster's hash tag. */
export function checkMembership({ topic, group }: Membership): void {
  if (topic === "" || group === "") {
    const why = "Topic and group need a name of one character or more";
    throw new HoldfastError("STREAM_INVALID", why);
  }
  if (/[{}]/.test(group)) {
    throw new HoldfastError("STREAM_INVALID", `Group ${group}: a group's name holds no braces`);
  }
}

/** What a cluster makes a key's slot of: what stands in the first braces. Null: there is none, each key has its own. */
export function hashTag(topic: string): string | null {
  const open = topic.indexOf("{");
  const end = open < 0 ? -1 : topic.indexOf("}", open + 1);
  return end > open + 1 ? topic.slice(open + 1, end) : null;
}
