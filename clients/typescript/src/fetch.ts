import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { peerThumbprint } from "./certificate.js";
import { type CountersignError, REASON_HEADER } from "./errors.js";
import { type GuardOptions, authenticate, authorize, denialOf, retryAfterOf } from "./guard.js";
import type { GetOptions, TokenSource } from "./token-source.js";
import { type Claims, isResourcePath } from "./verifier/claims.js";

export type { GuardOptions } from "./guard.js";

export interface FetchGuardOptions extends GuardOptions {
  /**
   * The URL of the metadata of this service (RFC 9728), which a refused caller is pointed to:
   * `https://billing.example/.well-known/oauth-protected-resource`. `guard` answers at its path.
   */
  resourceMetadata: string;
}

/** What a request asks for: this permission, on a resource or the whole org; or any good JWT; or nothing at all. */
export type Requirement =
  { permission: string; resource?: string | undefined; org?: string | undefined } | "authenticated" | "open";

/** What is known of the caller. */
export interface Caller {
  /** The claims; absent where the request was open. */
  claims?: Claims;
}

/** What the server knows of the connection. */
export interface Connection {
  certificateThumbprint?: string | undefined;
}

/**
 * Puts a check before a handler of Fetch's `Request` and `Response`: the caller's JWT must be good and carry what
 * `requires` says of the request. Undefined is denied.
 */
export function guard(
  options: FetchGuardOptions,
  requires: (request: Request) => Requirement | undefined,
  handler: (request: Request, caller: Caller) => Response | Promise<Response>,
): (request: Request, connection?: Connection) => Promise<Response> {
  const metadata = new URL(options.resourceMetadata);
  return async (request, connection = {}) => {
    if (request.method === "GET" && new URL(request.url).pathname === metadata.pathname) return metadataOf(options);
    let caller: Caller;
    try {
      const requirement = requires(request);
      if (requirement === "open") {
        caller = {};
      } else {
        const authorization = request.headers.get("authorization");
        const values = authorization === null ? [] : [authorization];
        const claims = await authenticate(options, values, connection.certificateThumbprint);
        authorize(claims, ruleOf(requirement), undefined);
        caller = { claims };
      }
    } catch (thrown) {
      return denial(denialOf(thrown), metadata.href);
    }
    return handler(request, caller);
  };
}

function ruleOf(requirement: Requirement | undefined) {
  if (typeof requirement !== "object") return requirement;
  const { permission, resource, org } = requirement;
  return {
    permission,
    // Named and undefined is no resource, and never the whole org.
    ...("resource" in requirement && { resource: () => resource }),
    ...("org" in requirement && { org: () => org }),
  };
}

/**
 * The resource that the path of a request names after this prefix: `customers/acme` of `/invoices/customers/acme`.
 * Undefined where the rest, once decoded, is no path of a resource.
 */
