import { VerificationError, Verifier, allows } from "@countersign/client";
import type { Revocation, Subject } from "#internal/verifier/revocations.js";
import assert from "node:assert/strict";
import { createHmac, createPublicKey } from "node:crypto";
import { test } from "node:test";
import {
  ACCOUNT,
  AUDIENCE,
  type AnyClaims,
  ORG,
  type SigningKey,
  TOKEN,
  TestClock,
  goodClaims,
  httpServer,
  offlineVerifier,
  sign,
  signingKey,
} from "./support.js";

const expected = { audience: AUDIENCE, orgs: [ORG] };

async function refused(verifier: Verifier, jwt: string, reason: string, check: string, options: object = {}) {
  await assert.rejects(verifier.verify(jwt, { ...expected, ...options }), (error) => {
    assert.ok(error instanceof VerificationError, String(error));
    assert.deepEqual([error.reason, error.check], [reason, check]);
    return true;
  });
}

function revoke(subject: Subject | undefined, more: Partial<Revocation> = {}): { revocation: Revocation } {
  return {
    revocation: { orgId: ORG, subject, minVersion: 0, reason: undefined, expireTime: undefined, ...more },
  };
}

for (const alg of ["EdDSA", "ES256", "RS256"]) {
  test(`a good JWT of ${alg} gives its claims`, async () => {
    const key = await signingKey(alg);
    const claims = goodClaims();
    assert.deepEqual(await offlineVerifier([key]).verify(await sign(key, claims), expected), claims);
    const many = goodClaims(undefined, { aud: ["https://other.example", AUDIENCE] });
    assert.deepEqual(await offlineVerifier([key]).verify(await sign(key, many), expected), many);
  });
}

test("headers and texts that are not in order are refused", async () => {
  const [key, other, ec] = await Promise.all([signingKey(), signingKey(), signingKey("ES256")]);
  const verifier = offlineVerifier([key, ec]);
  const claims = goodClaims();
  const text = JSON.stringify(claims);
  const good = await sign(key, claims);
  const [head, body, signature] = good.split(".") as [string, string, string];
  const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const unsigned = (header: object) => `${encoded({ typ: "at+jwt", kid: key.kid, ...header })}.${body}`;
  const hmac = (secret: Buffer) => {
    const signed = unsigned({ alg: "HS256" });
    return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
  };
  const der = createPublicKey({ key: key.jwk, format: "jwk" }).export({ format: "der", type: "spki" });
  const cases: [string, string, string][] = [
    ["typ JWT", await sign(key, claims, { typ: "JWT" }), "typ"],
    ["typ in capitals", await sign(key, claims, { typ: "AT+JWT" }), "typ"],
    ["the long typ", await sign(key, claims, { typ: "application/at+jwt" }), "typ"],
    ["no kid", await sign(key, claims, { kid: undefined }), "kid"],
    ["an unknown kid", await sign(other, claims), "kid"],
    ["another key under the kid", await sign({ ...other, kid: key.kid }, claims), "signature"],
    ["the kid of a key of another kind", await sign({ ...key, kid: ec.kid }, claims), "alg"],
    ["crit", `${encoded({ typ: "at+jwt", alg: "EdDSA", kid: key.kid, crit: ["exp"] })}.${body}.${signature}`, "crit"],
    ["alg none", `${unsigned({ alg: "none" })}.AA`, "alg"],
    ["alg in lower case", `${unsigned({ alg: "eddsa" })}.${signature}`, "alg"],
    ["HS256 with the public key", hmac(der), "alg"],
    ["HS256 with the JWK", hmac(Buffer.from(JSON.stringify(key.jwk))), "alg"],
    ["changed claims", `${head}.${encoded({ ...claims, sub: "acct_2" })}.${signature}`, "signature"],
    ["a signature of zeros", `${head}.${body}.${Buffer.alloc(64).toString("base64url")}`, "signature"],
    ["a signature cut", `${head}.${body}.${signature.slice(0, -2)}`, "signature"],
    ["no signature", `${head}.${body}.`, "format"],
    ["two parts", `${head}.${body}`, "format"],
    ["four parts", `${good}.x`, "format"],
    ["padding", `${good}=`, "format"],
    ["a space", `${head}. ${body}.${signature}`, "format"],
    ["other base64", `${head}.${body}.${signature.slice(0, -1)}+`, "format"],
    ["bits that are left over", `${head}.${body}.${signature.slice(0, -1)}B`, "format"],
    ["nothing", "", "format"],
    ["17 KB", await sign(key, { ...claims, x: "x".repeat(17_000) }), "format"],
    ["a claim twice", await sign(key, text.replace("{", '{"iss":"x",')), "format"],
    ["a claim twice, by an escape", await sign(key, text.replace("{", '{"\\u0069ss":"x",')), "format"],
    ["a member twice, further down", await sign(key, text.replace("[{", '[{"type":"x",')), "format"],
    ["a list", await sign(key, "[]"), "format"],
    ["no JSON", await sign(key, "claims"), "format"],
    ["no UTF-8", `${head}.${Buffer.from([0xff, 0xfe]).toString("base64url")}.${signature}`, "signature"],
    [
      "a header twice",
      `${Buffer.from(`{"typ":"x","typ":"at+jwt","alg":"EdDSA","kid":"${key.kid}"}`).toString("base64url")}.${body}.${signature}`,
      "format",
    ],
  ];
  for (const [what, jwt, check] of cases) {
    await refused(verifier, jwt, "ACCESS_TOKEN_INVALID", check).catch((error) => assert.fail(`${what}: ${error}`));
  }
  assert.deepEqual(await verifier.verify(good, expected), claims);
});

