// Runs the two services against a server of Countersign, and calls the first one, which calls the second:
//
//     COUNTERSIGN_ENDPOINT=… COUNTERSIGN_OPERATOR_TOKEN=… COUNTERSIGN_ORG_ID=… node run.js
//
// An operator makes the accounts; a real deployment has them from its own set-up.
import { Client, TokenSource } from "@countersign/client";
import { bearerFetch } from "@countersign/client/fetch";
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DASHBOARD, serveDashboard } from "./dashboard.js";
import { serveInvoices } from "./invoices.js";

const [endpoint, operatorToken, org] = ["ENDPOINT", "OPERATOR_TOKEN", "ORG_ID"].map(
  (name) => process.env[`COUNTERSIGN_${name}`] ?? assert.fail(`COUNTERSIGN_${name} is not set`),
) as [string, string, string];
const operator = new Client({ endpoint, credential: operatorToken });
const suffix = randomUUID().slice(0, 8);
const customer = `example-${suffix}/acme`;
const folder = mkdtempSync(join(tmpdir(), "two-services-"));
const tokenFile = join(folder, "token");

/** A service account with these rights, and a token for it. */
async function tokenFor(name: string, grants: [permission: string, resource: string][]) {
  const { account } = await operator.accounts.createServiceAccount({
    orgId: org,
    name: `${name}-${suffix}`,
    grants: grants.map(([permission, resource]) => ({
      right: { case: "permission" as const, value: permission },
      resource,
    })),
  });
  const { token, secret } = await operator.tokens.createToken({ orgId: org, accountId: account?.id as string });
  return { tokenId: token?.id as string, secret };
}

for (const path of [`example-${suffix}`, customer]) await operator.orgs.createResource({ orgId: org, path });
const invoicesToken = await tokenFor("invoices", [["tokens.introspect", "*"]]);
const dashboardToken = await tokenFor("dashboard", [
  ["tokens.introspect", "*"],
  ["invoices.read", customer],
]);
const readerToken = await tokenFor("reader", [["dashboard.read", `example-${suffix}`]]);
writeFileSync(tokenFile, dashboardToken.secret, { mode: 0o600 });

const invoices = await serveInvoices(endpoint, invoicesToken.secret, org);
const dashboard = await serveDashboard(endpoint, tokenFile, org, invoices.address);
const reader = new TokenSource({ endpoint, credential: readerToken.secret });
try {
  const call = bearerFetch(reader, DASHBOARD);
  const good = await call(`${dashboard.url}/totals/${customer}`);
  const answer = (await good.json()) as { cents: number };
  assert.deepEqual([good.status, answer.cents], [200, 12_300]);
  console.log("ok: the dashboard answers, by way of the invoices:", JSON.stringify(answer));

  const other = await call(`${dashboard.url}/totals/example-${suffix}`);
  assert.deepEqual([other.status, await other.json()], [502, { error: "PERMISSION_MISSING" }]);
  console.log("ok: the dashboard may not read the invoices of all customers");

  const anonymous = await fetch(`${dashboard.url}/totals/${customer}`);
  assert.match(anonymous.headers.get("www-authenticate") ?? "", /^Bearer resource_metadata="https:/);
  console.log("ok: without a JWT the answer is", anonymous.status, anonymous.headers.get("countersign-reason"));

  const jwt = await reader.get(DASHBOARD);
  await operator.tokens.revokeToken({ orgId: org, target: { case: "tokenId", value: readerToken.tokenId } });
  const began = performance.now();
  const headers = { authorization: `Bearer ${jwt}` };
  let refused = await fetch(`${dashboard.url}/totals/${customer}`, { headers });
  while (refused.status !== 401 && performance.now() - began < 5_000) {
    refused = await fetch(`${dashboard.url}/totals/${customer}`, { headers });
  }
  assert.deepEqual([refused.status, refused.headers.get("countersign-reason")], [401, "TOKEN_REVOKED"]);
  console.log(`ok: the JWT of a revoked token is refused after ${Math.round(performance.now() - began)} ms`);
} finally {
  reader.close();
  dashboard.stop();
  invoices.stop();
  operator.close();
  rmSync(folder, { recursive: true });
}
