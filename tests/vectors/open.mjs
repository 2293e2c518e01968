// `node open.mjs <file>` opens test vectors (pushes.json) with Node's `jose`, knowing nothing but docs/device-api.md.
// Writes one JSON object to stdout: for each vector what it says, or "not genuine".
import { readFile } from "node:fs/promises";
import { compactDecrypt, compactVerify, createLocalJWKSet, importJWK } from "jose";

const { content_key, device_id, now, signing_keys, vectors } = JSON.parse(
  await readFile(process.argv[2]),
);
const key = await importJWK(content_key, "ECDH-ES");
const trusted = createLocalJWKSet(signing_keys);

async function open(payload) {
  const { enc, item } = payload.ens ?? payload.data;
  const opened = await compactDecrypt(enc, key, {
    keyManagementAlgorithms: ["ECDH-ES"],
    contentEncryptionAlgorithms: ["A256GCM"],
  });
  if (opened.protectedHeader.typ !== "ens+jwe") throw new Error("not of this type");
  const signed = new TextDecoder().decode(opened.plaintext).trimEnd();
  const verified = await compactVerify(signed, trusted, { algorithms: ["ES256"] });
  const claims = JSON.parse(new TextDecoder().decode(verified.payload));
  const age = now - claims.iat;
  const ours = claims.v === 1 && claims.dev === device_id && claims.item === item;
  if (!ours || age < -600 || age > 2 * 86400) throw new Error("not for this phone");
  const { sender, subject, preview, thread } = claims;
  return { sender, subject, preview, thread };
}

const found = {};
for (const { name, payload } of vectors) {
  found[name] = await open(payload).catch(() => "not genuine");
}
console.log(JSON.stringify(found));
