import * as grpc from "@grpc/grpc-js";
import { certificateThumbprint } from "./certificate.js";
import { CountersignError, REASON_HEADER } from "./errors.js";
import {
  type GuardOptions,
  type Rules,
  authenticate,
  authorize,
  codeNumberOf,
  denialOf,
  statusDetailsOf,
} from "./guard.js";
import type { GetOptions, TokenSource } from "./token-source.js";
import type { Claims } from "./verifier/claims.js";

export { type Access, type GuardOptions, type Rule, type Rules, rulesOf } from "./guard.js";

const claimsOfCalls = new WeakMap<grpc.Metadata, Claims>();

/** The claims of the caller, in a handler behind `guard`. */
export function claimsOf(call: { readonly metadata: grpc.Metadata }): Claims {
  const claims = claimsOfCalls.get(call.metadata);
  if (!claims) throw new Error("the method is open, or its server has no guard");
  return claims;
}

/** An interceptor for a `grpc.Server`: verifies the caller's JWT, and asks for what the rule of the method says. */
export function guard(options: GuardOptions, rules: Rules): grpc.ServerInterceptor {
  return ({ path }, call) => {
    const access = Object.hasOwn(rules, path) ? rules[path] : undefined;
    if (access === "open") return new grpc.ServerInterceptingCall(call);
    // What depends on no message is decided before the handler is called.
    const asksMessage = typeof access === "object" && Boolean(access.resource ?? access.org);
    let caller: Promise<Claims>;
    let isOver = false;
    const deny = (thrown: unknown) => {
      if (isOver) return;
      isOver = true;
      call.sendStatus(statusOf(denialOf(thrown)));
    };
    return new grpc.ServerInterceptingCall(call, {
      start(next) {
        next({
          onReceiveMetadata(metadata, pass) {
            const authorization = metadata.get("authorization").map(String);
            const certificate = call.getAuthContext().sslPeerCertificate?.raw;
            const thumbprint = certificate && certificateThumbprint(certificate);
            caller = authenticate(options, authorization, thumbprint);
            caller
              .then((claims) => {
                if (!asksMessage) authorize(claims, access, undefined);
                claimsOfCalls.set(metadata, claims);
                pass(metadata);
              })
              .catch(deny);
          },
          onReceiveMessage(message: unknown, pass) {
            if (!asksMessage) return pass(message);
            caller
              .then((claims) => {
                authorize(claims, access, message);
                if (!isOver) pass(message);
              })
              .catch(deny);
          },
        });
      },
    });
  };
}

/** An interceptor for clients of `@grpc/grpc-js`: each call carries a JWT for this audience. */
export function bearer(
  source: TokenSource,
  audience: string,
  options: Omit<GetOptions, "signal"> = {},
): grpc.Interceptor {
  return (callOptions, nextCall) => {
    let isCancelled = false;
    let hasBegun = false;
    const inner = nextCall(callOptions);
    let end = (_status: grpc.StatusObject) => {};
    return new grpc.InterceptingCall(inner, {
      start(metadata, listener, next) {
        // A call that has not begun ends here.
        end = (status) => {
          inner.cancelWithStatus(status.code, status.details);
          (listener as grpc.InterceptingListener).onReceiveStatus(status);
        };
        source.get(audience, { ...options, ...timeoutOf(callOptions) }).then(
          (accessToken) => {
            if (isCancelled) return;
            hasBegun = true;
            metadata.set("authorization", `Bearer ${accessToken}`);
            next(metadata, {
              onReceiveStatus(status, pass) {
                if (status.code === grpc.status.UNAUTHENTICATED) source.invalidate(accessToken);
                pass(status);
              },
            });
          },
          (thrown: unknown) => {
            if (!isCancelled) end(statusOf(CountersignError.from(thrown)));
          },
        );
      },
      cancel(next) {
        isCancelled = true;
        if (hasBegun) next();
        else end({ code: grpc.status.CANCELLED, details: "cancelled", metadata: new grpc.Metadata() });
      },
    });
  };
}

function timeoutOf({ deadline }: grpc.InterceptorOptions): { timeout?: number } {
  if (deadline === undefined || deadline === Infinity) return {};
  return { timeout: Math.max(0, (Number(deadline) - Date.now()) / 1000) };
}

function statusOf(error: CountersignError): grpc.StatusObject {
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(statusDetailsOf(error)));
  if (error.reason) metadata.set(REASON_HEADER, error.reason);
  return { code: codeNumberOf(error), details: error.message, metadata };
}

/** The same as credentials of calls, which `@grpc/grpc-js` takes over TLS alone. */
export function callCredentials(
  source: TokenSource,
  audience: string,
  options: Omit<GetOptions, "signal"> = {},
): grpc.CallCredentials {
  return grpc.credentials.createFromMetadataGenerator((_, callback) => {
    source.get(audience, options).then(
      (accessToken) => {
        const metadata = new grpc.Metadata();
        metadata.set("authorization", `Bearer ${accessToken}`);
        callback(null, metadata);
      },
      (error: Error) => callback(error),
    );
  });
}
