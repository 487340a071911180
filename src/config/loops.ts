/** Processors whose events come back to them: each event would make others for ever. */
import { entriesOf, shown, valueAt, type Finding } from "./finding.ts";

interface Edge {
  readonly processor: string;
  readonly to: string;
}

/** A walk along the streams, each once; where it meets a stream that it came by, a processor closes a loop. */
export function checkLoops(value: unknown): Finding[] {
  const edges = edgesOf(value);
  const findings: Finding[] = [];
  const done = new Set<string>();
  for (const start of edges.keys()) {
    // Not recursive: a chain of processors may be longer than the call stack.
    const way: { stream: string; by: string; rest: Edge[] }[] = [];
    const place = new Map<string, number>();
    const enter = (stream: string, by: string): void => {
      place.set(stream, way.length);
      way.push({ stream, by, rest: [...(edges.get(stream) ?? [])] });
    };
    if (!done.has(start)) enter(start, "");
    for (let here = way.at(-1); here !== undefined; here = way.at(-1)) {
      const edge = here.rest.shift();
      if (edge === undefined) {
        done.add(here.stream);
        place.delete(here.stream);
        way.pop();
        continue;
      }
      const met = place.get(edge.to);
      if (met !== undefined) {
        const between = way.slice(met + 1).map(({ by }) => by);
        findings.push(loop(edge, between));
      } else if (!done.has(edge.to)) {
        enter(edge.to, edge.processor);
      }
    }
  }
  return findings;
}

/** Names enough to find the loop by. */
const namesMax = 5;

function loop({ processor, to }: Edge, between: readonly string[]): Finding {
  const names = between.slice(0, namesMax).join(", ") + (between.length > namesMax ? " …" : "");
  const by = between.length === 0 ? "" : ` by ${names}`;
  return {
    path: ["processors", processor, "to"],
    at: "value",
    found: `found ${shown(to)}, which leads back to ${shown(processor).slice(1, -1)}${by}`,
    allowed: "a stream from which no processor leads back",
  };
}

function edgesOf(value: unknown): Map<string, Edge[]> {
  const edges = new Map<string, Edge[]>();
  for (const [processor, entry] of entriesOf(value, "processors")) {
    const to = valueAt(entry, ["to"]);
    if (typeof to !== "string") continue;
    const origins = new Set([valueAt(entry, ["from"])].flat());
    for (const from of origins) {
      if (typeof from !== "string") continue;
      const leading = edges.get(from) ?? [];
      leading.push({ processor, to });
      edges.set(from, leading);
    }
  }
  return edges;
}
