export function retryKey(group: string, topic: string): string {
  return `pspf:retries:${group}:${topic}`;
}
