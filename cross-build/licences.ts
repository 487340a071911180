/** The packages in the bundle: what they are and what they ask for, for the licence file and the bill of materials. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface PackagedPackage {
  readonly name: string;
  readonly version: string;
  /** SPDX. */
  readonly licence: string;
  /** The text; taken from the package's own file. */
  readonly text: string;
  /** Of the lock file: an SRI digest. */
  readonly integrity: string | null;
}

/** The licence of packages that name one and bring no file: the words that all users of it share. */
const standardTexts: Readonly<Record<string, string>> = {
  MIT: `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`,
};

/** Licences under which the bundle may be given away; another one is a decision, not an accident. */
const permitted = /^(MIT|ISC|BSD-2-Clause|BSD-3-Clause|Apache-2\.0|0BSD|BlueOak-1\.0\.0)$/;

export function describePackages(folders: readonly string[]): PackagedPackage[] {
  const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as {
    packages: Record<string, { integrity?: string } | undefined>;
  };
  return folders.map((folder) => {
    const own = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as {
      name: string;
      version: string;
      license?: string;
      author?: string | { name: string };
    };
    const licence = own.license ?? "";
    if (!permitted.test(licence))
      throw new Error(`${own.name} has licence "${licence}": not one of those that are agreed on`);
    const author = typeof own.author === "string" ? own.author : own.author?.name;
    return {
      name: own.name,
      version: own.version,
      licence,
      text: ownText(folder) ?? standardText(own.name, licence, author),
      integrity: lock.packages[folder]?.integrity ?? null,
    };
  });
}

function ownText(folder: string): string | null {
  const file = readdirSync(folder).find((name) => /^(licen[cs]e|copying)(\.|$)/i.test(name));
  if (file === undefined || !existsSync(join(folder, file))) return null;
  return readFileSync(join(folder, file), "utf8").trim();
}

function standardText(name: string, licence: string, author: string | undefined): string {
  const text = standardTexts[licence];
  if (text === undefined) throw new Error(`${name} brings no text of its licence ${licence}`);
  return `Copyright (c) ${author ?? `the authors of ${name}`}\n\n${text}`;
}

/** All of them in one file, in the order of their names. */
export function licenceFile(packages: readonly PackagedPackage[], runtime: string | null): string {
  const rule = "-".repeat(100);
  const parts = packages.map(
    ({ name, version, licence, text }) => `${name} ${version} (${licence})\n\n${text}\n`,
  );
  const heading = `holdfast is under the Apache License 2.0. In the program files are also the following packages.
The journal is a database of SQLite, whose authors have given it to the public domain.
`;
  const node =
    runtime === null ? [] : [`Node.js, with what is in it (lib/holdfast/bin/node)\n\n${runtime}\n`];
  return [heading, ...parts, ...node].join(`\n${rule}\n\n`);
}
