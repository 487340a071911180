import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { createTimeSync, type TimeSync } from "../../src/host/time-sync.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { recordingContext, type RecordingContext } from "../support/recording-context.ts";
import { tempDir } from "../support/temp-dir.ts";
import { until } from "../support/until.ts";

interface Opened {
  readonly sync: TimeSync;
  readonly clock: FakeClock;
  readonly context: RecordingContext;
  readonly systemd: string;
  readonly program: string;
}

/** `answer`: what timedatectl says; the file can be written anew. */
function opened(t: TestContext, hasSystemd: boolean, answer = "echo no"): Opened {
  const folder = tempDir(t);
  const systemd = join(folder, "systemd");
  if (hasSystemd) mkdirSync(join(systemd, "system"), { recursive: true });
  const program = join(folder, "timedatectl");
  writeFileSync(program, `#!/bin/sh\n${answer}\n`, { mode: 0o755 });
  const clock = new FakeClock();
  const context = recordingContext("clock", clock);
  const sync = createTimeSync({ context, waitMs: 300_000, systemd, timedatectl: program });
  t.after(() => sync.stop());
  return { sync, clock, context, systemd, program };
}

test("quality() is synced where systemd does not run", (t) => {
  const { sync, context } = opened(t, false);
  assert.equal(sync.quality(), "unsynced");
  sync.start();
  assert.equal(sync.quality(), "synced");
  assert.equal(context.now().status, "ok");
  assert.equal(context.sums.get("holdfast_clock_synced{}"), 1);
});

test("quality() is synced at once when systemd-timesyncd was before us", (t) => {
  const { sync, systemd } = opened(t, true);
  mkdirSync(join(systemd, "timesync"));
  writeFileSync(join(systemd, "timesync/synchronized"), "");
  sync.start();
  assert.equal(sync.quality(), "synced");
});

test("quality() becomes synced when systemd-timesyncd says so later", (t) => {
  const { sync, systemd, clock, context } = opened(t, true);
  sync.start();
  assert.equal(sync.quality(), "unsynced");
  assert.equal(context.now().status, "degraded");
  assert.equal(context.sums.get("holdfast_clock_synced{}"), 0);
  mkdirSync(join(systemd, "timesync"));
  writeFileSync(join(systemd, "timesync/synchronized"), "");
  clock.advance(5_000);
  assert.equal(sync.quality(), "synced");
  assert.equal(context.now().status, "ok");
});

test("quality() becomes synced when timedatectl says yes", async (t) => {
  const { sync } = opened(
    t,
    true,
    '[ "$*" = "show --property=NTPSynchronized --value" ] && echo yes',
  );
  sync.start();
  await until("timedatectl's answer", () => sync.quality() === "synced");
});

test("start() asks timedatectl again every 30 s", async (t) => {
  const { sync, clock, program } = opened(t, true);
  const asked = `${program}.asked`;
  writeFileSync(program, `#!/bin/sh\n[ -e ${asked} ] && echo yes\ntouch ${asked}\n`, {
    mode: 0o755,
  });
  sync.start();
  await until("a first answer", async () => {
    const { existsSync } = await import("node:fs");
    return existsSync(asked);
  });
  assert.equal(sync.quality(), "unsynced");
  await until("a second answer", () => {
    clock.advance(30_000);
    return sync.quality() === "synced";
  });
});

test("quality() is provisional once clock.wait is over, and synced after that", (t) => {
  const { sync, clock, context, systemd } = opened(t, true);
  sync.start();
  clock.advance(290_000);
  assert.equal(sync.quality(), "unsynced");
  clock.advance(15_000);
  assert.equal(sync.quality(), "provisional");
  assert.match(context.now().detail ?? "", /provisional/);
  mkdirSync(join(systemd, "timesync"));
  writeFileSync(join(systemd, "timesync/synchronized"), "");
  clock.advance(5_000);
  assert.equal(sync.quality(), "synced");
});

test("start() counts and tells a jump of more than a second, either way", (t) => {
  const { sync, clock, context } = opened(t, false);
  sync.start();
  clock.wall += 900;
  clock.advance(5_000);
  assert.equal(context.readFigures()["jumps"], 0);
  clock.wall += 3_600_000;
  clock.advance(5_000);
  clock.wall -= 60_000;
  clock.advance(5_000);
  clock.advance(60_000);
  assert.deepEqual(context.readFigures(), { quality: "synced", jumps: 2, lastJumpSeconds: -60 });
  const warnings = context.lines
    .filter((line) => line.level === "warn")
    .map((line) => line.message);
  assert.deepEqual(warnings, ["The clock jumped forward by 1h", "The clock jumped back by 1m"]);
});

test("stop() leaves no timer", (t) => {
  const { sync, clock } = opened(t, true);
  sync.start();
  sync.stop();
  assert.equal(clock.waiting, 0);
});
