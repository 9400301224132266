import { CountersignError, type TokenSource, type Verifier } from "@countersign/client";
import { OrgService } from "@countersign/client/api";
import * as connectParts from "@countersign/client/connect";
import * as fetchParts from "@countersign/client/fetch";
import * as grpcParts from "@countersign/client/grpc";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { ErrorInfoSchema } from "#internal/gen/google/rpc/error_details_pb.js";
import { Channel } from "#internal/channel.js";
import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { test } from "node:test";
import {
  ACCOUNT,
  AUDIENCE,
  ORG,
  type SigningKey,
  TestClock,
  definitionOf,
  goodClaims,
  grpcServer,
  httpServer,
  offlineVerifier,
  sign,
  signingKey,
} from "./support.js";

const { createResource, getOrg, watchEvents } = OrgService.method;
const METADATA = "https://billing.example/.well-known/oauth-protected-resource";

async function setting(): Promise<{
  key: SigningKey;
  verifier: Verifier;
  clock: TestClock;
  options: fetchParts.FetchGuardOptions;
}> {
  const key = await signingKey();
  const clock = new TestClock(Date.now() / 1000);
  const verifier = offlineVerifier([key], {}, clock);
  return { key, verifier, clock, options: { verifier, audience: AUDIENCE, orgs: [ORG], resourceMetadata: METADATA } };
}

const rules = grpcParts.rulesOf(OrgService, {
  createResource: { permission: "reports.write", resource: ({ path }) => path, org: ({ orgId }) => orgId || ORG },
  updateOrg: { permission: "invoices.read" },
  suspendOrg: "authenticated",
  listOrgs: "open",
  watchEvents: { permission: "reports.read", resource: ({ cursor }) => cursor },
});

/** A source that gives this JWT. */
function sourceOf(accessToken: string): TokenSource & { invalidated: string[] } {
  const invalidated: string[] = [];
  return { get: async () => accessToken, invalidate: (old: string) => invalidated.push(old), invalidated } as never;
}

interface Outcome {
  code: string;
  reason: string;
  metadata?: object;
}

async function outcome(call: Promise<unknown>): Promise<Outcome | unknown> {
  try {
    return await call;
  } catch (thrown) {
    const { code, reason, metadata } = CountersignError.from(thrown);
    return { code, reason, metadata };
  }
}

