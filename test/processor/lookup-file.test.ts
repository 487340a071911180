import assert from "node:assert/strict";
import { test } from "node:test";
import { rowsIn } from "../../src/processor/lookup-file.ts";

test("rowsIn() reads CSV as RFC 4180 has it: quotes, doubled quotes, line ends in cells, CRLF, no last line end", () => {
  const text = '\uFEFFid,name,n,ok\r\n"a","x ""y"", z\r\nw",-1.5e3,true\r\n\r\n007,,007,false';
  assert.deepEqual(
    [...rowsIn(text, "id", false)],
    [
      ["a", { id: "a", name: 'x "y", z\r\nw', n: -1500, ok: true }],
      ["007", { id: "007", n: "007", ok: false }],
    ],
  );
});

test("rowsIn() reads JSON as a list of objects or an object of objects", () => {
  const row = { id: 7, place: "hall" };
  assert.deepEqual([...rowsIn(JSON.stringify([row]), "id", true)], [["7", row]]);
  assert.deepEqual([...rowsIn(JSON.stringify({ a: row }), "id", true)], [["a", row]]);
});

test("rowsIn() says what is wrong with a table, and where", () => {
  const wrong: readonly (readonly [string, boolean, RegExp])[] = [
    ["", false, /it is empty/],
    ["id\na\na\n", false, /row 2 has id a a second time/],
    ["name\na\n", false, /it has no column id/],
    ["name\n", false, /it has no column id/],
    ["id,name\n,a\n", false, /row 1 has no id/],
    ["id,n\na\n", false, /row 1 has 1 cells, the first line 2/],
    ['id\n"a\n', false, /at character 3/],
    ['id\na"b\n', false, /at character 3/],
    ["7", true, /neither a list nor an object/],
    ["[7]", true, /row 1 is no object/],
    ['[{"n":1}]', true, /it has no column id/],
    ['[{"id":1},{"n":1}]', true, /row 2 has no id/],
  ];
  for (const [text, isJson, reason] of wrong)
    assert.throws(() => rowsIn(text, "id", isJson), { message: reason }, text);
});
