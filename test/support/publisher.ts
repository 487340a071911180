/**
 * A fast publisher, as a process of its own: raw mqtt-packet on one socket, a window of unacknowledged messages.
 *
 *   node test/support/publisher.ts --url mqtt://127.0.0.1:1883 --topic load/d1 --count 100000 --qos 1
 *     [--window 500] [--size 90] [--rate 0] [--ahead 0] [--from 0] [--retain] [--resilient] [--noise]
 *     [--readings]
 *
 * Message `n` (from `--from`, in order) is {"device":"d1","n":n,"temperature":…}, padded to `--size` bytes
 * (with `--noise` by what does not compress); with `--readings` it is one of reading.ts, on the topic's level of its
 * device. Prints
 * JSON lines {"acknowledged":…} at most each 100 ms, and {"acknowledged":count,"done":true,"seconds":…} at the end,
 * exit 0. With `--resilient` a broken connection is made again (a persistent session, 3.1.1) and what was not
 * acknowledged is sent again with the DUP flag and the same identifier, in order, before anything new; without it,
 * exit 1. With `--ahead` at most so many are sent beyond the number that the last line on stdin says were taken.
 */
import { generate, parser, type Packet } from "mqtt-packet";
import { randomBytes } from "node:crypto";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { readingOf } from "./reading.ts";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    topic: { type: "string" },
    count: { type: "string" },
    qos: { type: "string", default: "1" },
    window: { type: "string", default: "500" },
    size: { type: "string", default: "90" },
    rate: { type: "string", default: "0" },
    ahead: { type: "string", default: "0" },
    from: { type: "string", default: "0" },
    retain: { type: "boolean", default: false },
    resilient: { type: "boolean", default: false },
    noise: { type: "boolean", default: false },
    readings: { type: "boolean", default: false },
  },
});
const url = new URL(values.url ?? "mqtt://127.0.0.1:1883");
const topic = values.topic ?? "load/d1";
const first = Number(values.from);
const count = Number(values.count ?? 1);
const qos = Number(values.qos) as 0 | 1 | 2;
const window = Math.min(Number(values.window), 60_000);
const size = Number(values.size);
const rate = Number(values.rate);
const ahead = Number(values.ahead);
const began = performance.now();

/** What was sent and is not acknowledged, by packet identifier, in the order in which it was sent. */
const waiting = new Map<number, { n: number; isReceived: boolean }>();
let socket: Socket | undefined;
let isConnected = false;
let next = 0;
let taken = 0;
let acknowledged = 0;
let lastPacketId = 0;
let isPumpDue = false;
let toldMs = 0;

function payload(n: number): string {
  const json = `{"device":"d1","n":${n},"temperature":${(15 + (n % 200) / 10).toFixed(1)}`;
  const missing = size - json.length - 1;
  return missing >= 9 ? `${json},"pad":"${pad(missing - 9)}"}` : `${json}}`;
}

function pad(length: number): string {
  if (!values.noise) return "x".repeat(length);
  return randomBytes(length).toString("base64").slice(0, length);
}

function publish(n: number, messageId: number, dup: boolean): Buffer {
  const reading = values.readings ? readingOf(n) : null;
  const packet = {
    cmd: "publish" as const,
    topic: reading === null ? topic : `${topic}/${reading.device}`,
    payload: reading === null ? payload(n) : JSON.stringify(reading),
    qos,
    dup,
    retain: values.retain,
  };
  return generate(qos === 0 ? packet : { ...packet, messageId });
}

function freePacketId(): number {
  do lastPacketId = (lastPacketId % 65_535) + 1;
  while (waiting.has(lastPacketId));
  return lastPacketId;
}

/** How many may have been sent by now. */
function allowed(): number {
  const most = ahead === 0 ? count : Math.min(count, taken + ahead);
  if (rate === 0) return most;
  return Math.min(most, Math.floor(((performance.now() - began) / 1000) * rate) + 1);
}

function pump(): void {
  isPumpDue = false;
  if (socket === undefined || !isConnected) return;
  const parts: Buffer[] = [];
  const limit = allowed();
  // 500 in one write, so that acknowledgements are read in between.
  while (next < limit && waiting.size < window && parts.length < 500) {
    const messageId = qos === 0 ? 0 : freePacketId();
    if (qos > 0) waiting.set(messageId, { n: first + next, isReceived: false });
    parts.push(publish(first + next, messageId, false));
    next++;
  }
  const isFlowing = parts.length === 0 || socket.write(Buffer.concat(parts));
  if (qos === 0) settle(parts.length);
  if (next >= count || waiting.size >= window) return;
  if (!isFlowing) socket.once("drain", pump);
  else if (next < limit) pumpSoon();
  else setTimeout(pump, 5);
}

function pumpSoon(): void {
  if (isPumpDue) return;
  isPumpDue = true;
  setImmediate(pump);
}

function settle(more: number): void {
  acknowledged += more;
  const nowMs = performance.now();
  if (acknowledged < count && nowMs - toldMs < 100) return;
  toldMs = nowMs;
  const isDone = acknowledged >= count;
  const seconds = (nowMs - began) / 1000;
  process.stdout.write(
    `${JSON.stringify(isDone ? { acknowledged, done: true, seconds } : { acknowledged })}\n`,
  );
  if (isDone) socket?.end(generate({ cmd: "disconnect" }));
}

function handle(packet: Packet): void {
  const messageId = packet.messageId ?? 0;
  switch (packet.cmd) {
    case "connack":
      if (packet.returnCode !== 0) {
        process.stderr.write(`The broker refused: ${packet.returnCode}\n`);
        socket?.destroy();
        return;
      }
      isConnected = true;
      resend();
      return pump();
    case "pubrec": {
      const sent = waiting.get(messageId);
      if (sent !== undefined) sent.isReceived = true;
      socket?.write(generate({ cmd: "pubrel", messageId }));
      return;
    }
    case "puback":
    case "pubcomp":
      if (!waiting.delete(messageId)) return;
      settle(1);
      return pumpSoon();
    default:
      return;
  }
}

/** [MQTT-4.4.0-1], [MQTT-4.6.0-1]: in the order in which it was sent. */
function resend(): void {
  const parts: Buffer[] = [];
  for (const [messageId, { n, isReceived }] of waiting) {
    parts.push(isReceived ? generate({ cmd: "pubrel", messageId }) : publish(n, messageId, true));
  }
  if (parts.length > 0) socket?.write(Buffer.concat(parts));
}

function open(): void {
  const made = connect(Number(url.port || 1883), url.hostname);
  socket = made;
  const incoming = parser();
  incoming.on("packet", handle);
  made.setNoDelay(true);
  made.on("data", (chunk: Buffer) => incoming.parse(chunk));
  made.on("error", () => undefined);
  made.on("close", () => {
    isConnected = false;
    if (acknowledged >= count) return;
    if (values.resilient) setTimeout(open, 50);
    else {
      process.stderr.write(`The connection broke after ${acknowledged} of ${count}\n`);
      process.exitCode = 1;
    }
  });
  made.once("connect", () => {
    const clientId = `publisher-${process.pid}`;
    made.write(
      generate({
        cmd: "connect",
        protocolId: "MQTT",
        protocolVersion: 4,
        clientId,
        clean: !values.resilient,
        keepalive: 0,
      }),
    );
  });
}

if (ahead > 0) {
  const input = createInterface(process.stdin).on("line", (line) => {
    taken = Math.max(taken, Number(line));
    pumpSoon();
  });
  // The last acknowledgement ends the process, not this.
  input.on("resume", () => process.stdin.unref());
  process.stdin.unref();
}
open();
