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
