/**
 * The typical chain (schema, filter, deadband, window of a minute, 10 s of lateness) as flows of Node-RED: of its own
 * nodes, as one puts it together in the editor, and as one function, which is the fastest that it can be.
 */

/** The band; readings are in tenths, so that no difference is equal to it. */
export const delta = 0.25;
export const windowMs = 60_000;
export const latenessMs = 10_000;

type Node = Readonly<Record<string, unknown>> & { readonly type: string };

/** Windows of event time: it has no node for them. What it remembers is in memory, which is its standard. */
const gather = `
const { device, temperature, ts } = msg.payload;
const state = context.get("state") ?? { open: new Map(), newest: -Infinity, nextEnd: Infinity };
const start = Math.floor(ts / ${windowMs}) * ${windowMs};
if (start + ${windowMs} > state.newest - ${latenessMs}) {
  const name = start + " " + device;
  let open = state.open.get(name);
  if (open === undefined) {
    open = { start, end: start + ${windowMs}, key: device, count: 0, sum: 0, max: -Infinity };
    state.open.set(name, open);
    state.nextEnd = Math.min(state.nextEnd, open.end);
  }
  open.count += 1;
  open.sum += temperature;
  open.max = Math.max(open.max, temperature);
}
state.newest = Math.max(state.newest, ts);
const over = [];
if (state.nextEnd <= state.newest - ${latenessMs}) {
  state.nextEnd = Infinity;
  for (const [name, { sum, ...open }] of state.open) {
    if (open.end <= state.newest - ${latenessMs}) {
      state.open.delete(name);
      over.push({ payload: { ...open, mean: sum / open.count } });
    } else state.nextEnd = Math.min(state.nextEnd, open.end);
  }
}
context.set("state", state);
return [over];
`;

const judge = `
const reading = msg.payload;
if (typeof reading?.device !== "string" || typeof reading.ts !== "number") return null;
if (reading.temperature === undefined) return null;
if (typeof reading.temperature !== "number") return null;
const last = context.get("last") ?? new Map();
const before = last.get(reading.device);
if (before !== undefined && Math.abs(reading.temperature - before) <= ${delta}) return null;
last.set(reading.device, reading.temperature);
context.set("last", last);
`;

const schema = {
  type: "object",
  required: ["device", "ts"],
  properties: {
    device: { type: "string" },
    temperature: { type: "number" },
    ts: { type: "number" },
  },
};

const functionNode = (func: string): Node => ({ type: "function", func, outputs: 1, libs: [] });

const ofNodes: readonly Node[] = [
  {
    type: "change",
    rules: [{ t: "set", p: "schema", pt: "msg", to: JSON.stringify(schema), tot: "json" }],
  },
  { type: "json", property: "payload", action: "obj" },
  {
    type: "switch",
    property: "payload.temperature",
    propertyType: "msg",
    rules: [{ t: "nnull" }],
    checkall: "true",
    outputs: 1,
  },
  {
    type: "rbe",
    func: "deadband",
    gap: String(delta),
    property: "payload.temperature",
    septopics: true,
    topi: "topic",
  },
  functionNode(gather),
];

/** It takes `load/+` in at QoS 1, in a session that outlives it, and gives windows out on `topic` at QoS 1. */
export function chainFlow(
  kind: "its nodes" | "one function",
  brokerPort: number,
  topic: string,
): readonly Node[] {
  const isOfNodes = kind === "its nodes";
  const steps = isOfNodes ? ofNodes : [functionNode(judge + gather)];
  const datatype = isOfNodes ? "utf8" : "json";
  const nodes: readonly Node[] = [
    { type: "mqtt in", topic: "load/+", qos: "1", datatype, broker: "broker", inputs: 0 },
    ...steps,
    { type: "mqtt out", topic, qos: "1", retain: "false", broker: "broker" },
  ];
  return flowOf([brokerNode("broker", brokerPort)], nodes);
}

/** What comes in on `load/#` at one broker goes out at another as it is, at QoS 1. */
export function forwardFlow(fromPort: number, toPort: number): readonly Node[] {
  const brokers = [brokerNode("from", fromPort), brokerNode("to", toPort)];
  return flowOf(brokers, [
    { type: "mqtt in", topic: "load/#", qos: "1", datatype: "buffer", broker: "from", inputs: 0 },
    { type: "mqtt out", topic: "", qos: "1", retain: "false", broker: "to" },
  ]);
}

function brokerNode(id: string, port: number): Node {
  return {
    id,
    type: "mqtt-broker",
    broker: "127.0.0.1",
    port: String(port),
    clientid: "node-red",
    autoConnect: true,
    usetls: false,
    protocolVersion: "4",
    keepalive: "60",
    cleansession: false,
  };
}

function flowOf(brokers: readonly Node[], nodes: readonly Node[]): readonly Node[] {
  const wired = nodes.map((node, index) => {
    const wires = index < nodes.length - 1 ? [[`n${index + 1}`]] : [];
    return { ...node, id: `n${index}`, z: "chain", x: 100, y: 100, wires };
  });
  return [{ id: "chain", type: "tab", label: "chain" }, ...brokers, ...wired];
}
