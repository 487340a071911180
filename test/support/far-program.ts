/**
 * What lives in the far namespace beside the servers (far-network.ts), told what to do by its parent: names, TLS before
 * a receiver, what a captive portal and a dying or hanging server do, a way that takes its time, and a subscriber that
 * counts what arrives at the broker.
 */
import { createSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { connect as connectMqtt } from "mqtt";
import { farPorts, type FarCommand, type FarCount } from "./far-ports.ts";

const [address = "", cert = "", key = "", delay = "1000"] = process.argv.slice(2);
const sockets = new Set<Socket>();

function serve(port: number, handle: (socket: Socket) => void, server = createServer()): Server {
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("connection", handle);
  return server.listen(port, "0.0.0.0");
}

/** RFC 1035, 4.1: each name is at our address; of other types there is nothing. */
function answerNames(): void {
  const names = createSocket("udp4");
  names.on("message", (query, { port, address: asker }) => {
    let end = 12;
    while ((query[end] ?? 0) > 0) end += (query[end] ?? 0) + 1;
    const isV4 = query.readUInt16BE(end + 1) === 1;
    const head = Buffer.from(query.subarray(0, end + 5));
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(isV4 ? 1 : 0, 6);
    head.writeUInt32BE(0, 8);
    const record = Buffer.from([
      0xc0,
      12,
      0,
      1,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      4,
      ...address.split(".").map(Number),
    ]);
    names.send(isV4 ? Buffer.concat([head, record]) : head, port, asker);
  });
  names.bind(53, address);
}

/** Bytes go on, in order, after a while. */
function slowly(from: Socket, to: Socket): void {
  from.on("data", (data) => void setTimeout(() => to.writable && to.write(data), Number(delay)));
  from.on("close", () => void setTimeout(() => to.destroy(), Number(delay)));
  to.on("error", () => undefined);
}

function beTheTls() {
  const tls = createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, (near) => {
    const far = connect(farPorts.plain, "127.0.0.1");
    for (const socket of [near, far]) socket.on("error", () => undefined);
    near.pipe(far);
    far.pipe(near);
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
  });
  tls.on("tlsClientError", () => undefined);
  serve(farPorts.secure, () => undefined, tls);
  return tls;
}

answerNames();
const tls = beTheTls();
const portal = "<!doctype html><title>Welcome to our network</title><p>Please sign in.";
serve(farPorts.portal, (socket) =>
  socket.on("data", () =>
    socket.end(
      `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${portal.length}\r\n\r\n${portal}`,
    ),
  ),
);
serve(farPorts.dies, (socket) => socket.on("data", () => socket.destroy()));
serve(farPorts.hangs, (socket) => socket.resume());
for (const port of [farPorts.valkey, farPorts.mqtt, farPorts.http, farPorts.secure]) {
  serve(port + farPorts.slow, (near) => {
    const far = connect(port, "127.0.0.1");
    slowly(near, far);
    slowly(far, near);
  });
}

const times = new Map<number, number>();
const subscriber = connectMqtt(`mqtt://127.0.0.1:${farPorts.mqtt}`, { protocolVersion: 5 });
subscriber.on("message", (_topic, _payload, { properties }) => {
  const seq = Number(properties?.userProperties?.["seq"]);
  times.set(seq, (times.get(seq) ?? 0) + 1);
});
await new Promise((resolve) => subscriber.on("connect", resolve));
await subscriber.subscribeAsync("up/#", { qos: 1 });

process.on("message", (command: FarCommand) => {
  if (command.does === "count") {
    process.send?.({ seqs: [...times] } satisfies FarCount);
    return;
  }
  if (command.does === "tls")
    tls.setSecureContext({ cert: readFileSync(command.cert), key: readFileSync(command.key) });
  for (const socket of sockets) socket.destroy();
});
process.on("disconnect", () => process.exit());
process.send?.("ready");
