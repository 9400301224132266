import { type JsonObject, isObject } from "../json.js";

/** The claims of a verified JWT, as they stand in it. */
export interface Claims extends JsonObject {
  readonly iss: string;
  /** The account, `acct_…`. */
  readonly sub: string;
  readonly aud: string | readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly nbf: number;
  readonly jti: string;
  /** The token, session or federation rule that it was made from. */
  readonly client_id: string;
  /** `org_…`. */
  readonly org: string;
  /** The permissions on the whole org, separated by spaces. */
  readonly scope?: string;
  /** The permissions on single resources. */
  readonly authorization_details?: readonly JsonObject[];
  readonly account_kind?: string;
  readonly token_kind?: string;
  readonly org_ver?: number;
  readonly acct_ver?: number;
  readonly secret?: number;
  readonly rule_ver?: number;
  readonly roles?: readonly string[];
  readonly cnf?: { readonly "x5t#S256": string };
}

const DETAIL = "countersign_grant";
const PATH = /^[a-z0-9][a-z0-9_-]{0,62}(?:\/[a-z0-9][a-z0-9_-]{0,62}){0,7}$/;

/** The whole org, where a resource is asked for. */
export const WHOLE_ORG = "*";

/** Whether this is a path of a resource: nothing else names one. */
export function isResourcePath(text: unknown): text is string {
  return typeof text === "string" && text.length <= 511 && PATH.test(text);
}

/**
 * Whether these claims carry the permission on the resource: in the whole org, or on its path or one above it.
 * What is neither a path nor `*` is no resource, and nothing is allowed on it.
 */
export function allows(claims: JsonObject, permission: string, resource: string = WHOLE_ORG): boolean {
  if (typeof permission !== "string" || permission === "") return false;
  if (resource !== WHOLE_ORG && !isResourcePath(resource)) return false;
  const { scope, authorization_details: details } = claims;
  if (typeof scope === "string" && scope.split(" ").includes(permission)) return true;
  if (resource === WHOLE_ORG || !Array.isArray(details)) return false;
  return details.some(
    (detail: unknown) =>
      isObject(detail) &&
      detail["type"] === DETAIL &&
      Array.isArray(detail["actions"]) &&
      detail["actions"].includes(permission) &&
      isResourcePath(detail["identifier"]) &&
      `${resource}/`.startsWith(`${detail["identifier"]}/`),
  );
}
