/**
 * The whole configuration: one declaration, from which its types, validation, defaults, reference, starter file
 * and JSON Schema come. The parts are declared in the files that use them.
 */
import {
  duration,
  group,
  listenAddress,
  mapOf,
  oneOf,
  optional,
  secret,
  text,
  type Infer,
} from "../core/field.ts";
import { journalOptions } from "../journal/options.ts";
import { planeOptions } from "../plane/options.ts";
import { processorOptions } from "../processor/options.ts";
import { sinkEntryOptions } from "../sink/kinds.ts";
import { sourceEntryOptions } from "../source/kinds.ts";
import { streamOptions } from "../schema/schema.ts";

const deviceOptions = group(
  {
    id: optional(
      text({
        doc: "The name that every event carries; fixed in the journal when it is made; left out: the host name",
        example: "greenhouse-1",
        pattern: /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/,
        allowed: "letters, digits, _ . and -, at most 64",
      }),
    ),
  },
  { doc: "Who this device is" },
);

const clockOptions = group(
  {
    wait: duration({
      doc: "The longest that steps which need the time wait for the first time sync after a boot",
      default: "5m",
      max: "1d",
    }),
  },
  { doc: "What to do about a clock that is not set yet" },
);

const httpOptions = group(
  {
    listen: listenAddress({
      doc: "Health, metrics and the status page, read only",
      default: "127.0.0.1:8000",
    }),
  },
  { doc: "For technicians and Prometheus" },
);

const adminOptions = group(
  {
    listen: listenAddress({
      doc: "What holdfast status, tail and the other commands talk to",
      default: "127.0.0.1:8001",
    }),
    token: optional(
      secret({
        doc: "Asked for from everyone who uses the admin API; beyond this machine there must be one",
        example: { credential: "admin-token" },
      }),
    ),
  },
  { doc: "For whoever operates the agent" },
);

const logOptions = group(
  {
    level: oneOf(["debug", "info", "warn", "error"], {
      doc: "The least that is worth a line",
      default: "info",
    }),
  },
  { doc: "Lines on standard output" },
);

export const configOptions = group(
  {
    device: deviceOptions,
    clock: clockOptions,
    journal: journalOptions,
    plane: planeOptions,
    streams: mapOf(streamOptions, {
      doc: "What is known of a stream; one that is not named here takes any JSON",
    }),
    sources: mapOf(sourceEntryOptions, { doc: "Where events come from; at least one" }),
    processors: mapOf(processorOptions, {
      doc: "What happens to events on the way; none is needed",
    }),
    sinks: mapOf(sinkEntryOptions, { doc: "Where events go; none is needed" }),
    http: httpOptions,
    admin: adminOptions,
    log: logOptions,
  },
  { doc: "The configuration of one agent" },
);
export type Config = Infer<typeof configOptions>;
