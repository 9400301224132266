import { ErrorReason } from "../gen/countersign/v1/error_reason_pb.js";
import type { Claims } from "./claims.js";
import { VerificationError, invalid } from "./refusal.js";

export type Subject =
  | { token_id: string }
  | { secret: { token_id: string; number: number } }
  | { session_id: string }
  | { rule_id: string }
  | { account_id: string }
  | { org: true }
  | { key_id: string };

/** What the stream says is to be refused. */
export interface Revocation {
  /** The org in which an account or an org counts. */
  orgId: string;
  /** Undefined where it is of a kind that this library does not know. */
  subject: Subject | undefined;
  /** Of an account, an org or a rule; 0: every JWT of the subject. */
  minVersion: number;
  /** Why the server refuses such a JWT; undefined where it does not say. */
  reason: string | undefined;
  /** Unix time; undefined: for ever. */
  expireTime: number | undefined;
}

interface End {
  /** When it can be forgotten. */
  expires: number;
  reason: string | undefined;
}

interface Version extends End {
  /** The lowest version that is good. */
  least: number;
}

/** Clocks differ: what was heard is kept for so long after its end. */
const MARGIN = 60;
/** Beyond this the verifier closes: it can neither keep more nor forget any. */
const MOST = 1_000_000;

/** What was heard of revocations. Adds, and takes away only what has expired; versions only rise. */
export class Revocations {
  readonly #ends = new Map<string, End>();
  readonly #versions = new Map<string, Version>();
  #incomplete = false;

  get size(): number {
    return this.#ends.size + this.#versions.size;
  }

  /** Whether something was heard that cannot be kept: then what is revoked is not known. */
  get incomplete(): boolean {
    return this.#incomplete;
  }

  add({ orgId, subject, minVersion, reason: told, expireTime }: Revocation): void {
    if (!subject) {
      this.#incomplete = true;
      return;
    }
    const key = keyOf(orgId, subject);
    // What a stolen key signed may claim any time.
    const isForEver = expireTime === undefined || "key_id" in subject;
    const expires = isForEver ? Infinity : expireTime + MARGIN;
    const reason = told !== undefined && told !== "UNSPECIFIED" && told in ErrorReason ? told : undefined;
    if (this.size >= MOST && !this.#ends.has(key) && !this.#versions.has(key)) {
      this.#incomplete = true;
    } else if (minVersion > 0 && ("account_id" in subject || "org" in subject || "rule_id" in subject)) {
      const heard = this.#versions.get(key) ?? { least: 0, expires: 0, reason: undefined };
      const rises = minVersion >= heard.least;
      this.#versions.set(key, {
        least: Math.max(minVersion, heard.least),
        expires: Math.max(expires, heard.expires),
        reason: rises ? reason : heard.reason,
      });
    } else {
      this.#ends.set(key, { expires: Math.max(expires, this.#ends.get(key)?.expires ?? 0), reason });
    }
  }

  hasKey(kid: string): boolean {
    return this.#ends.has(keyOf("", { key_id: kid }));
  }

  /** Throws where one of them concerns this JWT. */
  check(claims: Claims, kid: string): void {
    if (this.hasKey(kid)) throw invalid("kid", "its key was revoked");
    const { client_id: id, org, sub } = claims;
    const ends = (subject: Subject, reason: string, check: string, message: string) => {
      const end = this.#ends.get(keyOf(org, subject));
      if (end) throw new VerificationError(end.reason ?? reason, check, message);
    };
    const rises = (subject: Subject, version: number, check: string, message: string) => {
      const heard = this.#versions.get(keyOf(org, subject));
      if (heard && version < heard.least) {
        throw new VerificationError(heard.reason ?? "ACCESS_TOKEN_STALE", check, message);
      }
    };
    ends({ token_id: id }, "TOKEN_REVOKED", "token", "its token was revoked");
    ends({ session_id: id }, "TOKEN_REVOKED", "session", "its session ended");
    ends({ rule_id: id }, "TOKEN_REVOKED", "rule", "its federation rule ended");
    if (claims.rule_ver !== undefined) {
      rises({ rule_id: id }, claims.rule_ver, "rule_version", "its federation rule or its issuer was changed since");
    }
    if (claims.secret !== undefined) {
      const secret = { token_id: id, number: claims.secret };
      ends({ secret }, "ACCESS_TOKEN_STALE", "secret", "the secret that it was exchanged for has ended");
    }
    ends({ org: true }, "ORG_SUSPENDED", "org_state", "its org is suspended");
    ends({ account_id: sub }, "ACCOUNT_DEACTIVATED", "account", "its account is deactivated");
    rises({ org: true }, claims.org_ver as number, "org_version", "its org ended or narrowed rights since");
    rises({ account_id: sub }, claims.acct_ver as number, "account_version", "its account ended or lost rights since");
  }

  /** Drops what had expired at that time. */
  forget(time: number): void {
    for (const entries of [this.#ends, this.#versions]) {
      for (const [key, { expires }] of entries) if (time >= expires) entries.delete(key);
    }
  }
}

/** An id of a credential counts in every org; an account or an org in its own alone. */
function keyOf(orgId: string, subject: Subject): string {
  if ("token_id" in subject) return `token ${subject.token_id}`;
  if ("secret" in subject) return `secret ${subject.secret.token_id} ${subject.secret.number}`;
  if ("session_id" in subject) return `session ${subject.session_id}`;
  if ("rule_id" in subject) return `rule ${subject.rule_id}`;
  if ("account_id" in subject) return `account ${orgId} ${subject.account_id}`;
  if ("key_id" in subject) return `key ${subject.key_id}`;
  return `org ${orgId}`;
}