test("grpc-js: the rule of a method decides, on the resource of its message", async (t) => {
  const { key, options, clock } = await setting();
  let calls = 0;
  const answer = (call: grpc.ServerUnaryCall<never, unknown>, callback: grpc.sendUnaryData<object>) => {
    calls += 1;
    const { path = "" } = call.request;
    callback(null, { resource: { path, displayName: grpcParts.claimsOf(call).sub } });
  };
  const empty = (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, {});
  const handlers = {
    CreateResource: answer,
    GetOrg: answer,
    ListOrgs: empty,
    SuspendOrg: empty,
    UpdateOrg: empty,
    WatchEvents: (call: grpc.ServerWritableStream<never, object>) => {
      calls += 1;
      call.write({ item: { case: "event", value: { id: grpcParts.claimsOf(call).sub } } });
      call.end();
    },
  };
  const { endpoint } = await grpcServer(t, [[OrgService, handlers]], {
    interceptors: [grpcParts.guard(options, rules)],
  });
  const channel = new Channel({ endpoint });
  t.after(() => channel.close());
  const bearer = await sign(key, goodClaims());
  const create_ = (path: string, given: string | undefined = bearer, orgId = "") =>
    outcome(
      channel.unary(createResource, { path, orgId }, { bearer: given }).then(({ resource }) => resource?.displayName),
    );

  assert.equal(await create_("customers/acme/2026"), ACCOUNT);
  assert.equal(calls, 1);
  const missing = (resource?: string) => ({
    code: "PERMISSION_DENIED",
    reason: "PERMISSION_MISSING",
    metadata: { permission: "reports.write", ...(resource && { resource }) },
  });
  assert.deepEqual(await create_("customers/other"), missing("customers/other"));
  for (const path of ["", "*", "customers/acme/../other"]) assert.deepEqual(await create_(path), missing(), path);
  assert.deepEqual(await create_("customers/acme", bearer, "org_2"), missing("customers/acme"));
  assert.deepEqual(await outcome(channel.unary(createResource, { path: "customers/acme" })), {
    code: "UNAUTHENTICATED",
    reason: "CREDENTIAL_MISSING",
    metadata: {},
  });
  const invalid = { code: "UNAUTHENTICATED", reason: "ACCESS_TOKEN_INVALID", metadata: {} };
  assert.deepEqual(await create_("customers/acme", "x.y.z"), invalid);
  assert.deepEqual(await create_("customers/acme", await sign(key, goodClaims(0))), invalid);
  const ruleless = { code: "PERMISSION_DENIED", reason: "PERMISSION_MISSING", metadata: {} };
  assert.deepEqual(await outcome(channel.unary(getOrg, {}, { bearer })), ruleless);
  await channel.unary(OrgService.method.listOrgs, {});
  await channel.unary(OrgService.method.suspendOrg, {}, { bearer });
  await channel.unary(OrgService.method.updateOrg, {}, { bearer });
  const denied = await outcome(channel.unary(OrgService.method.suspendOrg, {}));
  assert.equal((denied as Outcome).reason, "CREDENTIAL_MISSING");
  assert.equal(calls, 1);

  const watched = async (cursor: string) => {
    const ids = [];
    for await (const { item } of channel.stream(watchEvents, { cursor }, { bearer }))
      ids.push(item.case === "event" && item.value.id);
    return ids;
  };
  assert.deepEqual(await watched("customers/acme"), [ACCOUNT]);
  assert.equal(((await outcome(watched("customers/other"))) as Outcome).reason, "PERMISSION_MISSING");
  assert.equal(calls, 2);

  clock.passed += 100;
  const stale = await outcome(channel.unary(createResource, { path: "customers/acme" }, { bearer }));
  assert.deepEqual(stale, { code: "UNAVAILABLE", reason: "VERIFIER_STALE", metadata: {} });
});

test("grpc-js: the interceptor of clients sends a JWT, and drops one that is refused", async (t) => {
  const { key, options } = await setting();
  const handlers = {
    CreateResource: (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, {}),
  };
  const { endpoint } = await grpcServer(t, [[OrgService, handlers]], {
    interceptors: [grpcParts.guard(options, rules)],
  });
  const Client = grpc.makeClientConstructor(definitionOf(OrgService.methods), "OrgService");
  const call = (source: TokenSource, cancel = false, deadline = Date.now() + 5000) =>
    new Promise((resolve) => {
      const interceptors = [grpcParts.bearer(source, AUDIENCE)];
      const client = new Client(endpoint.slice(7), grpc.credentials.createInsecure(), { interceptors });
      const message = create(createResource.input, { path: "customers/acme" });
      const done = (error: grpc.ServiceError | null) => {
        client.close();
        resolve(error ? CountersignError.from(error).reason || grpc.status[error.code] : "OK");
      };
      const sent = (client as never as Record<string, Function>)["CreateResource"]?.(message, { deadline }, done);
      if (cancel) setImmediate(() => sent.cancel());
    });
  assert.equal(await call(sourceOf(await sign(key, goodClaims()))), "OK");
  const expired = sourceOf(await sign(key, goodClaims(0)));
  assert.equal(await call(expired), "ACCESS_TOKEN_INVALID");
  assert.equal(expired.invalidated.length, 1);
  const failing = {
    get: async () =>
      Promise.reject(new CountersignError({ code: "UNAUTHENTICATED", reason: "TOKEN_REVOKED", message: "" })),
  };
  assert.equal(await call(failing as never), "TOKEN_REVOKED");
  assert.equal(await call({ get: () => new Promise(() => {}) } as never, true), "CANCELLED");
});

