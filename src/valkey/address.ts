/** Where a server is and who we are there, read from its URL. */
import { HoldfastError } from "../core/errors.ts";
import { addressOf, credentialsOf } from "../core/far-address.ts";

export interface ServerAddress {
  readonly address: { readonly path: string } | { readonly host: string; readonly port: number };
  readonly isTls: boolean;
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
}

/** Where no host is named. */
const here = { host: "localhost", port: 6379 };

/** @throws HoldfastError STREAM_INVALID */
export function parseAddress(text: string): ServerAddress {
  if (text === "") throw invalidUrl("it is empty");
  const bare = text.startsWith("/") ? `unix://${text}` : text;
  let url: URL;
  try {
    url = new URL(bare.includes("://") ? bare : `valkey://${bare}`);
  } catch (cause) {
    throw invalidUrl("it is no URL", cause);
  }
  const kinds = ["valkey:", "valkeys:", "redis:", "rediss:", "unix:"];
  if (!kinds.includes(url.protocol))
    throw invalidUrl(`${url.protocol} is none of ${kinds.join(" ")}`);
  const isUnix = url.protocol === "unix:";
  const db = isUnix ? url.searchParams.get("db") : url.pathname.slice(1) || null;
  if (db !== null && !/^\d+$/.test(db)) throw invalidUrl(`database ${db} is no number`);
  const path = decodeURIComponent(url.pathname);
  return {
    address: isUnix ? { path } : (addressOf(url) ?? here),
    isTls: url.protocol === "valkeys:" || url.protocol === "rediss:",
    ...credentialsOf(url),
    ...(db !== null && { db: Number(db) }),
  };
}

function invalidUrl(why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("STREAM_INVALID", `Cannot use the server's URL: ${why}`, { cause });
}
