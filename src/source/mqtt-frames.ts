/** Finds where MQTT packets end, across chunks. */
export class MqttFrames {
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
