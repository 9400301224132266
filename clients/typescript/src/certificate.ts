import { createHash } from "node:crypto";
import { TLSSocket } from "node:tls";

/** The SHA-256 of a certificate in DER, as `cnf` has it (RFC 8705). */
export function certificateThumbprint(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("base64url");
}

/** That of the client certificate of a connection, if there is one. */
export function peerThumbprint(socket: unknown): string | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const { raw } = socket.getPeerCertificate();
  return raw ? certificateThumbprint(raw) : undefined;
}
