/**
 * Source to journal: the first loop that an event meets, and the one that may never lie.
 *
 *   source ── accept ──► admitted? ── yes ──► the next commit's pack ─┐
 *                            └─ no ──► a dead letter in that commit ──┴─► fsync ──► settled ──► acknowledgement
 *
 * It holds nothing of its own. A message is either still the source's (nothing was acknowledged, the far side
 * will send it again), or in the journal's pack for the next commit (the same), or on disk; `settled` is the
 * one moment in which the promise is made. A crash before it costs a repetition at QoS 1, nothing at QoS 2,
 * whose packet identifier lies in the same transaction.
 *
 * Bounds: the journal's pack says `hasRoom` (events and bytes, journal/thread.ts); a source that is told "no room"
 * pauses its socket or skips its poll. What a full journal rejects is not settled, which is the same as no room:
 * back-pressure reaches the sender, never the heap, and only the senders of the streams that reject.
 */
import type { Context } from "../core/context.ts";
import { HoldfastError } from "../core/errors.ts";
import type { NewEvent } from "../core/event.ts";
import type { Journal, PacketIdentifier } from "../journal/journal.ts";
import type { Intake, Message } from "../source/source.ts";
import { admit, type StreamRules } from "./admit.ts";
import { deadLetterOf } from "./dead-letter.ts";

export interface IngestParts {
  /** Of the source; its name is the source's. */
  readonly context: Context;
  readonly journal: Journal;
  readonly stream: string;
  readonly rules: StreamRules;
  /** Payload bytes that came, for the wear meter. */
  readonly onBytes: (bytes: number) => void;
}

export function createIntake({ context, journal, stream, rules, onBytes }: IngestParts): Intake {
  const source = context.name;
  const count = (status: string): { add(count?: number): void } =>
    context.metrics.counter("holdfast_source_events_total", { source, status });
  const bytes = context.metrics.counter("holdfast_source_bytes_total", { source });
  const accepted = count("accepted");
  const repeated = count("repeated");
  const deadLetters = count("dead_letter");

  const refuse = (
    message: Message,
    error: HoldfastError,
    receivedAt: number,
    settled: () => void,
    packet: PacketIdentifier | undefined,
  ): void => {
    deadLetters.add();
    context.log.warn(`Dead letter for stream ${stream}: ${error.code}`, { reason: error.message });
    const event: NewEvent = { key: null, time: receivedAt, receivedAt, ...message };
    const letter = deadLetterOf(
      "source",
      source,
      stream,
      null,
      event,
      error,
      1,
      receivedAt,
      receivedAt,
    );
    journal.appendDeadLetter(letter, settled, packet);
  };

  return {
    accept(message, settled) {
      const receivedAt = context.clock.wallMs();
      bytes.add(message.payload.length);
      onBytes(message.payload.length);
      const packet = message.packet === undefined ? undefined : { source, ...message.packet };
      const admitted = admit(rules, message, receivedAt);
      if (admitted instanceof HoldfastError) {
        refuse(message, admitted, receivedAt, settled, packet);
        return;
      }
      accepted.add();
      if (message.headers["dup"] !== undefined) repeated.add();
      journal.append(stream, admitted, settled, packet);
    },
    hasRoom: () => journal.hasRoom(stream),
    onRoom: (listener) => journal.onRoom(listener),
    commitSoon: () => journal.commitSoon(),
    packets: {
      read: async () => {
        const packets = await journal.readPacketIds(source);
        return packets.map(({ id, digest }) => ({ id, digest: digest ?? null }));
      },
      release: (id, settled) => journal.releasePacketId({ source, id }, settled),
      forget: () => journal.forgetPacketIds(source),
    },
  };
}
