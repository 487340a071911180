import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { once } from "node:events";
import { test } from "node:test";
import mqtt from "mqtt";
import type { Packet } from "mqtt-packet";
import { HoldfastError } from "../../src/core/errors.ts";
import { brokerProblem } from "../../src/source/broker-options.ts";
import { createBrokerSource } from "../../src/source/broker.ts";
import { coversFilter, matchesFilter } from "../../src/source/topic-filter.ts";
import { heldIntake } from "../support/held-intake.ts";
import { requireProgram } from "../support/mosquitto.ts";
import { recordingContext } from "../support/recording-context.ts";
import {
  brokerOptions,
  connectPacket,
  publishPacket,
  rawClient,
  startedBroker,
} from "../support/started-broker.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

const users = { esp: "right horse", pump: "battery" };
const login = (username?: string, password?: string): Record<string, unknown> => ({
  clientId: `${username ?? "nobody"}-1`,
  ...(username !== undefined && { username }),
  ...(password !== undefined && { password: Buffer.from(password) }),
});
/** CONNACK's return code for a login. */
async function answerTo(
  t: Parameters<typeof rawClient>[0],
  port: number,
  who: Record<string, unknown>,
): Promise<number> {
  const client = await rawClient(t, port, null);
  client.send(connectPacket(who));
  const connack = await client.received("connack");
  if (connack.cmd !== "connack") throw new Error("No CONNACK");
  return connack.returnCode ?? -1;
}

test("users: the right password is let in, all else is refused with code 4", async (t) => {
  const { port, context } = await startedBroker(t, { users });
  assert.equal(await answerTo(t, port, login("esp", "right horse")), 0);
  assert.equal(await answerTo(t, port, login("esp", "wrong horse")), 4);
  assert.equal(await answerTo(t, port, login("esp", "right horse ")), 4);
  assert.equal(await answerTo(t, port, login("esp", "")), 4);
  assert.equal(await answerTo(t, port, login("esp")), 4);
  assert.equal(await answerTo(t, port, login("nobody", "")), 4);
  assert.equal(await answerTo(t, port, login("__proto__", "")), 4);
  assert.equal(await answerTo(t, port, login()), 4);
  assert.doesNotMatch(JSON.stringify([context.lines, context.reports]), /horse/);
});

test("users: a rotated password file is seen by the next connection", async (t) => {
  const file = join(tempDir(t), "password");
  writeFileSync(file, "first\n");
  const { port } = await startedBroker(t, { users: { esp: { file } } });
  assert.equal(await answerTo(t, port, login("esp", "first")), 0);
  writeFileSync(file, "second\n");
  assert.equal(await answerTo(t, port, login("esp", "first")), 4);
  assert.equal(await answerTo(t, port, login("esp", "second")), 0);
});

test("open() refuses a password file that cannot be read", async () => {
  const options = brokerOptions({ users: { esp: { file: "/nonexistent/password" } } });
  const source = createBrokerSource(recordingContext(), options);
  await assert.rejects(
    source.open(heldIntake()),
    (error) => error instanceof HoldfastError && error.code === "SECRET_UNREADABLE",
  );
  await source.close(0);
  await source.close(0);
});

test("a client that was turned away cannot end another's QoS 2 session", async (t) => {
  const { port, intake } = await startedBroker(t, { users });
  intake.commitAlways();
  const good = await rawClient(t, port, { ...login("esp", "right horse"), clean: false });
  good.publish(5, { qos: 2 });
  await good.received("pubrec");
  assert.equal(await answerTo(t, port, { ...login("esp", "wrong"), clean: true }), 4);
  good.publish(5, { qos: 2, dup: true });
  await good.received("pubrec", 2);
  assert.equal(intake.disk.payloads.length, 1);
});

const acl = {
  esp: { publish: ["sensors/esp/#"], subscribe: ["commands/esp/+"] },
  pump: { subscribe: ["#"] },
};

test("acl: what a user may not publish ends its connection and enters nothing", async (t) => {
  const { port, intake, context } = await startedBroker(t, { users, acl });
  intake.commitAlways();
  const esp = await rawClient(t, port, login("esp", "right horse"));
  esp.publish(1, { topic: "sensors/esp/env" });
  await esp.received("puback");
  esp.publish(2, { topic: "sensors/pump/env" });
  await esp.gone();
  assert.deepEqual(esp.ids("puback"), [1]);
  const pump = await rawClient(t, port, login("pump", "battery"));
  pump.publish(3, { topic: "anything" });
  await pump.gone();
  assert.equal(intake.disk.payloads.length, 1);
  assert.match(JSON.stringify(context.lines), /topic sensors\/pump\/env is not allowed/);
});

