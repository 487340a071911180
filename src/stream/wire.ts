export type Fields = readonly Uint8Array[];
