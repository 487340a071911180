/** The bill of materials: CycloneDX 1.6 (cyclonedx.org/docs/1.6/json), the same bytes for the same input. */
import { createHash } from "node:crypto";
import type { PackagedPackage } from "./licences.ts";
import type { Release, Target } from "./target.ts";

interface Machine {
  readonly runtime: {
    readonly name: string;
    readonly version: string;
    readonly integrity: string;
  } | null;
  readonly sqlite: string;
}

export function billOfMaterials(
  release: Release,
  target: Target,
  packages: readonly PackagedPackage[],
  machine: Machine,
): string {
  const components = [
    ...packages.map((one) => component(one.name, one.version, one.licence, one.integrity)),
    {
      type: "library",
      "bom-ref": `sqlite@${machine.sqlite}`,
      name: "sqlite",
      version: machine.sqlite,
      licenses: [{ license: { name: "Public domain" } }],
      cpe: `cpe:2.3:a:sqlite:sqlite:${machine.sqlite}:*:*:*:*:*:*:*`,
    },
    ...(machine.runtime === null
      ? []
      : [
          {
            ...component(
              machine.runtime.name,
              machine.runtime.version,
              "MIT",
              machine.runtime.integrity,
            ),
            type: "platform",
            cpe: `cpe:2.3:a:nodejs:node.js:${machine.runtime.version}:*:*:*:lts:*:*:*`,
          },
        ]),
  ];
  const self = `holdfast@${release.version}`;
  const bill = {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: uuidOf(JSON.stringify([release.version, target.name, components])),
    version: 1,
    metadata: {
      timestamp: new Date(release.epoch * 1000).toISOString(),
      component: {
        type: "application",
        "bom-ref": self,
        name: "holdfast",
        version: release.version,
        licenses: [{ license: { id: "Apache-2.0" } }],
        properties: [{ name: "holdfast:target", value: target.name }],
      },
    },
    components,
    dependencies: [{ ref: self, dependsOn: components.map((one) => one["bom-ref"]) }],
  };
  return `${JSON.stringify(bill, null, 1)}\n`;
}

function component(name: string, version: string, licence: string, integrity: string | null) {
  const purl = `pkg:npm/${name.replace("@", "%40")}@${version}`;
  const [, digest = ""] = (integrity ?? "").split("sha512-");
  return {
    type: "library",
    "bom-ref": purl,
    name,
    version,
    purl,
    licenses: [{ license: { id: licence } }],
    ...(digest !== "" && {
      hashes: [{ alg: "SHA-512", content: Buffer.from(digest, "base64").toString("hex") }],
    }),
  };
}

/** RFC 9562, version 8: a digest in the form of a UUID. */
function uuidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  const [a, b, c, d] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(13, 16), hex.slice(17, 20)];
  return `urn:uuid:${a}-${b}-8${c}-8${d}-${hex.slice(20, 32)}`;
}
