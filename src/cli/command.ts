/** A command: what `holdfast NAME` does. */

/** Where a command's words go; tests read them there. Texts carry their own line ends. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Whether a person reads `out`: colours, questions and progress make sense. */
  readonly isTerminal: boolean;
}

export interface Command {
  readonly name: string;
  /** After "holdfast ": `tail STREAM [--follow]`. */
  readonly usage: string;
  /** One line for --help, no full stop. */
  readonly summary: string;
  /** @returns the exit code */
  run(args: string[], io: Io): Promise<number>;
}
