import { type Credential, CountersignError, TokenSource } from "@countersign/client";
import { TokenService } from "@countersign/client/api";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { ErrorInfoSchema, RetryInfoSchema } from "#internal/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#internal/gen/google/rpc/status_pb.js";
import { isTokenString } from "#internal/token-string.js";
import { UnsecuredJWT, decodeJwt, decodeProtectedHeader, exportJWK, exportPKCS8, importJWK, jwtVerify } from "jose";
import { generateKeyPairSync } from "node:crypto";
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { grpcServer, httpServer, waitFor } from "./support.js";

const AUDIENCE = "https://billing.example";
// Token strings of a deployment that is gone.
const [FIRST, SECOND] = ["1", "2"].map(tokenString) as [string, string];

/** What a stand-in answers: a lifetime in seconds; or an error. */
type Behaviour = number | { code: grpc.status; reason?: string; retryAfter?: number };

interface Server {
  endpoint: string;
  /** What was presented. */
  subjects: { text: string; type: string; ruleId: string; audiences: string[]; scopes: string[] }[];
  behaviour: Behaviour;
  delay: number;
}

let made = 0;
function jwt(life: number): string {
  made += 1;
  const iat = Math.floor(Date.now() / 1000);
  return new UnsecuredJWT({ iat, exp: iat + life, jti: String(made) }).encode();
}

async function exchanges(t: TestContext): Promise<Server> {
  const server: Server = { endpoint: "", subjects: [], behaviour: 300, delay: 0 };
  const ExchangeToken: grpc.handleUnaryCall<Record<string, never>, object> = async ({ request }, callback) => {
    const { subjectToken: text, subjectTokenType: type, federationRuleId: ruleId, audiences, scopes } = request;
    server.subjects.push({ text, type, ruleId, audiences, scopes } as never);
    const { behaviour } = server;
    await pause(server.delay * 1000);
    if (typeof behaviour === "number") {
      callback(null, create(TokenService.method.exchangeToken.output, { accessToken: jwt(behaviour) }));
      return;
    }
    const { code, reason, retryAfter } = behaviour;
    const metadata = new grpc.Metadata();
    if (reason) {
      const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "countersign" }))];
      if (retryAfter !== undefined) {
        const retryDelay = durationFromMs(retryAfter * 1000);
        details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
      }
      const status = toBinary(StatusSchema, create(StatusSchema, { code, message: "no", details }));
      metadata.set("grpc-status-details-bin", Buffer.from(status));
    }
    callback({ code, details: "no", metadata });
  };
  server.endpoint = (await grpcServer(t, [[TokenService, { ExchangeToken }]])).endpoint;
  return server;
}

function sourceOf(t: TestContext, endpoint: string, credential: Credential = FIRST, more: object = {}): TokenSource {
  const source = new TokenSource({ endpoint, credential, ...more });
  t.after(() => source.close());
  return source;
}

function reasonOf(reason: string) {
  return (error: unknown) => {
    assert.ok(error instanceof CountersignError, String(error));
    assert.equal(error.reason || error.code, reason);
    return true;
  };
}

test("a thousand callers make one exchange, by the sets of audiences and scopes", async (t) => {
  const server = await exchanges(t);
  const source = sourceOf(t, server.endpoint);
  const got = await Promise.all(Array.from({ length: 1000 }, () => source.get(AUDIENCE, { scopes: ["b.c", "a.b"] })));
  assert.equal(new Set(got).size, 1);
  await source.get([AUDIENCE, AUDIENCE], { scopes: ["a.b", "b.c", "a.b"] });
  assert.deepEqual(server.subjects, [
    {
      text: FIRST,
      type: "urn:ietf:params:oauth:token-type:access_token",
      ruleId: "",
      audiences: [AUDIENCE],
      scopes: ["a.b", "b.c"],
    },
  ]);
  await source.get(AUDIENCE);
  assert.deepEqual(source.statistics, { cached: 2, exchanges: 2 });
});

test("the cache is bounded", async (t) => {
  const server = await exchanges(t);
  const source = sourceOf(t, server.endpoint);
  await Promise.all(Array.from({ length: 1010 }, (_, i) => source.get(`https://${i}.example`)));
  assert.deepEqual(source.statistics, { cached: 1000, exchanges: 1010 });
  await source.get("https://1009.example");
  await source.get("https://0.example");
  assert.equal(source.statistics.exchanges, 1011);
});

