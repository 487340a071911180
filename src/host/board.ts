/** Which board this is: its name on the network and its serial number. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";

/**
 * Where boards tell a number that stays with the hardware when a card is cloned. machine-id(5) is not among
 * them: it lies on the card. device-tree is the Raspberry Pi's and most ARM boards', DMI that of PCs (root only).
 */
const serialFiles = [
  "/proc/device-tree/serial-number",
  "/sys/class/dmi/id/product_uuid",
  "/sys/class/dmi/id/board_serial",
];

/** Host names that distributions give to every board alike. */
const distributionNames = new Set([
  "raspberrypi",
  "localhost",
  "debian",
  "ubuntu",
  "dietpi",
  "armbian",
]);

/** The hardware's serial number, or null where none can be read. */
export function boardSerial(): string | null {
  for (const file of serialFiles) {
    try {
      const serial = readFileSync(file, "utf8").replaceAll(/[\0\s]/g, "");
      if (serial !== "") return serial;
    } catch {
      // Not this kind of board, or not ours to read: the next one.
    }
  }
  return null;
}

/** The device id of a board whose configuration gives none. */
export function defaultDeviceId(name = hostname(), serial = boardSerial()): string {
  const short = name.split(".")[0] ?? name;
  const digits = serial
    ?.replaceAll(/[^0-9a-fA-F]/g, "")
    .slice(-6)
    .toLowerCase();
  return distributionNames.has(short) && digits ? `${short}-${digits}` : short;
}
