import type {
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { randomUUID } from "node:crypto";
import { type Authentication, type Bearer, bearerOf } from "./bearer.js";
import { Channel, type ConnectionOptions } from "./channel.js";
import { Backoff, sleep } from "./clock.js";
import { CountersignError } from "./errors.js";
import { AccountService } from "./gen/countersign/v1/account_service_pb.js";
import { OrgService } from "./gen/countersign/v1/org_service_pb.js";
import { TokenService } from "./gen/countersign/v1/token_service_pb.js";

export interface ClientOptions extends ConnectionOptions, Authentication {
  /** The issuer, which assertions of a key are for. Default: the endpoint. */
  issuer?: string;
  /** How long a call may take with all its attempts, in seconds. Default: 10. */
  timeout?: number;
}

export interface RpcOptions {
  timeout?: number;
  signal?: AbortSignal;
  /** Another credential for this call. */
  bearer?: string;
}

type Unary<I extends MethodInput, O extends MethodInput> = (
  request: MessageInitShape<I>,
  options?: RpcOptions,
) => Promise<MessageShape<O>>;
type Streaming<I extends MethodInput, O extends MethodInput> = (
  request: MessageInitShape<I>,
  options?: RpcOptions,
) => AsyncGenerator<MessageShape<O>, void, undefined>;
type Init = Record<string, unknown>;
type MethodInput = DescMethodUnary["input"];

/** The RPCs of a service as functions. */
export type ServiceClient<S extends DescService> = {
  [M in keyof S["method"]]: S["method"][M] extends DescMethodUnary<infer I, infer O>
    ? Unary<I, O>
    : S["method"][M] extends DescMethodServerStreaming<infer I, infer O>
      ? Streaming<I, O>
      : never;
};

const TIMEOUT = 10;
/** Reasons that say that nothing was done. */
const NOTHING_DONE = new Set(["OVERLOADED", "THROTTLED", "CONFLICT"]);
/** What changes nothing when it is repeated, as its name says. */
const READS = /^(?:Get|List|Check|Introspect|BatchIntrospect|Explain|Resolve)/;

/** A client of the three services. Calls that may be repeated are, where the error is retryable. */
export class Client {
  readonly accounts: ServiceClient<typeof AccountService>;
  readonly orgs: ServiceClient<typeof OrgService>;
  readonly tokens: ServiceClient<typeof TokenService>;
  readonly #channel: Channel;
  readonly #bearer: Bearer;
  readonly #timeout: number;

  constructor(options: ClientOptions) {
    this.#channel = new Channel(options);
    this.#bearer = bearerOf(options, options);
    this.#timeout = options.timeout ?? TIMEOUT;
    this.accounts = this.#service(AccountService);
    this.orgs = this.#service(OrgService);
    this.tokens = this.#service(TokenService);
  }

  close(): void {
    this.#bearer.close();
    this.#channel.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #service<S extends DescService>(service: S): ServiceClient<S> {
    const methods = service.methods.map((method) => [
      method.localName,
      method.methodKind === "server_streaming"
        ? (request: Init, options?: RpcOptions) => this.#stream(method as DescMethodServerStreaming, request, options)
        : (request: Init, options?: RpcOptions) => this.#unary(method as DescMethodUnary, request, options),
    ]);
    return Object.fromEntries(methods) as ServiceClient<S>;
  }

  async #unary(method: DescMethodUnary, given: Init, options: RpcOptions = {}): Promise<Message> {
    const hasRequestId = method.input.fields.some(({ name }) => name === "request_id");
    // The same in every attempt, so that a repeated one creates nothing twice.
    const request = hasRequestId ? { requestId: randomUUID() as string, ...given } : given;
    const isRepeatable = hasRequestId || READS.test(method.name);
    const end = performance.now() + (options.timeout ?? this.#timeout) * 1000;
    const backoff = new Backoff(0.1, 5);
    for (let isFirst = true; ; isFirst = false) {
      const bearer = options.bearer ?? (await this.#bearer.get());
      try {
        const timeout = Math.max(0.001, (end - performance.now()) / 1000);
        return await this.#channel.unary(method, request, { bearer, timeout, signal: options.signal });
      } catch (thrown) {
        const error = CountersignError.from(thrown);
        if (bearer !== undefined && options.bearer === undefined) this.#bearer.refused(bearer, error);
        // A JWT that went stale is replaced; what was refused has changed nothing.
        const isStale = isFirst && error.reason === "ACCESS_TOKEN_STALE" && options.bearer === undefined;
        const mayRepeat = error.retryable && (isRepeatable || NOTHING_DONE.has(error.reason));
        if (!isStale && !mayRepeat) throw error;
        const wait = isStale ? 0 : backoff.next(error.retryAfter);
        if (performance.now() + wait * 1000 >= end || options.signal?.aborted) throw error;
        await waitAwake(wait, options.signal);
      }
    }
  }

  async *#stream(
    method: DescMethodServerStreaming,
    request: Init,
    options: RpcOptions = {},
  ): AsyncGenerator<Message, void, undefined> {
    const bearer = options.bearer ?? (await this.#bearer.get());
    const { timeout, signal } = options;
    yield* this.#channel.stream(method, request, { bearer, timeout, signal });
  }
}

/** A wait of a caller: it keeps the process running. */
async function waitAwake(seconds: number, signal?: AbortSignal): Promise<void> {
  const awake = setTimeout(() => {}, seconds * 1000 + 100);
  await sleep(seconds, signal);
  clearTimeout(awake);
}

/** The response of an RPC that lists: one list, and the token of the next page. */
interface Page {
  nextPageToken: string;
}

/** `ListRoles` describes permissions beside its list. */
type ItemOf<P> = {
  [K in Exclude<keyof P, "ownPermissions">]: P[K] extends readonly (infer T extends Message)[] ? T : never;
}[Exclude<keyof P, "ownPermissions">];

/**
 * Every item of a list, read page by page as they are taken:
 *
 *     for await (const token of pages(client.tokens.listTokens, { state: TokenState.ACTIVE })) …
 */
export async function* pages<R, P extends Page & Message>(
  list: (request: R, options?: RpcOptions) => Promise<P>,
  request: R,
  options?: RpcOptions,
): AsyncGenerator<ItemOf<P>, void, undefined> {
  let pageToken = (request as { pageToken?: string }).pageToken ?? "";
  for (;;) {
    const page = await list({ ...request, pageToken }, options);
    const items = Object.values(page).find((value) => Array.isArray(value)) as ItemOf<P>[] | undefined;
    yield* items ?? [];
    if (page.nextPageToken === "") return;
    if (page.nextPageToken === pageToken) {
      throw new CountersignError({ code: "INTERNAL", reason: "", message: "a page led to itself" });
    }
    pageToken = page.nextPageToken;
  }
}