test("a JWT is replaced before it ends, and serves on while the server is away", async (t) => {
  const server = await exchanges(t);
  server.behaviour = 3;
  const source = sourceOf(t, server.endpoint);
  const first = await source.get(AUDIENCE);
  await waitFor(() => source.statistics.exchanges === 2, 2600);
  await pause(50);
  const second = await source.get(AUDIENCE);
  assert.notEqual(second, first);
  server.behaviour = { code: grpc.status.UNAVAILABLE };
  await pause(2400);
  assert.ok(source.statistics.exchanges > 3, "the server is asked again");
  assert.equal(await source.get(AUDIENCE), second);
  server.behaviour = { code: grpc.status.PERMISSION_DENIED, reason: "SCOPE_NOT_HELD" };
  assert.equal(await source.get(AUDIENCE), second);
  await pause(700);
  await assert.rejects(source.get(AUDIENCE, { timeout: 5 }), reasonOf("SCOPE_NOT_HELD"));
  server.behaviour = 300;
  assert.notEqual(await source.get(AUDIENCE), second);
});

test("what may pass is tried again, and no sooner than the server says", async (t) => {
  const server = await exchanges(t);
  server.behaviour = { code: grpc.status.RESOURCE_EXHAUSTED, reason: "THROTTLED", retryAfter: 1 };
  const source = sourceOf(t, server.endpoint);
  setTimeout(() => {
    server.behaviour = 300;
  }, 200);
  const began = performance.now();
  await source.get(AUDIENCE);
  const took = performance.now() - began;
  assert.ok(took >= 1000 && took < 2500, `${took}`);
  assert.equal(server.subjects.length, 2);
  await assert.rejects(sourceOf(t, "http://127.0.0.1:1").get(AUDIENCE, { timeout: 0.3 }), reasonOf("UNAVAILABLE"));
  server.behaviour = { code: grpc.status.UNAVAILABLE, reason: "DATABASE_UNAVAILABLE" };
  await assert.rejects(source.get("other", { timeout: 0.3 }), reasonOf("DATABASE_UNAVAILABLE"));
});

test("a reason that is final ends the source; one that can be lifted is asked again after a wait", async (t) => {
  const server = await exchanges(t);
  const source = sourceOf(t, server.endpoint);
  await source.get(AUDIENCE);
  server.behaviour = { code: grpc.status.UNAUTHENTICATED, reason: "TOKEN_REVOKED" };
  await assert.rejects(source.get("other"), reasonOf("TOKEN_REVOKED"));
  server.behaviour = 300;
  for (const audience of ["other", AUDIENCE, "third"])
    await assert.rejects(source.get(audience), reasonOf("TOKEN_REVOKED"));
  assert.deepEqual(source.statistics, { cached: 0, exchanges: 2 });

  const suspended = sourceOf(t, server.endpoint);
  server.behaviour = { code: grpc.status.UNAUTHENTICATED, reason: "ACCOUNT_DEACTIVATED" };
  await assert.rejects(suspended.get(AUDIENCE), reasonOf("ACCOUNT_DEACTIVATED"));
  server.behaviour = 300;
  await assert.rejects(suspended.get(AUDIENCE), reasonOf("ACCOUNT_DEACTIVATED"));
  assert.equal(suspended.statistics.exchanges, 1);
  await pause(1010);
  await suspended.get(AUDIENCE);
});

test("an answer that came after its JWT had ended is not used", async (t) => {
  const server = await exchanges(t);
  const source = sourceOf(t, server.endpoint);
  Object.assign(server, { behaviour: 1, delay: 1.1 });
  await assert.rejects(source.get(AUDIENCE, { timeout: 2 }), reasonOf("DEADLINE_EXCEEDED"));
  assert.equal(source.statistics.cached, 0);
  Object.assign(server, { behaviour: 300, delay: 0 });
  await source.get(AUDIENCE);
});

