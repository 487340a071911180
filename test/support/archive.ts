/** Reads back what the file sink wrote: all files of one stream, in order, compressed ones too. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export interface Envelope {
  readonly device: string;
  readonly epoch: string;
  readonly stream: string;
  readonly seq: number;
  readonly headers: Record<string, string>;
  readonly payload: Record<string, unknown>;
}

export function readArchive(path: string, stream: string): Envelope[] {
  const folder = join(path, stream);
  if (!existsSync(folder)) return [];
  const found: Envelope[] = [];
  const names = readdirSync(folder).filter((name) => /\.ndjson(\.gz)?$/.test(name));
  // While a closed file is being compressed both forms may be there for a moment: the plain one is whole.
  const chosen = names.filter(
    (name) => !(name.endsWith(".gz") && names.includes(name.slice(0, -3))),
  );
  for (const name of chosen.sort()) {
    const bytes = readOrNull(join(folder, name));
    // It was compressed meanwhile, and has another name now.
    if (bytes === null) return readArchive(path, stream);
    const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8");
    const lines = text.split("\n");
    // The last piece is empty, or a line that is being written at this moment.
    for (const line of lines.slice(0, -1)) found.push(JSON.parse(line) as Envelope);
  }
  return found;
}

function readOrNull(file: string): Buffer | null {
  try {
    return readFileSync(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
