import { type CryptoKey, type JWK, importJWK } from "jose";
import { isObject } from "../json.js";

/** The most that a key set may take, in bytes. */
export const MAX_KEY_SET = 1_000_000;

/** A key of the issuer. It says by itself which algorithm it verifies; a JWT never does. */
export class VerifyingKey {
  readonly kid: string;
  readonly alg: string;
  readonly #jwk: JWK;
  #imported: Promise<CryptoKey | Uint8Array> | undefined;

  constructor(kid: string, alg: string, jwk: JWK) {
    this.kid = kid;
    this.alg = alg;
    this.#jwk = jwk;
  }

  /** Rejects where the key is none: a point that is not on its curve, say. */
  imported(): Promise<CryptoKey | Uint8Array> {
    return (this.#imported ??= importJWK(this.#jwk, this.alg));
  }
}

export type KeySet = ReadonlyMap<string, VerifyingKey>;

/** Reads a list of JWKs. Keys of a kind or a use that is not known here are left out. */
export function readKeys(jwks: readonly unknown[]): KeySet {
  const keys = new Map<string, VerifyingKey>();
  for (const jwk of jwks) {
    const key = readKey(jwk);
    if (key) keys.set(key.kid, key);
  }
  return keys;
}

function readKey(jwk: unknown): VerifyingKey | undefined {
  if (!isObject(jwk)) return undefined;
  const { kty, crv, alg, use, kid, x, y, n, e } = jwk;
  if (typeof kid !== "string" || kid === "" || (use !== "sig" && !isAbsent(use))) return undefined;
  const kind = (name: string, members: Record<string, unknown>): VerifyingKey | undefined => {
    const whole = Object.values(members).every((member) => typeof member === "string" && member !== "");
    // Without a name of its own the kind of key says it.
    if (!whole || (alg !== name && !isAbsent(alg))) return undefined;
    return new VerifyingKey(kid, name, members as JWK);
  };
  if (kty === "OKP" && crv === "Ed25519") return kind("EdDSA", { kty, crv, x });
  if (kty === "EC" && crv === "P-256") return kind("ES256", { kty, crv, x, y });
  if (kty === "RSA") return kind("RS256", { kty, n, e });
  return undefined;
}

/** Members that a kind of key does not have are empty over gRPC. */
function isAbsent(member: unknown): boolean {
  return member === undefined || member === "";
}
