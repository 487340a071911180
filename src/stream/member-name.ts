/**
 * The name of a group's member: the same after a restart, so that what was pending comes back to it at once, and never
 * two live members' at a time.
 *
 * It is HOST-1, HOST-2, … : the first that nobody holds. It is held under a key with a lease, whose value says which
 * process holds it; one that was killed on this machine is known to be dead at once, others when their lease ends.
 */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Clock } from "../core/clock.ts";
import { HoldfastError } from "../core/errors.ts";
import { memberKey } from "./valkey-keys.ts";
import type { ValkeyConnection } from "../valkey/connection.ts";

/** As many members as one host may have in a group: each takes a name and asks for those before it. */
const namesMax = 256;

export interface NameParts {
  readonly connection: ValkeyConnection;
  readonly clock: Clock;
  readonly topic: string;
  readonly group: string;
  readonly leaseMs: number;
  /** Tells members of one process apart. */
  readonly instance: string;
}

export class MemberName {
  readonly #parts: NameParts;
  readonly #self: string;
  #name = "";

  constructor(parts: NameParts) {
    this.#parts = parts;
    const { clock, instance } = parts;
    this.#self = [hostname(), clock.bootId, process.pid, startOf(process.pid) ?? 0, instance].join(
      "|",
    );
  }

  /** @throws HoldfastError transient when `wanted` is held by a live member, or 256 names are */
  async take(wanted: string | undefined): Promise<string> {
    if (wanted !== undefined) {
      const owner = await this.#ask(wanted);
      if (owner === "") return (this.#name = wanted);
      const why = `Member name ${wanted} of group ${this.#parts.group} is held by ${owner.split("|")[0]}, process ${owner.split("|")[2]}`;
      throw new HoldfastError("STREAM_UNREACHABLE", why);
    }
    for (let number = 1; number <= namesMax; number += 1) {
      const name = `${hostname()}-${number}`;
      if ((await this.#ask(name)) === "") return (this.#name = name);
    }
    const why = `All ${namesMax} member names of ${hostname()} in group ${this.#parts.group} are held`;
    throw new HoldfastError("STREAM_UNREACHABLE", why);
  }

  /** False: it was not renewed for longer than its lease, and is another's now. */
  async renew(): Promise<boolean> {
    return (await this.#ask(this.#name)) === "";
  }

  async release(): Promise<void> {
    if (this.#name === "") return;
    await this.#parts.connection.script("unname", [this.#key(this.#name)], [this.#self]);
    this.#name = "";
  }

  /** Empty: it is ours now; otherwise whose it is. */
  async #ask(name: string): Promise<string> {
    const first = await this.#try(name, "");
    return first !== "" && this.#isDead(first) ? this.#try(name, first) : first;
  }

  async #try(name: string, dead: string): Promise<string> {
    const { connection, leaseMs } = this.#parts;
    return String(await connection.script("name", [this.#key(name)], [this.#self, leaseMs, dead]));
  }

  #key(name: string): string {
    return memberKey(this.#parts.group, this.#parts.topic, name);
  }

  /** Known to be: a process of this machine and boot that is not there any more, or is another by now. */
  #isDead(owner: string): boolean {
    const [host, boot, pid, started] = owner.split("|");
    if (host !== hostname() || boot !== this.#parts.clock.bootId) return false;
    return startOf(Number(pid)) !== Number(started);
  }
}

/** When a process began, in clock ticks since the boot (proc(5), field 22); null: there is none. */
function startOf(pid: number): number | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command's name may hold spaces and brackets: fields are counted behind its last bracket.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]);
  } catch {
    return null;
  }
}