/** Claims that a JWT of a federation rule has in place of a token's. */
const OF_RULE = { client_id: "fed_1", token_kind: "FEDERATED", secret: undefined, rule_ver: 3 };

test("claims that are not in order are refused", async () => {
  const key = await signingKey();
  const clock = new TestClock();
  const verifier = offlineVerifier([key], {}, clock);
  const { now } = clock;
  const cases: [AnyClaims, string][] = [
    [{ iss: "https://id.example/" }, "iss"],
    [{ aud: "https://other.example" }, "aud"],
    [{ aud: [] }, "aud"],
    [{ exp: now }, "exp"],
    [{ exp: now - 1 }, "exp"],
    [{ nbf: now + 61 }, "nbf"],
    [{ iat: now + 61 }, "iat"],
    [{ act: { sub: "acct_2" } }, "act"],
    [{ act: null }, "act"],
    [{ org: "org_2" }, "org"],
    ...["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "org", "org_ver", "acct_ver", "secret"].map(
      (name): [AnyClaims, string] => [{ [name]: undefined }, "claims"],
    ),
    [{ exp: "1790000300" }, "claims"],
    [{ exp: now + 0.5 }, "claims"],
    [{ aud: [AUDIENCE, 1] }, "claims"],
    [{ org_ver: "5" }, "claims"],
    [{ secret: "1" }, "claims"],
    [{ secret: null }, "claims"],
    [{ rule_ver: 1 }, "claims"],
    [{ client_id: "fed_1" }, "claims"],
    [{ client_id: "ses_1" }, "claims"],
    [{ client_id: "key_1", secret: undefined }, "claims"],
    [{ client_id: "fed_1", rule_ver: 1 }, "claims"],
    ...[undefined, null, 0, -1, 1.5, "1", true].map(
      (version): [AnyClaims, string] => [{ ...OF_RULE, rule_ver: version }, "claims"],
    ),
    [{ scope: ["invoices.read"] }, "claims"],
    [{ authorization_details: {} }, "claims"],
    [{ authorization_details: ["x"] }, "claims"],
  ];
  for (const [changes, check] of cases) {
    const jwt = await sign(key, goodClaims(now, changes));
    await refused(verifier, jwt, "ACCESS_TOKEN_INVALID", check).catch((error) =>
      assert.fail(`${JSON.stringify(changes)}: ${error}`),
    );
  }
  for (const changes of [
    { nbf: now + 60 },
    { iat: now + 60 },
    { exp: now + 1 },
    { client_id: "ses_1", secret: undefined },
    OF_RULE,
  ]) {
    await verifier.verify(await sign(key, goodClaims(now, changes)), expected);
  }
});

