import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { HoldfastError } from "../../src/core/errors.ts";
import { defineHandler, type Handler } from "../../src/index.ts";
import { loadHandler } from "../../src/processor/handler.ts";
import { tempDir } from "../support/temp-dir.ts";

function folderWith(test: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = tempDir(test);
  for (const [name, source] of Object.entries(files)) writeFileSync(join(folder, name), source);
  return folder;
}

test("loadHandler() gives a module's default export, JavaScript or TypeScript, relative to the folder", async (t) => {
  const folder = folderWith(t, {
    "double.mjs": "export default (event) => event.payload * 2;",
    "triple.ts": "export default (event: { payload: number }): number => event.payload * 3;",
  });
  const double = (await loadHandler("./double.mjs", folder)) as Handler;
  const triple = (await loadHandler("triple.ts", folder)) as Handler;
  const event = { stream: "a", seq: 1, key: null, time: 0, receivedAt: 0, headers: {}, payload: 7 };
  assert.equal(double(event, {} as never), 14);
  assert.equal(triple(event, {} as never), 21);
  assert.equal(await loadHandler(join(folder, "double.mjs"), "/"), double);
});

test("loadHandler() says what is wrong with a module, in one sentence", async (t) => {
  const folder = folderWith(t, {
    "none.mjs": "export const handler = () => 1;",
    "object.mjs": "export default { process() {} };",
    "broken.mjs": "export default (;",
    "throws.mjs": "throw new Error('No table\\nhere');",
  });
  const cases: readonly [string, RegExp][] = [
    ["absent.mjs", /absent\.mjs: no such file$/],
    [
      "none.mjs",
      /its default export is missing, not a function, nor an object with a function batch$/,
    ],
    ["object.mjs", /its default export is of type object, not a function, nor/],
    ["broken.mjs", /Cannot load handler .*broken\.mjs: Unexpected token/],
    ["throws.mjs", /Cannot load handler .*throws\.mjs: No table here$/],
  ];
  for (const [path, reason] of cases) {
    await assert.rejects(
      loadHandler(path, folder),
      (error) =>
        error instanceof HoldfastError &&
        error.code === "HANDLER_INVALID" &&
        reason.test(error.message),
      path,
    );
  }
});

test("defineHandler() gives the function back", () => {
  const handler = (event: { payload: { n: number } }): number => event.payload.n;
  assert.equal(defineHandler<{ n: number }>(handler), handler);
  const whole = defineHandler<{ n: number }>({ batch: (events) => events.length });
  assert.equal(whole.batch([], {} as never), 0);
});
