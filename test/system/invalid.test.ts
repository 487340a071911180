/** Bad input costs one event (invariant 8): the rest goes on, and the dead letter says what it was and why. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { connectAsync } from "mqtt";
import { readArchive } from "../support/archive.ts";
import { childAgent, type ChildAgent } from "../support/child-agent.ts";
import { holdfast } from "../support/command-line.ts";
import { figure, untilFigure } from "../support/figures.ts";
import { freePort } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";

interface Letter {
  readonly id: number;
  readonly seq: number | null;
  readonly origin: string;
  readonly originName: string;
  readonly code: string;
  readonly reason: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: unknown;
  readonly payloadBytes: number;
  readonly truncated: boolean;
}

interface Inspected {
  readonly total: number;
  readonly deadLetters: readonly Letter[];
}

async function startAgent(
  t: TestContext,
): Promise<{ agent: ChildAgent; archive: string; url: string }> {
  const folder = tempDir(t);
  const archive = join(folder, "archive");
  const port = await freePort();
  const agent = await childAgent(
    folder,
    `
sources:
  in: { type: broker, listen: "127.0.0.1:${port}", topics: ["greenhouse/{device}/env"], stream: readings, limits: { maxPayload: 2MiB } }
streams:
  readings:
    linger: 20ms
    schema:
      n: integer
      temperature: number?
      humidity: { type: number, min: 0, max: 100, optional: true }
sinks:
  archive: { type: file, path: ${archive}, from: [readings] }
`,
  );
  t.after(() => agent.kill());
  await agent.start();
  return { agent, archive, url: `mqtt://127.0.0.1:${port}` };
}

/** Each resolves when it is acknowledged; all go out in the order given. */
async function publish(t: TestContext, url: string, payloads: readonly (string | Buffer)[]) {
  const client = await connectAsync(url, { reconnectPeriod: 0 });
  t.after(() => client.endAsync(true));
  await Promise.all(
    payloads.map((payload) => client.publishAsync("greenhouse/e1/env", payload, { qos: 1 })),
  );
}

async function inspect(t: TestContext, agent: ChildAgent): Promise<Inspected> {
  const answer = await holdfast(t, ["dlq-inspect", "readings", "--json", "--url", agent.adminUrl]);
  assert.equal(answer.code, 0, answer.err);
  return JSON.parse(answer.out) as Inspected;
}

test("run delivers 999 of 1,000 and keeps the one that does not fit, with topic, payload and reason", async (t) => {
  const { agent, archive, url } = await startAgent(t);
  const bad = '{"n":500,"temperature":"warm"}';
  const payloads = Array.from({ length: 1000 }, (_, n) =>
    n === 500 ? bad : JSON.stringify({ n, temperature: 20 + n / 1000 }),
  );
  // All are acknowledged, the bad one too: else its sender would send it for ever.
  await publish(t, url, payloads);
  await untilFigure(
    agent,
    'holdfast_sink_events_total{sink="archive",status="delivered"}',
    (value) => value >= 999,
  );
  const found = readArchive(archive, "readings");
  assert.deepEqual(
    found.map((line) => line.payload["n"]),
    Array.from({ length: 1000 }, (_, n) => n).filter((n) => n !== 500),
  );
  assert.deepEqual(
    found.map((line) => line.seq),
    Array.from({ length: 999 }, (_, index) => index + 1),
    "what does not fit leaves no hole in seq",
  );
  const { total, deadLetters } = await inspect(t, agent);
  assert.equal(total, 1);
  const [letter] = deadLetters;
  assert.deepEqual(letter?.payload, JSON.parse(bad));
  assert.equal(letter?.headers["topic"], "greenhouse/e1/env");
  assert.deepEqual(
    [letter?.origin, letter?.originName, letter?.seq, letter?.code],
    ["source", "in", null, "EVENT_INVALID"],
  );
  assert.match(letter?.reason ?? "", /temperature: found "warm", expected a number/);
  const metrics = await agent.metrics();
  assert.equal(figure(metrics, 'holdfast_dlq_events{stream="readings"}'), 1);
  assert.equal(
    figure(metrics, 'holdfast_source_events_total{source="in",status="dead_letter"}'),
    1,
  );
  assert.equal((await agent.health()).status, "ok");
});

test("dlq-inspect tells each kind of refusal, dlq-purge takes them away", async (t) => {
  const { agent, url } = await startAgent(t);
  const large = Buffer.from(`{"n":1,"pad":"${"x".repeat(1024 * 1024)}"}`);
  const refused: readonly (readonly [string | Buffer, RegExp])[] = [
    ['{"n":1,', /JSON/],
    [Buffer.from([0xff, 0xfe, 0x00]), /not json: .*utf-8/],
    ['{"n":"one"}', /n: .*whole number/],
    ['{"n":1.5}', /n: .*whole number/],
    ['{"n":1,"humidity":101}', /humidity.*100/],
    ['{"temperature":20}', /n: found nothing/],
    ["[1,2]", /object/],
    [large, /\d+ bytes: at most 1048576/],
  ];
  await publish(t, url, [...refused.map(([payload]) => payload), '{"n":7}']);
  await untilFigure(
    agent,
    'holdfast_source_events_total{source="in",status="accepted"}',
    (value) => value >= 1,
  );
  const { total, deadLetters } = await inspect(t, agent);
  t.diagnostic(deadLetters.map((letter) => `${letter.code}: ${letter.reason}`).join("\n"));
  assert.equal(total, refused.length);
  for (const [index, [payload, reason]] of refused.entries()) {
    assert.match(deadLetters[index]?.reason ?? "", reason, String(payload).slice(0, 80));
    assert.equal(deadLetters[index]?.payloadBytes, Buffer.byteLength(payload));
  }
  assert.equal(deadLetters.at(-1)?.truncated, true, "a large payload is shown by its beginning");

  const text = await holdfast(t, ["dlq-inspect", "readings", "--url", agent.adminUrl]);
  assert.equal(text.code, 0);
  assert.match(text.out, /greenhouse\/e1\/env/);
  assert.match(text.out, /"humidity":101/);

  const unasked = await holdfast(t, ["dlq-purge", "readings", "--url", agent.adminUrl]);
  assert.equal(unasked.code, 2, "nobody is there to be asked");
  assert.equal((await inspect(t, agent)).total, refused.length);
  const purged = await holdfast(t, ["dlq-purge", "readings", "--yes", "--url", agent.adminUrl]);
  assert.equal(purged.code, 0, purged.err);
  assert.match(purged.out, new RegExp(`\\b${refused.length} dead letters`));
  assert.equal((await inspect(t, agent)).total, 0);
});
