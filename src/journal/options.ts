/** The journal's options, declared where the journal lives. */
import { duration, group, oneOf, optional, size, text, type Infer } from "../core/field.ts";

export const journalOptions = group(
  {
    path: optional(
      text({
        doc: "The journal's file; left out: /var/lib/holdfast/journal.db for a service, else the user's state directory",
        example: "/var/lib/holdfast/journal.db",
      }),
    ),
    durability: oneOf(["power-loss", "crash"], {
      doc: "What an acknowledgement promises: power-loss (fsync before it) or crash (survives the process, not the power)",
      default: "power-loss",
    }),
    linger: duration({
      doc: "The longest an event waits for its commit; a full window or a large batch commits at once",
      default: "1s",
      max: "1m",
    }),
    maxBytes: size({
      doc: "The most the file may hold; intake stops or gives way at 90 % of it, so that a full journal drains",
      default: "1GiB",
      min: "1MiB",
    }),
    maxAge: duration({
      doc: "What every group has passed is kept this long for replay",
      default: "30d",
    }),
    cursorRetention: duration({
      doc: "A group that the configuration names no more keeps its place this long, should it come back; its state too",
      default: "30d",
    }),
    wearBudget: optional(
      size({
        doc: "The most that should be written to the card in a day; beyond it the linger of streams without one of their own widens, to 1m at most; left out: no bound",
        example: "2GiB",
        min: "1MiB",
      }),
    ),
    cardEndurance: size({
      doc: "What the card stands in its life, for the estimate of years; the default is a guess for a 32 GB card without a stated figure (500 times over, half of that lost to its own rewriting); take its maker's (TBW) where there is one",
      default: "8TiB",
    }),
    onFull: oneOf(["drop-oldest", "reject"], {
      doc: "When full: drop-oldest (counted and told in _gaps) or reject (withhold acknowledgements); a stream's whenFull goes before",
      default: "drop-oldest",
    }),
  },
  { doc: "The durable log: one SQLite file" },
);
export type JournalSettings = Infer<typeof journalOptions>;
