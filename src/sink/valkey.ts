/**
 * Events into streams on a Valkey or Redis server, Sentinel or Cluster: each exactly once.
 *
 * One script (valkey-script.ts) appends a batch and notes, beside the stream and in the same step, which seqs of which
 * epoch that stream was given. `open` asks for that; the loop compares it with the journal. From then on each append says what
 * the sink believes to be noted. Where the server knows better (another wrote under our names, it was emptied, a
 * replica that was behind took over, an answer was lost) nothing happens, the sink fails, and is opened anew.
 *
 * A replay that is to be taken in again moves the cursor back and leaves a mark, `GENERATION@SEQ`: from that seq on all is
 * sent under a new generation of its name, for which the server has notes of its own; what lies before it stays as
 * it is.
 *
 * Exactly once is what the server keeps: one that loses acknowledged writes (appendfsync everysec and a power cut, a
 * failover to a replica that was behind) loses note and events together, and is sent both again.
 */
import { unlessAborted } from "../core/abort.ts";
import type { Context } from "../core/context.ts";
import { HoldfastError, messageOf } from "../core/errors.ts";
import type { StoredEvent } from "../core/event.ts";
import { digestOf } from "../core/event-digest.ts";
import {
  duration,
  group,
  integer,
  oneOf,
  optional,
  secret,
  text,
  type Infer,
} from "../core/field.ts";
import { compileTemplate, templatePattern, type Template } from "../core/template.ts";
import { tlsClientOptions } from "../core/tls.ts";
import { ValkeyConnection, type Argument, type Reply } from "../valkey/connection.ts";
import {
  sinkOptions,
  type Batch,
  type Holding,
  type Position,
  type SendResult,
  type Sink,
} from "./sink.ts";
import { entryOf } from "./valkey-entry.ts";
import { deliver } from "./valkey-script.ts";

const streamNames = ["device", "stream"] as const;

export const valkeySinkOptions = group(
  {
    ...sinkOptions,
    url: text({
      doc: "The server: valkey://, valkeys:// (TLS), redis://, rediss:// or unix://; several, with commas, for a cluster or sentinels",
      pattern: /^(valkeys?|rediss?|unix):\/\/\S+$/,
      allowed:
        "URLs with valkey://, valkeys://, redis://, rediss:// or unix://, separated by commas",
      example: "rediss://cloud.example:6380",
    }),
    mode: text({
      doc: "single, cluster (the URLs are nodes of it), or sentinel:NAME (the URLs are sentinels, which know the master NAME)",
      default: "single",
      pattern: /^(single|cluster|sentinel:\S+)$/,
      allowed: "single, cluster or sentinel:NAME",
    }),
    username: optional(text({ doc: "The user name", example: "edge" })),
    password: optional(secret({ doc: "The password", example: { credential: "cloud-password" } })),
    stream: text({
      doc: "The stream there: text with {device} and {stream}",
      default: "{device}:{stream}",
      pattern: templatePattern(streamNames),
      allowed: "text with {device} and {stream}",
    }),
    encoding: oneOf(["pspf", "compact"], {
      doc: "pspf: a field for each key of the payload, as Python's PSPF reads it; compact: the payload as one JSON text",
      default: "pspf",
    }),
    maxLength: optional(
      integer({
        doc: "About how many entries a stream there may hold: the oldest go; left out: no limit",
        example: 1_000_000,
        min: 1,
      }),
    ),
    answerTimeout: duration({
      doc: "The longest to wait for the answer to a batch; its way is counted: 256 KiB take 32 s at 64 kbit/s",
      default: "1m",
      min: "1s",
      max: "1h",
    }),
    tls: tlsClientOptions,
  },
  { doc: "Streams on a Valkey or Redis server; each event exactly once" },
);
export type ValkeySinkSettings = Infer<typeof valkeySinkOptions>;

export function createValkeySink(
  context: Context,
  options: ValkeySinkSettings,
  { device }: { readonly device: string },
): Sink {
  return new ValkeySink(context, options, device);
}

/** A cluster or sentinels that never name a server are asked for ever by the client: that is no answer, ms. */
const openMaxMs = 30_000;