test("a stale JWT is exchanged anew; what waits ends with its signal and with the source", async (t) => {
  const server = await exchanges(t);
  const source = sourceOf(t, server.endpoint);
  const first = await source.get(AUDIENCE);
  source.invalidate(first);
  assert.equal(await source.get(AUDIENCE), first, "it is a moment old");
  await pause(1010);
  source.invalidate(first);
  assert.notEqual(await source.get(AUDIENCE), first);

  server.behaviour = { code: grpc.status.UNAVAILABLE };
  await assert.rejects(source.get("a", { signal: AbortSignal.timeout(50) }), reasonOf("CANCELLED"));
  await assert.rejects(source.get("c", { signal: AbortSignal.abort() }), reasonOf("CANCELLED"));
  const waiting = source.get("b");
  await pause(50);
  source.close();
  await assert.rejects(waiting, reasonOf("CANCELLED"));
});

test("a token file is read again when it changes, and garbage keeps what was there", async (t) => {
  const server = await exchanges(t);
  const folder = mkdtempSync(join(tmpdir(), "countersign-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "token");
  const presented = async (source: TokenSource) => {
    await source.get(`https://${(made += 1)}.example`);
    return server.subjects.at(-1)?.text;
  };
  const source = sourceOf(t, server.endpoint, { tokenFile: path });
  await assert.rejects(source.get(AUDIENCE, { timeout: 0.3 }), (error) => {
    assert.ok(error instanceof CountersignError);
    assert.deepEqual([error.reason, error.retryable], ["CREDENTIAL_MISSING", true]);
    return true;
  });
  writeFileSync(path, "");
  setTimeout(() => writeFileSync(path, ` ${FIRST}\n`), 100);
  assert.equal(await presented(source), FIRST);
  for (const garbage of [
    "",
    FIRST.slice(0, 60),
    `${FIRST}0`,
    FIRST.replace(/.$/, "0").replace(/0$/, "1"),
    "\0\xff",
    "x".repeat(70_000),
  ]) {
    writeFileSync(path, garbage);
    assert.equal(await presented(source), FIRST);
  }
  writeFileSync(`${path}.new`, SECOND);
  renameSync(`${path}.new`, path);
  assert.equal(await presented(source), SECOND);
  rmSync(path);
  assert.equal(await presented(source), SECOND);

  // A new one begins anew after a final reason.
  server.behaviour = { code: grpc.status.UNAUTHENTICATED, reason: "TOKEN_REVOKED" };
  await assert.rejects(presented(source), reasonOf("TOKEN_REVOKED"));
  server.behaviour = 300;
  await assert.rejects(presented(source), reasonOf("TOKEN_REVOKED"));
  writeFileSync(path, FIRST);
  assert.equal(await presented(source), FIRST);
});

test("a key signs another assertion for each exchange, for the issuer alone", async (t) => {
  const server = await exchanges(t);
  const folder = mkdtempSync(join(tmpdir(), "countersign-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const issuer = "https://id.example";
  const kinds = [
    ["EdDSA", generateKeyPairSync("ed25519")],
    ["ES256", generateKeyPairSync("ec", { namedCurve: "P-256" })],
    ["RS256", generateKeyPairSync("rsa", { modulusLength: 2048 })],
  ] as const;
  for (const [alg, { privateKey, publicKey }] of kinds) {
    const pem = await exportPKCS8(privateKey);
    const path = join(folder, `${alg}.pem`);
    writeFileSync(path, pem);
    const jwk = await exportJWK(privateKey);
    const ways: Credential[] = [
      { tokenId: "tok_1", privateKey: pem },
      { tokenId: "tok_1", privateKey },
      { tokenId: "tok_1", privateKey: jwk },
      { tokenId: "tok_1", privateKeyFile: path },
    ];
    for (const credential of ways) {
      const source = sourceOf(t, server.endpoint, credential, { issuer });
      await source.get(AUDIENCE);
      await source.get("other");
      const [one, two] = server.subjects.slice(-2) as [Server["subjects"][0], Server["subjects"][0]];
      assert.equal(one.type, "urn:ietf:params:oauth:token-type:jwt");
      assert.deepEqual(decodeProtectedHeader(one.text), { alg, typ: "JWT" });
      const { payload } = await jwtVerify(one.text, await importJWK(await exportJWK(publicKey), alg));
      const { iss, sub, aud, exp = 0, jti } = payload;
      assert.deepEqual([iss, sub, aud], ["tok_1", "tok_1", issuer]);
      const life = exp - Date.now() / 1000;
      assert.ok(life > 100 && life <= 300, `${life}`);
      assert.notEqual(jti, decodeJwt(two.text).jti);
    }
  }
});

test("over HTTP the token endpoint is asked, and its errors are read", async (t) => {
  const asked: [string | undefined, string][] = [];
  let status = 200;
  let body = () => JSON.stringify({ access_token: jwt(300), token_type: "Bearer", expires_in: 300 });
  let headers: Record<string, string> = {};
  const endpoint = await httpServer(t, async (request, response) => {
    asked.push([request.url, await text(request)]);
    response.writeHead(status, headers).end(body());
  });
  const another = () => sourceOf(t, endpoint, FIRST, { transport: "http" });
  const source = another();
  await source.get([AUDIENCE, "https://b.example"], { scopes: ["a.b", "c.d"], ttl: 60 });
  const form = new URLSearchParams([
    ["grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"],
    ["subject_token", FIRST],
    ["subject_token_type", "urn:ietf:params:oauth:token-type:access_token"],
    ["audience", "https://b.example"],
    ["audience", AUDIENCE],
    ["scope", "a.b c.d"],
    ["requested_ttl", "60"],
  ]);
  assert.deepEqual(asked, [["/oauth2/token", form.toString()]]);

  for (const garbage of ["", "no JSON", '{"access_token":"x"}', '{"access_token":5}', "x".repeat(70_000)]) {
    body = () => garbage;
    const error = await another()
      .get("other", { timeout: 0.2 })
      .catch((error) => error);
    assert.ok(error instanceof CountersignError && error.retryable, `${garbage.slice(0, 30)}: ${error}`);
  }
  status = 400;
  headers = { "countersign-reason": "INVALID_TARGET" };
  body = () => '{"error":"invalid_target","error_description":"INVALID_TARGET: no"}';
  await assert.rejects(another().get("third"), reasonOf("INVALID_TARGET"));
});

test("a federation assertion is read from its file, and goes with its rule over HTTP", async (t) => {
  const asked: URLSearchParams[] = [];
  const endpoint = await httpServer(t, async (request, response) => {
    asked.push(new URLSearchParams(await text(request)));
    response.end(JSON.stringify({ access_token: jwt(300), token_type: "Bearer", expires_in: 300 }));
  });
  const folder = mkdtempSync(join(tmpdir(), "countersign-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const assertionFile = join(folder, "assertion");
  const credential = { assertionFile, federationRuleId: "fed_1" };
  writeFileSync(assertionFile, "a.b.c\n");
  const source = sourceOf(t, endpoint, credential, { transport: "http" });
  await source.get("one");
  writeFileSync(assertionFile, "a.b");
  await source.get("two");
  writeFileSync(assertionFile, "d.e.f");
  await source.get("three");
  assert.deepEqual(
    asked.map((form) => [form.get("grant_type"), form.get("assertion"), form.get("federation_rule_id")]),
    ["a.b.c", "a.b.c", "d.e.f"].map((text) => ["urn:ietf:params:oauth:grant-type:jwt-bearer", text, "fed_1"]),
  );
});

test("a federation assertion goes with its rule over gRPC, too", async (t) => {
  const server = await exchanges(t);
  const folder = mkdtempSync(join(tmpdir(), "countersign-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const assertionFile = join(folder, "assertion");
  writeFileSync(assertionFile, "a.b.c\n");
  await sourceOf(t, server.endpoint, { assertionFile, federationRuleId: "fed_1" }).get("one");
  await sourceOf(t, server.endpoint, FIRST).get("one");
  assert.deepEqual(
    server.subjects.map(({ text, type, ruleId }) => [text, type, ruleId]),
    [
      ["a.b.c", "urn:ietf:params:oauth:token-type:jwt", "fed_1"],
      [FIRST, "urn:ietf:params:oauth:token-type:access_token", ""],
    ],
  );
});

async function text(request: IncomingMessage): Promise<string> {
  let all = "";
  for await (const chunk of request) all += chunk;
  return all;
}

/** A token string with its checksum. */
function tokenString(id: string): string {
  const begin = `csign_sat_${id.padStart(22, "0")}_${"s".repeat(43)}`;
  let crc = ~0;
  for (const byte of Buffer.from(begin)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  let left = ~crc >>> 0;
  let sum = "";
  for (let i = 0; i < 6; i += 1, left = Math.floor(left / 62)) sum = `${digits[left % 62]}${sum}`;
  const whole = `${begin}_${sum}`;
  assert.ok(isTokenString(whole), whole);
  return whole;
}
