/** A disk that refuses to sync, by strace's fault injection; and when it is asked to. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { requireProgram } from "../support/mosquitto.ts";
import { tempDir } from "../support/temp-dir.ts";
import { openJournal, texts } from "../support/test-journal.ts";

const run = promisify(execFile);

/** Appends `count` events under strace; gives back its calls of fsync and write, in order, not those of the reserve. */
async function traced(
  folder: string,
  count: number,
  options: readonly string[],
  ...more: string[]
) {
  requireProgram("strace", "strace");
  const trace = join(folder, "trace");
  const strace = ["-f", "-y", "-e", "trace=fsync,fdatasync,write", ...options, "-o", trace];
  const child = ["test/support/append-child.ts", join(folder, "journal.db"), String(count)];
  await run("strace", [...strace, process.execPath, ...child, ...more]);
  return readFileSync(trace, "utf8")
    .split("\n")
    .filter((line) => /sync|INJECTED|settled|"open/.test(line) && !line.includes("-reserve>"));
}

/** The calls on the journal's files and folder, with their names (strace -y), and what the child says. */
async function named(folder: string, ...more: string[]): Promise<readonly string[]> {
  requireProgram("strace", "strace");
  const trace = join(folder, "..", "names");
  const calls = "trace=openat,fsync,fdatasync,pwrite64,write";
  const child = ["test/support/append-child.ts", join(folder, "journal.db"), "3", ...more];
  await run("strace", [
    "-f",
    "-y",
    "-s",
    "40",
    "-e",
    calls,
    "-o",
    trace,
    process.execPath,
    ...child,
  ]);
  return readFileSync(trace, "utf8").split("\n");
}

/** How many "settled" come while a write to the WAL has no sync behind it. */
function beforeSync(calls: readonly string[]): number {
  let [isDirty, wrote, found] = [false, false, 0];
  for (const line of calls) {
    if (/pwrite64\(\d+<[^>]*journal\.db-wal>/.test(line)) isDirty = wrote = true;
    else if (/sync\(\d+<[^>]*journal\.db-wal>/.test(line)) isDirty = false;
    else if (line.includes('"settled') && isDirty) found++;
  }
  assert.ok(wrote, "The WAL was never written");
  return found;
}

/** Whether the folder is synced between the last opening of the database and the child's "open". */
function syncsFolder(calls: readonly string[], folder: string): boolean {
  const created = calls.findLastIndex((line) =>
    /openat\(.*\/journal\.db", O_RDWR\|O_CREAT/.test(line),
  );
  const opened = calls.findIndex((line) => line.includes('"open'));
  assert.ok(created >= 0 && opened > created, "The child did not open its journal");
  return calls
    .slice(created, opened)
    .some((line) => line.includes(`fsync(`) && line.includes(`<${folder}>)`));
}

test("the WAL itself is synced between its write and settled, and the check sees where it is not", async (t) => {
  const inside = (name: string): string => {
    const folder = join(tempDir(t), name);
    mkdirSync(folder);
    return folder;
  };
  const synced = await named(inside("whole"));
  assert.equal(synced.filter((line) => line.includes('"settled')).length, 3);
  assert.equal(beforeSync(synced), 0);
  assert.ok(beforeSync(await named(inside("planted"), "synchronous-off")) > 0);
  assert.ok(beforeSync(await named(inside("crash"), "crash")) > 0);
});

// The WAL's own sync of the folder comes at its first commit; ours is the last of the folder before "open".
test("the folder is synced before the journal is open, also when its maker was killed before that", async (t) => {
  const folder = join(tempDir(t), "new");
  mkdirSync(folder);
  const ours = (calls: readonly string[]): number => {
    const opened = calls.findIndex((line) => line.includes('"open'));
    return calls
      .slice(0, opened)
      .filter((line) => line.includes("fsync(") && line.includes(`<${folder}>)`)).length;
  };
  const made = await named(folder);
  assert.ok(syncsFolder(made, folder));
  const without = made.filter(
    (line) => !(line.includes("fsync(") && line.includes(`<${folder}>)`)),
  );
  assert.equal(syncsFolder(without, folder), false);
  // A clean close removed the WAL: its folder's sync is one, that of the database is the other.
  assert.ok(ours(await named(folder)) >= 2);
});

/** How often the thread that owns the file makes each of the calls before the journal is open. */
async function callsToOpen(folder: string, names: readonly string[]): Promise<Map<string, number>> {
  const trace = join(folder, "opening");
  const child = ["test/support/append-child.ts", join(folder, "journal.db"), "0"];
  const calls = `trace=write,pwrite64,${names.join(",")}`;
  await run("strace", ["-f", "-e", calls, "-o", trace, process.execPath, ...child]);
  const lines = readFileSync(trace, "utf8").split("\n");
  const owner = lines.find((line) => line.includes("pwrite64("))?.split(" ")[0];
  const opened = lines.findIndex((line) => line.includes('"open'));
  assert.ok(owner !== undefined && opened > 0, "The child did not open its journal");
  const before = lines.slice(0, opened).filter((line) => line.startsWith(owner));
  return new Map(
    names.map((name) => [name, before.filter((line) => line.includes(`${name}(`)).length]),
  );
}

/** Which calls fail, with what, and from which to which after the opening. */
type Fault = readonly [call: string, error: string, from: number, to: number];
const faults: readonly (readonly Fault[])[] = [
  // A commit's sync; its repair's too; those of the reopening; and again and again.
  [["fsync", "EIO", 1, 1]],
  [["fsync", "EIO", 1, 2]],
  [["fsync", "EIO", 2, 4]],
  [["fsync", "EIO", 3, 12]],
  // A file system behind a network, or a thin volume, says only now that there is no room.
  [["fsync", "ENOSPC", 2, 4]],
  // The first frame of a commit, one in its middle, many.
  [["pwrite64", "EIO", 1, 1]],
  [["pwrite64", "EIO", 4, 4]],
  [["pwrite64", "EIO", 6, 13]],
  [["pwrite64", "ENOSPC", 3, 10]],
  // What is opened again cannot be read at first.
  [
    ["fsync", "EIO", 2, 2],
    ["pread64", "EIO", 1, 4],
  ],
];

for (const fault of faults) {
  const what = fault.map(([call, error, from, to]) => `${call} ${from} to ${to} fail by ${error}`);
  test(`each event is there once and settled when it is on disk, though ${what.join(" and ")}`, async (t) => {
    const [dry, folder] = [join(tempDir(t), "dry"), join(tempDir(t), "failing")];
    for (const each of [dry, folder]) mkdirSync(each);
    const names = fault.map(([call]) => call);
    const before = await callsToOpen(dry, names);
    const inject = fault.flatMap(([call, error, from, to]) => {
      const opened = before.get(call) ?? 0;
      return ["-e", `inject=${call}:error=${error}:when=${opened + from}..${opened + to}`];
    });
    const trace = `trace=write,${names.join(",")}`;
    const calls = await traced(folder, 20, ["-e", trace, ...inject]);
    for (const [call] of fault) {
      const isInjected = (line: string): boolean =>
        line.includes(`${call}(`) && line.includes("INJECTED");
      assert.ok(calls.some(isInjected), `No ${call} failed`);
    }
    assert.equal(calls.filter((line) => line.includes("settled")).length, 20);
    const { journal } = await openJournal(t, { folder });
    const expected = Array.from({ length: 20 }, (_, index) => String(index + 1));
    assert.deepEqual(await texts(journal, "s"), [...expected, "end"]);
  });
}
