/**
 * Every error that an operator can meet, in one table. README's table is printed from it.
 *
 * Kinds:
 * - `transient`: try again for ever, with back-off and a ceiling
 * - `refused`: this event never will; dead-letter it and go on
 * - `fatal`: this part cannot go on; exit 74, systemd restarts it
 * - `config`: a person must act; exit 78, no restart
 *
 * Our own mistakes are failed assertions, not rows here: they crash with exit 70.
 */

export type ErrorKind = "transient" | "refused" | "fatal" | "config";

interface ErrorRow {
  readonly kind: ErrorKind;
  /** What happened, for the README. */
  readonly sentence: string;
  /** What the operator can do about it. */
  readonly hint: string;
}

export const errorTable = {
  CONFIG_INVALID: {
    kind: "config",
    sentence: "The configuration file has problems",
    hint: "Run `holdfast check --config FILE`; it lists every problem with its line",
  },
  CONFIG_UNREADABLE: {
    kind: "config",
    sentence: "The configuration file cannot be read",
    hint: "Check the path and its permissions; `holdfast init FILE` writes a starter file",
  },
  SECRET_UNREADABLE: {
    kind: "config",
    sentence: "A secret's file or systemd credential cannot be read",
    hint: "Check the file's path and owner, or LoadCredential= in the unit",
  },
  HANDLER_INVALID: {
    kind: "config",
    sentence: "A handler module cannot be loaded, or its default export is no handler",
    hint: "Export a function, `export default (event, context) => { … }`, or one for whole batches, `export default { batch: (events, context) => { … } }`",
  },
  LISTEN_FAILED: {
    kind: "config",
    sentence: "A port or socket cannot be listened on",
    hint: "Something else has it (`ss -ltnp` tells what); stop that, or change `listen`",
  },
  JOURNAL_FOREIGN: {
    kind: "config",
    sentence:
      "The journal's file is from a newer version or belongs to another program; it was not touched",
    hint: "Install the version that made it, or name another `journal.path`",
  },
  JOURNAL_UNAVAILABLE: {
    kind: "fatal",
    sentence: "The journal cannot be opened or written",
    hint: "Check the disk (`dmesg`, `df`), and the owner of the journal's folder",
  },
  JOURNAL_LOCKED: {
    kind: "config",
    sentence: "Another process has the journal open",
    hint: "One agent to a journal: stop the other one, or name another `journal.path`",
  },
  JOURNAL_FULL: {
    kind: "transient",
    sentence: "The journal has no room: acknowledgements are withheld until there is",
    hint: "A sink is away or too slow; `holdfast status` shows which. `journal.maxBytes` and `journal.onFull` decide",
  },
  JOURNAL_BUSY: {
    kind: "transient",
    sentence: "The journal does one long work at a time",
    hint: "`holdfast status` shows which goes on; ask again when it is done",
  },
  JOURNAL_DISK: {
    kind: "transient",
    sentence: "The disk refused a write of the journal; it is tried again",
    hint: "Check `dmesg` and `df`; a worn SD card shows itself like this",
  },
  SOURCE_UNREACHABLE: {
    kind: "transient",
    sentence: "A source's far side cannot be reached",
    hint: "Check the address, the network and the broker; the session is kept meanwhile",
  },
  SOURCE_REFUSED: {
    kind: "transient",
    sentence: "A source's far side refused us",
    hint: "Check the user name, the password, the client ID and the broker's access rules",
  },
  SOURCE_ABSENT: {
    kind: "transient",
    sentence: "A sensor or device file is not there, or gives no valid reading",
    hint: "Check the wiring, the overlay in /boot/firmware/config.txt, and the path",
  },
  EVENT_MALFORMED: {
    kind: "refused",
    sentence: "A payload is not of its stream's format",
    hint: "`holdfast dlq-inspect STREAM` shows it; `streams.NAME.format` says what is expected",
  },
  EVENT_INVALID: {
    kind: "refused",
    sentence: "A payload does not fit its stream's schema",
    hint: "`holdfast dlq-inspect STREAM` shows which field; correct the sender or `streams.NAME.schema`",
  },
  EVENT_TOO_LARGE: {
    kind: "refused",
    sentence: "A payload is larger than an event may be",
    hint: "An event holds at most 1 MiB; split it at the sender",
  },
  HANDLER_FAILED: {
    kind: "refused",
    sentence: "A handler or step threw on an event, as often as `retry.attempts` allows",
    hint: "`holdfast dlq-inspect STREAM` shows the message and the event",
  },
  HANDLER_TIMEOUT: {
    kind: "refused",
    sentence: "A handler did not end within its `timeout`",
    hint: "Look for a call without a time-out of its own, or raise `timeout`",
  },
  DLQ_HOMELESS: {
    kind: "refused",
    sentence: "A dead letter cannot go back to where it failed: that is not there any more",
    hint: "Bring the processor back, or export the letter and send it as a new event",
  },
  REPLAY_REFUSED: {
    kind: "refused",
    sentence: "A replay cannot be done as it was asked for; nothing has changed",
    hint: "The message says why; `holdfast groups` shows where the group stands",
  },
  PROCESSOR_STOPPED: {
    kind: "transient",
    sentence: "A processor has stopped and takes no orders",
    hint: "`holdfast status` says why; what it was asked for can be asked again when it runs",
  },
  SINK_UNREACHABLE: {
    kind: "transient",
    sentence:
      "A sink's far side cannot be reached, or its disk is full; events wait in the journal",
    hint: "Check the address and the network (for files: `df`); delivery goes on by itself",
  },
  SINK_DENIED: {
    kind: "config",
    sentence:
      "A sink's far side does not let us in; events wait in the journal, and it is tried again each minute",
    hint: "Check the user name, the password, the certificates and the far side's access rules (for files: the folder's owner)",
  },
  SINK_REFUSED: {
    kind: "refused",
    sentence: "A sink's far side refused an event for good",
    hint: "`holdfast dlq-inspect STREAM` shows the event and the far side's reason",
  },
  PLANE_UNAVAILABLE: {
    kind: "transient",
    sentence: "The agent cannot have a Valkey server for its plane; processors read from memory",
    hint: "`apt-get install valkey-server` (or redis-server), or set `plane.valkey.url`, or `plane.kind: memory`",
  },
  STREAM_UNREACHABLE: {
    kind: "transient",
    sentence: "The server that keeps the streams does not answer, or cannot take anything now",
    hint: "Check the URL, the network and the server (`valkey-cli ping`); it goes on by itself",
  },
  STREAM_DENIED: {
    kind: "config",
    sentence: "The server that keeps the streams does not let us in",
    hint: "Check user name, password and the server's access rules (`ACL WHOAMI`)",
  },
  STREAM_FULL: {
    kind: "transient",
    sentence: "A topic holds as many entries as it may, and some group has not read the oldest",
    hint: "`XINFO GROUPS TOPIC` shows which group is behind; start its workers, raise `maxLength`, or destroy the group",
  },
  STREAM_INVALID: {
    kind: "config",
    sentence: "A stream cannot be used as it was asked for",
    hint: "The message names the option or the key, and what to do about it",
  },
  STATE_UNAVAILABLE: {
    kind: "transient",
    sentence: "The file that keeps a group's state cannot be read or written now",
    hint: "Check the disk (`df`, `dmesg`) and the folder's owner; it is tried again",
  },
  STATE_FOREIGN: {
    kind: "config",
    sentence:
      "The file that should keep a group's state is damaged, from a newer version, or another program's; it was not touched",
    hint: "Name another path, or move the file away: positions and state begin anew then",
  },
  STATE_LOCKED: {
    kind: "config",
    sentence: "Another worker has the folder that keeps a group's state open",
    hint: "RocksDB serves one worker: give this one a folder of its own, or share a SqliteStore",
  },
  STATE_PACKAGE: {
    kind: "config",
    sentence: "The optional package that keeps state is not installed, or cannot be loaded",
    hint: "`npm install rocksdb-native@3.18.1`; on Debian also `apt-get install libatomic1`",
  },
  ADMIN_UNREACHABLE: {
    kind: "transient",
    sentence: "The agent's admin API does not answer",
    hint: "Is the agent running (`systemctl status holdfast`)? Name it with --url or --config",
  },
  ADMIN_REFUSED: {
    kind: "config",
    sentence: "The agent's admin API refused the request",
    hint: "Give the token with --token or HOLDFAST_ADMIN_TOKEN",
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

/**
 * An error that has a row in the table. `message` is one sentence, capital first, active, no full stop, no
 * secret, with the state after a colon: "Cannot open journal /var/lib/…: file is from version 4".
 */
export class HoldfastError extends Error {
  override readonly name = "HoldfastError";
  readonly code: ErrorCode;
  /** As the table says, unless the thrower knows better (a refusal by a broker that restarts, say). */
  readonly kind: ErrorKind;
  /** The far side asked to be left alone for so long, ms; whoever makes the error bounds it. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; kind?: ErrorKind; retryAfterMs?: number | undefined } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.code = code;
    this.kind = options.kind ?? errorTable[code].kind;
    this.retryAfterMs = options.retryAfterMs;
  }

  get hint(): string {
    return errorTable[this.code].hint;
  }
}

/** The message of anything that was thrown, in one line. */
export function messageOf(thrown: unknown): string {
  const message = thrown instanceof Error ? thrown.message || thrown.name : String(thrown);
  return message.replaceAll(/\s*\n\s*/g, " ");
}
