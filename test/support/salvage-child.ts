/** Opens a damaged journal, appends during the salvage, says when that is settled, and waits to be killed. */
import { systemClock } from "../../src/core/clock.ts";
import { createJournal } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { recordingContext } from "./recording-context.ts";

const [path = "", payload = ""] = process.argv.slice(2);
const clock = systemClock(() => "synced");
const journal = createJournal(
  recordingContext("journal", clock),
  journalSetup(path, { linger: 1 }),
);
await journal.open([{ group: "cloud", streams: ["a", "b"] }]);
const time = clock.wallMs();
journal.append(
  "a",
  { key: null, time, receivedAt: time, headers: {}, payload: Buffer.from(payload) },
  () => process.stdout.write("settled\n"),
);
journal.commitSoon();
