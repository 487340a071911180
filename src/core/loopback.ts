/** Who can reach what listens on an address. */
import { isIP } from "node:net";

/** Whether nobody outside this machine can reach `address`: `127.0.0.1:8000`, `[::1]:8000`, `unix:PATH`. */
export function isLocalAddress(address: string): boolean {
  if (address.startsWith("unix:")) return true;
  const host = address.replace(/:\d+$/, "").replaceAll(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
