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
import { MqttFrames } from "./mqtt-frames.ts";

/**
 * About 1 ms of work (10 µs each). libuv reads a socket up to 32 times before it looks at anything else, 2 MiB:
 * without a pause one fast sender would hold timers and other clients up for 200 ms.
 */
const packetsPerTurn = 100;

export interface GateOptions {
  readonly packetBytesMax: number;
  /** Asked before each packet, with how many have passed. After a no, `resume` has to be called. */
  mayPass(passed: number): boolean;
  /** A packet is too large: MQTT 3.1.1 has no word for it, the connection ends. */
  onTooLarge(bytes: number): void;
}

export class BrokerGate {
  /** aedes' end of the connection. */
  readonly stream: Duplex;
  readonly #socket: Socket;
  readonly #options: GateOptions;
  readonly #frames = new MqttFrames();
  #chunk: Buffer | null = null;
  #isWanted = false;
  #isPausing = false;
  #hasEnded = false;
  #turnEnd = packetsPerTurn;

  constructor(socket: Socket, options: GateOptions) {
    this.#socket = socket;
    this.#options = options;
    this.stream = this.#openStream();
    socket.on("readable", () => this.resume());
    socket.on("end", () => {
      this.#hasEnded = true;
      this.resume();
    });
    socket.on("error", (error) => this.stream.destroy(error));
    // After an end what was read before it still passes: a QoS 0 sender hangs up right after its last message.
    socket.on("close", () => {
      if (!this.#hasEnded) this.stream.destroy();
    });
  }

  /** Looks again whether more may pass. */
  resume(): void {
    if (!this.#isWanted || this.#isPausing || this.stream.destroyed) return;
    if (this.#frames.count >= this.#turnEnd) {
      this.#isPausing = true;
      setImmediate(() => this.#nextTurn());
      return;
    }
    // The rest of a packet that has begun always passes: held back, it would only lie in memory.
    if (this.#frames.isBetween && !this.#options.mayPass(this.#frames.count)) return;
    const piece = this.#take();
    if (piece === null && !this.#hasEnded) return;
    if (this.#frames.packetBytes > this.#options.packetBytesMax) {
      this.#options.onTooLarge(this.#frames.packetBytes);
      this.stream.destroy();
      return;
    }
    this.#isWanted = false;
    this.stream.push(piece);
  }

  #nextTurn(): void {
    this.#isPausing = false;
    this.#turnEnd = this.#frames.count + packetsPerTurn;
    this.resume();
  }

  /** The next packet, or what has come of it. */
  #take(): Buffer | null {
    const chunk = this.#chunk ?? (this.#socket.read() as Buffer | null);
    if (chunk === null) return null;
    const end = this.#frames.next(chunk);
    this.#chunk = end === chunk.length ? null : chunk.subarray(end);
    return chunk.subarray(0, end);
  }

  #openStream(): Duplex {
    const socket = this.#socket;
    return new Duplex({
      // One piece for each read(); without object mode read() joins what has gathered.
      readableObjectMode: true,
      readableHighWaterMark: 1,
      read: () => {
        this.#isWanted = true;
        // Not at once: a piece that is pushed within read() announces itself by no `readable`.
        process.nextTick(() => this.resume());
      },
      write: (data: Buffer, _encoding, done) => whenWritten(socket, socket.write(data), done),
      // aedes writes an acknowledgement in three pieces: they leave together, with those of the same commit.
      writev: (parts: readonly { chunk: Buffer }[], done) => {
        const data = Buffer.concat(parts.map((part) => part.chunk));
        whenWritten(socket, socket.write(data), done);
      },
      final: (done) => socket.end(done),
      destroy: (error, done) => {
        socket.destroy();
        done(error);
      },
    });
  }
}

function whenWritten(socket: Socket, isRoomLeft: boolean, done: () => void): void {
  if (isRoomLeft) done();
  else socket.once("drain", done);
}
