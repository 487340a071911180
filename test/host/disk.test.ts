import assert from "node:assert/strict";
import type { statfs } from "node:fs/promises";
import { test } from "node:test";
import { createDiskWatch } from "../../src/host/disk.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";

const MiB = 1024 * 1024;

test("start() shows the room of a real file system", async (t) => {
  const folder = tempDir(t);
  const context = recordingContext("disk", new FakeClock());
  const watch = createDiskWatch({ context, folder });
  await watch.start();
  watch.stop();
  const figures = context.readFigures();
  assert.equal(figures["folder"], folder);
  assert.ok(Number(figures["totalBytes"]) >= Number(figures["freeBytes"]));
  assert.ok(Number(figures["totalBytes"]) > 0);
});

/** A file system of `totalBytes` whose free room a test sets. */
function disk(totalBytes: number): { freeBytes: number; ask: typeof statfs } {
  const state = {
    freeBytes: totalBytes,
    ask: (async () => ({
      bsize: 4096,
      blocks: totalBytes / 4096,
      bavail: state.freeBytes / 4096,
    })) as unknown as typeof statfs,
  };
  return state;
}

test("start() degrades below 5 % or 64 MiB, and heals", async () => {
  const clock = new FakeClock();
  const context = recordingContext("disk", clock);
  const large = disk(10_000 * MiB);
  const watch = createDiskWatch({ context, folder: "/data", statfs: large.ask });
  const look = async (freeBytes: number): Promise<string> => {
    large.freeBytes = freeBytes;
    clock.advance(30_000);
    await new Promise(setImmediate);
    return context.now().status;
  };
  await watch.start();
  assert.equal(context.now().status, "ok");
  assert.equal(await look(499 * MiB), "degraded");
  assert.match(context.now().detail ?? "", /499\.0 MiB of 9\.8 GiB free/);
  assert.equal(await look(500 * MiB), "ok");
  watch.stop();
  assert.equal(clock.waiting, 0);
  assert.equal(context.lines.length, 2, "told once when it gets short, once when it is over");

  const small = disk(640 * MiB);
  small.freeBytes = 63 * MiB;
  const other = createDiskWatch({ context, folder: "/data", statfs: small.ask });
  await other.start();
  other.stop();
  assert.equal(context.now().status, "degraded");
});

test("start() says so when the disk cannot be asked", async () => {
  const context = recordingContext("disk", new FakeClock());
  const watch = createDiskWatch({ context, folder: "/no/such/folder" });
  await watch.start();
  watch.stop();
  assert.equal(context.now().status, "degraded");
  assert.match(context.now().detail ?? "", /ENOENT/);
});
