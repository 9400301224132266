// A service of gRPC (@grpc/grpc-js) that reads invoices: each call must carry `invoices.read` on its customer.
import { Verifier } from "@countersign/client";
import { guard } from "@countersign/client/grpc";
import * as grpc from "@grpc/grpc-js";
import { Invoices } from "./schema.js";

export const INVOICES = "https://invoices.example";

export async function serveInvoices(endpoint: string, credential: string, org: string) {
  const verifier = new Verifier({ endpoint, credential, verifierName: "invoices" });
  await verifier.ready();

  const rules = {
    [Invoices.service.GetTotal.path]: {
      permission: "invoices.read",
      resource: ({ customer }: { customer: string }) => customer,
    },
  };
  const server = new grpc.Server({
    interceptors: [guard({ verifier, audience: INVOICES, orgs: [org] }, rules)],
  });
  server.addService(Invoices.service, {
    GetTotal: (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, { cents: 12_300 }),
  });
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync("127.0.0.1:0", credentials, (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  const stop = () => {
    server.forceShutdown();
    verifier.close();
  };
  return { address: `127.0.0.1:${port}`, stop };
}
