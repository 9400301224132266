import { fromBinary } from "@bufbuild/protobuf";
import { type Any, type Duration, anyUnpack } from "@bufbuild/protobuf/wkt";
import type { ErrorReason } from "./gen/countersign/v1/error_reason_pb.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import { isObject } from "./json.js";

/** The names of the status codes of gRPC, by number. */
export const CODES = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

export type CodeName = (typeof CODES)[number];

/**
 * Why a call failed: one of the server's reasons, also one that is newer than this library; `VERIFIER_STALE` of a
 * verifier that has not heard from the server for too long; or empty, where the code alone is known.
 */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED"> | "VERIFIER_STALE" | "" | (string & {});

/** The domain of every reason. */
export const DOMAIN = "countersign";
export const REASON_HEADER = "countersign-reason";

const RETRYABLE_REASONS = new Set<Reason>([
  "OVERLOADED",
  "THROTTLED",
  "DATABASE_UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "CONFLICT",
  "VERIFIER_STALE",
]);
const RETRYABLE_CODES = new Set<CodeName>(["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"]);
const RETRYABLE_STATUSES = new Set([429, 502, 503, 504]);

export interface FieldViolation {
  /** The path of the field in the request: `grants[0].resource`. */
  field: string;
  description: string;
}

export interface Precondition {
  type: string;
  subject: string;
  description: string;
}

export interface ErrorFields {
  code: CodeName;
  reason: Reason;
  message: string;
  retryable?: boolean;
  retryAfter?: number | undefined;
  metadata?: Record<string, string>;
  fieldViolations?: FieldViolation[];
  preconditions?: Precondition[];
  resource?: { type: string; name: string } | undefined;
  requestId?: string | undefined;
  cause?: unknown;
}

/** Every error of this library. Match on `reason`, never on the message. */
export class CountersignError extends Error {
  override readonly name: string = "CountersignError";
  readonly code: CodeName;
  readonly reason: Reason;
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** In how many seconds at the earliest, where the server said so. */
  readonly retryAfter: number | undefined;
  /** What the reason says more, such as `permission` and `resource`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Of `INVALID_FIELD`: each wrong field. */
  readonly fieldViolations: readonly FieldViolation[];
  /** The rights, scopes, tokens or limits that are in the way. */
  readonly preconditions: readonly Precondition[];
  /** Of `RESOURCE_NOT_FOUND` and `RESOURCE_EXISTS`. */
  readonly resource: { readonly type: string; readonly name: string } | undefined;
  /** The id of the call in the server's log. */
  readonly requestId: string | undefined;

