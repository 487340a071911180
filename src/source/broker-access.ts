/** Who may connect to the embedded broker, publish and subscribe. */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Secret } from "../core/secret.ts";
import { coversFilter } from "./topic-filter.ts";
import { parseTopicPattern, type TopicPattern } from "./topic-pattern.ts";

export interface AccessRules {
  /** None: anybody, without a name. */
  readonly users: Readonly<Record<string, Secret>>;
  /** Empty: every user may everything. Else whoever is not named may nothing. */
  readonly acl: Readonly<
    Record<string, { readonly publish: readonly string[]; readonly subscribe: readonly string[] }>
  >;
}

interface Rights {
  readonly publish: readonly TopicPattern[];
  readonly subscribe: readonly TopicPattern[];
}

export class BrokerAccess {
  readonly #users: ReadonlyMap<string, Secret>;
  readonly #rights: ReadonlyMap<string, Rights> | null;

  constructor({ users, acl }: AccessRules) {
    this.#users = new Map(Object.entries(users));
    const rights = Object.entries(acl).map(([user, { publish, subscribe }]) => {
      const parsed = {
        publish: publish.map(parseTopicPattern),
        subscribe: subscribe.map(parseTopicPattern),
      };
      return [user, parsed] as const;
    });
    this.#rights = rights.length === 0 ? null : new Map(rights);
  }

  /**
   * Reads every password once. @throws HoldfastError SECRET_UNREADABLE
   */
  probe(): void {
    for (const secret of this.#users.values()) secret.reveal();
  }

  /**
   * Takes the same time for a wrong name as for a wrong password. The password is read at each connection, so that
   * a rotated file is seen. @throws HoldfastError SECRET_UNREADABLE
   */
  admits(user: string | undefined, password: Uint8Array | undefined): boolean {
    if (this.#users.size === 0) return true;
    const secret = user === undefined ? undefined : this.#users.get(user);
    const expected = digest(secret?.reveal() ?? "");
    const isEqual = timingSafeEqual(expected, digest(password ?? ""));
    return isEqual && secret !== undefined;
  }

  mayPublish(user: string | undefined, topic: string): boolean {
    if (this.#rights === null) return true;
    const patterns = this.#rights.get(user ?? "")?.publish ?? [];
    return patterns.some((pattern) => pattern.match(topic) !== null);
  }

  /** Whether every topic that `filter` can match is allowed. */
  maySubscribe(user: string | undefined, filter: string): boolean {
    if (this.#rights === null) return true;
    const patterns = this.#rights.get(user ?? "")?.subscribe ?? [];
    return patterns.some((pattern) => coversFilter(pattern.filter, filter));
  }

  mayReceive(user: string | undefined, topic: string): boolean {
    if (this.#rights === null) return true;
    const patterns = this.#rights.get(user ?? "")?.subscribe ?? [];
    return patterns.some((pattern) => pattern.match(topic) !== null);
  }
}

/** Equal lengths for timingSafeEqual, whatever was sent. */
function digest(text: string | Uint8Array): Buffer {
  return createHash("sha256").update(text).digest();
}
