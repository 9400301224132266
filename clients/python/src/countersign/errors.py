"""What a call or a verification fails with: one error type, with a reason that programs match on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

import grpc

DOMAIN = "countersign"
DETAILS = "grpc-status-details-bin"

# The code of each reason of the server's. An unknown reason is handled by the code that came with it.
_CODES = {
    "UNAUTHENTICATED": "CREDENTIAL_MISSING TOKEN_INVALID TOKEN_EXPIRED TOKEN_REVOKED TOKEN_BLOCKED ACCESS_TOKEN_INVALID "
    "ACCESS_TOKEN_STALE ACCOUNT_DEACTIVATED ORG_SUSPENDED LOGIN_FAILED",
    "PERMISSION_DENIED": "PERMISSION_MISSING GRANT_EXCEEDS_CALLER TARGET_EXCEEDS_CALLER SCOPE_NOT_HELD "
    "ORIGIN_NOT_ALLOWED ADDRESS_NOT_ALLOWED CLIENT_CERTIFICATE_NOT_ALLOWED PURPOSE_MISMATCH INVITATION_EMAIL_MISMATCH",
    "INVALID_ARGUMENT": "INVALID_FIELD MALFORMED_REQUEST INVALID_TARGET SUBJECT_NOT_EXCHANGEABLE ORIGIN_MISMATCH "
    "KIND_IS_IMMUTABLE EMAIL_IS_IMMUTABLE WIDENING_NOT_ALLOWED TARGET_NOT_SERVICE_ACCOUNT REQUEST_ID_REUSED "
    "CANNOT_CLONE_SELF CANNOT_DEACTIVATE_SELF CANNOT_DELETE_SELF UNSUPPORTED_GRANT_TYPE UNSUPPORTED_TOKEN_TYPE",
    "NOT_FOUND": "RESOURCE_NOT_FOUND",
    "ALREADY_EXISTS": "RESOURCE_EXISTS NAME_HELD_BY_DELETED_ACCOUNT USE_INVITATION REQUEST_REPLAYED",
    "FAILED_PRECONDITION": "ACCOUNT_OWNS_TOKENS LAST_OWNER HOME_ORG ROTATION_IN_PROGRESS SCOPE_TOO_WIDE RESOURCE_IN_USE "
    "LIMIT_REACHED",
    "ABORTED": "ETAG_MISMATCH CONFLICT",
    "OUT_OF_RANGE": "CURSOR_EXPIRED",
    "RESOURCE_EXHAUSTED": "MESSAGE_TOO_LARGE THROTTLED OVERLOADED",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED": "METHOD_UNKNOWN COMPRESSION_UNSUPPORTED",
    "UNAVAILABLE": "DATABASE_UNAVAILABLE UNAVAILABLE VERIFIER_STALE",
    "INTERNAL": "INTERNAL",
}
CODE_OF_REASON = {reason: code for code, reasons in _CODES.items() for reason in reasons.split()}
_RETRYABLE = {
    "OVERLOADED",
    "THROTTLED",
    "DATABASE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "CONFLICT",
    "UNAVAILABLE",
    "VERIFIER_STALE",
}
_RETRYABLE_CODES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
# Whatever these say, nothing was done: the call may be made again without a request id.
NOTHING_DONE = {"OVERLOADED", "THROTTLED", "CONFLICT"}
# After one of these a credential gives no JWT any more.
FINAL = {
    "CREDENTIAL_MISSING",
    "TOKEN_INVALID",
    "TOKEN_EXPIRED",
    "TOKEN_REVOKED",
    "TOKEN_BLOCKED",
    "ACCOUNT_DEACTIVATED",
    "ORG_SUSPENDED",
}
# These can be lifted, and the same credential works again.
LIFTABLE = {"TOKEN_BLOCKED", "ACCOUNT_DEACTIVATED", "ORG_SUSPENDED"}


@dataclass(frozen=True)
class Violation:
    """A field that is wrong, by its path in the request: `grants[0].resource`."""

    field: str
    description: str


@dataclass(frozen=True)
class Precondition:
    """A right, scope, token or limit that is in the way."""

    type: str
    subject: str
    description: str


class CountersignError(Exception):
    """A call that failed. `reason` says why; where the server gave none it is empty, and `code` counts."""

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        code: str = "",
        retryable: bool | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        preconditions: Iterable[Precondition] = (),
        request_id: str = "",
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        #: The name of the gRPC code, `PERMISSION_DENIED`.
        self.code = code or CODE_OF_REASON.get(reason, "UNKNOWN")
        #: Whether the same call may succeed later, without any change.
        self.retryable = is_retryable(self.reason, self.code) if retryable is None else retryable
        #: Seconds to wait at least, where the server said so.
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.preconditions = tuple(preconditions)
        #: The id of the call in the server's log.
        self.request_id = request_id

    def __str__(self) -> str:
        text = f"{self.reason or self.code}: {self.message}" if self.message else self.reason or self.code
        for violation in self.violations:
            text += f"; {violation.field}: {violation.description}"
        return text + (f" (request {self.request_id})" if self.request_id else "")

    @classmethod
    def from_rpc(cls, error: grpc.RpcError) -> CountersignError:
        """That of a call of any gRPC stub."""
        details = None
        trailers: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
        for name, value in trailers or ():
            if name == DETAILS:
                details = value
        code = error.code() if hasattr(error, "code") else None
        text = error.details() if hasattr(error, "details") else str(error)
        return cls.from_status(code.name if code else "UNKNOWN", text or "", details)

    @classmethod
    def from_status(cls, code: str, message: str, details: bytes | None) -> CountersignError:
        """That of a status, with the bytes of `grpc-status-details-bin`."""
        status = status_pb2.Status()
        try:
            status.ParseFromString(details or b"")
        except DecodeError:
            status = status_pb2.Status()
        found: dict[str, Any] = {"violations": [], "preconditions": []}
        reason = ""
        for detail in status.details:
            info, request, bad = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.RequestInfo(),
                error_details_pb2.BadRequest(),
            )
            failure, retry = error_details_pb2.PreconditionFailure(), error_details_pb2.RetryInfo()
            try:
                if detail.Unpack(info):
                    # Another server in between has reasons of its own.
                    if info.domain == DOMAIN:
                        reason, found["metadata"] = info.reason, dict(info.metadata)
                elif detail.Unpack(request):
                    found["request_id"] = request.request_id
                elif detail.Unpack(bad):
                    found["violations"] += [Violation(each.field, each.description) for each in bad.field_violations]
                elif detail.Unpack(failure):
                    found["preconditions"] += [
                        Precondition(each.type, each.subject, each.description) for each in failure.violations
                    ]
                elif detail.Unpack(retry):
                    found["retry_after"] = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
            except DecodeError:
                continue
        return cls(reason, message, code=code, **found)

    @classmethod
    def from_http(cls, status: int, headers: Mapping[str, str], body: bytes) -> CountersignError:
        """That of an answer of the OAuth endpoints; the names of the headers in lower case."""
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        description = answer.get("error_description") if isinstance(answer, dict) else None
        description = description if isinstance(description, str) else ""
        reason = headers.get("countersign-reason", "")
        if not reason and isinstance(answer, dict):
            # The description begins with the reason.
            first = description.partition(":")[0]
            reason = first if first in CODE_OF_REASON else ""
        retry_after = None
        if headers.get("retry-after", "").strip().isdecimal():
            retry_after = float(headers["retry-after"])
        code = CODE_OF_REASON.get(reason, "") or {
            400: "INVALID_ARGUMENT",
            401: "UNAUTHENTICATED",
            403: "PERMISSION_DENIED",
            404: "NOT_FOUND",
            429: "RESOURCE_EXHAUSTED",
            502: "UNAVAILABLE",
            503: "UNAVAILABLE",
            504: "UNAVAILABLE",
        }.get(status, "INTERNAL")
        return cls(
            reason,
            description or f"HTTP status {status}",
            code=code,
            retry_after=retry_after,
            request_id=headers.get("x-request-id", ""),
        )

    def to_status(self) -> tuple[str, str, bytes]:
        """Code, message and details, for a server that answers with it."""
        number = getattr(grpc.StatusCode, self.code, grpc.StatusCode.UNKNOWN).value[0]
        status = status_pb2.Status(code=number, message=self.message)
        status.details.add().Pack(
            error_details_pb2.ErrorInfo(domain=DOMAIN, reason=self.reason, metadata=self.metadata)
        )
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(self.retry_after * 1e9))
            status.details.add().Pack(retry)
        return self.code, self.message, status.SerializeToString()


class VerificationError(CountersignError):
    """A JWT that is refused, or a verifier that cannot say (`VERIFIER_STALE`). `check` names what failed."""

    def __init__(self, reason: str, check: str, message: str = "", **more: Any) -> None:
        super().__init__(reason, message, **more)
        self.check = check


class ForkedError(RuntimeError):
    """A token source, verifier or client was used in a child of the process that made it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this {what} was first used before the process forked, and its threads and connections are not in the "
            "child: make one in each worker, after the fork (gunicorn: in post_fork)"
        )


def is_retryable(reason: str, code: str) -> bool:
    """Whether a call with this outcome may succeed later."""
    if reason in CODE_OF_REASON:
        return reason in _RETRYABLE
    return code in _RETRYABLE_CODES