test("Connect: the same, with its own errors", async (t) => {
  const { key, options, clock } = await setting();
  let calls = 0;
  const adapter = connectNodeAdapter({
    interceptors: [connectParts.guard(options, rules)],
    contextValues: connectParts.peerCertificate,
    routes(router) {
      router.service(OrgService, {
        createResource({ path }, context) {
          calls += 1;
          return { resource: { path, displayName: connectParts.claimsOf(context).sub } };
        },
        getOrg: () => ({}),
        listOrgs: () => ({}),
        async *watchEvents({ cursor: id }, context) {
          calls += 1;
          assert.equal(connectParts.claimsOf(context).sub, ACCOUNT);
          yield { item: { case: "event", value: { id } } };
        },
      });
    },
  });
  const baseUrl = await httpServer(t, adapter);
  const clientOf = (accessToken?: string) => {
    const interceptors = accessToken === undefined ? [] : [connectParts.bearer(sourceOf(accessToken), AUDIENCE)];
    return createClient(OrgService, createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors }));
  };
  const client = clientOf(await sign(key, goodClaims()));
  const refused = async (call: Promise<unknown>, code: Code, reason: string, metadata: object = {}) => {
    const error = await call.then(
      () => assert.fail(`${reason} was expected`),
      (error) => error,
    );
    assert.ok(error instanceof ConnectError, String(error));
    const [info] = error.findDetails(ErrorInfoSchema);
    assert.deepEqual([error.code, info?.reason, info?.domain, info?.metadata], [code, reason, "countersign", metadata]);
    assert.equal(error.metadata.get("countersign-reason"), reason);
    assert.equal(CountersignError.from(error).reason, reason);
  };
  const { resource } = await client.createResource({ path: "customers/acme" });
  assert.deepEqual([resource?.displayName, calls], [ACCOUNT, 1]);
  const permission = "reports.write";
  await refused(client.createResource({ path: "a" }), Code.PermissionDenied, "PERMISSION_MISSING", {
    permission,
    resource: "a",
  });
  await refused(client.createResource({ path: "A" }), Code.PermissionDenied, "PERMISSION_MISSING", { permission });
  await refused(client.getOrg({}), Code.PermissionDenied, "PERMISSION_MISSING");
  await refused(clientOf().createResource({ path: "a" }), Code.Unauthenticated, "CREDENTIAL_MISSING");
  await refused(clientOf("x.y.z").createResource({ path: "a" }), Code.Unauthenticated, "ACCESS_TOKEN_INVALID");
  await clientOf().listOrgs({});
  const watched = async (cursor: string) => {
    for await (const { item } of client.watchEvents({ cursor })) return item.case === "event" && item.value.id;
    return undefined;
  };
  assert.equal(await watched("customers/acme"), "customers/acme");
  await refused(watched("customers/b"), Code.PermissionDenied, "PERMISSION_MISSING", {
    permission: "reports.read",
    resource: "customers/b",
  });
  assert.equal(calls, 2);
  clock.passed += 100;
  await refused(client.createResource({ path: "customers/acme" }), Code.Unavailable, "VERIFIER_STALE");
});