test("a bound JWT needs its certificate", async () => {
  const key = await signingKey();
  const verifier = offlineVerifier([key]);
  const bound = async (cnf: unknown, certificateThumbprint?: string) => {
    const jwt = await sign(key, goodClaims(undefined, { cnf }));
    return refused(verifier, jwt, "CLIENT_CERTIFICATE_NOT_ALLOWED", "cnf", { certificateThumbprint });
  };
  await bound({ "x5t#S256": "a" });
  await bound({ "x5t#S256": "a" }, "b");
  await bound({ jkt: "a" }, "a");
  await bound({ "x5t#S256": "a", jkt: "a" }, "a");
  await bound(null, "a");
  const jwt = await sign(key, goodClaims(undefined, { cnf: { "x5t#S256": "a" } }));
  await verifier.verify(jwt, { ...expected, certificateThumbprint: "a" });
});

test("what the stream names is refused, with its reason", async () => {
  const key = await signingKey();
  const jwt = await sign(key, goodClaims());
  const cases: [ReturnType<typeof revoke>, string, string][] = [
    [revoke({ token_id: TOKEN }), "TOKEN_REVOKED", "token"],
    [revoke({ token_id: TOKEN }, { orgId: "org_2", reason: "TOKEN_EXPIRED" }), "TOKEN_EXPIRED", "token"],
    [revoke({ secret: { token_id: TOKEN, number: 1 } }), "ACCESS_TOKEN_STALE", "secret"],
    [revoke({ account_id: ACCOUNT }), "ACCOUNT_DEACTIVATED", "account"],
    [revoke({ account_id: ACCOUNT }, { minVersion: 8 }), "ACCESS_TOKEN_STALE", "account_version"],
    [
      revoke({ account_id: ACCOUNT }, { minVersion: 8, reason: "ACCOUNT_DEACTIVATED" }),
      "ACCOUNT_DEACTIVATED",
      "account_version",
    ],
    [revoke({ org: true }), "ORG_SUSPENDED", "org_state"],
    [revoke({ org: true }, { minVersion: 6, reason: "A_NEWER_ONE" }), "ACCESS_TOKEN_STALE", "org_version"],
    [revoke({ key_id: key.kid }, { orgId: "" }), "ACCESS_TOKEN_INVALID", "kid"],
    [revoke(undefined), "VERIFIER_STALE", "fresh"],
  ];
  for (const [item, reason, check] of cases) {
    const verifier = offlineVerifier([key]);
    verifier.receive(item);
    await refused(verifier, jwt, reason, check).catch((error) => assert.fail(`${JSON.stringify(item)}: ${error}`));
  }
  const verifier = offlineVerifier([key]);
  for (const item of [
    revoke({ token_id: "tok_2" }),
    revoke({ secret: { token_id: TOKEN, number: 2 } }),
    revoke({ account_id: ACCOUNT }, { orgId: "org_2" }),
    revoke({ account_id: ACCOUNT }, { minVersion: 7 }),
    revoke({ org: true }, { minVersion: 5 }),
    revoke({ org: true }, { orgId: "org_2", minVersion: 9 }),
  ]) {
    verifier.receive(item);
  }
  await verifier.verify(jwt, expected);
});

test("versions only rise, snapshots take nothing away, and a revoked key never comes back", async () => {
  const [key, other] = await Promise.all([signingKey(), signingKey()]);
  const verifier = offlineVerifier([key, other], { openFor: 3600 });
  const jwt = await sign(key, goodClaims());
  verifier.receive(revoke({ account_id: ACCOUNT }, { minVersion: 9 }));
  verifier.receive(revoke({ account_id: ACCOUNT }, { minVersion: 2 }));
  await refused(verifier, jwt, "ACCESS_TOKEN_STALE", "account_version");
  verifier.cut("CURSOR_EXPIRED");
  assert.equal(verifier.state.cursor, "");
  verifier.receive({ checkpoint: { cursor: "c2", time: 0, lag: 0 } });
  await refused(verifier, jwt, "ACCESS_TOKEN_STALE", "account_version");
  verifier.receive(revoke({ key_id: other.kid }, { orgId: "" }));
  verifier.receive({ keySet: [key.jwk, other.jwk] });
  assert.deepEqual(verifier.state.keyIds, [key.kid]);
  await refused(verifier, await sign(other, goodClaims()), "ACCESS_TOKEN_INVALID", "kid");
});