test("acl: a filter is granted only if all that it matches is allowed", async (t) => {
  const { port } = await startedBroker(t, { users, acl });
  const esp = await rawClient(t, port, login("esp", "right horse"));
  const asked = ["commands/esp/on", "commands/esp/+", "commands/esp/#", "commands/+/on", "#"];
  esp.send({
    cmd: "subscribe",
    messageId: 1,
    subscriptions: asked.map((topic) => ({ topic, qos: 1 })),
  });
  const suback = await esp.received("suback");
  assert.deepEqual(suback.cmd === "suback" && suback.granted, [1, 1, 128, 128, 128]);
});

test("acl: a session that is kept does not receive what its SUBSCRIBE was refused", async (t) => {
  const { port, intake } = await startedBroker(t, {
    users,
    acl: { ...acl, pump: { publish: ["#"] } },
  });
  intake.commitAlways();
  const session = { ...login("esp", "right horse"), clean: false };
  const esp = await rawClient(t, port, session);
  const subscriptions = ["commands/esp/on", "secret/#"].map((topic) => ({
    topic,
    qos: 1 as const,
  }));
  esp.send({ cmd: "subscribe", messageId: 1, subscriptions });
  await esp.received("suback");
  esp.socket.destroy();
  const pump = await rawClient(t, port, login("pump", "battery"));
  pump.publish(1, { topic: "secret/x" });
  pump.publish(2, { topic: "commands/esp/on" });
  await pump.received("puback", 2);
  await pump.settled();
  const again = await rawClient(t, port, session);
  await again.received("publish");
  await again.settled();
  assert.deepEqual(
    again.of("publish").map((packet) => packet.cmd === "publish" && packet.topic),
    ["commands/esp/on"],
  );
});

test("brokerProblem() refuses anonymous access beyond loopback, and what cannot be meant", () => {
  const problem = (more: Record<string, unknown>): string | null =>
    brokerProblem(brokerOptions(more));
  for (const listen of ["127.0.0.1:1883", "127.8.8.8:1883", "[::1]:1883", "localhost:1883"]) {
    assert.equal(problem({ listen }), null, listen);
  }
  for (const listen of ["0.0.0.0:1883", "[::]:1883", "192.168.1.5:1883", "greenhouse.local:1883"]) {
    assert.match(problem({ listen }) ?? "", /name users, or listen on 127\.0\.0\.1/, listen);
    assert.equal(problem({ listen, users }), null, listen);
  }
  assert.match(problem({ listen: "unix:/run/mqtt.sock" }) ?? "", /clients connect by TCP/);
  assert.throws(
    () => problem({ listen: "127.0.0.1:70000" }),
    /listen/,
    "the option itself knows ports",
  );
  assert.match(problem({ users, acl: { esq: {} } }) ?? "", /esq, who is not among users/);
});

test("open() refuses anonymous access beyond loopback, and listens nowhere", async () => {
  const options = brokerOptions({ listen: "0.0.0.0:18830" });
  const source = createBrokerSource(recordingContext("listen"), options);
  await assert.rejects(
    source.open(heldIntake()),
    (error) =>
      error instanceof HoldfastError &&
      error.code === "CONFIG_INVALID" &&
      error.message.startsWith("Cannot start source listen: listen is 0.0.0.0:18830, which others"),
  );
  await source.close(0);
});

test("open() says that the port is taken", async (t) => {
  const other = createServer().listen(0, "127.0.0.1");
  t.after(() => other.close());
  await once(other, "listening");
  const address = other.address();
  assert.ok(typeof address === "object" && address !== null);
  const options = brokerOptions({ listen: `127.0.0.1:${address.port}` });
  const source = createBrokerSource(recordingContext(), options);
  await assert.rejects(source.open(heldIntake()), (error) => {
    assert.ok(error instanceof HoldfastError);
    assert.equal(error.code, "LISTEN_FAILED");
    assert.equal(error.kind, "config");
    assert.equal(error.message, `Cannot listen on 127.0.0.1:${address.port}: address is in use`);
    assert.match(error.hint, /ss -ltnp/);
    return true;
  });
  await source.close(0);
});

test("maxConnections turns further clients away and lets them in when there is room", async (t) => {
  const { port, context } = await startedBroker(t, { maxConnections: 1 });
  const first = await rawClient(t, port, { clientId: "first" });
  await assert.rejects(rawClient(t, port, { clientId: "second" }), /closed before/);
  assert.equal(context.readFigures()["clients"], 1);
  first.socket.destroy();
  await until("room", () => context.readFigures()["clients"] === 0);
  await rawClient(t, port, { clientId: "second" });
});

