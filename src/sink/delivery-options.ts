/** What every sink lets the user say of its delivery; flow/deliver.ts obeys it, whatever the kind. */
import {
  duration,
  group,
  integer,
  listOf,
  number,
  oneOf,
  optional,
  size,
  text,
} from "../core/field.ts";
import { checked, type Infer } from "../core/field.ts";
import { parseSize } from "../core/quantity.ts";

const hoursPattern = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$/;

export const deliveryOptions = {
  batch: group(
    {
      max: integer({ doc: "The most events of a batch", default: 2_048, min: 1, max: 2_048 }),
      bytes: size({ doc: "About the most bytes of a batch", default: "256KiB", min: "1KiB" }),
      wait: duration({
        doc: "How long events may wait for company in a batch, beyond the journal's linger",
        default: "0ms",
        max: "10m",
      }),
    },
    { doc: "What goes to the far side at once" },
  ),
  rateLimit: optional(
    checked(
      text({
        doc: "The most that the sink sends, a second; a second's worth at once",
        example: "200KiB/s",
        pattern: /^\d+(\.\d+)?\s*(B|KiB|MiB|GiB)\/s$/,
        allowed: "a rate such as 8KiB/s or 200KiB/s, at least 100B/s",
      }),
      (value) => (bytesPerSecond(value) < 100 ? "Expected a rate of at least 100B/s" : null),
    ),
  ),
  schedule: group(
    {
      hours: optional(
        text({
          doc: "The hours of the device's local day in which it delivers; over midnight is fine",
          example: "22:00-06:00",
          pattern: hoursPattern,
          allowed: "hours such as 22:00-06:00",
        }),
      ),
      interfaces: optional(
        listOf(text({ doc: "An interface, or wifi", pattern: /^[^/\s]{1,15}$/ }), {
          doc: "Network interfaces of which one must be up; wifi: any that is wireless",
          example: ["wifi", "eth0"],
          min: 1,
        }),
      ),
    },
    { doc: "When it delivers; left out: always. `holdfast sync` delivers all the same" },
  ),
};

/** Of sinks whose far side need not be in the order of seq. */
export const orderOptions = {
  order: oneOf(["strict", "live-first"], {
    doc: "strict: by seq; live-first: after an outage fresh events go at once, and what waited drains beside them, marked as backfill",
    default: "strict",
  }),
  backfillShare: checked(
    number({
      doc: "Of what is sent, the share of the backlog while fresh events come",
      default: 0.5,
    }),
    (value) => (value >= 0.05 && value <= 0.95 ? null : "Expected a number from 0.05 to 0.95"),
  ),
};

/** Of a rate that has passed its pattern. */
function bytesPerSecond(rate: string): number {
  return parseSize(rate.replace(/\/s$/, "")) ?? 0;
}

/** Minutes of the day, of hours that have passed their pattern. */
function minutesOf(hours: string): { readonly from: number; readonly to: number } {
  const [, h1, m1, h2, m2] = hoursPattern.exec(hours) ?? [];
  return { from: Number(h1) * 60 + Number(m1), to: Number(h2) * 60 + Number(m2) };
}

/** As the delivery loop takes it. `isAnyUp`: whether one of these interfaces is up. */
export function paceOf(
  { batch, rateLimit, schedule, order, backfillShare = 0.5 }: DeliverySettings,
  isAnyUp: (interfaces: readonly string[]) => boolean,
) {
  const { hours, interfaces } = schedule;
  const isAlways = hours === undefined && interfaces === undefined;
  return {
    bounds: { events: batch.max, bytes: batch.bytes, waitMs: batch.wait },
    ...(rateLimit !== undefined && { bytesPerSecond: bytesPerSecond(rateLimit) }),
    ...(order === "live-first" && { backlogShare: backfillShare }),
    ...(!isAlways && {
      schedule: {
        hours: hours === undefined ? null : minutesOf(hours),
        isLinkUp: interfaces === undefined ? null : (): boolean => isAnyUp(interfaces),
      },
    }),
  };
}

type DeliverySettings = {
  readonly [K in keyof typeof deliveryOptions]: Infer<(typeof deliveryOptions)[K]>;
} & { readonly [K in keyof typeof orderOptions]?: Infer<(typeof orderOptions)[K]> };
