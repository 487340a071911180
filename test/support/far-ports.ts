/** Where who listens in the far namespace (far-network.ts), and what its program is told. */
export const farPorts = {
  valkey: 6379,
  mqtt: 1883,
  http: 8080,
  secure: 8443,
  /** Behind the TLS. */
  plain: 8081,
  portal: 9001,
  dies: 9002,
  hangs: 9003,
  /** The slow way to a port is this much above it. */
  slow: 20_000,
} as const;

export type FarCommand =
  | { readonly does: "cut" }
  | { readonly does: "tls"; readonly cert: string; readonly key: string }
  | { readonly does: "count" };

/** By its user properties: how often each seq came, as pairs. */
export interface FarCount {
  readonly seqs: readonly (readonly [seq: number, times: number])[];
}
