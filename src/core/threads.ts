/** What must be known and done before a thread is started that runs our code. */
import { setFlagsFromString } from "node:v8";

/**
 * Node 24's V8 frees compiled wrappers of WebAssembly imports that a second thread still uses, and corrupts the heap: 10
 * of 200 processes died that ran our TypeScript, which each thread strips with a WebAssembly module
 * (nodejs/node#64500); 0 of 340 with wrappers that are never compiled. It costs the calls into WebAssembly only.
 */
export function guardThreads(): void {
  setFlagsFromString("--wasm-wrapper-tiering-budget=1000000000");
}

/**
 * The file of a thread: TypeScript beside the module that starts it, or, where that module lies in a bundle,
 * JavaScript of the same name beside the bundle.
 */
export function threadFile(name: string, starter: string): URL {
  return new URL(`${name}${starter.endsWith(".ts") ? ".ts" : ".js"}`, starter);
}
