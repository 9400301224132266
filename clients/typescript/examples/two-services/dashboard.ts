// A service over HTTP (Fetch) that shows a customer's total. It asks for `dashboard.read`, and calls the service of
// invoices by its own token.
import { CountersignError, TokenSource, Verifier } from "@countersign/client";
import { guard, nodeListener, resourceAfter } from "@countersign/client/fetch";
import { bearer } from "@countersign/client/grpc";
import * as grpc from "@grpc/grpc-js";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { INVOICES } from "./invoices.js";
import { Invoices } from "./schema.js";

export const DASHBOARD = "https://dashboard.example";

export async function serveDashboard(endpoint: string, tokenFile: string, org: string, invoicesAddress: string) {
  const verifier = new Verifier({ endpoint, credential: { tokenFile }, verifierName: "dashboard" });
  await verifier.ready();
  const source = new TokenSource({ endpoint, credential: { tokenFile } });
  const invoices = new Invoices(invoicesAddress, grpc.credentials.createInsecure(), {
    interceptors: [bearer(source, INVOICES, { scopes: ["invoices.read"] })],
  });

  const customerOf = (request: Request) => resourceAfter("/totals/", request);
  const handler = guard(
    {
      verifier,
      audience: DASHBOARD,
      orgs: [org],
      resourceMetadata: `${DASHBOARD}/.well-known/oauth-protected-resource`,
    },
    (request) => ({ permission: "dashboard.read", resource: customerOf(request) }),
    async (request, { claims }) => {
      const customer = customerOf(request) as string;
      try {
        const { cents } = await getTotal(customer);
        return Response.json({ customer, cents, asked_by: claims?.sub });
      } catch (error) {
        const { reason } = CountersignError.from(error);
        return Response.json({ error: reason }, { status: 502 });
      }
    },
  );
  const getTotal = (customer: string) =>
    new Promise<{ cents: number }>((resolve, reject) => {
      invoices.GetTotal({ customer }, (error, answer) =>
        error ? reject(error) : resolve(answer as { cents: number }),
      );
    });

  const server = createServer(nodeListener(handler));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = () => {
    server.close();
    server.closeAllConnections();
    invoices.close();
    source.close();
    verifier.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, stop };
}
