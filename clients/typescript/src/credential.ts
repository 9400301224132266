import { type CryptoKey, type JWK, SignJWT, importJWK } from "jose";
import { type KeyObject, createPrivateKey, createPublicKey, randomUUID } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { CountersignError } from "./errors.js";
import { isTokenString } from "./token-string.js";

/** What proves who the caller is. */
export type Credential =
  /** A token string, `csign_sat_…`. */
  | string
  /** A file that holds the token string, read again when it changes. */
  | { tokenFile: string }
  /** The private key of a token of kind `KEY`, in PEM (PKCS#8), as JWK or `KeyObject`: each exchange signs an assertion. */
  | { tokenId: string; privateKey: string | Buffer | JWK | KeyObject }
  /** The same from a file in PEM, read again when it changes. */
  | { tokenId: string; privateKeyFile: string }
  /** A file with a JWT of the platform, and the federation rule that takes it; read again when it changes. */
  | { assertionFile: string; federationRuleId: string };

/** A token string; the assertion of a key; or one of another issuer, for a rule. */
export type Subject = { text: string } & (
  { kind: "token" } | { kind: "assertion" } | { kind: "federation"; ruleId: string }
);

/** A credential as it is read for each exchange. */
export interface SubjectReader {
  /** What is to be exchanged now. */
  read(): Promise<Subject>;
  /** Another value after each change that was read. */
  readonly version: number;
  /** Whether a file has changed since it was read. */
  changed(): Promise<boolean>;
}

/** Half of what the server takes, so that clocks may differ by as much either way. */
const ASSERTION_LIFE = 150;
const JWT = /^[\w-]+\.[\w-]+\.[\w-]+$/;
const MAX_FILE = 64 * 1024;

/** `issuer`: the audience of assertions. */
export function readerOf(credential: Credential, issuer: string): SubjectReader {
  if (credential === "") throw new TypeError("the token string is empty");
  if (typeof credential === "string") return constant(async () => ({ text: credential, kind: "token" }));
  if ("tokenFile" in credential) {
    return new FileReader(credential.tokenFile, (content) => {
      const text = content.toString().trim();
      return isTokenString(text) ? async () => ({ text, kind: "token" }) : undefined;
    });
  }
  if ("assertionFile" in credential) {
    const { assertionFile, federationRuleId: ruleId } = credential;
    return new FileReader(assertionFile, (content) => {
      const text = content.toString().trim();
      return JWT.test(text) ? async () => ({ text, kind: "federation", ruleId }) : undefined;
    });
  }
  const { tokenId } = credential;
  if ("privateKeyFile" in credential) {
    return new FileReader(credential.privateKeyFile, (content) => {
      try {
        const sign = signer(tokenId, issuer, createPrivateKey(content));
        return async () => ({ text: await sign(), kind: "assertion" });
      } catch {
        return undefined;
      }
    });
  }
  const { privateKey } = credential;
  const isPem = typeof privateKey === "string" || Buffer.isBuffer(privateKey);
  const sign = signer(tokenId, issuer, isPem ? createPrivateKey(privateKey) : privateKey);
  return constant(async () => ({ text: await sign(), kind: "assertion" }));
}

function constant(read: () => Promise<Subject>): SubjectReader {
  return { read, version: 0, changed: async () => false };
}

class FileReader implements SubjectReader {
  version = 0;
  readonly #path: string;
  readonly #parse: (content: Buffer) => (() => Promise<Subject>) | undefined;
  #stamp = "";
  #content: Buffer | undefined;
  #subject: (() => Promise<Subject>) | undefined;

  constructor(path: string, parse: (content: Buffer) => (() => Promise<Subject>) | undefined) {
    this.#path = path;
    this.#parse = parse;
  }

  async read(): Promise<Subject> {
    await this.#refresh();
    if (!this.#subject) {
      throw new CountersignError({
        code: "UNAUTHENTICATED",
        reason: "CREDENTIAL_MISSING",
        message: `the file ${this.#path} holds no credential, or cannot be read`,
        // It may be in the course of being written.
        retryable: true,
      });
    }
    return this.#subject();
  }

  async changed(): Promise<boolean> {
    const before = this.version;
    await this.#refresh();
    return this.version !== before;
  }

  /** What is no credential keeps the one before: the file is being written. */
  async #refresh(): Promise<void> {
    try {
      const { size, mtimeNs, ino, dev } = await stat(this.#path, { bigint: true });
      const stamp = `${dev} ${ino} ${size} ${mtimeNs}`;
      if (stamp === this.#stamp || size > MAX_FILE) return;
      const content = await readFile(this.#path);
      const subject = this.#parse(content);
      if (!subject) return;
      this.#stamp = stamp;
      if (this.#content?.equals(content)) return;
      this.#content = content;
      this.#subject = subject;
      this.version += 1;
    } catch {
      // Not there, or not to be read: as it is between two versions.
    }
  }
}

/** Signs assertions: RFC 7523, with the issuer as the only audience, as one string. */
function signer(tokenId: string, issuer: string, key: KeyObject | JWK): () => Promise<string> {
  const jwk = "kty" in key ? key : (createPublicKey(key as KeyObject).export({ format: "jwk" }) as JWK);
  const alg = algorithmOf(jwk);
  let imported: Promise<CryptoKey | KeyObject | Uint8Array> | undefined;
  return async () => {
    imported ??= "kty" in key ? importJWK(key, alg) : Promise.resolve(key as KeyObject);
    // Without iat the end alone counts: 5 minutes ahead at most.
    return new SignJWT()
      .setProtectedHeader({ alg, typ: "JWT" })
      .setIssuer(tokenId)
      .setSubject(tokenId)
      .setAudience(issuer)
      .setExpirationTime(Math.floor(Date.now() / 1000) + ASSERTION_LIFE)
      .setJti(randomUUID())
      .sign(await imported);
  };
}

function algorithmOf({ kty, crv, alg }: JWK): string {
  if (kty === "OKP" && crv === "Ed25519") return "EdDSA";
  if (kty === "EC" && crv === "P-256") return "ES256";
  if (kty === "RSA") return alg === "PS256" ? alg : "RS256";
  throw new TypeError("a key of a token is Ed25519, P-256 or RSA");
}
