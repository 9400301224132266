import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { type DescService, type MessageShape, create, toBinary } from "@bufbuild/protobuf";
import { CODES, CountersignError, DOMAIN } from "./errors.js";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import { type Claims, WHOLE_ORG, allows, isResourcePath } from "./verifier/claims.js";
import { invalid } from "./verifier/refusal.js";
import type { Verifier } from "./verifier/verifier.js";

/** Whose JWTs a service takes. */
export interface GuardOptions {
  verifier: Verifier;
  /** The name of this service: `aud`. */
  audience: string;
  /** The tenants of this service, by id. */
  orgs: readonly string[] | "any";
}

/** What a method asks for. */
export interface Rule<M> {
  permission: string;
  /** The path of the resource that a message is about. Without it: the whole org. */
  resource?: (message: M) => string | undefined;
  /** The org that a message is about, by id, where it names one. */
  org?: (message: M) => string | undefined;
}

/** A rule; or any good JWT; or nothing at all. */
export type Access<M> = Rule<M> | "authenticated" | "open";

/** By path: `/billing.v1.Invoices/GetInvoice`. A method without an entry is denied. */
export type Rules = Readonly<Record<string, Access<any>>>;

/** The rules of a service of `@bufbuild/protobuf`, by the names of its methods and with the types of its messages. */
export function rulesOf<S extends DescService>(
  service: S,
  rules: { readonly [M in keyof S["method"]]?: Access<MessageShape<S["method"][M]["input"]>> },
): Rules {
  return Object.fromEntries(
    Object.entries(rules).map(([name, access]) => {
      const method = service.method[name];
      if (!method) throw new TypeError(`${service.typeName} has no method ${name}`);
      return [`/${service.typeName}/${method.name}`, access];
    }),
  );
}

/** Of each `authorization` header of a call; the claims, or the reason for which the caller is refused. */
export async function authenticate(
  { verifier, audience, orgs }: GuardOptions,
  authorization: readonly string[],
  certificateThumbprint: string | undefined,
): Promise<Claims> {
  if (authorization.length > 1) throw invalid("format", "there is more than one authorization");
  const bearer = /^bearer +(\S+)$/i.exec(authorization[0]?.trim() ?? "")?.[1];
  if (bearer === undefined) {
    throw new CountersignError({
      code: "UNAUTHENTICATED",
      reason: "CREDENTIAL_MISSING",
      message: "the call has no credential: send authorization: Bearer <JWT>",
    });
  }
  return verifier.verify(bearer, { audience, orgs, certificateThumbprint });
}

/** Throws `PERMISSION_MISSING` unless the claims carry what the rule asks for. */
export function authorize<M>(claims: Claims, access: Access<M> | undefined, message: M): void {
  if (access === undefined) throw denied({});
  if (access === "open" || access === "authenticated") return;
  const { permission } = access;
  const resource = access.resource ? access.resource(message) : WHOLE_ORG;
  const isNamed = resource === WHOLE_ORG ? !access.resource : isResourcePath(resource);
  const org = access.org ? access.org(message) : claims.org;
  if (!isNamed || org !== claims.org || !allows(claims, permission, resource)) {
    throw denied({ permission, ...(isNamed && resource !== undefined && { resource }) });
  }
}

function denied(metadata: Record<string, string>): CountersignError {
  const { permission, resource } = metadata;
  const where = resource === undefined || resource === WHOLE_ORG ? "" : ` on ${resource}`;
  return new CountersignError({
    code: "PERMISSION_DENIED",
    reason: "PERMISSION_MISSING",
    message: permission === undefined ? "the method has no rule" : `the caller lacks ${permission}${where}`,
    metadata,
  });
}

/** How soon a verifier may be fresh again. */
const RETRY_AFTER = 1;

/** What a caller of this service is answered. What is no denial is `INTERNAL`, and says nothing of its cause. */
export function denialOf(thrown: unknown): CountersignError {
  if (thrown instanceof CountersignError) return thrown;
  return new CountersignError({
    code: "INTERNAL",
    reason: "INTERNAL",
    message: "a fault of the service",
    cause: thrown,
  });
}

export function errorInfoOf({ reason, metadata }: CountersignError) {
  return { reason, domain: DOMAIN, metadata: { ...metadata } };
}

export function retryAfterOf({ retryable, retryAfter }: CountersignError): number | undefined {
  return retryable ? (retryAfter ?? RETRY_AFTER) : undefined;
}

/** The value of the trailer `grpc-status-details-bin`. */
export function statusDetailsOf(error: CountersignError): Uint8Array {
  const details = [anyPack(ErrorInfoSchema, create(ErrorInfoSchema, errorInfoOf(error)))];
  const seconds = retryAfterOf(error);
  if (seconds !== undefined) {
    const retryDelay = durationFromMs(seconds * 1000);
    details.push(anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay })));
  }
  const status = create(StatusSchema, { code: codeNumberOf(error), message: error.message, details });
  return toBinary(StatusSchema, status);
}

export function codeNumberOf({ code }: CountersignError): number {
  return CODES.indexOf(code);
}
