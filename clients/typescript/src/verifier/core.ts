import { flattenedVerify } from "jose";
import type { Clock } from "../clock.js";
import { type JsonObject, isObject, parseObject } from "../json.js";
import type { Claims } from "./claims.js";
import { type KeySet, MAX_KEY_SET, VerifyingKey, readKeys } from "./keys.js";
import { VerificationError, invalid } from "./refusal.js";
import { type Revocation, Revocations } from "./revocations.js";

/** What a stream of revocations brings. */
export type Item =
  | { keySet: readonly unknown[] }
  | { revocation: Revocation }
  | { checkpoint: { cursor: string; time: number; lag: number } };

export interface Expected {
  audience: string;
  orgs: readonly string[] | "any";
  certificateThumbprint?: string | undefined;
}

export interface CoreOptions {
  issuer: string;
  revocation: "stream" | "none";
  /** Seconds. */
  staleness: number;
  /** Seconds; 0: closed. */
  openFor: number;
  clock: Clock;
}

const MAX_JWT = 16 * 1024;
const LEEWAY = 60;
const SWEEP_EVERY = 30;
const BASE64URL = /^[A-Za-z0-9_-]+$/;
/** The last characters that a part may have, by its length modulo 4: the bits beyond its last byte are 0. */
const LAST = [/./, /(?!)/, /[AQgw]$/, /[AEIMQUYcgkosw048]$/] as const;

/** What a verifier knows, and its checks. It does no I/O; the time is asked of its clock. */
export class VerifierCore {
  readonly options: CoreOptions;
  readonly #revocations = new Revocations();
  #keys: KeySet = new Map();
  #cursor = "";
  /** The monotonic time at which the last checkpoint was true. */
  #asOf: number | undefined;
  /** The server's time at the last checkpoint. */
  #serverTime = -Infinity;
  #sweptAt = 0;

  constructor(options: CoreOptions) {
    this.options = options;
  }

  /** Where the stream is resumed; empty: from the beginning. */
  get cursor(): string {
    return this.#cursor;
  }

  get keyIds(): string[] {
    return [...this.#keys.keys()];
  }

  /** How many revocations are kept. */
  get revocations(): number {
    this.#forget();
    return this.#revocations.size;
  }

  /** Seconds since the last checkpoint, with its lag; undefined before the first one. */
  get age(): number | undefined {
    return this.#asOf === undefined ? undefined : this.options.clock.monotonic() - this.#asOf;
  }

  get fresh(): boolean {
    const { revocation, staleness, openFor } = this.options;
    if (revocation === "none") return true;
    const { age } = this;
    return age !== undefined && age <= Math.max(staleness, openFor) && !this.#revocations.incomplete;
  }

  /** Whether it was taken: a key set that is too large is not. */
  receive(item: Item): boolean {
    const { clock } = this.options;
    if ("keySet" in item) return this.replaceKeys(item.keySet);
    if ("revocation" in item) {
      this.#revocations.add(item.revocation);
      const { subject } = item.revocation;
      if (subject && "key_id" in subject) this.#setKeys(this.#keys);
    } else {
      const { cursor, time, lag } = item.checkpoint;
      this.#cursor = cursor;
      this.#serverTime = time;
      this.#asOf = clock.monotonic() - Math.max(0, Number.isFinite(lag) ? lag : Infinity);
      if (clock.monotonic() - this.#sweptAt >= SWEEP_EVERY) {
        this.#sweptAt = clock.monotonic();
        this.#forget();
      }
    }
    return true;
  }

  /** What has expired by both clocks: one that steps forward and back must lose nothing. */
  #forget(): void {
    this.#revocations.forget(Math.min(this.options.clock.wall(), this.#serverTime));
  }

  /** The stream ended. What was heard stays. */
  cut(reason: string): void {
    if (reason === "CURSOR_EXPIRED") this.#cursor = "";
  }

  /** The key set; one that is too large is refused, and the one before stays. */
  replaceKeys(jwks: readonly unknown[]): boolean {
    if (!fits(jwks)) return false;
    this.#setKeys(readKeys(jwks));
    return true;
  }

  /** Keys that were found beside the stream, which alone says which are gone. */
  addKeys(jwks: readonly unknown[]): boolean {
    if (!fits(jwks)) return false;
    this.#setKeys(new Map([...readKeys(jwks), ...this.#keys]));
    return true;
  }

