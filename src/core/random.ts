/** The only door to randomness that is not for secrets: delays, draws. Tests put their own in its place. */
export const systemRandom: () => number = Math.random;