class ValkeySink implements Sink {
  readonly #context: Context;
  readonly #options: ValkeySinkSettings;
  readonly #device: string;
  readonly #template: Template;
  #connection: ValkeyConnection | null = null;
  /** What the server holds, as its hashes say it: by stream, then by field. */
  readonly #known = new Map<string, Map<string, string>>();
  readonly #generations = new Map<string, Generation>();
  #lost: ((error: HoldfastError) => void) | null = null;
  #isSending = false;

  constructor(context: Context, options: ValkeySinkSettings, device: string) {
    this.#context = context;
    this.#options = options;
    this.#device = device;
    this.#template = compileTemplate(options.stream, streamNames);
  }

  async open(positions: ReadonlyMap<string, Position>, signal: AbortSignal): Promise<void> {
    const { url, mode, username, password, answerTimeout: answerMs, tls } = this.#options;
    const connection: ValkeyConnection = new ValkeyConnection(
      {
        url,
        mode: mode as "single",
        answerMs,
        ...(username !== undefined && { username }),
        ...(password !== undefined && { password: password.reveal() }),
        ...(/^(valkeys|rediss):/.test(url) && { tls }),
      },
      { deliver },
    );
    this.#connection = connection;
    const late = new AbortController();
    const timer = this.#context.clock.after(openMaxMs, () =>
      late.abort(this.#error("SINK_UNREACHABLE", "it has not let us in")),
    );
    try {
      const ends = AbortSignal.any([signal, late.signal]);
      await unlessAborted(this.#enter(connection, positions), ends);
    } catch (thrown) {
      connection.close();
      if (signal.aborted) throw this.#error("SINK_UNREACHABLE", "the delivery was stopped");
      throw this.#translate(thrown);
    } finally {
      timer.cancel();
    }
    connection.onEnd((reason) => {
      if (this.#connection !== connection || this.#isSending) return;
      this.#lost?.(this.#error("SINK_UNREACHABLE", reason));
    });
  }

  async #enter(
    connection: ValkeyConnection,
    positions: ReadonlyMap<string, Position>,
  ): Promise<void> {
    await connection.open();
    this.#known.clear();
    for (const [stream, { mark }] of positions) {
      this.#generations.set(stream, generationOf(mark));
      const { hash } = this.#keys(stream);
      this.#known.set(stream, pairsOf(await connection.call("HGETALL", hash)));
    }
  }

  held(stream: string): readonly Holding[] {
    const { number, start } = this.#generationOf(stream);
    return [...(this.#known.get(stream) ?? [])].flatMap(([field, value]) => {
      const [epoch = "", generation = "0"] = field.split(".");
      const isEarlier = Number(generation) < number;
      if (!isEarlier && Number(generation) > number) return [];
      return [...value.matchAll(/(\d+)-(\d+):([^,]*)/g)].flatMap(
        ([, from, to, digest = ""]): Holding[] => {
          const range = { epoch, from: Number(from), to: Number(to), digest };
          if (!isEarlier || range.to < start) return [range];
          // Of an earlier generation what lies before this one counts.
          return range.from < start ? [{ ...range, to: start - 1, digest: null }] : [];
        },
      );
    });
  }

  again(mark: string | null, from: number): string {
    return `${generationOf(mark).number + 1}@${from}`;
  }

  onLost(listener: (error: HoldfastError) => void): void {
    this.#lost = listener;
  }

  /** One append for each run of events of one epoch. */
  async send(batch: Batch, signal: AbortSignal): Promise<SendResult> {
    const connection = this.#connection;
    if (connection === null) throw new Error("send() before open()");
    const { events } = batch;
    const abort = (): void => connection.close();
    signal.addEventListener("abort", abort, { once: true });
    this.#isSending = true;
    let [settled, wireBytes] = [0, 0];
    let after = batch.after ?? (events[0]?.seq ?? 1) - 1;
    try {
      while (settled < events.length) {
        const run = this.#runFrom(batch, settled);
        await this.#append(connection, batch.stream, after, run);
        after = run.last.seq;
        settled += run.entries.length;
        wireBytes += run.bytes;
      }
      return { settled, refused: [], wireBytes };
    } catch (thrown) {
      const failure = this.#translate(thrown);
      if (!(failure instanceof HoldfastError)) throw failure;
      return { settled, refused: [], wireBytes, failure };
    } finally {
      this.#isSending = false;
      signal.removeEventListener("abort", abort);
    }
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
    await Promise.resolve();
  }

  #generationOf(stream: string): Generation {
    return this.#generations.get(stream) ?? { number: 0, start: 1, suffix: "" };
  }

