/** The table of QoS 2 packet identifiers that were received and not released yet ([MQTT-4.3.3]). */
import type { PacketIdentifier } from "./journal.ts";
import type { Db } from "./sqlite.ts";

export class Packets {
  readonly #sql;

  constructor(db: Db) {
    this.#sql = {
      put: db.prepare("INSERT OR REPLACE INTO packet_id (source, id, digest) VALUES (?, ?, ?)"),
      release: db.prepare("DELETE FROM packet_id WHERE source = ? AND id = ?"),
      forget: db.prepare("DELETE FROM packet_id WHERE source = ?"),
    };
  }

  put({ source, id, digest }: PacketIdentifier): void {
    this.#sql.put.run(source, id, digest ?? null);
  }

  release({ source, id }: PacketIdentifier): void {
    this.#sql.release.run(source, id);
  }

  /** All of a source: its far side has no session. */
  forget(source: string): void {
    this.#sql.forget.run(source);
  }
}
