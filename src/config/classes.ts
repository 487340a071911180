/** Whether what a stream says of its data class (priority, whenFull, thin) fits together. */
import { entriesOf, shown, valueAt, type Finding } from "./finding.ts";

export function checkClasses(value: unknown): Finding[] {
  return entriesOf(value, "streams").flatMap(([name, stream]): Finding[] => {
    const [whenFull, thin] = [valueAt(stream, ["whenFull"]), valueAt(stream, ["thin"])];
    if (whenFull === "thin" && thin === undefined) {
      const allowed = "the interval of which one event of each key stays, such as 1m";
      return [{ path: ["streams", name, "thin"], at: "parent", found: "missing", allowed }];
    }
    if (thin === undefined || whenFull === "thin") return [];
    const found =
      whenFull === undefined ? "without whenFull" : `beside whenFull ${shown(whenFull)}`;
    const path = ["streams", name, "thin"];
    return [{ path, at: "key", found: `found ${found}`, allowed: "with whenFull: thin" }];
  });
}