test("a rule ends up to a version, or for good", async () => {
  const key = await signingKey();
  const verifier = offlineVerifier([key]);
  const of = (rule_ver: number) => sign(key, goodClaims(undefined, { ...OF_RULE, rule_ver }));
  verifier.receive(revoke({ rule_id: "fed_2" }));
  verifier.receive(revoke({ rule_id: "fed_1" }, { minVersion: 4, orgId: "org_2" }));
  verifier.receive(revoke({ rule_id: "fed_1" }, { minVersion: 3, reason: "TOKEN_BLOCKED" }));
  await refused(verifier, await of(3), "ACCESS_TOKEN_STALE", "rule_version");
  await verifier.verify(await of(4), expected);
  verifier.receive(revoke({ rule_id: "fed_1" }));
  verifier.receive(revoke({ rule_id: "fed_1" }, { minVersion: 5 }));
  for (const version of [1, 4, 5, 99]) await refused(verifier, await of(version), "TOKEN_REVOKED", "rule");
  await verifier.verify(await sign(key, goodClaims()), expected);
});

test("without a recent checkpoint a verifier is closed, or open for as long as it was asked to be", async () => {
  const key = await signingKey();
  const clock = new TestClock();
  const jwt = await sign(key, goodClaims(clock.now, { exp: clock.now + 10_000 }));
  const closed = offlineVerifier([key], {}, clock);
  const open = offlineVerifier([key], { openFor: 600 }, clock);
  const fresh = Verifier.offline("https://id.example", { clock });
  fresh.receive({ keySet: [key.jwk] });
  await refused(fresh, jwt, "VERIFIER_STALE", "fresh");

  clock.passed += 30;
  await closed.verify(jwt, expected);
  clock.passed += 0.1;
  await refused(closed, jwt, "VERIFIER_STALE", "fresh");
  await open.verify(jwt, expected);
  clock.passed += 570;
  await refused(open, jwt, "VERIFIER_STALE", "fresh");

  // The lag counts as if the checkpoint were so old.
  closed.receive({ checkpoint: { cursor: "c2", time: clock.now, lag: 29 } });
  await closed.verify(jwt, expected);
  clock.passed += 2;
  await refused(closed, jwt, "VERIFIER_STALE", "fresh");
  closed.receive({ checkpoint: { cursor: "c2", time: clock.now, lag: -5 } });
  assert.equal(closed.state.age, 0);
  // The wall clock has nothing to do with it.
  clock.now += 3000;
  await closed.verify(jwt, expected);
  assert.throws(() => offlineVerifier([key], { openFor: 3601 }), { reason: "INVALID_FIELD" });
});

test("a revocation is forgotten once it has expired by both clocks", async () => {
  const key = await signingKey();
  const clock = new TestClock();
  const verifier = offlineVerifier([key], {}, clock);
  const expireTime = clock.now + 100;
  verifier.receive(revoke({ token_id: TOKEN }, { expireTime }));
  verifier.receive(revoke({ token_id: TOKEN }, { expireTime: expireTime - 50 }));
  const jwt = await sign(key, goodClaims(clock.now));
  clock.now += 100_000;
  assert.equal(verifier.state.revocations, 1);
  clock.now -= 100_000;
  verifier.receive({ checkpoint: { cursor: "c2", time: expireTime + 60, lag: 0 } });
  await refused(verifier, jwt, "TOKEN_REVOKED", "token");
  clock.now = expireTime + 59;
  assert.equal(verifier.state.revocations, 1);
  clock.now = expireTime + 60;
  assert.equal(verifier.state.revocations, 0);
});

