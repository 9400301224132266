"""Interceptors of gRPC servers: which right a method asks for, on which resource."""

from __future__ import annotations

import base64
import hashlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import grpc
from countersign.claims import Claims
from countersign.errors import DETAILS, CountersignError
from countersign.verifier import Verifier

_claims: ContextVar[Claims | None] = ContextVar("countersign_claims", default=None)
Find = str | Callable[[Any], str | None]
Orgs = Callable[[Any], str | None] | str | None


def current_claims() -> Claims:
    """The claims of the request that is being answered."""
    claims = _claims.get()
    if claims is None:
        raise LookupError("no request is being answered behind the interceptor")
    return claims


@dataclass(frozen=True)
class Rule:
    """What a method asks for.

    `resource`: the field of the message that names the resource (`"report.path"`), or a function of the message; None
    = the right in the whole org. A resource that is empty is the whole org, too. `org`: likewise, the field with the
    tenant that the request is about; None = any.
    """

    permission: str
    resource: Find | None = None
    org: Find | None = None

    def resource_of(self, message: Any) -> str | None:
        return _found(self.resource, message) or None

    def org_of(self, message: Any) -> str | None:
        return _found(self.org, message)


def _found(find: Find | None, message: Any) -> str | None:
    if find is None:
        return None
    if callable(find):
        return find(message)
    for name in find.split("."):
        message = getattr(message, name)
    if not isinstance(message, str):
        raise TypeError(f"{find} is no text")
    return message


class _Door:
    """What both interceptors do."""

    def __init__(
        self,
        verifier: Verifier,
        audience: str,
        rules: Mapping[str, Rule],
        *,
        orgs: Any = None,
        public: tuple[str, ...] = (),
    ) -> None:
        """`rules` by the path of the method, `/package.Service/Method`: one without a rule is denied. `public` are
        paths that need no credential. `orgs`: the tenants that this server serves; None = all."""
        self._verifier = verifier
        self._audience = audience
        self._rules = dict(rules)
        self._orgs = orgs
        self._public = frozenset(public)

    def _arguments(self, metadata: Any, peer: Mapping[str, Any]) -> tuple[str, str | None]:
        given = [value for name, value in metadata or () if name.lower() == "authorization"]
        token = bearer_of(given)
        certificate = (peer.get("x509_pem_cert") or [None])[0]
        return token, thumbprint_of(certificate) if certificate else None

    def _authorise(self, rule: Rule | None, claims: Claims, message: Any) -> None:
        if rule is None:
            raise CountersignError("PERMISSION_MISSING", "the method has no rule")
        org = rule.org_of(message)
        if rule.org is not None and org != claims.org_id:
            # As one that does not exist: which tenants there are is not for the callers of others.
            raise CountersignError("RESOURCE_NOT_FOUND", "no such org")
        require(claims, rule.permission, rule.resource_of(message))


