import { type CountersignError, TokenSource, Verifier } from "@countersign/client";
import { TokenService } from "@countersign/client/api";
import * as grpc from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import {
  ACCOUNT,
  AUDIENCE,
  ISSUER,
  ORG,
  type SigningKey,
  goodClaims,
  grpcServer,
  sign,
  signingKey,
  waitFor,
} from "./support.js";

type Call = grpc.ServerWritableStream<{ cursor: string; orgIds: string[]; verifierName: string }, object>;

interface Acknowledged {
  verifierName: string;
  cursor: string;
  heldKeyIds: string[];
}

/** A server of streams whose items a test writes. */
async function streams(t: TestContext, port = 0) {
  const calls: Call[] = [];
  const acknowledged: Acknowledged[] = [];
  const bearers: unknown[] = [];
  const handlers = {
    WatchRevocations: (call: Call) => {
      bearers.push(call.metadata.get("authorization")[0]);
      calls.push(call);
    },
    AcknowledgeRevocations: ({ request }: { request: Acknowledged }, callback: grpc.sendUnaryData<object>) => {
      acknowledged.push(request);
      callback(null, {});
    },
  };
  const { endpoint, server } = await grpcServer(t, [[TokenService, handlers]], {}, port);
  const last = () => calls.at(-1) as Call;
  const keySet = (...keys: SigningKey[]) => {
    const members = { crv: "", x: "", y: "", n: "", e: "" };
    return last().write({ item: { case: "keySet", value: { keys: keys.map(({ jwk }) => ({ ...members, ...jwk })) } } });
  };
  const checkpoint = (cursor: string, lag = 0n) => {
    const time = { seconds: BigInt(Math.floor(Date.now() / 1000)), nanos: 0 };
    last().write({ item: { case: "checkpoint", value: { cursor, time, lag: { seconds: lag, nanos: 0 } } } });
  };
  const revoke = (revocation: object) =>
    last().write({ item: { case: "revocation", value: { orgId: ORG, ...revocation } } });
  return { endpoint, server, calls, acknowledged, bearers, last, keySet, checkpoint, revoke };
}

function verifierOf(t: TestContext, endpoint: string, more: object = {}) {
  const errors: CountersignError[] = [];
  const onError = (error: CountersignError) => errors.push(error);
  const verifier = new Verifier({
    endpoint,
    issuer: ISSUER,
    credential: "secret",
    verifierName: "v",
    onError,
    ...more,
  });
  t.after(() => verifier.close());
  return { verifier, errors };
}

const expected = { audience: AUDIENCE, orgs: [ORG] };
const refused = (verifier: Verifier, jwt: string, reason: string) =>
  assert.rejects(verifier.verify(jwt, expected), { reason });

test("keys and revocations come by the stream, and are acknowledged", async (t) => {
  const server = await streams(t);
  const { verifier, errors } = verifierOf(t, server.endpoint, { orgIds: [ORG] });
  const [key, other] = await Promise.all([signingKey(), signingKey("ES256")]);
  const jwt = await sign(key, goodClaims());
  await waitFor(() => server.calls.length === 1);
  const { cursor, orgIds, verifierName } = server.last().request;
  assert.deepEqual([cursor, orgIds, verifierName, server.bearers], ["", [ORG], "v", ["Bearer secret"]]);
  server.keySet(key, other);
  await waitFor(() => server.acknowledged.length === 1);
  assert.deepEqual({ ...server.acknowledged[0] }.heldKeyIds, [key.kid, other.kid]);
  await assert.rejects(verifier.ready(0.05), { reason: "VERIFIER_STALE", retryable: true });
  await refused(verifier, jwt, "VERIFIER_STALE");
  const ready = verifier.ready();
  server.checkpoint("c1");
  await ready;
  await verifier.verify(jwt, expected);
  await waitFor(() => server.acknowledged.length === 2);
  assert.equal(server.acknowledged[1]?.cursor, "c1");

  server.revoke({ subject: { case: "accountId", value: ACCOUNT }, minVersion: 8n, reason: 8 });
  await waitFor(() => verifier.state.revocations === 1);
  await refused(verifier, jwt, "ACCOUNT_DEACTIVATED");
  await verifier.verify(await sign(key, goodClaims(undefined, { acct_ver: 8 })), expected);

  server.revoke({ orgId: "", subject: { case: "keyId", value: other.kid } });
  await waitFor(() => verifier.state.keyIds.length === 1);
  server.keySet(key);
  await waitFor(() => server.acknowledged.length === 3);
  assert.deepEqual(server.acknowledged[2]?.heldKeyIds, [key.kid]);
  assert.deepEqual(errors, []);
});

