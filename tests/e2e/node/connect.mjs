// A client of Connect, which knows the protos, a URL and a token, and nothing else of Countersign.
//
// Calls unary RPCs as JSON with @connectrpc/connect, over HTTP/1.1 and HTTP/2: typed answers, and typed errors.
// Then calls one with `buf curl`, which speaks gRPC here. Prints a line for each step; fails at the first error.
//
//     node connect.mjs PROTO_FOLDER
//
// Needs the packages of package.json, and in the environment COUNTERSIGN_ENDPOINT, COUNTERSIGN_OPERATOR_TOKEN and
// COUNTERSIGN_ORG_ID, as `countersign dev` writes them into dev.env.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";

const BUF = new URL("node_modules/.bin/buf", import.meta.url).pathname;
const PACKAGE = "countersign.v1";
const BILLING = "https://billing.example";
const proto = process.argv[2];
const [endpoint, operator, orgId] = ["ENDPOINT", "OPERATOR_TOKEN", "ORG_ID"].map(setting);
const api = descriptors(proto);
const details = descriptors(new URL("error_details.proto", import.meta.url).pathname);
const ErrorInfo = details.getMessage("google.rpc.ErrorInfo");
const BadRequest = details.getMessage("google.rpc.BadRequest");

for (const httpVersion of ["1.1", "2"]) {
  await useApi(httpVersion);
}
withBufCurl();
console.log("all good");

async function useApi(httpVersion) {
  const [accounts, , tokens] = clients(httpVersion, operator);
  let headers;
  const caller = await accounts.getCaller({}, { onHeader: (read) => (headers = read) });
  assert.equal(headers.get("content-type"), "application/json");
  assert.ok(caller.permissions.includes("platform.orgs"));
  assert.ok(caller.account.createTime.seconds > 1_700_000_000n);
  done(`HTTP/${httpVersion}: a call says who makes it, in JSON`);

  const { account } = await accounts.createServiceAccount({
    orgId,
    name: `connect-${randomUUID().slice(0, 8)}`,
    grants: [{ right: { case: "permission", value: "invoices.read" }, resource: "*" }],
    settings: { attributes: { team: "billing", shares: [0.5, null, { "é": true }] } },
  });
  assert.deepEqual(account.settings.attributes, { team: "billing", shares: [0.5, null, { "é": true }] });
  const { token, secret } = await tokens.createToken({
    orgId,
    accountId: account.id,
    labels: { env: "test" },
    expiration: { case: "ttl", value: { seconds: 3_600n, nanos: 0 } },
  });
  assert.deepEqual(token.labels, { env: "test" });
  const ends = token.expireTime.seconds - token.createTime.seconds;
  assert.ok(ends > 3_590n && ends <= 3_600n, `${ends}`);
  done("an account with attributes and a token with labels are created");

  const { accessToken, expireTime } = await clients(httpVersion)[2].exchangeToken({
    subjectToken: secret,
    audiences: [BILLING],
    scopes: ["invoices.read"],
  });
  const claims = JSON.parse(Buffer.from(accessToken.split(".")[1], "base64url"));
  assert.deepEqual([claims.aud, claims.sub], [BILLING, account.id]);
  assert.equal(BigInt(claims.exp), expireTime.seconds);
  const introspected = await tokens.introspectToken({ tokenText: accessToken, audience: BILLING });
  // Numbers of 64 bits are exact.
  assert.deepEqual([introspected.active, introspected.exp], [true, expireTime.seconds]);
  done("it is exchanged for a JWT, and that is introspected");

  const description = "made over JSON";
  const updated = await accounts.updateAccount({
    orgId,
    account: { id: account.id, description },
    updateMask: { paths: ["description", "profile.display_name"] },
  });
  assert.equal(updated.account.description, description);
  done("a field mask names what is updated");

  await refused(clients(httpVersion)[0].getCaller({}), Code.Unauthenticated, "CREDENTIAL_MISSING", (error) => {
    assert.match(error.metadata.get("www-authenticate"), /^Bearer resource_metadata="http/);
    assert.equal(error.metadata.get("countersign-reason"), "CREDENTIAL_MISSING");
  });
  await refused(accounts.getAccount({ orgId, accountId: "acct_0" }), Code.InvalidArgument, "INVALID_FIELD", (error) => {
    const fields = error.findDetails(BadRequest).flatMap((bad) => bad.fieldViolations.map((wrong) => wrong.field));
    assert.deepEqual(fields, ["account_id"]);
  });
  await refused(
    accounts.createServiceAccount({ orgId, name: account.name }),
    Code.AlreadyExists,
    "RESOURCE_EXISTS",
  );
  const [mine] = clients(httpVersion, secret);
  await refused(mine.listAccounts({ orgId }), Code.PermissionDenied, "PERMISSION_MISSING", (error) => {
    assert.equal(error.findDetails(ErrorInfo)[0].metadata.permission, "accounts.read");
  });
  done("errors have their code, their reason and their details");
}

/** The clients of the three services, with this bearer. */
function clients(httpVersion, bearer) {
  const authorize = (next) => (request) => {
    if (bearer) request.header.set("authorization", `Bearer ${bearer}`);
    return next(request);
  };
  const options = { baseUrl: endpoint, httpVersion, useBinaryFormat: false, interceptors: [authorize] };
  const transport = createConnectTransport(options);
  return ["AccountService", "OrgService", "TokenService"].map((service) =>
    createClient(api.getService(`${PACKAGE}.${service}`), transport),
  );
}

/** The call must fail with this code and reason. */
async function refused(call, code, reason, check = () => {}) {
  const error = await call.then(
    () => assert.fail(`${reason} was expected`),
    (error) => error,
  );
  assert.ok(error instanceof ConnectError, String(error));
  assert.deepEqual([Code[error.code], error.findDetails(ErrorInfo)[0]?.reason], [Code[code], reason], String(error));
  check(error);
}

/** `buf curl` writes JSON for people, and sends protobuf: of the Connect protocol, JSON alone is served. */
function withBufCurl() {
  const curl = (...options) => [
    ...["curl", "--schema", proto, "--header", `authorization: Bearer ${operator}`, "--data", "{}"],
    ...[...options, `${endpoint}/${PACKAGE}.AccountService/GetCaller`],
  ];
  const caller = JSON.parse(execFileSync(BUF, curl("--protocol", "grpc", "--http2-prior-knowledge")));
  assert.ok(caller.account.id.startsWith("acct_"));
  assert.throws(() => execFileSync(BUF, curl("--protocol", "connect"), { stdio: "pipe" }), /415/);
  done("buf curl calls over gRPC");
}

/** What protos say, without generated code. */
function descriptors(source) {
  const set = execFileSync(BUF, ["build", source, "-o", "-#format=binpb"], { maxBuffer: 1 << 24 });
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
}

function setting(name) {
  return process.env[`COUNTERSIGN_${name}`] ?? assert.fail(`COUNTERSIGN_${name} is not set`);
}

function done(what) {
  console.log("ok ", what);
}
