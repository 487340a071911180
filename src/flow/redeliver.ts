/**
 * Dead letters back to where they failed, once each: whatever cuts it off, a letter is in its queue or on its way.
 *
 *   could not enter its stream ──► asked again at the stream's door; it stays a letter where it still does not fit
 *   failed in a processor ───────► a retry row of that processor, as if it had failed just now, with all attempts
 *   refused by a sink ───────────► a new event at the end of its stream, with `replayOf` (its old seq) and `replayFor`
 *                                  (the sink: other groups pass it over)
 *   a window's result ───────────► into the stream that it was to enter, past that stream's door
 *
 * Each step is a unit of work that takes the letter out; the journal refuses it if somebody else has taken it.
 * Bound: `atOnce` letters in a unit; a processor takes as many as its retry rows have room for.
 */
import { HoldfastError } from "../core/errors.ts";
import type { Clock } from "../core/clock.ts";
import type { NewEvent } from "../core/event.ts";
import type { Redelivery, RedeliveryReport } from "../core/replay.ts";
import type { DeadLetter, Journal, RetryRow, UnitOfWork } from "../journal/journal.ts";
import { admit, type StreamRules } from "./admit.ts";
import type { Processing } from "./process.ts";
import { retryBytesMax, retryRowsMax } from "./retry-rows.ts";

/** In one transaction: of 1 MiB each still what one turn of the journal takes. */
const atOnce = 16;

export interface RedeliveryParts {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly rulesOf: (stream: string) => StreamRules;
  /** Those that run, with what they read. */
  readonly processors: ReadonlyMap<
    string,
    Pick<Processing, "exclusively"> & { readonly from: readonly string[] }
  >;
}

export function createRedelivery(parts: RedeliveryParts): Redelivery {
  return {
    async replay(stream, after, limit) {
      const report = new Report();
      for (let left = limit; left > 0 && !report.isFull;) {
        const from: number = report.last ?? after;
        const letters = await parts.journal.readDeadLetters(stream, Math.min(left, atOnce), from);
        if (letters.length === 0) break;
        await deliver(parts, letters, report);
        left -= letters.length;
      }
      return report;
    },
    async replayThese(stream, edits) {
      const report = new Report();
      for (const edit of edits) {
        const [letter] = await parts.journal.readDeadLetters(stream, 1, edit.id - 1);
        if (letter?.id === edit.id) await deliver(parts, [{ ...letter, ...edit }], report);
        if (report.isFull) break;
        report.last = edit.id;
      }
      return report;
    },
  };
}

class Report implements RedeliveryReport {
  replayed = 0;
  readonly refused: { id: number; code: string; reason: string }[] = [];
  last: number | null = null;
  isFull = false;

  refuse({ id }: DeadLetter, { code, message }: HoldfastError): void {
    this.refused.push({ id, code, reason: message });
  }
}

/** In their order; those of one processor that follow each other go together. */
async function deliver(
  parts: RedeliveryParts,
  letters: readonly DeadLetter[],
  report: Report,
): Promise<void> {
  for (let index = 0; index < letters.length && !report.isFull;) {
    const first = letters[index] as DeadLetter;
    const processor = processorOf(first);
    let end = index + 1;
    while (end < letters.length && processorOf(letters[end] as DeadLetter) === processor) end += 1;
    const group = letters.slice(index, end);
    if (processor === null) await append(parts, group, report);
    else await retry(parts, processor, group, report);
    index = end;
  }
}

/** Whose retry row it becomes; null: it goes into a stream. */
function processorOf({ origin, originName, seq }: DeadLetter): string | null {
  return origin === "processor" && seq !== null ? originName : null;
}

async function append(
  parts: RedeliveryParts,
  letters: readonly DeadLetter[],
  report: Report,
): Promise<void> {
  const ready: { letter: DeadLetter; event: NewEvent }[] = [];
  for (const letter of letters) {
    const event = eventOf(letter, parts.rulesOf(letter.stream));
    if (event instanceof HoldfastError) report.refuse(letter, event);
    else ready.push({ letter, event });
  }
  const unitOf = (some: typeof ready): UnitOfWork => ({
    group: "dlq",
    cursors: [],
    emits: some.map(({ letter: { stream }, event }) => ({ stream, event })),
    taken: some.map(({ letter: { stream, id } }) => ({ stream, id })),
  });
  report.replayed += await commitEach(parts.journal, ready, unitOf);
  report.last = letters.at(-1)?.id ?? report.last;
}

/** All in one unit, or, where one was taken meanwhile, one by one; gives back how many. */
async function commitEach<T>(
  journal: Journal,
  all: readonly T[],
  unitOf: (some: T[]) => UnitOfWork,
): Promise<number> {
  if (all.length === 0) return 0;
  if ((await journal.commit(unitOf([...all]), "soon")) === "committed") return all.length;
  let committed = 0;
  for (const one of all.length > 1 ? all : []) {
    if ((await journal.commit(unitOf([one]), "soon")) === "committed") committed += 1;
  }
  return committed;
}

function eventOf(letter: DeadLetter, rules: StreamRules): NewEvent | HoldfastError {
  const { origin, originName, seq, key, time, firstFailedAt, payload } = letter;
  const isFromSink = origin === "sink";
  const headers = isFromSink
    ? { ...letter.headers, replayOf: String(seq), replayFor: originName }
    : letter.headers;
  const admitted = admit(rules, { headers, payload }, firstFailedAt);
  // What never entered has no key and time yet but those that its stream finds in it.
  if (admitted instanceof HoldfastError || origin === "source") return admitted;
  return { ...admitted, key, time };
}

async function retry(
  { journal, processors, clock }: RedeliveryParts,
  name: string,
  letters: readonly DeadLetter[],
  report: Report,
): Promise<void> {
  const processor = processors.get(name);
  const stream = letters[0]?.stream ?? "";
  if (processor?.from.includes(stream) !== true) {
    const why = `There is no processor ${name} that reads stream ${stream} any more`;
    for (const letter of letters) report.refuse(letter, new HoldfastError("DLQ_HOMELESS", why));
    report.last = letters.at(-1)?.id ?? report.last;
    return;
  }
  await processor.exclusively(async () => {
    const rows = await journal.readRetries(name);
    let bytes = rows.reduce((sum, { event }) => sum + event.payload.length, 0);
    let room = retryRowsMax - rows.length;
    const fitting = letters.filter(({ payload }) => {
      bytes += payload.length;
      room -= 1;
      return room >= 0 && bytes <= retryBytesMax;
    });
    const now = clock.wallMs();
    const { epoch } = journal.identity();
    const unitOf = (some: DeadLetter[]): UnitOfWork => ({
      group: name,
      cursors: [],
      retries: { put: some.map((letter) => rowOf(letter, epoch, now)), remove: [] },
      taken: some.map(({ id }) => ({ stream, id })),
    });
    report.replayed += await commitEach(journal, fitting, unitOf);
    report.isFull = fitting.length < letters.length;
    report.last = fitting.at(-1)?.id ?? report.last;
  });
}

function rowOf(letter: DeadLetter, epoch: string, now: number): RetryRow {
  const { stream, seq, key, time, headers, payload, firstFailedAt: receivedAt } = letter;
  const place = { stream, seq: seq ?? 0, epoch, clock: "synced" } as const;
  return {
    event: { ...place, key, time, receivedAt, headers, payload },
    attempts: 0,
    dueAt: now,
    firstFailedAt: now,
    error: "Replayed from the dead letters",
  };
}
