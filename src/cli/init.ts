/** `holdfast init`: a commented starter file. */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { starterText } from "../config/starter.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import { UsageError } from "./arguments.ts";
import type { Command } from "./command.ts";

const standardFile = "./agent.yaml";
/** Passwords may be written into it. */
const fileMode = 0o600;

export const initCommand: Command = {
  name: "init",
  usage: "init [FILE]",
  summary: `Write a commented starter configuration; without FILE ${standardFile}`,
  async run(args, io) {
    const { positionals } = parseArgs({ args, allowPositionals: true });
    if (positionals.length > 1) throw new UsageError("Only one FILE is possible");
    const file = positionals[0] ?? standardFile;
    try {
      // wx: never over a file that is there, also if it appeared this moment.
      await writeFile(file, starterText(), { flag: "wx", mode: fileMode });
    } catch (cause) {
      const isThere = cause instanceof Error && "code" in cause && cause.code === "EEXIST";
      const why = isThere ? "it is there already; name another file" : messageOf(cause);
      throw new HoldfastError("CONFIG_UNREADABLE", `Cannot write ${file}: ${why}`, { cause });
    }
    io.out(`${file} is written: an embedded broker on 127.0.0.1:1883 and this board, to the console

  holdfast check --config ${file}
  holdfast run --config ${file}
`);
    return 0;
  },
};
