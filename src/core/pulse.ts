/** What a part shows to whoever watches that it is alive (host/watchdog.ts). */
export interface Pulse {
  /** What is watched, for the log. */
  readonly name: string;
  /** Grows with each step that the part makes. */
  steps(): number;
  /**
   * Whether something waits that is this part's own to do. What waits for a far side, a full disk, a time or a person
   * is not: no restart brings that about.
   */
  owes(): boolean;
}
