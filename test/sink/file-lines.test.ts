import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { fileLines, readableEnd } from "../../src/sink/file-lines.ts";
import { storedEvent, storedEvents, testEpoch } from "../support/stored-event.ts";

const json = (payload: unknown): Uint8Array => Buffer.from(JSON.stringify(payload));
const at = "2026-01-01T00:00:00.001Z,2026-01-01T00:00:00.006Z";

test("fileLines() writes CSV with the payload as JSON, or with columns of it", () => {
  const event = storedEvent({
    key: "a,b",
    headers: { topic: "x" },
    payload: json({ t: 21.5, deep: { room: 'say "hi"\nthere' }, list: [1, 2], none: null }),
  });
  const whole = fileLines("csv", {});
  assert.equal(
    whole.head.toString(),
    "device,epoch,stream,seq,time,receivedAt,clock,key,headers,payload\r\n",
  );
  assert.equal(
    whole.of([event], "box", "json").toString(),
    `box,${testEpoch},readings,1,${at},synced,"a,b","{""topic"":""x""}","{""t"":21.5,""deep"":{""room"":""say \\""hi\\""\\nthere""},""list"":[1,2],""none"":null}"\r\n`,
  );
  const columns = fileLines("csv", {
    temperature: "t",
    room: "deep.room",
    list: "list",
    none: "none",
    x: "x.y",
  });
  assert.match(columns.head.toString(), /,key,temperature,room,list,none,x\r\n$/);
  assert.equal(
    columns.of([event], "box", "json").toString(),
    `box,${testEpoch},readings,1,${at},synced,"a,b",21.5,"say ""hi""\nthere","[1,2]",,\r\n`,
  );
});

test("readableEnd() finds the end of what was written whole, wherever it was torn", () => {
  const texts = fc.array(fc.string({ unit: fc.constantFrom('"', "\n", "\r", ",", "a", "ä") }), {
    minLength: 1,
    maxLength: 5,
  });
  for (const format of ["csv", "ndjson"] as const) {
    const lines = fileLines(format, format === "csv" ? { v: "v" } : {});
    fc.assert(
      fc.property(texts, fc.nat(), fc.boolean(), (values, cut, isZeroed) => {
        const each = values.map((v, index) =>
          lines.of([storedEvent({ seq: index + 1, payload: json({ v }) })], "box", "json"),
        );
        const all = Buffer.concat(each);
        const torn = all.subarray(0, cut % (all.length + 1));
        let whole = 0;
        for (const line of each) {
          if (whole + line.length > torn.length) break;
          whole += line.length;
        }
        const tail = isZeroed ? Buffer.concat([torn, Buffer.alloc(20), Buffer.from("\r\n")]) : torn;
        assert.equal(readableEnd(tail, format), whole);
      }),
    );
  }
});

test("fileLines() of many events is their lines in a row", () => {
  const lines = fileLines("csv", {});
  const events = storedEvents(1, 3);
  const each = events.map((event) => lines.of([event], "box", "json"));
  assert.deepEqual(lines.of(events, "box", "json"), Buffer.concat(each));
});