export function resourceAfter(prefix: string, request: Request): string | undefined {
  const { pathname } = new URL(request.url);
  if (!pathname.startsWith(prefix)) return undefined;
  try {
    const path = decodeURIComponent(pathname.slice(prefix.length));
    return isResourcePath(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

function metadataOf({ verifier, audience }: FetchGuardOptions): Response {
  const metadata = {
    resource: audience,
    authorization_servers: [verifier.issuer],
    bearer_methods_supported: ["header"],
  };
  return Response.json(metadata, { headers: { "cache-control": "public, max-age=300" } });
}

function denial(error: CountersignError, resourceMetadata: string): Response {
  const { code, reason, message, metadata } = error;
  const headers = new Headers({ "cache-control": "no-store", [REASON_HEADER]: reason });
  const challenge = (...parameters: string[]) => {
    const all = [...parameters, `resource_metadata="${resourceMetadata}"`];
    headers.set("www-authenticate", `Bearer ${all.join(", ")}`);
  };
  const answer = (status: number, body: object) => Response.json(body, { status, headers });
  if (reason === "CREDENTIAL_MISSING") {
    challenge();
    return answer(401, { error: "unauthorized", error_description: message });
  }
  if (code === "UNAUTHENTICATED" || reason === "CLIENT_CERTIFICATE_NOT_ALLOWED") {
    challenge('error="invalid_token"');
    return answer(401, { error: "invalid_token", error_description: message });
  }
  if (code === "PERMISSION_DENIED") {
    const { permission } = metadata;
    challenge('error="insufficient_scope"', ...(permission === undefined ? [] : [`scope="${permission}"`]));
    return answer(403, { error: "insufficient_scope", error_description: message });
  }
  const seconds = retryAfterOf(error);
  if (seconds !== undefined) headers.set("retry-after", String(Math.ceil(seconds)));
  return answer(code === "UNAVAILABLE" ? 503 : 500, { error: "temporarily_unavailable", error_description: message });
}

/** A `fetch` whose requests carry a JWT for this audience. A 401 is tried once more with a new one. */
export function bearerFetch(
  source: TokenSource,
  audience: string,
  options: Omit<GetOptions, "signal"> = {},
  fetch: typeof globalThis.fetch = globalThis.fetch,
): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const send = async (original: Request) => {
      const accessToken = await source.get(audience, { ...options, signal: original.signal });
      original.headers.set("authorization", `Bearer ${accessToken}`);
      return { accessToken, response: await fetch(original) };
    };
    // A body that is read once cannot be sent again.
    const again = request.body === null ? request.clone() : undefined;
    const { accessToken, response } = await send(request);
    if (response.status !== 401) return response;
    source.invalidate(accessToken);
    if (!again) return response;
    await response.body?.cancel();
    return (await send(again)).response;
  };
}

/** Serves a handler of Fetch by `node:http` or `node:https`. */
export function nodeListener(
  handler: (request: Request, connection: Connection) => Promise<Response>,
): (request: IncomingMessage, response: ServerResponse) => void {
  return (incoming, outgoing) => {
    answer(handler, incoming, outgoing).catch(() => {
      // Of the cause a caller learns nothing.
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(500).end();
    });
  };
}

async function answer(
  handler: (request: Request, connection: Connection) => Promise<Response>,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const request = requestOf(incoming, outgoing);
  if (!request) {
    outgoing.writeHead(404).end();
    return;
  }
  const response = await handler(request, { certificateThumbprint: peerThumbprint(incoming.socket) });
  outgoing.writeHead(response.status, [...response.headers].flat());
  if (response.body) await pipeline(Readable.fromWeb(response.body as ReadableStream), outgoing);
  else outgoing.end();
}

/** A backslash, or a segment `.` or `..`, however it is written: a URL resolves them. */
const RESOLVED = /\\|\/(?:\.|%2e){1,2}(?:$|\/)/i;

/** Undefined where the target is no path, or one that a URL would resolve to another one. */
function requestOf(incoming: IncomingMessage, outgoing: ServerResponse): Request | undefined {
  const { url = "", method = "GET", headers, socket } = incoming;
  const path = url.split("?", 1)[0] as string;
  if (!url.startsWith("/") || url.startsWith("//") || RESOLVED.test(path)) return undefined;
  const gone = new AbortController();
  outgoing.on("close", () => gone.abort());
  const pairs = Object.entries(headers).flatMap(([name, value]) =>
    name.startsWith(":") || value === undefined ? [] : [[name, Array.isArray(value) ? value.join(", ") : value]],
  );
  const hasBody = method !== "GET" && method !== "HEAD";
  try {
    return new Request(new URL(url, "encrypted" in socket ? "https://localhost" : "http://localhost"), {
      method,
      headers: pairs as [string, string][],
      signal: gone.signal,
      ...(hasBody && { body: Readable.toWeb(incoming) as never, duplex: "half" }),
    });
  } catch {
    return undefined;
  }
}