test("a stream that ends is resumed where it was, and what was heard stays", async (t) => {
  const server = await streams(t);
  const { verifier, errors } = verifierOf(t, server.endpoint);
  const key = await signingKey();
  await waitFor(() => server.calls.length === 1);
  server.keySet(key);
  server.revoke({ subject: { case: "tokenId", value: "tok_9" } });
  server.checkpoint("c1");
  await verifier.ready();

  server.last().end();
  await waitFor(() => server.calls.length === 2);
  assert.equal(server.last().request.cursor, "c1");
  await verifier.verify(await sign(key, goodClaims()), expected);
  assert.deepEqual(errors, []);

  const metadata = new grpc.Metadata();
  metadata.set("countersign-reason", "CURSOR_EXPIRED");
  server.last().emit("error", { code: grpc.status.OUT_OF_RANGE, details: "expired", metadata });
  await waitFor(() => server.calls.length === 3);
  assert.equal(server.last().request.cursor, "");
  assert.deepEqual(
    errors.map(({ reason }) => reason),
    ["CURSOR_EXPIRED"],
  );
  await refused(verifier, await sign(key, goodClaims(undefined, { client_id: "tok_9" })), "TOKEN_REVOKED");

  // The server is gone, and comes back elsewhere than it was.
  server.checkpoint("c2");
  await waitFor(() => verifier.state.cursor === "c2");
  const port = Number(new URL(server.endpoint).port);
  server.server.forceShutdown();
  await waitFor(() => errors.length >= 2);
  await pause(300);
  const next = await streams(t, port);
  await waitFor(() => next.calls.length === 1);
  assert.equal(next.last().request.cursor, "c2");
});

test("a kind of revocation that is not known closes the verifier", async (t) => {
  const server = await streams(t);
  const { verifier } = verifierOf(t, server.endpoint, { openFor: 3600 });
  const key = await signingKey();
  await waitFor(() => server.calls.length === 1);
  server.keySet(key);
  server.checkpoint("c1");
  await verifier.ready();
  server.revoke({});
  await waitFor(() => !verifier.state.fresh);
  server.checkpoint("c2");
  await waitFor(() => verifier.state.cursor === "c2");
  await refused(verifier, await sign(key, goodClaims()), "VERIFIER_STALE");
});

test("a flood of revocations is kept, and a stalled verifier closes by the lag", async (t) => {
  const server = await streams(t);
  const { verifier } = verifierOf(t, server.endpoint);
  const key = await signingKey();
  await waitFor(() => server.calls.length === 1);
  server.keySet(key);
  for (let i = 0; i < 20_000; i += 1) server.revoke({ subject: { case: "tokenId", value: `tok_${i + 1000}` } });
  server.checkpoint("c1", 31n);
  await waitFor(() => verifier.state.cursor === "c1");
  assert.equal(verifier.state.revocations, 20_000);
  await refused(verifier, await sign(key, goodClaims()), "VERIFIER_STALE");
  server.checkpoint("c2");
  await verifier.ready();
  await refused(verifier, await sign(key, goodClaims(undefined, { client_id: "tok_20999" })), "TOKEN_REVOKED");
});

test("no credential crosses a network in plain text, unless that is asked for", () => {
  const credential = "secret";
  for (const endpoint of [
    "http://id.example",
    "http://10.0.0.1:8080",
    "http://127.0.0.1.id.example",
    "ftp://id.example",
  ]) {
    assert.throws(() => new Verifier({ endpoint, credential }), TypeError, endpoint);
    assert.throws(() => new TokenSource({ endpoint, credential, transport: "http" }), TypeError, endpoint);
    assert.throws(() => new TokenSource({ endpoint, credential }), TypeError, endpoint);
  }
  for (const endpoint of ["https://id.example", "http://127.1.2.3:1", "http://[::1]:1", "http://localhost:1"]) {
    new TokenSource({ endpoint, credential }).close();
  }
  new TokenSource({ endpoint: "http://10.0.0.1", credential, allowPlaintext: true }).close();
});

test("without a credential there is no stream, and no silence about it", () => {
  assert.throws(() => new Verifier({ endpoint: ISSUER }), /revocation: "none"/);
});
