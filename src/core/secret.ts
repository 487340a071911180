/**
 * A password or token. It is read when it is needed, so that a rotated file is picked up by the next
 * connection, and it never shows in a log, an error or a dump.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { environment } from "./environment.ts";
import { HoldfastError, messageOf } from "./errors.ts";

/** Where a secret lies: in the text itself, in a file, or in systemd's $CREDENTIALS_DIRECTORY. */
export type SecretSource =
  | { readonly text: string }
  | { readonly file: string }
  | { readonly credential: string };

export class Secret {
  readonly #source: SecretSource;

  constructor(source: SecretSource) {
    this.#source = source;
  }

  /**
   * The secret itself, without the line end that editors leave.
   * @throws HoldfastError SECRET_UNREADABLE
   */
  reveal(): string {
    if ("text" in this.#source) return this.#source.text;
    const path =
      "file" in this.#source ? this.#source.file : credentialPath(this.#source.credential);
    try {
      return readFileSync(path, "utf8").replace(/\r?\n$/, "");
    } catch (cause) {
      throw new HoldfastError(
        "SECRET_UNREADABLE",
        `Cannot read secret ${path}: ${messageOf(cause)}`,
        {
          cause,
        },
      );
    }
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}

/** systemd.exec(5), LoadCredential=: credentials are files in $CREDENTIALS_DIRECTORY. */
function credentialPath(name: string): string {
  const directory = environment("CREDENTIALS_DIRECTORY");
  if (directory === undefined) {
    throw new HoldfastError(
      "SECRET_UNREADABLE",
      `Cannot read credential ${name}: CREDENTIALS_DIRECTORY is not set; start by systemd with LoadCredential=${name}:PATH`,
    );
  }
  return join(directory, name);
}
