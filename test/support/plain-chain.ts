/** A chain of steps that remember nothing, written in the test. */
import type { Chain, Event } from "../../src/processor/processor.ts";

type PlainStep = (event: Event) => readonly Event[];

export function plainChain(...steps: readonly PlainStep[]): Chain {
  return {
    spaces: [],
    needsTime: false,
    open: () => Promise.resolve(),
    close: () => undefined,
    clear: () => undefined,
    load: () => undefined,
    loaded: () => undefined,
    process(event) {
      let events: readonly Event[] = [event];
      for (const step of steps) events = events.flatMap(step);
      const passed = events.map((each) => ({ event: each, isGathered: false }));
      return { passed, emits: [], refused: [] };
    },
    idleAfterMs: () => null,
    idle: () => ({ passed: [], emits: [], refused: [] }),
    keep: () => undefined,
    undo: () => undefined,
    takeWrites: () => [],
    takeCounts: () => [],
    figures: () => [],
  };
}
