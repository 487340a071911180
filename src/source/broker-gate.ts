/**
 * Stands between a client's socket and aedes, and hands over one MQTT packet at a time.
 *
 * aedes treats what one read gives it as one batch and reads on when (nearly) all of the batch is dealt with. Since a
 * PUBLISH is only dealt with after the journal's commit, each read would wait for the commit of the one before: a
 * client that sends 20 messages in two segments would be served in two commits. A batch of one packet is never
 * waited for (aedes, lib/client.js: the counter that `nextBatch` looks at is back at zero with the next `readable`),
 * so all that a client sends is under way at once, in order, as far as `mayPass` allows.
 *
 * Bound: one chunk of the socket (64 KiB in Node), and no packet larger than `packetBytesMax`.
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

export interface GateOptions {
  readonly packetBytesMax: number;
  /** Asked before each packet, with how many have passed. After a no, `resume` has to be called. */
  mayPass(passed: number): boolean;
  /** A packet is too large: MQTT 3.1.1 has no word for it, the connection ends. */
  onTooLarge(bytes: number): void;
}

export interface Gate {
  readonly stream: Duplex;
  /** Looks again whether more may pass. */
  resume(): void;
}

export function openGate(socket: Socket, options: GateOptions): Gate {
  const frames = new Frames();
  let chunk: Buffer | null = null;
  let isWanted = false;
  let hasEnded = false;

  const take = (): Buffer | null => {
    chunk ??= socket.read() as Buffer | null;
    if (chunk === null) return null;
    const end = frames.next(chunk);
    const piece = chunk.subarray(0, end);
    chunk = end === chunk.length ? null : chunk.subarray(end);
    return piece;
  };
  const pump = (): void => {
    if (!isWanted || stream.destroyed) return;
    // The rest of a packet that has begun always passes: held back, it would only lie in memory.
    if (frames.isBetween && !options.mayPass(frames.count)) return;
    const piece = take();
    if (piece !== null && frames.packetBytes > options.packetBytesMax) {
      options.onTooLarge(frames.packetBytes);
      stream.destroy();
    } else if (piece !== null) {
      isWanted = false;
      stream.push(piece);
    } else if (hasEnded) {
      isWanted = false;
      stream.push(null);
    }
  };
  const stream = new Duplex({
    // One piece for each read(); without object mode read() joins what has gathered.
    readableObjectMode: true,
    readableHighWaterMark: 1,
    read() {
      isWanted = true;
      // Not at once: a piece that is pushed within read() announces itself by no `readable`.
      process.nextTick(pump);
    },
    write(data: Buffer, _encoding, done) {
      whenWritten(socket, socket.write(data), done);
    },
    writev(parts: readonly { chunk: Buffer }[], done) {
      whenWritten(socket, socket.write(Buffer.concat(parts.map((part) => part.chunk))), done);
    },
    final(done) {
      socket.end(done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on("readable", pump);
  socket.on("end", () => {
    hasEnded = true;
    pump();
  });
  socket.on("error", (error) => stream.destroy(error));
  // After an end what was read before it still passes: a QoS 0 sender hangs up right after its last message.
  socket.on("close", () => {
    if (!hasEnded) stream.destroy();
  });
  return { stream, resume: pump };
}

function whenWritten(socket: Socket, isRoomLeft: boolean, done: () => void): void {
  if (isRoomLeft) done();
  else socket.once("drain", done);
}

/** Finds where MQTT packets end, across chunks. */
class Frames {
  #phase: "type" | "length" | "body" = "type";
  #shift = 0;
  #left = 0;
  /** Length of the current packet without its fixed header. */
  packetBytes = 0;
  /** Packets that have ended. */
  count = 0;

  /** No packet has begun. */
  get isBetween(): boolean {
    return this.#phase === "type";
  }

  /** The end of the current packet, or of `chunk` if that comes first. */
  next(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length) {
      if (this.#phase === "type") {
        at++;
        this.#phase = "length";
        [this.#shift, this.packetBytes] = [0, 0];
      } else if (this.#phase === "length") {
        this.#readLength(chunk[at++] ?? 0);
        if (this.isBetween) return at;
      } else {
        const step = Math.min(this.#left, chunk.length - at);
        at += step;
        this.#left -= step;
        if (this.#left === 0) {
          this.#end();
          return at;
        }
      }
    }
    return at;
  }

  /** MQTT 3.1.1, 2.2.3: seven bits in a byte, the lowest first, at most four bytes. */
  #readLength(byte: number): void {
    this.packetBytes += (byte & 0x7f) * 2 ** this.#shift;
    this.#shift += 7;
    if (byte >= 0x80 && this.#shift < 28) return;
    // A fifth byte is malformed: whatever follows is no packet any more, and aedes' parser says so.
    this.#left = byte >= 0x80 ? Number.POSITIVE_INFINITY : this.packetBytes;
    if (this.#left > 0) this.#phase = "body";
    else this.#end();
  }

  #end(): void {
    this.#phase = "type";
    this.count++;
  }
}