test("Fetch: 401 and 403 say what is missing, with RFC 9728", async (t) => {
  const { key, options, clock } = await setting();
  const handler = fetchParts.guard(
    options,
    (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/healthz") return "open";
      if (pathname.startsWith("/reports/")) {
        return { permission: "reports.read", resource: fetchParts.resourceAfter("/reports/", request) };
      }
      return undefined;
    },
    async (request, { claims }) => Response.json({ sub: claims?.sub ?? null, body: await request.text() }),
  );
  const base = await httpServer(t, fetchParts.nodeListener(handler));
  const good = await sign(key, goodClaims());
  const wide = await sign(key, goodClaims(undefined, { scope: "reports.read", authorization_details: undefined }));
  const get = async (path: string, jwt?: string, authorization = jwt && `Bearer ${jwt}`) => {
    const response = await fetch(`${base}${path}`, { headers: authorization ? { authorization } : {} });
    const { status, headers } = response;
    await response.text();
    return [status, headers.get("countersign-reason"), headers.get("www-authenticate")];
  };
  const metadata = `resource_metadata="${METADATA}"`;
  assert.deepEqual(await get("/reports/customers/acme", good), [200, null, null]);
  assert.deepEqual(await get("/reports/customers/acme", undefined, `bearer  ${good}`), [200, null, null]);
  assert.deepEqual(await get("/healthz"), [200, null, null]);
  assert.deepEqual(await get("/reports/a"), [401, "CREDENTIAL_MISSING", `Bearer ${metadata}`]);
  assert.deepEqual(await get("/reports/a", undefined, "Basic eDp5"), [401, "CREDENTIAL_MISSING", `Bearer ${metadata}`]);
  const invalid = [401, "ACCESS_TOKEN_INVALID", `Bearer error="invalid_token", ${metadata}`];
  assert.deepEqual(await get("/reports/a", "x.y.z"), invalid);
  assert.deepEqual(await get("/reports/a", await sign(key, goodClaims(0))), invalid);
  const insufficient = [
    403,
    "PERMISSION_MISSING",
    `Bearer error="insufficient_scope", scope="reports.read", ${metadata}`,
  ];
  assert.deepEqual(await get("/reports/customers", good), insufficient);
  for (const path of ["customers//acme", "customers/acme%00", "customers/acme%2F%2Fx", "%", "", "A"]) {
    assert.deepEqual(await get(`/reports/${path}`, wide), insufficient, path);
  }
  assert.deepEqual(await get("/reports/customers%2Facme", good), [200, null, null]);
  assert.deepEqual(await get("/elsewhere", wide), [
    403,
    "PERMISSION_MISSING",
    `Bearer error="insufficient_scope", ${metadata}`,
  ]);
  for (const path of [
    "/reports/a/../b",
    "/reports/a/%2e%2E/b",
    "/reports/a/..%2Fb",
    "/reports/..",
    "//reports/a",
    "/reports/a\\b",
  ]) {
    const status = await raw(base, path, wide);
    assert.ok(status === 404 || status === 403, `${path}: ${status}`);
  }
  const document = await (await fetch(`${base}/.well-known/oauth-protected-resource`)).json();
  assert.deepEqual(document, {
    resource: AUDIENCE,
    authorization_servers: ["https://id.example"],
    bearer_methods_supported: ["header"],
  });
  const posted = await fetch(`${base}/reports/a`, {
    method: "POST",
    body: "x".repeat(100_000),
    headers: { authorization: `Bearer ${wide}` },
  });
  assert.equal(((await posted.json()) as { body: string }).body.length, 100_000);
  clock.passed += 100;
  assert.deepEqual((await get("/reports/customers/acme", good)).slice(0, 2), [503, "VERIFIER_STALE"]);
});

test("Fetch: a client tries a 401 once more with a new JWT", async (t) => {
  const sent: (string | undefined)[] = [];
  const base = await httpServer(t, (request, response) => {
    sent.push(request.headers.authorization);
    request.resume();
    response.writeHead(request.headers.authorization === "Bearer new" ? 200 : 401).end();
  });
  let token = "old";
  const source = { get: async () => token, invalidate: () => (token = "new") } as never as TokenSource;
  const call = fetchParts.bearerFetch(source, AUDIENCE);
  assert.equal((await call(`${base}/`, { headers: { "x-a": "b" } })).status, 200);
  assert.deepEqual(sent, ["Bearer old", "Bearer new"]);
  token = "old";
  assert.equal((await call(`${base}/`, { method: "POST", body: "x" })).status, 401);
});

/** The status of a request whose path is sent as it is. */
function raw(base: string, path: string, jwt: string): Promise<number | undefined> {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const options = { hostname, port, path, headers: { authorization: `Bearer ${jwt}` } };
    httpRequest(options, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on("error", reject)
      .end();
  });
}
