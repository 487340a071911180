/**
 * Metrics through an outage of six hours, on a real Prometheus: the samples lie in a real journal, the newest goes
 * first once the link is back, the server is killed amid the backlog and answers are lost; the series has no gap and
 * no duplicate.
 */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createDelivery } from "../../src/flow/deliver.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { createRemoteWriteSink } from "../../src/sink/remote-write.ts";
import type { StoredEvent } from "../../src/core/event.ts";
import { assertSettled } from "../support/assert-settled.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { remoteWriteSettings } from "../support/http-settings.ts";
import { journalSetup } from "../support/journal-setup.ts";
import { startPrometheus } from "../support/prometheus.ts";
import { recordingContext } from "../support/recording-context.ts";
import { storedEvent } from "../support/stored-event.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const stream = "_metrics";
const everyMs = 15_000;
const roundsAnHour = 3_600_000 / everyMs;
const never = new AbortController().signal;

/** A counter that grows by a different step each time, and a gauge: what was mixed up shows. */
const samplesOf = (round: number) => ({
  'holdfast_sink_events_total{sink="up",status="delivered"}': (round * (round + 1)) / 2,
  holdfast_journal_events: round % 97,
});

test("a series has no gap and no duplicate after an outage of six hours", async (t) => {
  const folder = tempDir(t);
  const server = await startPrometheus(folder);
  t.after(() => server.kill());
  const link = await lossyLink(t, Number(new URL(server.url).port));
  const journal = await openJournal(t, folder);
  const clock = new FakeClock();
  const context = recordingContext("metrics", clock);
  const settings = { ...remoteWriteSettings(`${link.url}/api/v1/write`), answerTimeout: 5000 };
  const makeSink = () => createRemoteWriteSink(context, settings, { device: "box" });
  const begin = Math.floor(Date.now() / everyMs) * everyMs - 7 * 3_600_000;
  const timeOf = (round: number): number => begin + round * everyMs;

  let rounds = 0;
  const append = async (hours: number): Promise<void> => {
    const safe = Array.from({ length: hours * roundsAnHour }, () => {
      const round = rounds++;
      const time = timeOf(round);
      const payload = Buffer.from(JSON.stringify(samplesOf(round)));
      const event = { key: null, time, receivedAt: time, headers: {}, payload };
      return new Promise<void>((resolve) => journal.append(stream, event, resolve));
    });
    await Promise.all(safe);
  };
  const delivery = createDelivery({
    context,
    journal,
    sink: makeSink(),
    streams: [stream],
    formats: new Map([[stream, "json"]]),
    device: "box",
  });
  t.after(() => delivery.stop(0));
  const delivered = (left: number): Promise<void> =>
    until(`${left} to be left: ${context.now().detail}`, () => {
      clock.advance(500);
      return (delivery.lag().get(stream) ?? 0) <= left;
    });

  await append(1);
  delivery.start();
  await delivered(0);
  link.isUp = false;
  link.cutAll();
  await append(6);
  // Back again: a sink that sends the newest first would send this.
  link.isUp = true;
  const live = makeSink();
  t.after(() => live.close());
  await live.open(new Map(), never);
  assert.equal((await live.send(batchOf(rounds - 1, timeOf(rounds - 1)), never)).settled, 1);
  link.answersLost = 2;
  await delivered(600);
  await server.kill();
  clock.advance(2000);
  await server.start();
  await delivered(0);

  for (const [name, value] of Object.entries(samplesOf(1))) {
    const [series, ...others] = await server.query(`${name}[9h]`);
    assert.deepEqual(others, []);
    const { device, instance, job } = series?.metric ?? {};
    assert.deepEqual([device, instance, job], ["box", "box", "holdfast"]);
    const wanted = Array.from({ length: rounds }, (_, round): [number, number] => [
      timeOf(round),
      Object.entries(samplesOf(round)).find(([key]) => key === name)?.[1] ?? value,
    ]);
    const found = (series?.values ?? []).map(([seconds, text]) => [seconds * 1000, Number(text)]);
    assert.deepEqual(found, wanted);
  }
  assert.equal(link.lostAnswers, 2, "answers were lost: something came twice");
  assert.equal(
    context.sums.get('holdfast_sink_events_total{sink="metrics",status="refused"}'),
    undefined,
  );
});

