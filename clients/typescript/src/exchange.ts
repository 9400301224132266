import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { decodeJwt } from "jose";
import { type Channel, type ConnectionOptions, http, parseEndpoint } from "./channel.js";
import type { Subject } from "./credential.js";
import { CountersignError } from "./errors.js";
import { TokenService } from "./gen/countersign/v1/token_service_pb.js";
import { parseObject } from "./json.js";

/** What a JWT is asked for. */
export interface TokenRequest {
  audiences: readonly string[];
  scopes: readonly string[];
  /** Seconds. */
  ttl: number | undefined;
  purpose: string | undefined;
  certificateBound: boolean;
}

export interface Exchanged {
  accessToken: string;
  /** Unix time. */
  expireTime: number;
  /** Seconds from its making to its end. */
  life: number;
}

export type Exchange = (subject: Subject, request: TokenRequest, timeout: number) => Promise<Exchanged>;

const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const JWT = "urn:ietf:params:oauth:token-type:jwt";
const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const MAX_ANSWER = 64 * 1024;

const { exchangeToken } = TokenService.method;

export function overGrpc(channel: Channel): Exchange {
  return async (subject, { audiences, scopes, ttl, purpose, certificateBound }, timeout) => {
    const request = {
      subjectToken: subject.text,
      subjectTokenType: subject.kind === "token" ? ACCESS_TOKEN : JWT,
      ...(subject.kind === "federation" && { federationRuleId: subject.ruleId }),
      audiences: [...audiences],
      scopes: [...scopes],
      certificateBound,
      ...(ttl !== undefined && { requestedTtl: durationFromMs(ttl * 1000) }),
      ...(purpose !== undefined && { purpose }),
    };
    const { accessToken } = await channel.unary(exchangeToken, request, { timeout });
    try {
      // Its life is told by its own claims, since the two clocks may differ.
      const { exp = NaN, iat = NaN } = decodeJwt(accessToken);
      if (exp > iat) return { accessToken, expireTime: exp, life: exp - iat };
    } catch {
      // No JWT.
    }
    throw noToken();
  };
}

/** `POST /oauth2/token`. A JWT is bound to the client certificate where the server finds the token bound to it. */
export function overHttp(connection: ConnectionOptions): Exchange {
  parseEndpoint(connection);
  const url = `${connection.endpoint.replace(/\/$/, "")}/oauth2/token`;
  return async (subject, { audiences, scopes, ttl, purpose, certificateBound }, timeout) => {
    if (certificateBound) throw new TypeError("certificateBound needs the transport grpc");
    const form = new URLSearchParams(grantOf(subject));
    for (const audience of audiences) form.append("audience", audience);
    if (scopes.length > 0) form.set("scope", scopes.join(" "));
    if (ttl !== undefined) form.set("requested_ttl", String(Math.ceil(ttl)));
    if (purpose !== undefined) form.set("purpose", purpose);
    const sent = Date.now() / 1000;
    const { status, headers, body } = await http(connection, url, { form, limit: MAX_ANSWER, timeout });
    const answer = parseObject(body);
    if (status !== 200) throw CountersignError.fromHttp(status, headers, answer);
    const { access_token: accessToken, token_type: type, expires_in: life } = answer ?? {};
    if (typeof type !== "string" || type.toLowerCase() !== "bearer") throw noToken();
    if (typeof accessToken !== "string" || !/^[\x21-\x7e]+$/.test(accessToken)) throw noToken();
    if (typeof life !== "number" || !(life > 0)) throw noToken();
    return { accessToken, expireTime: sent + life, life };
  };
}

function grantOf(subject: Subject): Record<string, string> {
  if (subject.kind === "federation") {
    return { grant_type: JWT_BEARER, assertion: subject.text, federation_rule_id: subject.ruleId };
  }
  return {
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject.text,
    subject_token_type: subject.kind === "assertion" ? JWT : ACCESS_TOKEN,
  };
}

function noToken(): CountersignError {
  const message = "the answer has no access token";
  return new CountersignError({ code: "INTERNAL", reason: "INTERNAL", message, retryable: true });
}
