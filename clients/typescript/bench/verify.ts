// What a verification costs beside the bare check of its signature: one JWT after another, on one thread.
import { Verifier } from "@countersign/client";
import { CompactSign, compactVerify, exportJWK, generateKeyPair, importJWK } from "jose";

const ISSUER = "https://id.example";
const AUDIENCE = "https://billing.example";
const { privateKey, publicKey } = await generateKeyPair("EdDSA", { extractable: true });
const jwk = { ...(await exportJWK(publicKey)), kid: "k1", alg: "EdDSA", use: "sig" };
const now = Math.floor(Date.now() / 1000);
const claims = {
  iss: ISSUER,
  sub: "acct_01m8hxk2m3ecgsd3cc2b35pwkx",
  aud: AUDIENCE,
  exp: now + 3600,
  iat: now,
  nbf: now,
  jti: "01m8hxk2m3ecgsd3cc2b35pwky",
  client_id: "tok_01m8hxk2m3ecgsd3cc2b35pwkz",
  scope: "invoices.read invoices.write",
  org: "org_01m8hx6g6jf5ave95efn33p616",
  account_kind: "SERVICE_ACCOUNT",
  token_kind: "SECRET",
  org_ver: 1,
  acct_ver: 3,
  secret: 1,
  authorization_details: [{ type: "countersign_grant", identifier: "customers/acme", actions: ["reports.read"] }],
};
const jwt = await new CompactSign(Buffer.from(JSON.stringify(claims)))
  .setProtectedHeader({ typ: "at+jwt", alg: "EdDSA", kid: "k1" })
  .sign(privateKey);

const verifier = Verifier.offline(ISSUER);
verifier.receive({ keySet: [jwk] });
for (let i = 0; i < 1000; i += 1) {
  const subject = { token_id: `tok_${i}` };
  verifier.receive({
    revocation: { orgId: claims.org, subject, minVersion: 0, reason: "TOKEN_REVOKED", expireTime: now + 3600 },
  });
}
verifier.receive({ checkpoint: { cursor: "c", time: now, lag: 0 } });
const key = await importJWK(jwk, "EdDSA");
const expected = { audience: AUDIENCE, orgs: [claims.org] };
const checks = {
  verify: () => verifier.verify(jwt, expected),
  signature: () => compactVerify(jwt, key, { algorithms: ["EdDSA"] }),
};

const ROUNDS = 20;
const CALLS = 500;

/** Microseconds of the processor for each: other work on the machine counts less than by the clock. */
async function measure(check: () => Promise<unknown>): Promise<number> {
  const began = process.cpuUsage();
  for (let i = 0; i < CALLS; i += 1) await check();
  const { user, system } = process.cpuUsage(began);
  return (user + system) / CALLS;
}

// The best round of each, in turn, so that both meet the same machine.
let [signature, whole] = [Infinity, Infinity];
for (let round = 0; round < ROUNDS; round += 1) {
  signature = Math.min(signature, await measure(checks.signature));
  whole = Math.min(whole, await measure(checks.verify));
}
const share = ((whole / signature - 1) * 100).toFixed(0);
console.log(
  `verify ${whole.toFixed(0)} µs of the processor, the bare signature check (jose) ${signature.toFixed(0)} µs: ${share} % more; ` +
    `Ed25519, 1000 revocations, Node ${process.version.slice(1)}`,
);