test("a Prometheus without a window for old samples refuses those alone, and takes the rest", async (t) => {
  const server = await startPrometheus(tempDir(t), "0s");
  t.after(() => server.kill());
  const context = recordingContext("metrics");
  const settings = remoteWriteSettings(`${server.url}/api/v1/write`);
  const sink = createRemoteWriteSink(context, settings, { device: "box" });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  const now = Date.now();
  const at = (...seconds: readonly number[]): StoredEvent[] =>
    seconds.map((second, index) => sampleAt(index + 1, now - 60_000 + second * 1000));
  const send = (events: StoredEvent[]) =>
    sink.send({ device: "box", stream, events, format: "json" }, never);
  assertSettled(await send(at(10)), 1);
  const { settled, refused, failure } = await send(at(1, 2, 3, 11, 12));
  assert.deepEqual([settled, failure], [5, undefined]);
  assert.deepEqual(
    refused.map(({ index }) => index),
    [0, 1, 2],
  );
  assert.match(refused[0]?.error.message ?? "", /out of order/);
  const [series] = await server.query("holdfast_journal_events[5m]");
  assert.equal(series?.values.length, 3);
});

test("a Prometheus refuses samples beyond its window, and they are passed over", async (t) => {
  const server = await startPrometheus(tempDir(t), "10m");
  t.after(() => server.kill());
  const context = recordingContext("metrics");
  const settings = remoteWriteSettings(`${server.url}/api/v1/write`);
  const sink = createRemoteWriteSink(context, settings, { device: "box" });
  t.after(() => sink.close());
  await sink.open(new Map(), never);
  const now = Date.now();
  const send = (events: StoredEvent[]) =>
    sink.send({ device: "box", stream, events, format: "json" }, never);
  assert.equal((await send([sampleAt(1, now)])).settled, 1);
  // Some from hours ago, the last within the window.
  const old = Array.from({ length: 40 }, (_, index) =>
    sampleAt(index + 2, now - 7_200_000 + index),
  );
  const { settled, refused, failure } = await send([...old, sampleAt(42, now - 300_000)]);
  assert.equal(failure, undefined);
  assert.deepEqual([settled, refused.length], [41, 40]);
  assert.equal((await server.query("holdfast_journal_events[5h]"))[0]?.values.length, 2);
});

function sampleAt(seq: number, time: number): StoredEvent {
  return storedEvent({
    seq,
    time,
    stream,
    payload: Buffer.from(JSON.stringify(samplesOf(seq))),
  });
}

function batchOf(round: number, time: number) {
  const events = [{ ...sampleAt(1, time), payload: Buffer.from(JSON.stringify(samplesOf(round))) }];
  return { device: "box", stream, events, format: "json" as const };
}

async function openJournal(t: TestContext, folder: string) {
  const journal = createJournal(
    recordingContext("journal"),
    journalSetup(
      join(folder, "journal.db"),
      { linger: 20, maxBytes: 64 * 1024 * 1024, maxAge: 86_400_000, onFull: "reject" },
      { device: "box" },
    ),
  );
  t.after(() => journal.close());
  await journal.open([{ group: "metrics", streams: [stream] }]);
  return journal;
}

/** Forwards to a port; can be down, and can swallow answers and cut the connection instead. */
async function lossyLink(t: TestContext, port: number) {
  const sockets = new Set<Socket>();
  const link = {
    url: "",
    isUp: true,
    answersLost: 0,
    lostAnswers: 0,
    cutAll: (): void => sockets.forEach((socket) => socket.destroy()),
  };
  const server = createServer((near) => {
    if (!link.isUp) return near.destroy();
    const far = connect(port, "127.0.0.1");
    near.pipe(far);
    far.on("data", (answer) => {
      if (link.answersLost === 0) return near.write(answer);
      link.answersLost--;
      link.lostAnswers++;
      near.destroy();
      return far.destroy();
    });
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        sockets.delete(socket);
        near.destroy();
        far.destroy();
      });
    }
    return undefined;
  });
  t.after(() => {
    server.close();
    link.cutAll();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  link.url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  return link;
}
