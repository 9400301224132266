import { Verifier } from "@countersign/client";
import { type DescMethod, type DescService, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { type Clock, systemClock } from "#internal/clock.js";
import { CompactSign, type CryptoKey, type JWK, calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose";
import { type RequestListener, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

export const ISSUER = "https://id.example";
export const AUDIENCE = "https://billing.example";
export const ORG = "org_1";
export const ACCOUNT = "acct_1";
export const TOKEN = "tok_1";

export interface SigningKey {
  jwk: JWK;
  kid: string;
  alg: string;
  key: CryptoKey;
}

export async function signingKey(alg = "EdDSA"): Promise<SigningKey> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  const kid = await calculateJwkThumbprint(jwk);
  return { jwk: { ...jwk, kid, alg, use: "sig" }, kid, alg, key: privateKey };
}

export type AnyClaims = Record<string, unknown>;

export function goodClaims(now: number = Date.now() / 1000, changes: AnyClaims = {}): AnyClaims {
  const iat = Math.floor(now);
  return {
    iss: ISSUER,
    sub: ACCOUNT,
    aud: AUDIENCE,
    exp: iat + 300,
    iat,
    nbf: iat,
    jti: "1",
    client_id: TOKEN,
    scope: "invoices.read",
    org: ORG,
    account_kind: "SERVICE_ACCOUNT",
    token_kind: "SECRET",
    org_ver: 5,
    acct_ver: 7,
    secret: 1,
    authorization_details: [
      { type: "countersign_grant", identifier: "customers/acme", actions: ["reports.read", "reports.write"] },
    ],
    ...changes,
  };
}

/** Signs a text or the JSON of an object, under the header of a good JWT with these changes. */
export function sign(
  { kid, alg, key }: SigningKey,
  claims: AnyClaims | string,
  header: AnyClaims = {},
): Promise<string> {
  const text = typeof claims === "string" ? claims : JSON.stringify(claims);
  const all = { typ: "at+jwt", alg, kid, ...header };
  return new CompactSign(Buffer.from(text)).setProtectedHeader(all as { alg: string }).sign(key);
}

/** A clock that stands still until it is moved. */
export class TestClock implements Clock {
  constructor(
    public now = 1_790_000_000,
    public passed = 1000,
  ) {}
  wall = () => this.now;
  monotonic = () => this.passed;
  pass(seconds: number) {
    this.now += seconds;
    this.passed += seconds;
  }
}

/** A verifier without a network, which has heard of these keys and of a checkpoint. */
export function offlineVerifier(keys: SigningKey[], options: object = {}, clock: Clock = systemClock): Verifier {
  const verifier = Verifier.offline(ISSUER, { ...options, clock });
  verifier.receive({ keySet: keys.map(({ jwk }) => jwk) });
  verifier.receive({ checkpoint: { cursor: "c1", time: clock.wall(), lag: 0 } });
  return verifier;
}

/** A server of gRPC with these handlers of services; the address. */
export async function grpcServer(
  test: TestContext,
  services: [DescService, object][],
  options: grpc.ServerOptions = {},
  port = 0,
): Promise<{ endpoint: string; server: grpc.Server }> {
  const server = new grpc.Server(options);
  for (const [service, handlers] of services) {
    server.addService(definitionOf(service.methods), handlers as grpc.UntypedServiceImplementation);
  }
  const bound = await new Promise<number>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`127.0.0.1:${port}`, credentials, (error, at) => (error ? reject(error) : resolve(at)));
  });
  test.after(() => server.forceShutdown());
  return { endpoint: `http://127.0.0.1:${bound}`, server };
}

export function definitionOf(methods: readonly DescMethod[]): grpc.ServiceDefinition {
  return Object.fromEntries(
    methods.map(({ name, parent, input, output, methodKind }) => {
      const definition: grpc.MethodDefinition<unknown, unknown> = {
        path: `/${parent.typeName}/${name}`,
        requestStream: methodKind === "client_streaming" || methodKind === "bidi_streaming",
        responseStream: methodKind === "server_streaming" || methodKind === "bidi_streaming",
        requestSerialize: (message) => Buffer.from(toBinary(input, message as never)),
        requestDeserialize: (bytes) => fromBinary(input, bytes),
        responseSerialize: (message) => Buffer.from(toBinary(output, create(output, message as never))),
        responseDeserialize: (bytes) => fromBinary(output, bytes),
      };
      return [name, definition];
    }),
  );
}

export async function httpServer(test: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  test.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export function waitFor(what: () => boolean | Promise<boolean>, timeout = 10_000): Promise<void> {
  const end = Date.now() + timeout;
  return (async () => {
    while (!(await what())) {
      if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
}
