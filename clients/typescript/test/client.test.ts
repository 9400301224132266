import { Client, CountersignError, pages } from "@countersign/client";
import { AccountService, TokenService } from "@countersign/client/api";
import * as grpc from "@grpc/grpc-js";
import assert from "node:assert/strict";
import { test } from "node:test";
import { grpcServer } from "./support.js";

type Unary = (call: grpc.ServerUnaryCall<Record<string, never>, object>, callback: grpc.sendUnaryData<object>) => void;

function refusal(code: grpc.status, reason: string) {
  const metadata = new grpc.Metadata();
  metadata.set("countersign-reason", reason);
  return { code, details: reason, metadata };
}

test("a create is repeated with the same request id; what is not repeatable is not", async (t) => {
  const seen: string[] = [];
  const bearers: unknown[] = [];
  let overloaded = false;
  const fails: Unary = ({ request, metadata }, callback) => {
    seen.push(request["requestId"] ?? "none");
    bearers.push(metadata.get("authorization")[0]);
    const away = refusal(grpc.status.UNAVAILABLE, "DATABASE_UNAVAILABLE");
    if (seen.length % 3 !== 0) callback(overloaded ? refusal(grpc.status.RESOURCE_EXHAUSTED, "OVERLOADED") : away);
    else callback(null, { account: { id: "acct_1" } });
  };
  const { endpoint } = await grpcServer(t, [
    [AccountService, { CreateServiceAccount: fails, DeactivateAccount: fails, GetAccount: fails }],
  ]);
  const client = new Client({ endpoint, credential: "secret" });
  t.after(() => client.close());
  const { account } = await client.accounts.createServiceAccount({ name: "reports" });
  assert.equal(account?.id, "acct_1");
  assert.match(seen[0] ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4/);
  assert.deepEqual([seen.length, new Set(seen).size, bearers[0]], [3, 1, "Bearer secret"]);
  await client.accounts.createServiceAccount({ name: "reports", requestId: "mine" }, { bearer: "other" });
  assert.deepEqual([seen.slice(3), bearers[5]], [["mine", "mine", "mine"], "Bearer other"]);
  await client.accounts.getAccount({ accountId: "acct_1" });
  assert.equal(seen.length, 9);
  await assert.rejects(client.accounts.deactivateAccount({ accountId: "acct_1" }), { reason: "DATABASE_UNAVAILABLE" });
  assert.equal(seen.length, 10);
  overloaded = true;
  await client.accounts.deactivateAccount({ accountId: "acct_1" });
  assert.equal(seen.length, 12);
  await assert.rejects(
    client.accounts.getAccount({}, { timeout: 0.01 }),
    (error) => error instanceof CountersignError && error.retryable,
  );
});

test("pages are read as their items are taken", async (t) => {
  const asked: string[] = [];
  const ListTokens: Unary = ({ request }, callback) => {
    const token: string = request["pageToken"] ?? "";
    asked.push(token);
    const page = Number(token);
    const tokens = Array.from({ length: page === 1 ? 0 : 2 }, (_, i) => ({ id: `tok_${page}_${i}` }));
    callback(null, { tokens, nextPageToken: page < 3 ? String(page + 1) : "" });
  };
  const ListSigningKeys: Unary = (_, callback) => callback(null, { nextPageToken: "again" });
  const { endpoint } = await grpcServer(t, [[TokenService, { ListTokens, ListSigningKeys }]]);
  const client = new Client({ endpoint });
  t.after(() => client.close());
  const ids = [];
  for await (const { id } of pages(client.tokens.listTokens, { purpose: "x" })) {
    ids.push(id);
    if (ids.length === 1) assert.deepEqual(asked, [""]);
  }
  assert.deepEqual(ids, ["tok_0_0", "tok_0_1", "tok_2_0", "tok_2_1", "tok_3_0", "tok_3_1"]);
  assert.deepEqual(asked, ["", "1", "2", "3"]);
  for await (const { id } of pages(client.tokens.listTokens, { pageToken: "2" })) if (id === "tok_2_1") break;
  assert.deepEqual(asked.slice(4), ["2"]);
  await assert.rejects(async () => {
    for await (const _ of pages(client.tokens.listSigningKeys, {}));
  }, /led to itself/);
});
