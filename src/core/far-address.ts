/** Where a far side listens, and who we are there, read from its URL. */

export interface FarAddress {
  readonly host: string;
  readonly port: number;
}

/** Registered with IANA, or the program's own. */
const ports: Readonly<Record<string, number>> = {
  http: 80,
  https: 443,
  mqtt: 1883,
  mqtts: 8883,
  valkey: 6379,
  valkeys: 6379,
  redis: 6379,
  rediss: 6379,
};

/** Null: of no network, or its scheme is none that is known here. */
export function addressOf({ protocol, hostname, port }: URL): FarAddress | null {
  const known = ports[protocol.slice(0, -1)];
  if (known === undefined || hostname === "") return null;
  // RFC 3986, 3.2.2: an IPv6 address stands in brackets there, and nowhere else.
  return { host: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? known : Number(port) };
}

/** Who a URL says we are; left out what it does not say. What is encoded wrongly stands for itself. */
export function credentialsOf({ username, password }: URL): {
  readonly username?: string;
  readonly password?: string;
} {
  return {
    ...(username !== "" && { username: decoded(username) }),
    ...(password !== "" && { password: decoded(password) }),
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll(/%(?![0-9A-Fa-f]{2})/g, "%25"));
  } catch {
    return text;
  }
}

/** The first one that `url` names; null: none, or none of the network. */
export function farAddressOf(options: object): FarAddress | null {
  if (!("url" in options) || typeof options.url !== "string") return null;
  const [first = ""] = options.url.split(",");
  // What options may hold in braces is in the path.
  return URL.canParse(first) ? addressOf(new URL(first)) : null;
}
