/** MQTT topic filters as clients send them: `+` and `#` alone are special (topic-pattern.ts has names besides). */

/** [MQTT-4.7.1-1..3], [MQTT-4.7.2-1] */
export function matchesFilter(filter: string, topic: string): boolean {
  return isCovered(filter, topic, false);
}

/** Whether every topic that the filter `narrow` matches is matched by `wide`. */
export function coversFilter(wide: string, narrow: string): boolean {
  return isCovered(wide, narrow, true);
}

function isCovered(filter: string, other: string, isFilter: boolean): boolean {
  // [MQTT-4.7.2-1]: a leading wildcard does not reach topics that begin with `$`.
  if (/^[+#]/.test(filter) && other.startsWith("$")) return false;
  const levels = filter.split("/");
  const others = other.split("/");
  for (const [index, level] of levels.entries()) {
    // 4.7.1.2: `a/#` matches `a` too.
    if (level === "#") return true;
    const met = others[index];
    // `#` stands for any number of levels, so that nothing but `#` covers it.
    if (met === undefined || (isFilter && met === "#")) return false;
    if (level !== "+" && level !== met) return false;
  }
  return levels.length === others.length;
}
