/** The service in a booted machine, as its owner sees it. */
import assert from "node:assert/strict";
import type { BootedMachine } from "./booted-machine.ts";
import { until } from "./until.ts";

export interface InstalledService {
  /** What systemd says of it. */
  readonly property: (name: string) => string;
  readonly configure: (yaml: string) => void;
  /** To its broker at QoS 1, `PREFIX-0` and so on: it ends when each was acknowledged. */
  readonly publish: (count: number, prefix: string) => void;
  /** The payloads of the stream `readings`. */
  readonly stored: () => string[];
  readonly serves: () => Promise<void>;
  /** Until another process serves. */
  readonly restartsAfter: (act: () => void) => Promise<void>;
}

export const brokerConfig = `
sources:
  listen: { type: broker, listen: "127.0.0.1:1883", topics: ["#"], stream: readings }
streams:
  readings: { format: text, linger: 100ms }
`;

/** `machine`: the one that runs at that time. */
export function installedService(machine: () => BootedMachine): InstalledService {
  const property = (name: string): string =>
    machine().must(`systemctl show holdfast -P ${name}`).trim();
  return {
    property,
    configure: (yaml) => machine().write("/etc/holdfast/agent.yaml", yaml),
    publish(count, prefix) {
      const lines = Array.from({ length: count }, (_, index) => `${prefix}-${index}\n`).join("");
      const args = ["-h", "127.0.0.1", "-p", "1883", "-t", "a/b", "-q", "1", "-l"];
      const { code, err } = machine().outside("mosquitto_pub", args, lines);
      assert.equal(code, 0, err);
    },
    stored() {
      const lines = machine().must("holdfast tail readings --from 1 --json").trim().split("\n");
      return lines
        .filter((line) => line !== "")
        .map((line) => (JSON.parse(line) as { payload: { value?: string } | string }).payload)
        .map((payload) => (typeof payload === "string" ? payload : (payload.value ?? "")));
    },
    serves: () =>
      until("the agent to be ready", () => property("ActiveState") === "active", 60_000),
    async restartsAfter(act) {
      const pid = property("MainPID");
      act();
      const isAnother = (): boolean =>
        !["0", pid].includes(property("MainPID")) && property("ActiveState") === "active";
      await until("another process", isAnother, 90_000);
    },
  };
}
