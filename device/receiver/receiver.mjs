/**
 * An upstream to copy: takes what holdfast's `http` sink posts (NDJSON), keeps each event once, and knows what is missing.
 *
 *   node receiver.mjs 8080 events.ndjson        GET / tells what is held, what came twice and what is missing
 *
 * An event's name is (device, epoch, stream, seq), for ever, and seq is dense. So a name that is held is a repetition;
 * a hole between two is missing until it comes (a backlog drains behind fresher events), or until the device says in
 * its stream `_gaps` that it will not (dropped by the quota).
 */
import { appendFileSync, createReadStream, existsSync, fsyncSync, openSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { createGunzip, createZstdDecompress } from "node:zlib";

const [port = "8080", file = "events.ndjson"] = process.argv.slice(2);
const held = new Map(); // DEVICE/EPOCH/STREAM: ascending ranges [from, to] of seq
const dropped = new Map(); // DEVICE/STREAM: ranges that will not come
const repeated = new Map(); // DEVICE/EPOCH/STREAM: how many came again

/** Puts a range among others, which merge where they touch; false: it was there. */
function add(ranges, from, to) {
  const at = ranges.findLastIndex((range) => range[0] <= from) + 1;
  if (at > 0 && ranges[at - 1][1] >= to) return false;
  ranges.splice(at, 0, [from, to]);
  for (let i = Math.max(1, at); i < ranges.length && ranges[i][0] <= to + 1; )
    if (ranges[i][0] > ranges[i - 1][1] + 1) i++;
    else ranges[i - 1][1] = Math.max(ranges[i - 1][1], ranges.splice(i, 1)[0][1]);
  return true;
}
const entry = (map, name, made) => map.get(name) ?? (map.set(name, made), made);

/** Whether an event is new. */
function take({ device, epoch, stream, seq, payload }) {
  const name = `${device}/${epoch}/${stream}`;
  const isNew = add(entry(held, name, []), seq, seq);
  if (!isNew) repeated.set(name, (repeated.get(name) ?? 0) + 1);
  else if (stream === "_gaps" && payload.kept === 0 && payload.to >= payload.from)
    add(entry(dropped, `${device}/${payload.stream}`, []), payload.from, payload.to);
  return isNew;
}

/** What lies between what is held, and was not told to be dropped. */
function missing(name, ranges) {
  const [device, , stream] = name.split("/");
  const all = ranges.map((range) => [...range]);
  for (const [from, to] of dropped.get(`${device}/${stream}`) ?? []) add(all, from, to);
  const holes = all.slice(1).map(([from], i) => [all[i][1] + 1, from - 1]);
  return holes.filter(([from, to]) => from > ranges[0][0] && to < ranges.at(-1)[1]);
}

if (existsSync(file))
  for await (const line of createInterface({ input: createReadStream(file) }))
    try { take(JSON.parse(line)); } catch {} // a line that a crash has torn was never answered for: it comes again
const out = openSync(file, "a");
createServer(async (request, response) => {
  if (request.method === "GET") {
    const told = (of, name) => ({ held: of, repeated: repeated.get(name) ?? 0, missing: missing(name, of) });
    response.end(JSON.stringify(Object.fromEntries([...held].map(([name, of]) => [name, told(of, name)])), null, 2));
    return;
  }
  let events;
  try {
    const unpack = { gzip: createGunzip, zstd: createZstdDecompress }[request.headers["content-encoding"]];
    const body = await text(unpack ? request.pipe(unpack()) : request);
    events = body.split("\n").filter(Boolean).map((line) => [line, JSON.parse(line)]);
  } catch (error) {
    response.writeHead(400).end(String(error)); // refused for good: the device makes dead letters of it
    return;
  }
  const fresh = events.filter(([, event]) => take(event)).map(([line]) => `${line}\n`);
  if (fresh.length > 0) appendFileSync(out, `\n${fresh.join("")}`); // the first line end closes what a crash has torn
  fsyncSync(out); // before the answer: then it is ours. A disk that fails ends the program, and nothing is answered
  response.writeHead(204).end();
}).listen(Number(port), () => process.stdout.write(`Listening on ${port}, keeping ${file}\n`));
