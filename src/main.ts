#!/usr/bin/env node
/** argv in, exit code out. */
import { runCommandLine } from "./cli/commands.ts";
import { asErrors, isJournald } from "./host/journald.ts";
import { programVersion } from "./host/program.ts";

// `holdfast tail … | head`: the reader has gone, and there is nobody to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const errorsToJournald = isJournald(2);
const io = {
  out: (text: string) => void process.stdout.write(text),
  err: (text: string) => void process.stderr.write(errorsToJournald ? asErrors(text) : text),
  isTerminal: process.stdout.isTTY,
};

process.exitCode = await runCommandLine(process.argv.slice(2), io, programVersion());