test("a key set keeps what is known, and the one before where it is too large", async () => {
  const key = await signingKey();
  const verifier = offlineVerifier([key]);
  const odd = [
    { ...key.jwk, kid: "a", kty: "AKP" },
    { ...key.jwk, kid: "b", use: "enc" },
    { ...key.jwk, kid: "c", alg: "ES256" },
    { ...key.jwk, kid: "d", x: 5 },
    { ...key.jwk, kid: 6 },
    null,
    "key",
  ];
  verifier.receive({ keySet: [...odd, key.jwk] });
  assert.deepEqual(verifier.state.keyIds, [key.kid]);
  verifier.receive({ keySet: [{ ...key.jwk, kid: "e", x5c: ["x".repeat(1_000_000)] }] });
  assert.deepEqual(verifier.state.keyIds, [key.kid]);
  await verifier.verify(await sign(key, goodClaims()), expected);
  verifier.receive({ keySet: [] });
  await refused(verifier, await sign(key, goodClaims()), "ACCESS_TOKEN_INVALID", "kid");
});

test("without a stream: one fetch for a flood of key ids, and a set that is too large is none", async (t) => {
  const key = await signingKey();
  let fetches = 0;
  const endpoint = await httpServer(t, (request, response) => {
    assert.equal(request.url, "/.well-known/jwks.json");
    fetches += 1;
    response.end(JSON.stringify({ keys: [key.jwk] }));
  });
  const verifier = new Verifier({ endpoint, issuer: "https://id.example", revocation: "none" });
  t.after(() => verifier.close());
  const jwt = await sign(key, goodClaims(undefined, { org_ver: undefined, secret: undefined }));
  const flood = Array.from({ length: 100 }, (_, i): SigningKey => ({ ...key, kid: `kid-${i}` }));
  await Promise.all([
    ...Array.from({ length: 100 }, () => verifier.verify(jwt, expected)),
    ...flood.map(async (other) => refused(verifier, await sign(other, goodClaims()), "ACCESS_TOKEN_INVALID", "kid")),
  ]);
  // The first use, and one for all of the flood.
  assert.deepEqual([fetches, verifier.state.keySetFetches], [2, 2]);

  const large = await httpServer(t, (_, response) => {
    response.write('{"keys":[');
    const more = () => {
      while (response.writable && response.write(`${JSON.stringify(key.jwk)},`));
    };
    response.on("drain", more);
    more();
  });
  const errors: string[] = [];
  const other = new Verifier({
    endpoint: large,
    issuer: "https://id.example",
    revocation: "none",
    onError: ({ message }) => errors.push(message),
  });
  t.after(() => other.close());
  await refused(other, jwt, "VERIFIER_STALE", "fresh");
  assert.deepEqual(errors, ["the answer is too large"]);
});

test("rights are on the whole org, or on a path and what is below it", () => {
  const claims = goodClaims();
  const cases: [string, string | undefined, boolean][] = [
    ["invoices.read", undefined, true],
    ["invoices.read", "*", true],
    ["invoices.read", "any/where", true],
    ["invoices.rea", undefined, false],
    ["", undefined, false],
    ["reports.read", undefined, false],
    ["reports.read", "*", false],
    ["reports.read", "customers", false],
    ["reports.read", "customers/acme", true],
    ["reports.read", "customers/acme/2026", true],
    ["reports.read", "customers/acme2", false],
    ["reports.read", "customers/acme/../other", false],
    ["reports.read", "customers/acme/", false],
    ["reports.read", "", false],
    ["invoices.read", "", false],
    ["invoices.read", "a//b", false],
    ["invoices.read", "A", false],
    ["invoices.read", "a/b/c/d/e/f/g/h/i", false],
  ];
  for (const [permission, resource, allowed] of cases) {
    assert.equal(allows(claims, permission, resource), allowed, `${permission} on ${resource}`);
  }
  assert.equal(allows({ scope: 5, authorization_details: "x" }, "a.b", "c"), false);
  const otherType = [{ type: "other", identifier: "c", actions: ["a.b"] }];
  assert.equal(allows({ authorization_details: otherType }, "a.b", "c"), false);
});