  #setKeys(keys: KeySet): void {
    // A key that was revoked never comes back.
    this.#keys = new Map([...keys].filter(([kid]) => !this.#revocations.hasKey(kid)));
  }

  /**
   * The claims of a JWT that passes every check.
   *
   * `find` may look for a key that the set lacks.
   */
  async verify(jwt: string, expected: Expected, find?: (kid: string) => Promise<void>): Promise<Claims> {
    this.#checkFresh();
    const { header, parts } = parse(jwt);
    const kid = checkHeader(header);
    let key = this.#keys.get(kid);
    if (!key && find && !this.#revocations.hasKey(kid)) {
      await find(kid);
      key = this.#keys.get(kid);
    }
    if (!key) throw invalid("kid", "no key of the key set has its kid");
    const claims = await this.#checkSignature(header, parts, key);
    this.#checkClaims(claims, expected);
    // As they are now: they may have changed while the signature was checked.
    this.#checkFresh();
    if (this.options.revocation === "stream") {
      this.#revocations.check(claims, kid);
    } else if (this.#revocations.hasKey(kid)) {
      throw invalid("kid", "its key was revoked");
    }
    return claims;
  }

  #checkFresh(): void {
    if (!this.fresh) {
      throw new VerificationError("VERIFIER_STALE", "fresh", "what was revoked is not known: no recent checkpoint");
    }
  }

  async #checkSignature(header: JsonObject, parts: Parts, key: VerifyingKey): Promise<Claims> {
    if (header["alg"] !== key.alg) throw invalid("alg", "its algorithm is not that of its key");
    const [head, payload, signature] = parts;
    const imported = await key.imported().catch(() => {
      throw invalid("kid", "the key of its kid is broken");
    });
    let bytes: Uint8Array;
    try {
      const jws = { protected: head, payload, signature };
      bytes = (await flattenedVerify(jws, imported, { algorithms: [key.alg] })).payload;
    } catch {
      throw invalid("signature", "its signature does not match");
    }
    const claims = parseObject(bytes);
    if (!claims) throw invalid("format", "its claims are no JSON object, or name one twice");
    return claims as unknown as Claims;
  }

  #checkClaims(claims: Claims, { audience, orgs, certificateThumbprint }: Expected): void {
    const { issuer, revocation, clock } = this.options;
    const now = clock.wall();
    checkTypes(claims, revocation === "stream");
    if (claims.iss !== issuer) throw invalid("iss", "it is of another issuer");
    const audiences = typeof claims.aud === "string" ? [claims.aud] : claims.aud;
    if (!audiences.includes(audience)) throw invalid("aud", "it is for another audience");
    if (now >= claims.exp) throw invalid("exp", "it has expired");
    if (claims.nbf > now + LEEWAY) throw invalid("nbf", "it is not valid yet");
    if (claims.iat > now + LEEWAY) throw invalid("iat", "it was issued later than now");
    if (claims["act"] !== undefined) throw invalid("act", "it is of an administrator, and for the issuer alone");
    if (orgs !== "any" && !orgs.includes(claims.org)) throw invalid("org", "it is of another org");
    if (claims["cnf"] !== undefined) checkConfirmation(claims["cnf"], certificateThumbprint);
  }
}

type Parts = [string, string, string];

function parse(jwt: string): { header: JsonObject; parts: Parts } {
  if (typeof jwt !== "string" || jwt.length > MAX_JWT) throw invalid("format", "it is no JWT, or too long");
  const parts = jwt.split(".");
  if (parts.length !== 3 || !parts.every(isBase64Url)) throw invalid("format", "it is not three parts of base64url");
  const header = parseObject(Buffer.from(parts[0] as string, "base64url"));
  if (!header) throw invalid("format", "its header is no JSON object, or names a member twice");
  return { header, parts: parts as Parts };
}

function isBase64Url(part: string): boolean {
  return BASE64URL.test(part) && (LAST[part.length % 4] as RegExp).test(part);
}

function checkHeader(header: JsonObject): string {
  const { typ, kid } = header;
  if (typ !== "at+jwt") throw invalid("typ", "it is not an access token");
  if ("crit" in header) throw invalid("crit", "its header has crit");
  if (typeof kid !== "string" || kid === "") throw invalid("kid", "it names no key");
  return kid;
}

const REQUIRED_TEXT = ["iss", "sub", "jti", "client_id", "org"];
const REQUIRED_NUMBER = ["exp", "iat", "nbf"];
/** Numbers that stand beside one kind of credential alone. */
const OF_ONE_KIND: readonly [string, string][] = [
  ["secret", "tok_"],
  ["rule_ver", "fed_"],
];

function checkTypes(claims: JsonObject, withRevocations: boolean): void {
  const wrong = (name: string) => invalid("claims", `its claim ${name} is missing, or of another type`);
  for (const name of REQUIRED_TEXT) {
    if (typeof claims[name] !== "string" || claims[name] === "") throw wrong(name);
  }
  for (const name of REQUIRED_NUMBER) if (!Number.isSafeInteger(claims[name])) throw wrong(name);
  const { aud, scope, authorization_details: details } = claims;
  if (typeof aud !== "string" && !isListOf(aud, (one) => typeof one === "string")) throw wrong("aud");
  if (scope !== undefined && typeof scope !== "string") throw wrong("scope");
  if (details !== undefined && !isListOf(details, isObject)) throw wrong("authorization_details");
  // Without the one of its kind of credential, its end could not be heard.
  const id = claims["client_id"] as string;
  for (const [name, prefix] of OF_ONE_KIND) {
    const value = claims[name];
    if (value === undefined ? withRevocations && id.startsWith(prefix) : !isOf(id, prefix, value)) throw wrong(name);
  }
  if (typeof claims["rule_ver"] === "number" && claims["rule_ver"] < 1) throw wrong("rule_ver");
  if (!withRevocations) return;
  for (const name of ["org_ver", "acct_ver"]) if (!Number.isSafeInteger(claims[name])) throw wrong(name);
  if (!/^(?:tok|ses|fed)_/.test(id)) throw wrong("client_id");
}

/** Whether this integer may stand beside an id of that kind. */
function isOf(id: string, prefix: string, value: unknown): boolean {
  return id.startsWith(prefix) && Number.isSafeInteger(value);
}

function isListOf(value: unknown, is: (one: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(is);
}

function checkConfirmation(cnf: unknown, thumbprint: string | undefined): void {
  const refused = (message: string) => new VerificationError("CLIENT_CERTIFICATE_NOT_ALLOWED", "cnf", message);
  if (thumbprint === undefined) throw refused("it is bound to a client certificate, and there is none to compare");
  // Any other way of confirming could not be compared.
  if (!isObject(cnf) || Object.keys(cnf).length !== 1 || cnf["x5t#S256"] !== thumbprint) {
    throw refused("it is bound to another client certificate");
  }
}

function fits(jwks: readonly unknown[]): boolean {
  let size = 0;
  for (const jwk of jwks) {
    size += JSON.stringify(jwk)?.length ?? 0;
    if (size > MAX_KEY_SET) return false;
  }
  return true;
}
