/** Runs test/support/publisher.ts as a process of its own, so that its load is not the agent's. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export interface PublisherOptions {
  readonly url: string;
  readonly topic: string;
  readonly count: number;
  readonly qos: 0 | 1 | 2;
  /** How many may be unacknowledged. */
  readonly window: number;
  /** Messages a second; 0: as fast as it goes. */
  readonly rate?: number;
  /** At most so many beyond what `taken` was told; 0: no bound. */
  readonly ahead?: number;
  /** The number of the first message; 0. */
  readonly from?: number;
  /** Bytes of a payload; 90. */
  readonly size?: number;
  /** Payloads do not compress. */
  readonly noise?: boolean;
  /** Messages are readings (reading.ts), each on the topic's level of its device. */
  readonly readings?: boolean;
  readonly retain?: boolean;
  /** A command that runs it. */
  readonly within?: readonly string[];
  /** Connect again and resend with the DUP flag when the connection breaks. */
  readonly resilient?: boolean;
}

export interface Publisher {
  /** Resolves with how many were acknowledged when all are, rejects when the publisher fails. */
  readonly done: Promise<number>;
  acknowledged(): number;
  /** The far end has taken so many: with `ahead`, more may follow. */
  taken(count: number): void;
  end(): Promise<void>;
}

export function startPublisher(options: PublisherOptions): Publisher {
  const { within = [], ...named } = options;
  const args = Object.entries(named).flatMap(([name, value]) =>
    typeof value === "boolean" ? (value ? [`--${name}`] : []) : [`--${name}`, String(value)],
  );
  const [program = "", ...words] = [
    ...within,
    process.execPath,
    "test/support/publisher.ts",
    ...args,
  ];
  const child = spawn(program, words, { stdio: ["pipe", "pipe", "pipe"] });
  let acknowledged = 0;
  let problems = "";
  // It may be gone when it is told.
  child.stdin.on("error", () => undefined);
  child.stderr.on("data", (data: Buffer) => (problems = (problems + data.toString()).slice(-2000)));
  createInterface(child.stdout).on("line", (line) => {
    acknowledged = (JSON.parse(line) as { acknowledged: number }).acknowledged;
  });
  // `close` comes after the last line, `exit` may not.
  const closed = once(child, "close");
  const done = closed.then(([code]) => {
    if (code === 0) return acknowledged;
    throw new Error(`The publisher ended with ${code} after ${acknowledged}: ${problems}`);
  });
  // Whoever ends it early does not wait for `done`.
  done.catch(() => undefined);
  return {
    done,
    acknowledged: () => acknowledged,
    taken: (count) => void child.stdin.write(`${count}\n`),
    async end() {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await closed;
    },
  };
}
