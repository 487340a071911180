/** Opens each of `rounds` new state files at the same moment as the other threads do, and says whose identity it saw. */
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { SqliteFile } from "../../src/state/sqlite-file.ts";

const { folder, rounds, threads, arrived } = workerData as {
  folder: string;
  rounds: number;
  threads: number;
  arrived: Int32Array;
};
const ids: string[] = [];
for (let round = 0; round < rounds; round += 1) {
  Atomics.add(arrived, 0, 1);
  while (Atomics.load(arrived, 0) < threads * (round + 1));
  try {
    const file = new SqliteFile({ path: join(folder, `${round}.db`), durability: "crash" });
    ids.push(file.id);
    file.close();
  } catch (thrown) {
    ids.push(String(thrown));
  }
}
parentPort?.postMessage(ids);
