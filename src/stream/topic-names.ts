/** PSPF's names beside a topic: workers of both share dead letters, late events and the counts of failures. */

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
