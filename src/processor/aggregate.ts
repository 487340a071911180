/**
 * What a window tells of its events: `avg(temperature)`, `p95(latency)`.
 *
 * An event that lacks the field, or has null there, does not count for that aggregate; one that has something else than
 * a number there fails, but for first and last, which take anything. Each keeps a state that is plain JSON, of bounded
 * size, and never changed; two of one kind can be merged, as sessions are.
 */
import { isMap, pathOf, valueAt, type PayloadPath } from "../core/path.ts";
import { digestWith, emptyDigest, mergedDigests, percentileOf, type Digest } from "./digest.ts";
import { failed, keptTextMax, numberIn } from "./payload.ts";
import type { Event } from "./processor.ts";
import {
  increasePerSecond,
  mergedSamples,
  noSamples,
  samplesWith,
  timeWeightedAverage,
  type Samples,
} from "./samples.ts";

/** A window as an aggregate sees it when it closes; ms since 1970. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly count: number;
}

export interface Aggregate {
  readonly empty: unknown;
  add(state: unknown, event: Event): unknown;
  merge(a: unknown, b: unknown): unknown;
  result(state: unknown, span: Span): unknown;
}

/** What the kinds are made of: `S` is the state. */
interface Kind<S> {
  readonly empty: S;
  readonly add: (state: S, value: number, time: number) => S;
  readonly merge: (a: S, b: S) => S;
  readonly result: (state: S, span: Span) => unknown;
}

/** A sum and what rounding has taken from it (A. Neumaier, 1974): 10^5 readings of 0.1 give 10^4. */
type Sum = readonly [sum: number, lost: number];

function summed([sum, lost]: Sum, value: number): Sum {
  const next = sum + value;
  const rest = Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
  return [next, lost + rest];
}

const addSums = (a: Sum, b: Sum): Sum => {
  const [sum, lost] = summed(a, b[0]);
  return [sum, lost + b[1]];
};

const sum: Kind<Sum | null> = {
  empty: null,
  add: (state, value) => summed(state ?? [0, 0], value),
  merge: (a, b) => (a === null || b === null ? (a ?? b) : addSums(a, b)),
  result: (state) => (state === null ? null : state[0] + state[1]),
};

const avg: Kind<readonly [Sum, number]> = {
  empty: [[0, 0], 0],
  add: ([state, n], value) => [summed(state, value), n + 1],
  merge: ([a, n], [b, m]) => [addSums(a, b), n + m],
  result: ([[total, lost], n]) => (n === 0 ? null : (total + lost) / n),
};

function extreme(better: (a: number, b: number) => number): Kind<number | null> {
  const of = (a: number | null, b: number | null): number | null =>
    a === null || b === null ? (a ?? b) : better(a, b);
  return { empty: null, add: of, merge: of, result: (state) => state };
}

/** Of a sample (n - 1), by B. P. Welford, 1962; merged as by T. F. Chan et al., 1979. */
const stddev: Kind<readonly [n: number, mean: number, squares: number]> = {
  empty: [0, 0, 0],
  add: ([n, mean, squares], value) => {
    const delta = value - mean;
    const next = mean + delta / (n + 1);
    return [n + 1, next, squares + delta * (value - next)];
  },
  merge: ([n, mean, squares], [m, other, more]) => {
    if (n + m === 0) return [0, 0, 0];
    const delta = other - mean;
    return [
      n + m,
      mean + (delta * m) / (n + m),
      squares + more + (delta * delta * n * m) / (n + m),
    ];
  },
  result: ([n, , squares]) => (n < 2 ? null : Math.sqrt(squares / (n - 1))),
};

function percentile(share: number): Kind<Digest> {
  return {
    empty: emptyDigest,
    add: digestWith,
    merge: mergedDigests,
    result: (state) => percentileOf(state, share),
  };
}

const samples: Pick<Kind<Samples>, "empty" | "add" | "merge"> = {
  empty: noSamples,
  add: (state, value, time) => samplesWith(state, time, value),
  merge: mergedSamples,
};

