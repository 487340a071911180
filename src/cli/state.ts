/** `holdfast state`: what processors remember. */
import { parseArgs } from "node:util";
import { formatSize } from "../core/quantity.ts";
import { adminOptions, connectAdmin, type AdminClient } from "./admin-client.ts";
import { UsageError } from "./arguments.ts";
import type { Command, Io } from "./command.ts";
import { count, plain, table } from "./print.ts";

/** Keys in one answer. */
const page = 1000;

interface Entries {
  readonly entries: readonly { readonly key: string; readonly value: unknown }[];
}

export const stateCommand: Command = {
  name: "state",
  usage: "state ls [SPACE] | get SPACE KEY | rm SPACE [KEY…] [--yes] [--json]",
  summary:
    "Show what processors remember, or remove it; a space is PROCESSOR (its handler's) or PROCESSOR/STEP",
  async run(args, io) {
    const { values, positionals } = parseArgs({
      args,
      options: { ...adminOptions, yes: { type: "boolean", short: "y", default: false } },
      allowPositionals: true,
    });
    const [what, space, ...keys] = positionals;
    const admin = await connectAdmin(values);
    if (what === "ls" && space === undefined) return spaces(admin, io, values.json);
    if (what === "ls" && space !== undefined && keys.length === 0)
      return entries(admin, io, space, values.json);
    if (what === "get" && space !== undefined && keys.length === 1)
      return one(admin, io, space, keys[0] ?? "");
    if (what === "rm" && space !== undefined) {
      if (keys.length === 0 && !values.yes)
        throw new UsageError(`All keys of ${space} are meant: add --yes to remove them`);
      return remove(admin, io, space, keys, values.json);
    }
    throw new UsageError("ls, get or rm is asked for");
  },
};

async function spaces(admin: AdminClient, io: Io, isJson: boolean): Promise<number> {
  const answer = (await admin.get("/state")) as {
    spaces: { space: string; keys: number; bytes: number }[];
  };
  if (isJson) io.out(`${JSON.stringify(answer)}\n`);
  else {
    io.out(
      table(
        [{ title: "SPACE" }, { title: "KEYS", align: "right" }, { title: "SIZE", align: "right" }],
        answer.spaces.map(({ space, keys, bytes }) => [
          plain(space),
          count(keys),
          formatSize(bytes),
        ]),
      ),
    );
  }
  return 0;
}

/** One line a key: the key, and its value as JSON. */
async function entries(
  admin: AdminClient,
  io: Io,
  space: string,
  isJson: boolean,
): Promise<number> {
  for (let after: string | null = null, isMore = true; isMore;) {
    const query = new URLSearchParams({ limit: String(page), ...(after !== null && { after }) });
    const path = `/state/${encodeURIComponent(space)}?${query.toString()}`;
    const found = ((await admin.get(path)) as Entries).entries;
    for (const each of found) {
      const line = `${plain(each.key)}  ${plain(JSON.stringify(each.value))}`;
      io.out(`${isJson ? JSON.stringify(each) : line}\n`);
    }
    after = found.at(-1)?.key ?? null;
    isMore = found.length === page;
  }
  return 0;
}

async function one(admin: AdminClient, io: Io, space: string, key: string): Promise<number> {
  const query = new URLSearchParams({ key }).toString();
  const answer = (await admin.get(`/state/${encodeURIComponent(space)}?${query}`)) as Entries;
  io.out(`${JSON.stringify(answer.entries[0]?.value)}\n`);
  return 0;
}

async function remove(
  admin: AdminClient,
  io: Io,
  space: string,
  keys: readonly string[],
  isJson: boolean,
): Promise<number> {
  const query = new URLSearchParams(keys.map((key): [string, string] => ["key", key])).toString();
  const path = `/state/${encodeURIComponent(space)}${query === "" ? "" : `?${query}`}`;
  const answer = (await admin.delete(path)) as { removed: number };
  const { removed } = answer;
  const told = `Removed ${count(removed)} key${removed === 1 ? "" : "s"} of ${space}\n`;
  io.out(isJson ? `${JSON.stringify(answer)}\n` : told);
  return 0;
}
