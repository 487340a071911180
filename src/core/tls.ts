/** How a client speaks TLS: the same for everything that connects to a broker or server. */
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { HoldfastError, messageOf } from "./errors.ts";
import { boolean, group, optional, text, type Infer } from "./field.ts";

export const tlsClientOptions = group(
  {
    ca: optional(
      text({
        doc: "PEM file of the authorities to trust; left out: those that Node trusts",
        example: "/etc/holdfast/ca.pem",
      }),
    ),
    cert: optional(
      text({ doc: "PEM file of our own certificate", example: "/etc/holdfast/client.pem" }),
    ),
    key: optional(
      text({ doc: "PEM file of its private key", example: "/etc/holdfast/client.key" }),
    ),
    verify: boolean({
      doc: "Whether the far side's certificate must be valid for its name; false only on a network that you trust",
      default: true,
    }),
  },
  { doc: "TLS, for a URL that asks for it" },
);
export type TlsClientSettings = Infer<typeof tlsClientOptions>;

export interface TlsClientFiles {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly rejectUnauthorized: boolean;
}

/**
 * Reads the files, at each connection anew, so that a renewed certificate is picked up.
 * @throws HoldfastError SECRET_UNREADABLE
 */
export function readTlsClient(settings: TlsClientSettings): TlsClientFiles {
  const files = {
    ...(settings.ca !== undefined && { ca: readPem(settings.ca) }),
    ...(settings.cert !== undefined && { cert: readPem(settings.cert) }),
    ...(settings.key !== undefined && { key: readPem(settings.key) }),
    rejectUnauthorized: settings.verify,
  };
  try {
    createSecureContext(files);
  } catch (cause) {
    const named = [settings.ca, settings.cert, settings.key].filter((path) => path !== undefined);
    const why = `Cannot use certificate or key ${named.join(", ")}: ${messageOf(cause)}`;
    throw new HoldfastError("SECRET_UNREADABLE", why, { cause });
  }
  return files;
}

/** @throws HoldfastError SECRET_UNREADABLE */
export function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const why = `Cannot read certificate or key ${path}: ${messageOf(cause)}`;
    throw new HoldfastError("SECRET_UNREADABLE", why, { cause });
  }
}