class Interceptor(_Door, grpc.ServerInterceptor):
    """For `grpc.server(…, interceptors=[…])`."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler, path = continuation(handler_call_details), handler_call_details.method
        if handler is None or path in self._public:
            return handler
        rule = self._rules.get(path)
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        behaviour = (
            (handler.stream_stream if streams_out else handler.stream_unary)
            if streams_in
            else (handler.unary_stream if streams_out else handler.unary_unary)
        )

        def admit(context: grpc.ServicerContext, message: Any, claims: Claims | None) -> Claims:
            try:
                if claims is None:
                    token, certificate = self._arguments(context.invocation_metadata(), context.auth_context())
                    claims = self._verifier.verify(
                        token, self._audience, self._orgs, certificate_thumbprint=certificate
                    )
                if message is not None:
                    self._authorise(rule, claims, message)
                return claims
            except CountersignError as error:
                context.abort_with_status(_Status(error))
                raise AssertionError("abort returns") from None

        def messages(context: grpc.ServicerContext, requests: Iterator[Any], claims: Claims) -> Iterator[Any]:
            for message in requests:
                admit(context, message, claims)
                yield message

        def prepare(request: Any, context: grpc.ServicerContext) -> tuple[Any, Claims]:
            if not streams_in:
                return request, admit(context, request, None)
            claims = admit(context, None, None)
            return messages(context, request, claims), claims

        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            request, claims = prepare(request, context)
            with _current(claims):
                return behaviour(request, context)

        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            request, claims = prepare(request, context)
            with _current(claims):
                answers = iter(behaviour(request, context))
            while True:
                # Between two answers other calls may run in this thread.
                with _current(claims):
                    try:
                        answer = next(answers)
                    except StopIteration:
                        return
                yield answer

        return _handler(handler, stream if streams_out else unary)


class AioInterceptor(_Door, grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[…])`."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler, path = await continuation(handler_call_details), handler_call_details.method
        if handler is None or path in self._public:
            return handler
        rule = self._rules.get(path)
        streams_in, streams_out = handler.request_streaming, handler.response_streaming
        behaviour = (
            (handler.stream_stream if streams_out else handler.stream_unary)
            if streams_in
            else (handler.unary_stream if streams_out else handler.unary_unary)
        )

        async def admit(context: Any, message: Any, claims: Claims | None) -> Claims:
            try:
                if claims is None:
                    token, certificate = self._arguments(context.invocation_metadata(), context.auth_context())
                    claims = await self._verifier.verify_async(
                        token, self._audience, self._orgs, certificate_thumbprint=certificate
                    )
                if message is not None:
                    self._authorise(rule, claims, message)
                return claims
            except CountersignError as error:
                status = _Status(error)
                await context.abort(status.code, status.details, status.trailing_metadata)
                raise AssertionError("abort returns") from None

        async def messages(context: Any, requests: Any, claims: Claims) -> AsyncIterator[Any]:
            async for message in requests:
                await admit(context, message, claims)
                yield message

        async def prepare(request: Any, context: Any) -> tuple[Any, Claims]:
            if not streams_in:
                return request, await admit(context, request, None)
            claims = await admit(context, None, None)
            return messages(context, request, claims), claims

        async def unary(request: Any, context: Any) -> Any:
            request, claims = await prepare(request, context)
            # Each call is a task of its own, with a context of its own.
            _claims.set(claims)
            answer = behaviour(request, context)
            return await answer if inspect.isawaitable(answer) else answer

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            request, claims = await prepare(request, context)
            _claims.set(claims)
            async for answer in behaviour(request, context):
                yield answer

        return _handler(handler, stream if streams_out else unary)


def _handler(handler: Any, behaviour: Any) -> Any:
    kind = ("stream_" if handler.request_streaming else "unary_") + (
        "stream" if handler.response_streaming else "unary"
    )
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(behaviour, handler.request_deserializer, handler.response_serializer)


class _Status(grpc.Status):
    """A denial, with `google.rpc.ErrorInfo`."""

    def __init__(self, error: CountersignError) -> None:
        code, self.details, details = error.to_status()
        self.code = getattr(grpc.StatusCode, code, grpc.StatusCode.UNKNOWN)
        self.trailing_metadata = ((DETAILS, details), ("countersign-reason", error.reason))


@contextmanager
def _current(claims: Claims) -> Iterator[None]:
    before = _claims.set(claims)
    try:
        yield
    finally:
        _claims.reset(before)


def bearer_of(given: list[str]) -> str:
    """The token of the `authorization` headers of a request: exactly one, a bearer's."""
    if not given:
        raise CountersignError("CREDENTIAL_MISSING", "the call has no credential")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise CountersignError("CREDENTIAL_MISSING", "the call needs one authorization: Bearer")
    return token.strip()


def thumbprint_of(certificate: bytes | str) -> str:
    """The `x5t#S256` of a certificate, PEM."""
    pem = certificate.encode() if isinstance(certificate, str) else certificate
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def require(claims: Claims, permission: str, resource: str | None = None) -> None:
    """Raises `PERMISSION_MISSING` where the claims do not carry the right."""
    if not claims.allows(permission, resource):
        metadata = {"permission": permission} | ({"resource": resource} if resource is not None else {})
        raise CountersignError("PERMISSION_MISSING", f"{permission} is missing", metadata=metadata)
