// The client and the service that invoices.proto describes, loaded as it stands.
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

const proto = fileURLToPath(new URL("../../../examples/two-services/invoices.proto", import.meta.url));

interface InvoicesClient extends grpc.Client {
  GetTotal(request: { customer: string }, callback: grpc.requestCallback<{ cents: number }>): grpc.ClientUnaryCall;
}

interface InvoicesConstructor {
  new (address: string, credentials: grpc.ChannelCredentials, options?: grpc.ClientOptions): InvoicesClient;
  service: { GetTotal: grpc.MethodDefinition<{ customer: string }, { cents: number }> };
}

const { example } = grpc.loadPackageDefinition(loadSync(proto)) as never as {
  example: { v1: { Invoices: InvoicesConstructor } };
};

export const { Invoices } = example.v1;
