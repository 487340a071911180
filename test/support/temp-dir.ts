/** A folder for one test, removed when the test ends. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

export function tempDir(test: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "holdfast-test-"));
  test.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A folder for all tests of a file. `after` is node:test's. */
export function tempDirAll(after: (end: () => void) => void): string {
  const path = mkdtempSync(join(tmpdir(), "holdfast-test-"));
  after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
