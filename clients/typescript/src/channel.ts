import {
  type DescMessage,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
  create,
  fromBinary,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { CountersignError } from "./errors.js";

/** Where the server is, and what TLS needs. */
export interface ConnectionOptions {
  /** `https://host[:port]`; `http://…` on this machine, or with `allowPlaintext`. */
  endpoint: string;
  /** Credentials may cross a network without TLS, since something else encrypts it. */
  allowPlaintext?: boolean;
  /** A private CA, in PEM. */
  ca?: string | Buffer;
  /** The certificate that this client shows, and its key, in PEM. */
  clientCertificate?: { certificate: string | Buffer; privateKey: string | Buffer };
}

export interface CallOptions {
  /** Sent as `authorization: Bearer …`. */
  bearer?: string | undefined;
  /** Seconds. */
  timeout?: number | undefined;
  signal?: AbortSignal | undefined;
  requestId?: string | undefined;
}

const MAX_MESSAGE = 4 * 1024 * 1024;

/** A channel of gRPC, with the errors of this library. */
export class Channel {
  readonly #client: grpc.Client;

  constructor(connection: ConnectionOptions) {
    const { ca, clientCertificate } = connection;
    const { secure, address } = parseEndpoint(connection);
    const bytes = (pem: string | Buffer | undefined) => (pem === undefined ? null : Buffer.from(pem));
    const credentials = secure
      ? grpc.credentials.createSsl(
          bytes(ca),
          bytes(clientCertificate?.privateKey),
          bytes(clientCertificate?.certificate),
        )
      : grpc.credentials.createInsecure();
    this.#client = new grpc.Client(address, credentials, {
      // A server that restarts is found again soon.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5_000,
      // A connection that died without a word is found while calls wait on it.
      "grpc.keepalive_time_ms": 10_000,
      "grpc.keepalive_timeout_ms": 5_000,
      "grpc.max_receive_message_length": MAX_MESSAGE,
      // Connections are not shared: closing one of them ends no other's calls.
      "grpc.use_local_subchannel_pool": 1,
    });
  }

  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      const { signal } = options;
      if (signal?.aborted) return reject(aborted(signal));
      const call = this.#client.makeUnaryRequest(
        path(method),
        (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        create(method.input, request),
        metadataOf(options),
        callOptions(options),
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error) reject(signal?.aborted ? aborted(signal) : CountersignError.from(error));
          else resolve(response as MessageShape<O>);
        },
      );
      const cancel = () => call.cancel();
      signal?.addEventListener("abort", cancel);
    });
  }

  /** Its messages, read as fast as they are taken. Breaking out of the loop ends the call. */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { signal } = options;
    if (signal?.aborted) throw aborted(signal);
    const call = this.#client.makeServerStreamRequest(
      path(method),
      (message: MessageShape<I>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      create(method.input, request),
      metadataOf(options),
      callOptions(options),
    );
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel);
    try {
      yield* call as AsyncIterable<MessageShape<O>>;
    } catch (error) {
      throw signal?.aborted ? aborted(signal) : CountersignError.from(error);
    } finally {
      signal?.removeEventListener("abort", cancel);
      // What comes after the end of interest is an error of no caller.
      call.on("error", () => {});
      call.cancel();
    }
  }

  close(): void {
    this.#client.close();
  }
}

function path(method: { name: string; parent: { typeName: string } }): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function metadataOf({ bearer, requestId }: CallOptions): grpc.Metadata {
  const metadata = new grpc.Metadata();
  if (bearer !== undefined) metadata.set("authorization", `Bearer ${bearer}`);
  if (requestId !== undefined) metadata.set("x-request-id", requestId);
  return metadata;
}

function callOptions({ timeout }: CallOptions): grpc.CallOptions {
  return timeout === undefined ? {} : { deadline: Date.now() + timeout * 1000 };
}

function aborted(signal: AbortSignal): CountersignError {
  return new CountersignError({
    code: "CANCELLED",
    reason: "",
    message: "the call was cancelled",
    cause: signal.reason,
  });
}

const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;

/** Throws where the endpoint is none, or would show credentials to a network. */
export function parseEndpoint({ endpoint, allowPlaintext = false }: ConnectionOptions): {
  secure: boolean;
  address: string;
} {
  const { protocol, hostname, port } = new URL(endpoint);
  const secure = protocol === "https:";
  if (!secure && protocol !== "http:") throw new TypeError("an endpoint begins with https:// or http://");
  if (!secure && !allowPlaintext && !LOOPBACK.test(hostname)) {
    throw new TypeError("an http:// endpoint that is not on this machine needs allowPlaintext: true");
  }
  return { secure, address: `${hostname}:${port || (secure ? 443 : 80)}` };
}

export interface HttpAnswer {
  status: number;
  headers: { get(name: string): string | undefined };
  body: Buffer;
}

/** A request over HTTP/1.1, without redirects; an answer that is larger than `limit` bytes is an error. */
export function http(
  { ca, clientCertificate }: Omit<ConnectionOptions, "endpoint">,
  url: string,
  { form, limit, timeout }: { form?: URLSearchParams; limit: number; timeout: number },
): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const failed = (message: string, cause?: unknown) =>
      reject(new CountersignError({ code: "UNAVAILABLE", reason: "", message, cause }));
    const body = form?.toString();
    const send = url.startsWith("https:") ? httpsRequest : httpRequest;
    const request = send(url, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        accept: "application/json",
        ...(body !== undefined && {
          "content-type": "application/x-www-form-urlencoded",
          "content-length": Buffer.byteLength(body),
        }),
      },
      signal: AbortSignal.timeout(timeout * 1000),
      ...(ca !== undefined && { ca }),
      ...(clientCertificate && { cert: clientCertificate.certificate, key: clientCertificate.privateKey }),
    });
    request.on("error", (error) => failed(`the request failed: ${error.message}`, error));
    request.on("response", (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size > limit) {
          failed("the answer is too large");
          request.destroy();
        } else {
          chunks.push(chunk);
        }
      });
      response.on("error", (error) => failed(`the answer broke off: ${error.message}`, error));
      response.on("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: {
            get(name) {
              const value = response.headers[name];
              return Array.isArray(value) ? value.join(", ") : value;
            },
          },
          body: Buffer.concat(chunks),
        }),
      );
    });
    request.end(body);
  });
}
