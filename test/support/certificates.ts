/** Certificates of one authority for one name: a good one, one that has expired, one whose time has not come. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requireProgram } from "./mosquitto.ts";

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface Certificates {
  /** The authority's. */
  readonly ca: string;
  readonly good: Certificate;
  readonly expired: Certificate;
  /** As a device sees it whose clock stands in the past. */
  readonly early: Certificate;
}

export function certificates(folder: string, name: string): Certificates {
  requireProgram("openssl", "openssl");
  const dir = join(folder, "certificates");
  mkdirSync(dir);
  const openssl = (...args: readonly string[]): unknown =>
    execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const [ca, caKey] = [join(dir, "ca.crt"), join(dir, "ca.key")];
  openssl(
    "req",
    "-x509",
    ...curve,
    "-keyout",
    caKey,
    "-out",
    ca,
    "-days",
    "30",
    "-subj",
    "/CN=Test",
  );
  writeFileSync(join(dir, "index"), "");
  const config = join(dir, "ca.conf");
  writeFileSync(
    config,
    `[ca]\ndefault_ca = d\n[d]\ndatabase = ${dir}/index\nnew_certs_dir = ${dir}\nrand_serial = yes
default_md = sha256\npolicy = p\nprivate_key = ${caKey}\ncertificate = ${ca}\ncopy_extensions = copy
unique_subject = no\n[p]\ncommonName = supplied\n`,
  );
  const make = (what: string, from: string, to: string): Certificate => {
    const [cert, key, request] = [".crt", ".key", ".csr"].map((end) => join(dir, what + end)) as [
      string,
      string,
      string,
    ];
    const names = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
    openssl("req", "-new", ...curve, "-keyout", key, "-out", request, ...names);
    const dates = ["-startdate", from, "-enddate", to];
    openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", cert, ...dates);
    return { cert, key };
  };
  return {
    ca,
    good: make("good", "20200101000000Z", "21200101000000Z"),
    expired: make("expired", "20200101000000Z", "20210101000000Z"),
    early: make("early", "21100101000000Z", "21200101000000Z"),
  };
}
