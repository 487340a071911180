/** Opens a damaged journal, appends during the salvage, says when that is settled, and waits to be killed. */
import { systemClock } from "../../src/core/clock.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { recordingContext } from "./recording-context.ts";

const [path = "", payload = ""] = process.argv.slice(2);
const clock = systemClock(() => "synced");
const settings = {
  path,
  durability: "power-loss",
  linger: 1,
  maxBytes: 64 * 1024 * 1024,
  maxAge: 30 * 86_400_000,
  onFull: "drop-oldest",
} as const;
const journal = createJournal(recordingContext("journal", clock), {
  settings,
  path,
  device: "board-1",
  board: null,
  streams: new Map(),
  onFatal: (error) => {
    throw error;
  },
});
await journal.open([{ group: "cloud", streams: ["a", "b"] }]);
const time = clock.wallMs();
journal.append(
  "a",
  { key: null, time, receivedAt: time, headers: {}, payload: Buffer.from(payload) },
  () => process.stdout.write("settled\n"),
);
journal.commitSoon();
