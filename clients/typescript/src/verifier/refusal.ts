import { type CodeName, CountersignError, type Reason } from "../errors.js";

const CODE_OF_REASON: Record<string, CodeName> = {
  CLIENT_CERTIFICATE_NOT_ALLOWED: "PERMISSION_DENIED",
  VERIFIER_STALE: "UNAVAILABLE",
};

/** Why a JWT was refused. */
export class VerificationError extends CountersignError {
  override readonly name: string = "VerificationError";
  /** What it failed: `exp`, say. For logs; new ones may be added. */
  readonly check: string;

  constructor(reason: Reason, check: string, message: string) {
    super({ code: CODE_OF_REASON[reason] ?? "UNAUTHENTICATED", reason, message });
    this.check = check;
  }
}

export function invalid(check: string, message: string): VerificationError {
  return new VerificationError("ACCESS_TOKEN_INVALID", check, message);
}
