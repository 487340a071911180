/** Where a command's words go, to be looked at. */
import type { Io } from "../../src/cli/command.ts";

export interface RecordingIo extends Io {
  readonly stdout: () => string;
  readonly stderr: () => string;
}

export function recordingIo(isTerminal = false): RecordingIo {
  let [out, err] = ["", ""];
  return {
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    isTerminal,
    stdout: () => out,
    stderr: () => err,
  };
}
