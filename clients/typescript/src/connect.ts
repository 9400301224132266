import {
  Code,
  ConnectError,
  type ContextValues,
  type Interceptor,
  createContextKey,
  createContextValues,
} from "@connectrpc/connect";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { peerThumbprint } from "./certificate.js";
import { type CountersignError, REASON_HEADER } from "./errors.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import {
  type Access,
  type GuardOptions,
  type Rules,
  authenticate,
  authorize,
  codeNumberOf,
  denialOf,
  errorInfoOf,
  retryAfterOf,
} from "./guard.js";
import type { GetOptions, TokenSource } from "./token-source.js";
import type { Claims } from "./verifier/claims.js";

export { type Access, type GuardOptions, type Rule, type Rules, rulesOf } from "./guard.js";

const claimsKey = createContextKey<Claims | undefined>(undefined, { description: "claims of the caller" });
const thumbprintKey = createContextKey<string | undefined>(undefined, { description: "client certificate" });

/** The claims of the caller, in a handler behind `guard`. */
export function claimsOf(context: { readonly values: ContextValues }): Claims {
  const claims = context.values.get(claimsKey);
  if (!claims) throw new Error("the method is open, or its server has no guard");
  return claims;
}

/** For the option `contextValues` of `connectNodeAdapter`: lets `guard` compare client certificates. */
export function peerCertificate(request: { readonly socket: unknown }): ContextValues {
  return createContextValues().set(thumbprintKey, peerThumbprint(request.socket));
}

/** An interceptor for servers of Connect: verifies the caller's JWT, and asks for what the rule of the method says. */
export function guard(options: GuardOptions, rules: Rules): Interceptor {
  return (next) => async (request) => {
    const path = `/${request.service.typeName}/${request.method.name}`;
    const access = Object.hasOwn(rules, path) ? rules[path] : undefined;
    if (access === "open") return next(request);
    try {
      const authorization = request.header.get("authorization");
      const values = authorization === null ? [] : [authorization];
      const claims = await authenticate(options, values, request.contextValues.get(thumbprintKey));
      request.contextValues.set(claimsKey, claims);
      if (!request.stream) {
        authorize(claims, access, request.message);
        return await next(request);
      }
      if (access === "authenticated") return await next(request);
      if (!access?.resource && !access?.org) authorize(claims, access, undefined);
      return await next({ ...request, message: checked(claims, access as Access<unknown>, request.message) } as never);
    } catch (thrown) {
      throw thrown instanceof ConnectError ? thrown : asConnectError(denialOf(thrown));
    }
  };
}

/** Each message of a stream, once it is allowed. */
async function* checked(
  claims: Claims,
  access: Access<unknown>,
  messages: AsyncIterable<unknown>,
): AsyncGenerator<unknown, void, undefined> {
  for await (const message of messages) {
    try {
      authorize(claims, access, message);
    } catch (thrown) {
      throw asConnectError(denialOf(thrown));
    }
    yield message;
  }
}

/** An interceptor for clients of Connect: each call carries a JWT for this audience. */
export function bearer(source: TokenSource, audience: string, options: Omit<GetOptions, "signal"> = {}): Interceptor {
  return (next) => async (request) => {
    const accessToken = await source.get(audience, { ...options, signal: request.signal });
    request.header.set("authorization", `Bearer ${accessToken}`);
    try {
      return await next(request);
    } catch (error) {
      if (error instanceof ConnectError && error.code === Code.Unauthenticated) source.invalidate(accessToken);
      throw error;
    }
  };
}

function asConnectError(error: CountersignError): ConnectError {
  const details: ConnectError["details"] = [{ desc: ErrorInfoSchema, value: errorInfoOf(error) }];
  const seconds = retryAfterOf(error);
  if (seconds !== undefined) {
    details.push({ desc: RetryInfoSchema, value: { retryDelay: durationFromMs(seconds * 1000) } });
  }
  const code = codeNumberOf(error) as Code;
  return new ConnectError(error.message, code, { [REASON_HEADER]: error.reason }, details as never, error.cause);
}
