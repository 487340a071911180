/** Units of what sensors measure: each is `factor * value + offset` of its quantity's SI unit. */

interface Unit {
  readonly quantity: string;
  readonly factor: number;
  readonly offset: number;
}

/** Factors are exact where the unit is defined by the SI one (NIST SP 811, appendix B). */
const table: Readonly<
  Record<string, Readonly<Record<string, number | readonly [number, number]>>>
> = {
  temperature: { K: 1, C: [1, 273.15], F: [5 / 9, 459.67 * (5 / 9)] },
  pressure: {
    Pa: 1,
    hPa: 100,
    mbar: 100,
    kPa: 1e3,
    bar: 1e5,
    psi: 6_894.757_293_168,
    mmHg: 133.322_387_415,
  },
  length: { m: 1, mm: 1e-3, cm: 1e-2, km: 1e3, in: 0.0254, ft: 0.3048, mi: 1_609.344 },
  speed: { "m/s": 1, "km/h": 1 / 3.6, mph: 0.447_04, kn: 1_852 / 3_600 },
  mass: { kg: 1, g: 1e-3, mg: 1e-6, t: 1e3, lb: 0.453_592_37, oz: 0.028_349_523_125 },
  volume: { m3: 1, l: 1e-3, ml: 1e-6, gal: 3.785_411_784e-3 },
  energy: { J: 1, kJ: 1e3, MJ: 1e6, Wh: 3_600, kWh: 3.6e6, MWh: 3.6e9, cal: 4.184 },
  power: { W: 1, mW: 1e-3, kW: 1e3, MW: 1e6, hp: 745.699_871_582_270_2 },
  voltage: { V: 1, mV: 1e-3, kV: 1e3 },
  current: { A: 1, mA: 1e-3, uA: 1e-6 },
  time: { s: 1, ms: 1e-3, min: 60, h: 3_600, d: 86_400 },
  share: { "1": 1, "%": 1e-2, ppm: 1e-6 },
};

const units: ReadonlyMap<string, Unit> = new Map(
  Object.entries(table).flatMap(([quantity, members]) =>
    Object.entries(members).map(([name, given]): [string, Unit] => {
      const [factor, offset] = typeof given === "number" ? [given, 0] : given;
      return [name, { quantity, factor, offset }];
    }),
  ),
);

export const unitNames: readonly string[] = [...units.keys()];

/** What makes `to` of `from`; null: they do not measure the same. */
export function conversion(
  from: string,
  to: string,
): { readonly factor: number; readonly offset: number } | null {
  const [a, b] = [units.get(from), units.get(to)];
  if (a === undefined || b === undefined || a.quantity !== b.quantity) return null;
  return { factor: a.factor / b.factor, offset: (a.offset - b.offset) / b.factor };
}
