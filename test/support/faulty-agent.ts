/**
 * An agent with a planted fault, to see the proofs go red: node test/support/faulty-agent.ts FAULT FILE
 */
import { existsSync, writeFileSync } from "node:fs";
import { openAgent } from "../../src/agent.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Outbox } from "../../src/journal/outbox.ts";
import type { JournalSetup } from "../../src/journal/thread.ts";

/** The unit of work, of those with state and output, at which the agent dies. */
const lastUnit = 20;

const [fault, configFile = ""] = process.argv.slice(2);
const loaded = await loadConfig(configFile);
if (fault === "split-units") splitUnits(`${configFile}.died`);
if ("problems" in loaded) throw new Error(JSON.stringify(loaded.problems));
await openAgent(loaded.config, {
  version: "planted",
  configFile,
  ...(fault !== "split-units" && { journalFault: fault as NonNullable<JournalSetup["fault"]> }),
  onFatal: (error) => {
    throw error;
  },
});

/**
 * A unit's state is committed by itself, and before the rest of it is the process is gone. Once: `died` is left behind,
 * and whoever starts after it is without fault.
 */
function splitUnits(died: string): void {
  if (existsSync(died)) return;
  // oxlint-disable-next-line typescript/unbound-method -- called with its outbox
  const whole = Outbox.prototype.commit;
  let units = 0;
  Outbox.prototype.commit = async function (unit, when) {
    const { group, state = [], emits = [] } = unit;
    if (state.length > 0 && emits.length > 0) units += 1;
    if (units < lastUnit) return whole.call(this, unit, when);
    await whole.call(this, { group, cursors: [], state }, "soon");
    writeFileSync(died, "");
    process.kill(process.pid, "SIGKILL");
    return "refused";
  };
}