test("tls: clients need a certificate of the authority, if one is named", async (t) => {
  requireProgram("openssl", "openssl");
  const folder = tempDir(t);
  const openssl = (...args: string[]): void => {
    const made = spawnSync("openssl", args, { cwd: folder, encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
  };
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
    "-subj",
    "/CN=test authority",
  );
  writeFileSync(join(folder, "names"), "subjectAltName=IP:127.0.0.1\n");
  for (const name of ["broker", "client"]) {
    openssl("req", ...key, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}`);
    const signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"];
    openssl("x509", "-req", "-in", `${name}.csr`, ...signed, "-out", `${name}.pem`);
  }
  const path = (name: string): string => join(folder, name);
  const tls = { cert: path("broker.pem"), key: path("broker.key"), ca: path("ca.pem") };
  const { port, intake, context } = await startedBroker(t, { tls });
  intake.commitAlways();
  const { readFileSync } = await import("node:fs");
  const url = `mqtts://127.0.0.1:${port}`;
  const trust = { ca: readFileSync(path("ca.pem")), reconnectPeriod: 0 };
  const own = { cert: readFileSync(path("client.pem")), key: readFileSync(path("client.key")) };
  const client = await mqtt.connectAsync(url, { ...trust, ...own });
  t.after(() => client.endAsync(true));
  await client.publishAsync("load/d1", "{}", { qos: 1 });
  assert.equal(intake.disk.payloads.length, 1);
  await assert.rejects(mqtt.connectAsync(url, trust));
  await until("the log", () => context.lines.some((line) => line.message.startsWith("TLS with")));
});

test("tls: open() names a certificate that cannot be read or used", async (t) => {
  const file = join(tempDir(t), "broken.pem");
  writeFileSync(file, "no certificate");
  for (const [cert, code] of [
    ["/nonexistent.pem", "SECRET_UNREADABLE"],
    [file, "CONFIG_INVALID"],
  ] as const) {
    const options = brokerOptions({ listen: "127.0.0.1:1", tls: { cert, key: cert } });
    const source = createBrokerSource(recordingContext(), options);
    await assert.rejects(
      source.open(heldIntake()),
      (error) =>
        error instanceof HoldfastError && error.code === code && error.message.includes(cert),
    );
    await source.close(0);
  }
});

test("MQTT 5 is refused with code 1, so that a client can fall back", async (t) => {
  const { port } = await startedBroker(t);
  const client = await rawClient(t, port, null);
  client.send(connectPacket({ protocolVersion: 5, properties: {} }));
  await until("an answer", () => client.packets.length > 0 || client.isClosed());
  const connack = client.of("connack")[0];
  assert.ok(connack?.cmd === "connack" && connack.returnCode === 1);
});

test("matchesFilter() and coversFilter() obey MQTT 4.7", () => {
  const yes: [string, string][] = [
    ["a/b", "a/b"],
    ["a/+", "a/b"],
    ["a/+", "a/"],
    ["a/#", "a"],
    ["a/#", "a/b/c"],
    ["#", "a/b"],
    ["$SYS/#", "$SYS/x"],
    ["{x}/a", "{x}/a"],
  ];
  const no: [string, string][] = [
    ["a/b", "a"],
    ["a", "a/b"],
    ["a/+", "a"],
    ["a/+", "a/b/c"],
    ["#", "$SYS/x"],
    ["+/x", "$SYS/x"],
    ["{x}/a", "b/a"],
  ];
  for (const [filter, topic] of yes) assert.ok(matchesFilter(filter, topic), `${filter} ${topic}`);
  for (const [filter, topic] of no) assert.ok(!matchesFilter(filter, topic), `${filter} ${topic}`);
  const covered: [string, string][] = [
    ["a/#", "a/#"],
    ["a/#", "a/+/c"],
    ["a/+", "a/+"],
    ["#", "+/+"],
  ];
  const open: [string, string][] = [
    ["a/+", "a/#"],
    ["a/b", "a/+"],
    ["#", "$SYS/#"],
    ["a/+", "+/+"],
    ["+", "#"],
  ];
  for (const [wide, narrow] of covered) assert.ok(coversFilter(wide, narrow), `${wide} ${narrow}`);
  for (const [wide, narrow] of open) assert.ok(!coversFilter(wide, narrow), `${wide} ${narrow}`);
});

test("what is sent before CONNACK is taken in after it, and never if the login fails", async (t) => {
  const { port, intake } = await startedBroker(t, { users });
  const early: Packet[] = [
    publishPacket(1),
    publishPacket(2, { qos: 0, retain: true }),
    { cmd: "subscribe", messageId: 3, subscriptions: [{ topic: "#", qos: 0 }] },
  ];
  for (const isTogether of [true, false]) {
    const thief = await rawClient(t, port, null);
    const packets = [connectPacket(login("esp", "wrong")), ...early];
    if (isTogether) thief.send(...packets);
    else for (const packet of packets) thief.send(packet);
    await thief.gone();
    assert.deepEqual(
      thief.packets.map(({ cmd }) => cmd),
      ["connack"],
    );
  }
  assert.equal(intake.waiting, 0);
  const client = await rawClient(t, port, null);
  client.send(connectPacket(login("esp", "right horse")), ...early);
  await until("both", () => intake.waiting === 2);
  await client.received("suback");
});