  /** From `start` on: what goes with one append. */
  #runFrom({ stream, events, format, backfill = false }: Batch, start: number): Run {
    const first = events[start] as StoredEvent;
    const maker = {
      device: this.#device,
      encoding: this.#options.encoding,
      format,
      backfill,
      generation: this.#generationOf(stream).suffix,
    };
    const run: Run = { entries: [], last: first, bytes: 0 };
    for (let index = start; index < events.length; index++) {
      const event = events[index] as StoredEvent;
      if (event.epoch !== first.epoch) break;
      const entry = entryOf(event, maker);
      run.entries.push([event.seq, entry.length, ...entry]);
      run.bytes += entry.reduce((sum, each) => sum + Buffer.byteLength(each), 0);
      run.last = event;
    }
    return run;
  }

  async #append(
    connection: ValkeyConnection,
    stream: string,
    after: number,
    run: Run,
  ): Promise<void> {
    const { last, entries } = run;
    const { key, hash } = this.#keys(stream);
    const field = `${last.epoch}${this.#generationOf(stream).suffix}`;
    const known = this.#known.get(stream);
    const believed = known?.get(field) ?? "";
    const span = [after + 1, last.seq, digestOf(last)];
    const head = [field, believed, ...span, this.#options.maxLength ?? 0, entries.length];
    const args: Argument[] = [...head, ...entries.flat()];
    const answer = await connection.script("deliver", [key, hash], args);
    const [isDone, now] = answer as readonly [number, Reply];
    if (isDone !== 1) {
      const why = `it holds other seqs of ${stream} than it did (${String(now) || "none"}): it is asked again`;
      throw this.#error("SINK_UNREACHABLE", why);
    }
    known?.set(field, String(now));
  }

  /** The stream, and the hash beside it in its slot (a key with a hash tag lies where the tag says). */
  #keys(stream: string): { readonly key: string; readonly hash: string } {
    const named = { stream, epoch: "", seq: 0, key: null, headers: {} } as unknown as StoredEvent;
    const key = String(this.#template.textFor(named, this.#device));
    const hasTag = /^[^{]*\{[^}]+\}/.test(key);
    const tagged = hasTag || key.includes("}") ? key : `{${key}}`;
    return { key, hash: `${tagged}:holdfast:${this.#device}:${stream}` };
  }

  #translate(thrown: unknown): unknown {
    if (!(thrown instanceof HoldfastError) || thrown.code.startsWith("SINK_")) return thrown;
    const code = thrown.kind === "transient" ? "SINK_UNREACHABLE" : "SINK_DENIED";
    return this.#error(code, messageOf(thrown), thrown);
  }

  #error(code: "SINK_UNREACHABLE" | "SINK_DENIED", why: string, cause?: unknown): HoldfastError {
    return new HoldfastError(code, `Cannot deliver to streams of ${this.#context.name}: ${why}`, {
      cause,
    });
  }
}

interface Generation {
  readonly number: number;
  /** The seq that it begins with. */
  readonly start: number;
  /** Behind an epoch, in names and in the hash. */
  readonly suffix: string;
}

function generationOf(mark: string | null): Generation {
  const [number = 0, start = 1] = (mark ?? "0@1").split("@").map(Number);
  return { number, start, suffix: number === 0 ? "" : `.${number}` };
}

interface Run {
  /** Seq, number of values, values. */
  readonly entries: Argument[][];
  /** The last that goes with it. */
  last: StoredEvent;
  bytes: number;
}

/** What HGETALL gives. */
function pairsOf(reply: Reply): Map<string, string> {
  const words = (reply as readonly Buffer[]).map(String);
  const pairs = new Map<string, string>();
  for (let at = 0; at + 1 < words.length; at += 2) {
    pairs.set(words[at] as string, words[at + 1] as string);
  }
  return pairs;
}
