/**
 * What is wrong where YAML itself is broken. In our words, by the code of package yaml: its own words may quote the
 * file, and `password: !x` is a tag to YAML.
 */
const words: Readonly<Record<string, string>> = {
  BAD_SCALAR_START: "found a value that begins with @ or `, allowed: such text in quotes",
  BAD_DQ_ESCAPE: 'found an unknown escape in "…", allowed: such text in single quotes',
  BLOCK_AS_IMPLICIT_KEY: 'found a second colon in the line, allowed: text with ": " in quotes',
  MISSING_CHAR: "found no end of what was begun: a quote, ], } or colon is missing",
  MULTIPLE_DOCS: "found a second document, allowed: one without --- lines",
  TAB_AS_INDENT: "found a tab, allowed: spaces for indentation",
  TAG_RESOLVE_FAILED: "found an unknown tag, allowed: text that begins with ! in quotes",
  MULTILINE_IMPLICIT_KEY: "found a key without a colon",
  BAD_INDENT: "found an indentation that fits nothing above it",
  UNEXPECTED_TOKEN:
    'found what does not belong here, allowed: text with { } [ ] , or ": " in quotes',
  RESOURCE_EXHAUSTION: "found YAML that is nested too deep",
};

export function syntaxWords(code: string): string {
  return words[code] ?? "found no valid YAML";
}
