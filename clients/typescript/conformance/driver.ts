// The driver of the conformance suite: clients/conformance/README.md has its protocol.
import { Client, CountersignError, TokenSource, Verifier, allows, pages } from "@countersign/client";
import { OrgService } from "@countersign/client/api";
import { guard as guardFetch, nodeListener, resourceAfter } from "@countersign/client/fetch";
import { claimsOf, guard as guardGrpc, rulesOf } from "@countersign/client/grpc";
import { type DescMethod, type MessageShape, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { Channel } from "#internal/channel.js";
import { type Clock, systemClock } from "#internal/clock.js";
import type { Credential } from "#internal/credential.js";
import type { Item } from "#internal/verifier/core.js";
import type { Revocation, Subject } from "#internal/verifier/revocations.js";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";

type Request = Record<string, any>;
type Answer = { ok: object } | { error: object };

class NotSupported extends Error {}

interface TestClock extends Clock {
  set(wall?: number, monotonic?: number): void;
}

const verifiers = new Map<string, { verifier: Verifier; clock: TestClock | undefined }>();
const sources = new Map<string, TokenSource>();
const servers = new Map<string, () => void>();

const operations: Record<string, (request: Request) => object | Promise<object>> = {
  hello: () => ({
    language: "typescript",
    library: JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version,
    runtime: process.version.slice(1),
    ops: Object.keys(operations),
  }),

  verifier({ id, ...request }) {
    close(id);
    const clock = request["clock"] && testClock(request["clock"]);
    const offset = request["wall_offset"] ?? 0;
    const offline = request["endpoint"] === undefined;
    const common = {
      endpoint: request["endpoint"] ?? "http://127.0.0.1:1",
      issuer: request["issuer"],
      ...caOf(request),
      onError: ({ message }: Error) => console.error(`${id}: ${message}`),
    };
    const none = request["revocation"] === "none";
    const verifier = new Verifier(
      none
        ? { ...common, revocation: "none" }
        : {
            ...common,
            ...(request["staleness"] !== undefined && { staleness: request["staleness"] }),
            ...(request["open_for"] !== undefined && { openFor: request["open_for"] }),
            ...(request["org_ids"] && { orgIds: request["org_ids"] }),
            ...(request["verifier_name"] && { verifierName: request["verifier_name"] }),
            ...(!offline && { credential: credentialOf(request["credential"]) }),
          },
      { clock: clock ?? { ...systemClock, wall: () => systemClock.wall() + offset }, offline },
    );
    verifiers.set(id, { verifier, clock });
    return {};
  },

  clock({ id, wall, monotonic }) {
    verifierOf(id).clock?.set(wall, monotonic);
    return {};
  },

  feed({ id, items }) {
    const { verifier } = verifierOf(id);
    for (const item of items) {
      if (item.cut) verifier.cut(item.cut.reason ?? "");
      else verifier.receive(itemOf(item));
    }
    return { cursor: verifier.state.cursor };
  },

  async verify({ id, jwt, audience, orgs, certificate_thumbprint: certificateThumbprint }) {
    const claims = await verifierOf(id).verifier.verify(jwt, { audience, orgs: orgs ?? "any", certificateThumbprint });
    return { claims };
  },

  allows: ({ claims, permission, resource }) => ({ allowed: allows(claims, permission, resource) }),

  state({ id }) {
    const { fresh, age, keyIds, revocations, cursor, keySetFetches } = verifierOf(id).verifier.state;
    return { fresh, age: age ?? null, key_ids: keyIds, revocations, cursor, key_set_fetches: keySetFetches };
  },

  source({ id, ...request }) {
    close(id);
    const source = new TokenSource({
      endpoint: request["endpoint"],
      credential: credentialOf(request["credential"]),
      ...(request["transport"] && { transport: request["transport"] }),
      ...(request["issuer"] && { issuer: request["issuer"] }),
      ...caOf(request),
    });
    sources.set(id, source);
    return {};
  },

  async get({ id, audiences = [], scopes = [], ttl, timeout = 10 }) {
    const options = { scopes, timeout, ...(ttl !== undefined && { ttl }) };
    const { accessToken, expireTime } = await sourceOf(id).token(audiences, options);
    return { access_token: accessToken, expire_time: expireTime };
  },

  sources: ({ id }) => sourceOf(id).statistics,

  status({ code, message, details }) {
    const error = CountersignError.fromStatus(code, message, details ? Buffer.from(details, "base64") : undefined);
    return {
      reason: error.reason,
      code: error.code,
      retryable: error.retryable,
      retry_after: error.retryAfter ?? null,
      message: error.message,
      metadata: error.metadata,
      violations: error.fieldViolations,
      request_id: error.requestId ?? "",
    };
  },

  async list_accounts({ page_size: pageSize = 0, limit = Infinity, ...request }) {
    using client = clientOf(request);
    let calls = 0;
    const list: typeof client.accounts.listAccounts = (...parameters) => {
      calls += 1;
      return client.accounts.listAccounts(...parameters);
    };
    const ids = [];
    for await (const { id } of pages(list, { pageSize })) {
      ids.push(id);
      if (ids.length >= limit) break;
    }
    return { ids, calls };
  },

  async create_account({ name, timeout = 10, ...request }) {
    using client = clientOf(request);
    const { account } = await client.accounts.createServiceAccount({ name }, { timeout });
    return { id: account?.id };
  },

  async serve({ id, transport, audience, orgs = "any", ...request }) {
    close(id);
    const options = { verifier: verifierOf(request["verifier"]).verifier, audience, orgs };
    const serve = transport === "http" ? serveHttp : serveGrpc;
    const { address, stop } = await serve({ ...options, resourceMetadata: request["metadata_url"] });
    servers.set(id, stop);
    return { address };
  },

  async call({ address, access_token: bearer, path, method }) {
    const channel = new Channel({ endpoint: `http://${address}` });
    try {
      const { createResource: declared } = OrgService.method;
      // Another path with the same messages.
      const createResource = method ? { ...declared, name: method.split("/").at(-1) } : declared;
      const { resource } = await channel.unary(createResource, { path }, { bearer, timeout: 10 });
      return { path: resource?.path, display_name: resource?.displayName };
    } finally {
      channel.close();
    }
  },

  close({ id }) {
    close(id);
    return {};
  },
};

function close(id: string): void {
  verifiers.get(id)?.verifier.close();
  sources.get(id)?.close();
  servers.get(id)?.();
  for (const objects of [verifiers, sources, servers]) objects.delete(id);
}

function verifierOf(id: string) {
  const found = verifiers.get(id);
  if (!found) throw new Error(`there is no verifier ${id}`);
  return found;
}

function sourceOf(id: string): TokenSource {
  const found = sources.get(id);
  if (!found) throw new Error(`there is no source ${id}`);
  return found;
}

function clientOf(request: Request): Client {
  return new Client({
    endpoint: request["endpoint"],
    credential: credentialOf(request["credential"]),
    ...caOf(request),
  });
}

function caOf({ ca_file: path }: Request): { ca?: Buffer } {
  return path ? { ca: readFileSync(path) } : {};
}

function credentialOf(credential: Request): Credential {
  if (credential["secret"] !== undefined) return credential["secret"];
  if (credential["token_file"]) return { tokenFile: credential["token_file"] };
  if (credential["key_file"]) return { privateKeyFile: credential["key_file"], tokenId: credential["token_id"] };
  if (credential["assertion_file"]) {
    return { assertionFile: credential["assertion_file"], federationRuleId: credential["rule_id"] };
  }
  throw new NotSupported();
}

function testClock({ wall, monotonic }: { wall: number; monotonic: number }): TestClock {
  const time = { wall, monotonic };
  return {
    wall: () => time.wall,
    monotonic: () => time.monotonic,
    set(wall = time.wall, monotonic = time.monotonic) {
      Object.assign(time, { wall, monotonic });
    },
  };
}

const SUBJECTS = ["token_id", "secret", "session_id", "rule_id", "account_id", "org", "key_id"];

function itemOf({ key_set: keySet, revocation, checkpoint }: Request): Item {
  if (keySet) return { keySet: keySet.keys };
  if (checkpoint)
    return { checkpoint: { ...checkpoint, lag: checkpoint.lag ?? 0, time: checkpoint.time ?? -Infinity } };
  const name = SUBJECTS.find((subject) => subject in revocation);
  const item: Revocation = {
    orgId: revocation.org_id ?? "",
    subject: name === undefined ? undefined : ({ [name]: revocation[name] } as Subject),
    minVersion: revocation.min_version ?? 0,
    reason: revocation.reason,
    expireTime: revocation.expire_time,
  };
  return { revocation: item };
}

interface Served {
  address: string;
  stop: () => void;
}

type ServeOptions = Parameters<typeof guardFetch>[0];

async function serveGrpc(options: ServeOptions): Promise<Served> {
  const rules = rulesOf(OrgService, {
    createResource: { permission: "reports.write", resource: ({ path }) => path },
  });
  const server = new grpc.Server({ interceptors: [guardGrpc(options, rules)] });
  const { output } = OrgService.method.createResource;
  server.addService(definitionOf(OrgService.methods), {
    CreateResource(
      call: grpc.ServerUnaryCall<{ path: string }, MessageShape<typeof output>>,
      callback: grpc.sendUnaryData<MessageShape<typeof output>>,
    ) {
      callback(null, create(output, { resource: { path: call.request.path, displayName: claimsOf(call).sub } }));
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { address: `127.0.0.1:${port}`, stop: () => server.forceShutdown() };
}

function definitionOf(methods: readonly DescMethod[]): grpc.ServiceDefinition {
  return Object.fromEntries(
    methods.map((method) => {
      const { name, parent, input, output, methodKind } = method;
      const definition = {
        path: `/${parent.typeName}/${name}`,
        requestStream: false,
        responseStream: methodKind === "server_streaming",
        requestSerialize: (message: any) => Buffer.from(toBinary(input, message)),
        requestDeserialize: (bytes: Buffer) => fromBinary(input, bytes),
        responseSerialize: (message: any) => Buffer.from(toBinary(output, message)),
        responseDeserialize: (bytes: Buffer) => fromBinary(output, bytes),
      };
      return [name, definition];
    }),
  );
}

async function serveHttp(options: ServeOptions): Promise<Served> {
  const resourceOf = (request: globalThis.Request) => resourceAfter("/reports/", request);
  const handler = guardFetch(
    options,
    (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/healthz") return "open";
      if (!pathname.startsWith("/reports/")) return undefined;
      return { permission: "reports.read", resource: resourceOf(request) };
    },
    (request, { claims }) => {
      if (!claims) return new Response("ok");
      return Response.json({ path: resourceOf(request), sub: claims.sub });
    },
  );
  const server = createServer(nodeListener(handler));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { address: `127.0.0.1:${port}`, stop };
}

async function answer(request: Request): Promise<Answer> {
  const operation = operations[request["op"]];
  if (!operation) return { error: { reason: "NOT_SUPPORTED" } };
  try {
    return { ok: await operation(request) };
  } catch (error) {
    if (error instanceof NotSupported)
      return { error: { reason: "NOT_SUPPORTED" } };
    if (!(error instanceof CountersignError)) {
      return { error: { reason: "DRIVER_FAULT", message: error instanceof Error ? error.stack : String(error) } };
    }
    const { reason, code, retryable, retryAfter, message, metadata } = error;
    return {
      error: {
        reason: reason || code,
        ...("check" in error && { check: error.check }),
        code,
        retryable,
        ...(retryAfter !== undefined && { retry_after: retryAfter }),
        message,
        metadata,
      },
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === "") continue;
  const { seq, ...request } = JSON.parse(line) as Request;
  void answer(request).then((answered) => process.stdout.write(`${JSON.stringify({ seq, ...answered })}\n`));
}
for (const id of [...verifiers.keys(), ...sources.keys(), ...servers.keys()]) close(id);
