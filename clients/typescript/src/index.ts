export type { Authentication } from "./bearer.js";
export { certificateThumbprint } from "./certificate.js";
export type { ConnectionOptions } from "./channel.js";
export type { Clock } from "./clock.js";
export { Client, type ClientOptions, type RpcOptions, type ServiceClient, pages } from "./client.js";
export type { Credential } from "./credential.js";
export { type CodeName, CountersignError, type FieldViolation, type Precondition, type Reason } from "./errors.js";
export { type AccessToken, type GetOptions, TokenSource, type TokenSourceOptions } from "./token-source.js";
export { type Claims, allows } from "./verifier/claims.js";
export { VerificationError } from "./verifier/refusal.js";
export type { Item } from "./verifier/core.js";
export type { Revocation, Subject } from "./verifier/revocations.js";
export {
  type OfflineOptions,
  type OfflineTestOptions,
  Verifier,
  type VerifierOptions,
  type VerifyOptions,
  type WatchingOptions,
} from "./verifier/verifier.js";
