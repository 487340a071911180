/**
 * An agent with a planted fault, to see the proofs go red: node test/support/faulty-agent.ts FAULT FILE
 */
import { openAgent } from "../../src/agent.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { JournalSetup } from "../../src/journal/thread.ts";

const [fault, configFile = ""] = process.argv.slice(2);
const loaded = await loadConfig(configFile);
if ("problems" in loaded) throw new Error(JSON.stringify(loaded.problems));
await openAgent(loaded.config, {
  version: "planted",
  configFile,
  journalFault: fault as NonNullable<JournalSetup["fault"]>,
  onFatal: (error) => {
    throw error;
  },
});
