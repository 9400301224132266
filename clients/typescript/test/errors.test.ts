import { CountersignError } from "@countersign/client";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  RequestInfoSchema,
  ResourceInfoSchema,
  RetryInfoSchema,
} from "#internal/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "#internal/gen/google/rpc/status_pb.js";
import assert from "node:assert/strict";
import { test } from "node:test";

const info = (reason: string, metadata: Record<string, string> = {}, domain = "countersign") =>
  anyPack(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain, metadata }));

function binary(details: Any[]): Buffer {
  return Buffer.from(toBinary(StatusSchema, create(StatusSchema, { code: 1, message: "", details })));
}

function serviceError(code: grpc.status, trailers: Record<string, string | Buffer>): object {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(trailers)) metadata.set(name, value);
  return Object.assign(new Error(`${code} X: text`), { code, details: "text", metadata });
}

test("the details of a status of gRPC are read", () => {
  const details = [
    info("ELSE", {}, "example.com"),
    info("INVALID_FIELD", { omitted: "3" }),
    anyPack(
      BadRequestSchema,
      create(BadRequestSchema, { fieldViolations: [{ field: "a[0].b", description: "is bad" }] }),
    ),
    anyPack(
      PreconditionFailureSchema,
      create(PreconditionFailureSchema, {
        violations: [
          { type: "SCOPE", subject: "a.b", description: "is not held" },
          { type: "SCOPE", subject: "a.c", description: "" },
        ],
      }),
    ),
    anyPack(ResourceInfoSchema, create(ResourceInfoSchema, { resourceType: "account", resourceName: "acct_1" })),
    anyPack(RequestInfoSchema, create(RequestInfoSchema, { requestId: "r1" })),
    anyPack(RetryInfoSchema, create(RetryInfoSchema, { retryDelay: durationFromMs(1500) })),
  ];
  const thrown = serviceError(grpc.status.INVALID_ARGUMENT, { "grpc-status-details-bin": binary(details) });
  const error = CountersignError.from(thrown);
  assert.deepEqual(
    { ...error, message: error.message },
    {
      name: "CountersignError",
      message: "text",
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      retryable: false,
      retryAfter: 1.5,
      metadata: { omitted: "3" },
      fieldViolations: [{ field: "a[0].b", description: "is bad" }],
      preconditions: [
        { type: "SCOPE", subject: "a.b", description: "is not held" },
        { type: "SCOPE", subject: "a.c", description: "is not held" },
      ],
      resource: { type: "account", name: "acct_1" },
      requestId: "r1",
    },
  );
  assert.equal(CountersignError.from(error), error);
  assert.equal(error.cause, thrown);
});

test("without details the trailer, and without that the code counts", () => {
  const trailer = CountersignError.from(serviceError(grpc.status.ABORTED, { "countersign-reason": "CONFLICT" }));
  assert.deepEqual([trailer.reason, trailer.retryable], ["CONFLICT", true]);
  const cut = CountersignError.from(
    serviceError(grpc.status.UNAVAILABLE, { "grpc-status-details-bin": binary([info("X")]).subarray(0, 9) }),
  );
  assert.deepEqual([cut.reason, cut.code, cut.retryable], ["", "UNAVAILABLE", true]);
  const cases: [grpc.status, string, boolean][] = [
    [grpc.status.UNAVAILABLE, "", true],
    [grpc.status.DEADLINE_EXCEEDED, "", true],
    [grpc.status.RESOURCE_EXHAUSTED, "", true],
    [grpc.status.RESOURCE_EXHAUSTED, "OVERLOADED", true],
    [grpc.status.RESOURCE_EXHAUSTED, "THROTTLED", true],
    [grpc.status.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", false],
    [grpc.status.UNAVAILABLE, "A_NEWER_ONE", true],
    [grpc.status.ABORTED, "ETAG_MISMATCH", false],
    [grpc.status.ABORTED, "", false],
    [grpc.status.INTERNAL, "INTERNAL", false],
    [grpc.status.UNAUTHENTICATED, "TOKEN_REVOKED", false],
    [grpc.status.PERMISSION_DENIED, "", false],
    [99 as grpc.status, "", false],
  ];
  for (const [code, reason, retryable] of cases) {
    const error = CountersignError.from(serviceError(code, reason ? { "countersign-reason": reason } : {}));
    assert.deepEqual([error.reason, error.retryable], [reason, retryable], `${code} ${reason}`);
  }
});

test("errors of Connect and of HTTP are read", () => {
  const packed = info("PERMISSION_MISSING", { permission: "a.b" });
  const received = new ConnectError("text", Code.PermissionDenied, { "x-request-id": "r2" });
  received.details = [{ type: "google.rpc.ErrorInfo", value: packed.value }];
  const connect = CountersignError.from(received);
  assert.deepEqual(
    [connect.code, connect.reason, connect.metadata, connect.message, connect.requestId],
    ["PERMISSION_DENIED", "PERMISSION_MISSING", { permission: "a.b" }, "text", "r2"],
  );

  const body = { error: "temporarily_unavailable", error_description: "THROTTLED: later" };
  const headers = new Headers({ "countersign-reason": "THROTTLED", "retry-after": "7" });
  const http = CountersignError.fromHttp(429, headers, body);
  assert.deepEqual(
    [http.code, http.reason, http.retryable, http.retryAfter, http.message],
    ["RESOURCE_EXHAUSTED", "THROTTLED", true, 7, "THROTTLED: later"],
  );
  for (const [status, retryable] of [
    [429, true],
    [502, true],
    [503, true],
    [504, true],
    [500, false],
    [404, false],
  ] as const) {
    const error = CountersignError.fromHttp(status, new Headers({ "retry-after": "soon" }), undefined);
    assert.deepEqual([error.retryable, error.retryAfter], [retryable, undefined], `${status}`);
  }
  const other = CountersignError.from(new RangeError("x"));
  assert.deepEqual([other.code, other.message, other.retryable], ["UNKNOWN", "x", false]);
});
