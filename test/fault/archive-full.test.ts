/** An archive on a full disk: closed files stay whole, what cannot be finished is taken away, and the oldest goes. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { ClosedFiles } from "../../src/sink/closed-files.ts";
import { recordingContext } from "../support/recording-context.ts";
import { smallDisk } from "../support/small-disk.ts";
import { until } from "../support/until.ts";

const fileBytes = 300_000;
const [older, newer] = [
  "load-0000000000000001-ee58d5bd.ndjson",
  "load-0000000000000900-ee58d5bd.ndjson",
];

test("tidy() on a full disk leaves nothing half, removes the oldest all the same, and compresses when there is room", async (t) => {
  const disk = smallDisk(t, 1024 * 1024);
  const { folder } = disk;
  // Hexadecimal noise: half of it is left when it is compressed, more than the disk has.
  const content = randomBytes(fileBytes / 2).toString("hex");
  for (const [index, name] of [older, newer].entries()) {
    writeFileSync(join(folder, name), content);
    utimesSync(join(folder, name), 1_780_000_000 + index, 1_780_000_000 + index);
  }
  disk.fill();
  const context = recordingContext("archive");
  const warnings = (): number => context.lines.filter(({ level }) => level === "warn").length;
  const keepsAll = new ClosedFiles(context, { compress: "gzip", bytesMax: undefined });
  keepsAll.tidy(folder, []);
  await until("it to fail", () => warnings() === 1);
  assert.match(context.lines.at(-1)?.message ?? "", /ENOSPC/);
  assert.deepEqual(readdirSync(folder).sort(), ["ballast", older, newer]);

  const keepsOne = new ClosedFiles(context, { compress: "gzip", bytesMax: fileBytes });
  keepsOne.tidy(folder, []);
  await until("it to fail again", () => warnings() === 2);
  assert.deepEqual(readdirSync(folder).sort(), ["ballast", newer]);
  assert.equal(readFileSync(join(folder, newer), "utf8"), content);

  disk.empty();
  keepsOne.tidy(folder, []);
  await until("it to be compressed", () => !readdirSync(folder).includes(newer));
  await keepsOne.idle();
  assert.deepEqual(readdirSync(folder), [`${newer}.gz`]);
  assert.equal(gunzipSync(readFileSync(join(folder, `${newer}.gz`))).toString(), content);
});
