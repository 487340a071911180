/** Completions for bash and zsh, printed from the table of commands. */
import { allCommands } from "../src/cli/commands.ts";

interface Row {
  readonly name: string;
  readonly summary: string;
  /** Words that may follow: options, and what is written as `a|b|c` in the usage. */
  readonly words: readonly string[];
}

async function rows(): Promise<Row[]> {
  const commands = await allCommands();
  return commands.map(({ name, usage, summary }) => {
    const options = [...usage.matchAll(/--[a-z]+/g)].map(([option]) => option);
    const choices = [...usage.matchAll(/\b[a-z]+(?:\|[a-z]+)+\b/g)].flatMap(([all]) =>
      all.split("|"),
    );
    const connection = options.includes("--json") ? ["--url", "--token", "--config"] : [];
    const words = [...new Set([...choices, ...options, ...connection, "--help"])];
    return { name, summary, words };
  });
}

export async function bashCompletion(): Promise<string> {
  const table = await rows();
  const cases = table.map(({ name, words }) => `    ${name}) words="${words.join(" ")}" ;;`);
  return `# holdfast for bash; printed from the table of commands.
_holdfast() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words
  COMPREPLY=()
  case "$previous" in
    --config|-c) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="${table.map(({ name }) => name).join(" ")} --help --version"
  else
    case "\${COMP_WORDS[1]}" in
${cases.join("\n").replaceAll("    ", "      ")}
      *) words="" ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _holdfast holdfast
`;
}

export async function zshCompletion(): Promise<string> {
  const table = await rows();
  const quoted = (words: string): string => words.replaceAll("'", "'\\''").replaceAll(":", "\\:");
  const names = table.map(({ name, summary }) => `    '${name}:${quoted(summary)}'`);
  const cases = table.map(({ name, words }) => `    ${name}) compadd -- ${words.join(" ")} ;;`);
  return `#compdef holdfast
# holdfast for zsh; printed from the table of commands.
local -a commands
if (( CURRENT == 2 )); then
  commands=(
${names.join("\n")}
  )
  _describe command commands
  compadd -- --help --version
elif [[ $words[CURRENT-1] == (-c|--config) ]]; then
  _files
else
  case $words[2] in
${cases.join("\n")}
  esac
fi
`;
}
