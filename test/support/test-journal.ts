/** A real journal in a folder of the test's own. */
import type { TestContext } from "node:test";
import { join } from "node:path";
import type { Clock } from "../../src/core/clock.ts";
import type { NewEvent } from "../../src/core/event.ts";
import { noHeaders } from "../../src/core/event.ts";
import type {
  GroupDeclaration,
  Journal,
  JournalHistory,
  JournalUpkeep,
} from "../../src/journal/journal.ts";
import { createJournal, type JournalSetup } from "../../src/journal/thread.ts";
import { journalSetup } from "./journal-setup.ts";
import { recordingContext, type RecordingContext } from "./recording-context.ts";
import { tempDir } from "./temp-dir.ts";

export interface JournalOptions {
  readonly folder?: string;
  readonly groups?: readonly GroupDeclaration[];
  readonly linger?: number;
  readonly maxBytes?: number;
  readonly onFull?: "drop-oldest" | "reject";
  readonly durability?: "power-loss" | "crash";
  readonly maxAge?: number;
  readonly streams?: JournalSetup["streams"];
  readonly board?: string | null;
  readonly clock?: Clock;
  readonly fault?: JournalSetup["fault"];
  /** Given the context before the journal is open. */
  readonly onContext?: (context: RecordingContext) => void;
}

export interface TestJournal {
  readonly journal: Journal & JournalUpkeep & JournalHistory;
  readonly context: RecordingContext;
  readonly folder: string;
  readonly path: string;
}

export async function openJournal(
  test: TestContext,
  options: JournalOptions = {},
): Promise<TestJournal> {
  const folder = options.folder ?? tempDir(test);
  const path = join(folder, "journal.db");
  const context = recordingContext("journal", options.clock);
  options.onContext?.(context);
  const { durability, linger, maxBytes, onFull, maxAge, board, streams, fault } = options;
  const setup = journalSetup(
    path,
    {
      ...(durability !== undefined && { durability }),
      ...(linger !== undefined && { linger }),
      ...(maxBytes !== undefined && { maxBytes }),
      ...(maxAge !== undefined && { maxAge }),
      ...(onFull !== undefined && { onFull }),
    },
    {
      ...(board !== undefined && { board }),
      ...(streams !== undefined && { streams }),
      ...(fault !== undefined && { fault }),
    },
  );
  const journal = createJournal(context, setup);
  test.after(() => journal.close());
  await journal.open(options.groups ?? []);
  return { journal, context, folder, path };
}

export function event(payload: string | Uint8Array, more: Partial<NewEvent> = {}): NewEvent {
  const time = 1_780_000_000_000;
  const bytes = typeof payload === "string" ? Buffer.from(payload) : payload;
  return { key: null, time, receivedAt: time, headers: noHeaders, payload: bytes, ...more };
}

/** Appends and resolves when it is on disk. */
export function append(journal: Journal, stream: string, one: NewEvent): Promise<void> {
  return new Promise((resolve) => journal.append(stream, one, resolve));
}

export async function texts(journal: Journal, stream: string, after = 0): Promise<string[]> {
  const found: string[] = [];
  let position = after;
  for (;;) {
    const { events } = await journal.read(stream, position, 1000, 1 << 20);
    if (events.length === 0) return found;
    for (const { payload } of events) found.push(Buffer.from(payload).toString());
    position = events.at(-1)?.seq ?? position;
  }
}
