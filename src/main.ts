#!/usr/bin/env node
/** argv in, exit code out. */
import { runCommandLine } from "./cli/commands.ts";
import { programVersion } from "./host/program.ts";

const io = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(text),
  isTerminal: process.stdout.isTTY,
};

process.exitCode = await runCommandLine(process.argv.slice(2), io, programVersion());
