/**
 * A worker of PSPF as it is on the wire, not its code: reads as `worker-xxxxxxxx`, acknowledges with MULTI of XACK and
 * HDEL of its retry hash, counts failures there, moves what failed too often into `{topic}-dlq`. Like PSPF it never reads
 * again what failed: that stays pending.
 */
import { randomBytes } from "node:crypto";
import { ValkeyConnection, type Reply } from "../../src/valkey/connection.ts";

export interface PspfWorkerPlan {
  readonly url: string;
  readonly topic: string;
  readonly group: string;
  /** Throws: the event has failed. */
  readonly handle: (fields: ReadonlyMap<string, string>) => void;
}

export class PspfWorker {
  readonly consumer = `worker-${randomBytes(4).toString("hex")}`;
  readonly #plan: PspfWorkerPlan;
  readonly #connection: ValkeyConnection;
  #isEnding = false;
  #loop: Promise<void> | undefined;

  constructor(plan: PspfWorkerPlan) {
    this.#plan = plan;
    this.#connection = new ValkeyConnection({ url: plan.url });
  }

  async start(): Promise<void> {
    const { topic, group } = this.#plan;
    await this.#connection.open();
    await this.#connection
      .call("XGROUP", "CREATE", topic, group, "0", "MKSTREAM")
      .catch(() => undefined);
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#isEnding = true;
    await this.#loop;
    this.#connection.close();
  }

  async #run(): Promise<void> {
    const { topic, group } = this.#plan;
    const read = ["GROUP", group, this.consumer, "COUNT", 10, "BLOCK", 100, "STREAMS", topic, ">"];
    while (!this.#isEnding) {
      const found = (await this.#connection.call("XREADGROUP", ...read)) as
        | [Buffer, [Buffer, Buffer[]][]][]
        | null;
      for (const [id, fields] of found?.[0]?.[1] ?? []) await this.#one(String(id), fields);
    }
  }

  async #one(id: string, fields: readonly Buffer[]): Promise<void> {
    const { topic, group, handle } = this.#plan;
    const retries = `pspf:retries:${group}:${topic}`;
    const named = new Map<string, string>();
    for (let at = 0; at + 1 < fields.length; at += 2) {
      named.set(String(fields[at]), String(fields[at + 1]));
    }
    try {
      handle(named);
    } catch (thrown) {
      const failures = Number(await this.#connection.call("HINCRBY", retries, id, 1));
      if (failures < 3) return;
      const said = ["_error", String(thrown), "_original_stream", topic, "_original_msg_id", id];
      const moved = ["_moved_timestamp", `${Date.now() / 1_000}`];
      await this.#connection.call("XADD", `${topic}-dlq`, "*", ...fields, ...said, ...moved);
    }
    await this.#transaction(["XACK", topic, group, id], ["HDEL", retries, id]);
  }

  async #transaction(...commands: [string, ...string[]][]): Promise<void> {
    const sent: Promise<Reply>[] = [this.#connection.call("MULTI")];
    for (const command of commands) sent.push(this.#connection.call(...command));
    sent.push(this.#connection.call("EXEC"));
    await Promise.all(sent);
  }
}
