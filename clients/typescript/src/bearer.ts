import type { ConnectionOptions } from "./channel.js";
import { type Credential, readerOf } from "./credential.js";
import { CountersignError } from "./errors.js";
import { TokenSource } from "./token-source.js";

/** How a client of Countersign itself authenticates. */
export interface Authentication {
  /** A credential; a token string is sent as it is, an assertion is exchanged first. */
  credential?: Credential;
  /** A source, which gives JWTs for Countersign's own API. */
  tokenSource?: TokenSource;
}

/** What is sent as bearer. */
export interface Bearer {
  get(): Promise<string | undefined>;
  /** It was refused with this reason. */
  refused(bearer: string, error: CountersignError): void;
  close(): void;
}

export function bearerOf(
  { credential, tokenSource }: Authentication,
  connection: ConnectionOptions & { issuer?: string | undefined },
): Bearer {
  if (tokenSource) return ofSource(tokenSource, false);
  if (credential === undefined) return { get: async () => undefined, refused() {}, close() {} };
  if (typeof credential === "string" || "tokenFile" in credential) {
    const reader = readerOf(credential, "");
    return { get: async () => (await reader.read()).text, refused() {}, close() {} };
  }
  const { issuer, ...rest } = connection;
  return ofSource(new TokenSource({ ...rest, ...(issuer !== undefined && { issuer }), credential }), true);
}

function ofSource(source: TokenSource, isOwn: boolean): Bearer {
  return {
    get: () => source.get(),
    refused(bearer, { code }) {
      if (code === "UNAUTHENTICATED") source.invalidate(bearer);
    },
    close() {
      if (isOwn) source.close();
    },
  };
}
