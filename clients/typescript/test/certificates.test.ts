import { certificateThumbprint } from "@countersign/client";
import { OrgService } from "@countersign/client/api";
import * as connectParts from "@countersign/client/connect";
import * as fetchParts from "@countersign/client/fetch";
import * as grpcParts from "@countersign/client/grpc";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { Channel, http } from "#internal/channel.js";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AUDIENCE, ORG, definitionOf, goodClaims, offlineVerifier, sign, signingKey } from "./support.js";

const METADATA = `${AUDIENCE}/.well-known/oauth-protected-resource`;

test("a bound JWT is taken on a connection with its certificate alone", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "countersign-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const pairOf = (name: string) => {
    const [key, certificate] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)];
    const subject = ["-subj", `/CN=${name}`, "-addext", "subjectAltName=IP:127.0.0.1"];
    const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    execFileSync("openssl", ["req", ...kind, ...subject, "-keyout", key, "-out", certificate], { stdio: "pipe" });
    return { privateKey: readFileSync(key), certificate: readFileSync(certificate) };
  };
  const [server, client, other] = [pairOf("server"), pairOf("client"), pairOf("other")];
  const key = await signingKey();
  const options = { verifier: offlineVerifier([key]), audience: AUDIENCE, orgs: [ORG], resourceMetadata: METADATA };
  const thumbprint = certificateThumbprint(new X509Certificate(client.certificate).raw);
  const bearer = await sign(key, goodClaims(undefined, { cnf: { "x5t#S256": thumbprint } }));
  const outcomeOf = (call: Promise<unknown>) =>
    call.then(
      () => "taken",
      (error: { reason: string }) => error.reason,
    );
  const expected = { mine: "taken", another: "CLIENT_CERTIFICATE_NOT_ALLOWED", none: "CLIENT_CERTIFICATE_NOT_ALLOWED" };
  const ways = { mine: client, another: other, none: undefined };
  const all = async (call: (clientCertificate: typeof client | undefined) => Promise<string>) =>
    Object.fromEntries(
      await Promise.all(Object.entries(ways).map(async ([name, pair]) => [name, await call(pair)] as const)),
    );

  // grpc-js, which takes certificates of this CA.
  const rules = grpcParts.rulesOf(OrgService, { listOrgs: "authenticated" });
  const ca = Buffer.concat([client.certificate, other.certificate]);
  const grpcServer = new grpc.Server({ interceptors: [grpcParts.guard(options, rules)] });
  t.after(() => grpcServer.forceShutdown());
  grpcServer.addService(definitionOf(OrgService.methods), {
    ListOrgs: (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, {}),
  });
  const pair = { private_key: server.privateKey, cert_chain: server.certificate };
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createSsl(ca, [pair], true);
    grpcServer.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const overGrpc = (clientCertificate: typeof client | undefined) => {
    const connection = { endpoint: `https://127.0.0.1:${port}`, ca: server.certificate };
    const channel = new Channel({ ...connection, ...(clientCertificate && { clientCertificate }) });
    return outcomeOf(channel.unary(OrgService.method.listOrgs, {}, { bearer })).finally(() => channel.close());
  };
  assert.deepEqual([await overGrpc(client), await overGrpc(other)], [expected.mine, expected.another]);

  // Fetch and Connect by node:https, which asks for a certificate and looks at none.
  const handler = fetchParts.guard(
    options,
    () => "authenticated",
    () => new Response("ok"),
  );
  const adapter = connectNodeAdapter({
    interceptors: [connectParts.guard(options, rules)],
    contextValues: connectParts.peerCertificate,
    routes: (router) => router.service(OrgService, { listOrgs: () => ({}) }),
  });
  for (const [listener, path] of [
    [fetchParts.nodeListener(handler), "/"],
    [adapter, "/countersign.v1.OrgService/ListOrgs"],
  ] as const) {
    const tls = { key: server.privateKey, cert: server.certificate, requestCert: true, rejectUnauthorized: false };
    const httpsServer = createServer(tls, (request, response) => {
      // As a form: what `http` sends is no message of Connect.
      if (path !== "/") request.headers["content-type"] = "application/json";
      request.headers.authorization = `Bearer ${bearer}`;
      listener(request, response);
    });
    await new Promise<void>((resolve) => httpsServer.listen(0, "127.0.0.1", resolve));
    t.after(() => httpsServer.close().closeAllConnections());
    const url = `https://127.0.0.1:${(httpsServer.address() as AddressInfo).port}${path}`;
    const call = async (clientCertificate: typeof client | undefined) => {
      const connection = { ca: server.certificate, ...(clientCertificate && { clientCertificate }) };
      const form = path === "/" ? {} : { form: { toString: () => "{}" } as URLSearchParams };
      const { status, headers } = await http(connection, url, { ...form, limit: 10_000, timeout: 5 });
      return status === 200 ? "taken" : (headers.get("countersign-reason") ?? `${status}`);
    };
    assert.deepEqual(await all(call), expected, path);
  }
});
