/** The only door to the process environment. */
export function environment(name: string): string | undefined {
  return process.env[name];
}