  constructor(fields: ErrorFields) {
    super(fields.message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = fields.code;
    this.reason = fields.reason;
    this.retryable = fields.retryable ?? isRetryable(fields.reason, fields.code);
    this.retryAfter = fields.retryAfter;
    this.metadata = fields.metadata ?? {};
    this.fieldViolations = fields.fieldViolations ?? [];
    this.preconditions = fields.preconditions ?? [];
    this.resource = fields.resource;
    this.requestId = fields.requestId;
  }

  /** The error for what a client of gRPC (`@grpc/grpc-js`) or Connect threw; an error of this library as it is. */
  static from(error: unknown): CountersignError {
    if (error instanceof CountersignError) return error;
    if (isObject(error) && typeof error["code"] === "number") {
      const code = CODES[error["code"]] ?? "UNKNOWN";
      const message = text(error["details"]) ?? text(error["rawMessage"]) ?? text(error["message"]) ?? code;
      const metadata = error["metadata"] as { get?: (name: string) => unknown } | undefined;
      const read = (name: string) => first(metadata?.get?.(name));
      const binary = read("grpc-status-details-bin");
      // Connect unpacks the details by itself.
      const details = Array.isArray(error["details"]) ? connectDetails(error["details"]) : statusDetails(binary);
      return fromDetails(code, message, details, text(read(REASON_HEADER)), text(read("x-request-id")), error);
    }
    const message = error instanceof Error ? error.message : String(error);
    return new CountersignError({ code: "UNKNOWN", reason: "", message, cause: error });
  }

  /** The error for a status with its `grpc-status-details-bin`. */
  static fromStatus(code: number, message: string, details?: Uint8Array): CountersignError {
    return fromDetails(CODES[code] ?? "UNKNOWN", message, statusDetails(details));
  }

  /** The error for an answer of an endpoint over HTTP, such as `/oauth2/token`. */
  static fromHttp(status: number, headers: HeaderReader, body: unknown): CountersignError {
    const code = codeOfStatus(status);
    const reason = headers.get(REASON_HEADER) ?? "";
    const described = isObject(body) ? (text(body["error_description"]) ?? text(body["message"])) : undefined;
    const after = headers.get("retry-after");
    const seconds = after === null || after === undefined || after === "" ? NaN : Number(after);
    return new CountersignError({
      code,
      reason,
      message: described ?? `HTTP status ${status}`,
      retryable: reason ? isRetryable(reason, code) : RETRYABLE_STATUSES.has(status),
      retryAfter: Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined,
      requestId: headers.get("x-request-id") ?? undefined,
    });
  }
}

export interface HeaderReader {
  get(name: string): string | null | undefined;
}

function isRetryable(reason: Reason, code: CodeName): boolean {
  // A reason that is newer than this library is handled by its code.
  return RETRYABLE_REASONS.has(reason) || (reason !== "MESSAGE_TOO_LARGE" && RETRYABLE_CODES.has(code));
}

function codeOfStatus(status: number): CodeName {
  switch (status) {
    case 400:
      return "INVALID_ARGUMENT";
    case 401:
      return "UNAUTHENTICATED";
    case 403:
      return "PERMISSION_DENIED";
    case 404:
      return "NOT_FOUND";
    case 413:
    case 429:
      return "RESOURCE_EXHAUSTED";
    case 500:
      return "INTERNAL";
    case 502:
    case 503:
      return "UNAVAILABLE";
    case 504:
      return "DEADLINE_EXCEEDED";
    default:
      return "UNKNOWN";
  }
}

function fromDetails(
  code: CodeName,
  message: string,
  details: Details,
  reason?: string,
  requestId?: string,
  cause?: unknown,
): CountersignError {
  return new CountersignError({
    code,
    message,
    ...details,
    reason: details.reason || reason || "",
    requestId: details.requestId ?? requestId,
    cause,
  });
}

type Details = Partial<Omit<ErrorFields, "code" | "message">>;

function statusDetails(binary: unknown): Details {
  if (!(binary instanceof Uint8Array)) return {};
  try {
    return unpack(fromBinary(StatusSchema, binary).details);
  } catch {
    return {};
  }
}

function connectDetails(details: unknown[]): Details {
  const packed = details.flatMap((detail) => {
    if (!isObject(detail)) return [];
    const { type, value } = detail;
    if (typeof type !== "string" || !(value instanceof Uint8Array)) return [];
    return [{ $typeName: "google.protobuf.Any" as const, typeUrl: `type.googleapis.com/${type}`, value }];
  });
  return unpack(packed);
}

function unpack(packed: Any[]): Details {
  const details: Details = {};
  for (const any of packed) {
    try {
      unpackOne(any, details);
    } catch {
      // The others count.
    }
  }
  return details;
}

function unpackOne(any: Any, details: Details): void {
  const info = anyUnpack(any, ErrorInfoSchema);
  if (info && info.domain === DOMAIN) {
    details.reason = info.reason;
    details.metadata = info.metadata;
  }
  const retry = anyUnpack(any, RetryInfoSchema);
  if (retry?.retryDelay) details.retryAfter = secondsOf(retry.retryDelay);
  const bad = anyUnpack(any, BadRequestSchema);
  if (bad) details.fieldViolations = bad.fieldViolations.map(({ field, description }) => ({ field, description }));
  const failure = anyUnpack(any, PreconditionFailureSchema);
  if (failure) details.preconditions = described(failure.violations);
  const resource = anyUnpack(any, ResourceInfoSchema);
  if (resource) details.resource = { type: resource.resourceType, name: resource.resourceName };
  const request = anyUnpack(any, RequestInfoSchema);
  if (request) details.requestId = request.requestId;
}

/** A description that is left out is that of the entry before. */
function described(violations: Precondition[]): Precondition[] {
  let last = "";
  return violations.map(({ type, subject, description }) => {
    last = description || last;
    return { type, subject, description: last };
  });
}

export function secondsOf(duration: Duration): number {
  return Number(duration.seconds) + duration.nanos / 1e9;
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The first value of a header, which grpc-js gives as a list. */
function first(value: unknown): unknown {
  return Array.isArray(value) ? value[0] : value;
}