function ofNumbers<S>(kind: Kind<S>): (path: PayloadPath) => Aggregate {
  const { empty, merge, result } = kind;
  return (path) => ({
    empty,
    add(state, event) {
      const value = numberIn(event, path, "window");
      return value === undefined ? state : kind.add(state as S, value, event.time);
    },
    merge,
    result,
  });
}

const numeric: Readonly<Record<string, (path: PayloadPath) => Aggregate>> = {
  sum: ofNumbers(sum),
  avg: ofNumbers(avg),
  min: ofNumbers(extreme(Math.min)),
  max: ofNumbers(extreme(Math.max)),
  stddev: ofNumbers(stddev),
  median: ofNumbers(percentile(0.5)),
  rate: ofNumbers({ ...samples, result: increasePerSecond }),
  timeWeightedAvg: ofNumbers({
    ...samples,
    result: (state, { end }) => timeWeightedAverage(state, end),
  }),
};

/** The value of the earliest or latest event by time; of those of one time the one that came first or last. */
function atEnd(path: PayloadPath, isNewer: (time: number, kept: number) => boolean): Aggregate {
  type State = readonly [time: number, value: unknown] | null;
  const better = (kept: State, other: State): State => {
    if (kept === null || other === null) return kept ?? other;
    return isNewer(other[0], kept[0]) ? other : kept;
  };
  return {
    empty: null,
    add(state, event) {
      const value = valueAt(event.payload, path);
      if (value === undefined || value === null) return state;
      if (isMap(value) || Array.isArray(value)) {
        const why = `Step window takes a text, number, true or false in ${path.join(".")}`;
        throw failed(why);
      }
      if (typeof value === "string" && value.length > keptTextMax) {
        const why = `Step window keeps ${keptTextMax} characters at most: ${path.join(".")} has ${value.length}`;
        throw failed(why);
      }
      return better(state as State, [event.time, value]);
    },
    merge: (a, b) => better(a as State, b as State),
    result: (state) => (state as State)?.[1] ?? null,
  };
}

/** How many events have the field; all, without one. */
function counter(path: PayloadPath | null, result: Kind<number>["result"]): Aggregate {
  return {
    empty: 0,
    add(state, event) {
      const counts = path === null || (valueAt(event.payload, path) ?? null) !== null;
      return (state as number) + (counts ? 1 : 0);
    },
    merge: (a, b) => (a as number) + (b as number),
    result,
  };
}

const perSecond = (state: number, { start, end }: Span): number | null =>
  end > start ? (state * 1000) / (end - start) : null;

const names = [...Object.keys(numeric), "count", "first", "last", "p50 … p99", "percentile"];

/** @throws Error that says in a sentence what is wrong with it */
export function parseAggregate(text: string): Aggregate {
  const match = /^\s*(\w+)\s*\(\s*([^(),]*?)\s*(?:,\s*([\d.]+)\s*)?\)\s*$/.exec(text);
  if (match === null) throw new Error("an aggregate is written as avg(temperature)");
  const [, name = "", field = "", share] = match;
  const path = field === "" ? null : pathOf(field);
  if (share !== undefined && name !== "percentile") throw new Error(`${name} takes one field`);
  if (name === "count") return counter(path, (state) => state);
  if (name === "rate" && path === null) return counter(null, perSecond);
  if (path === null) throw new Error(`${name} asks for a field, such as ${name}(temperature)`);
  if (name === "first") return atEnd(path, (time, kept) => time < kept);
  if (name === "last") return atEnd(path, (time, kept) => time >= kept);
  const percent = /^p(\d{1,2})$/.exec(name)?.[1] ?? (name === "percentile" ? share : undefined);
  if (name === "percentile" && !(Number(percent) >= 0 && Number(percent) <= 100)) {
    throw new Error("percentile asks for a number from 0 to 100: percentile(latency, 99.9)");
  }
  if (percent !== undefined) return ofNumbers(percentile(Number(percent) / 100))(path);
  const kind = Object.hasOwn(numeric, name) ? numeric[name] : undefined;
  if (kind === undefined) throw new Error(`${name} is none of ${names.join(", ")}`);
  return kind(path);
}
