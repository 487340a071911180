/**
 * A member of a group in a process of its own, to be killed: joins, takes `take` entries, says so, and goes on renewing
 * them. Argument: a MemberPlan as JSON. Prints one line of JSON: its name and the IDs that it has.
 */
import { setInterval } from "node:timers";
import { ValkeyBackend } from "../../src/index.ts";

export interface MemberPlan {
  readonly url: string;
  readonly topic: string;
  readonly group: string;
  readonly take: number;
}

const { url, topic, group, take } = JSON.parse(process.argv[2] ?? "") as MemberPlan;
const backend = new ValkeyBackend({ url });
await backend.open();
const member = await backend.join({ topic, group, from: "start", leaseMs: 60_000 });
const { deliveries } = await member.read(take, 5_000, new AbortController().signal);
const ids = deliveries.map(({ id }) => id);
setInterval(() => void member.renew(ids), 50);
process.stdout.write(`${JSON.stringify({ consumer: member.consumer, ids })}\n`);
