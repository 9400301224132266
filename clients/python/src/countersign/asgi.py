"""Middleware of ASGI applications (Starlette, FastAPI, Quart, Django): which right a path asks for."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from countersign.claims import Claims
from countersign.errors import CountersignError
from countersign.interceptor import _claims, bearer_of, require
from countersign.verifier import Verifier

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")
METADATA_PATH = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True)
class Route:
    """What a method and path ask for: `Route("GET", "/reports/{name:path}", "reports.read", "{name}")`.

    A parameter is one segment of the path, or with `:path` the rest of it. Without a `resource` the right is asked for
    in the whole org; without a `permission` a good JWT is enough.
    """

    method: str
    path: str
    permission: str | None = None
    resource: str | None = None

    def __post_init__(self) -> None:
        pattern, at = "", 0
        for found in _PARAMETER.finditer(self.path):
            pattern += re.escape(self.path[at : found.start()]) + f"(?P<{found[1]}>{'.+' if found[2] else '[^/]+'})"
            at = found.end()
        pattern += re.escape(self.path[at:])
        object.__setattr__(self, "_pattern", re.compile(pattern, re.DOTALL))

    def match(self, method: str, path: str) -> dict[str, str] | None:
        if method != self.method and not (method == "HEAD" and self.method == "GET"):
            return None
        found = self._pattern.fullmatch(path)  # type: ignore[attr-defined]
        return found.groupdict() if found else None

    def resource_of(self, parameters: dict[str, str]) -> str | None:
        return None if self.resource is None else self.resource.format(**parameters)


class Middleware:
    """Verifies the JWT of each request, asks for the right of its route, and puts the claims into
    `scope["countersign"]` and `current_claims()`.

    A path without a route is denied; `public` are the paths (and what is below those that end in `/`) that need no
    credential. `resource` is the URL of this service: its metadata (RFC 9728) is served, and named in each 401.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        audience: str,
        routes: Iterable[Route],
        *,
        orgs: Any = None,
        public: Iterable[str] = (),
        resource: str | None = None,
        metadata_url: str | None = None,
        certificate_thumbprint: Callable[[Scope], str | None] | None = None,
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._audience = audience
        self._routes = tuple(routes)
        self._orgs = orgs
        self._public = tuple(public)
        self._resource = resource
        self._thumbprint = certificate_thumbprint
        if metadata_url is None and resource is not None:
            parts = urllib.parse.urlsplit(resource)
            metadata_url = f"{parts.scheme}://{parts.netloc}{METADATA_PATH}{parts.path.rstrip('/')}"
        self._metadata_url = metadata_url
        self._metadata_path = urllib.parse.urlsplit(metadata_url).path if resource and metadata_url else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            # The start and the end of the server.
            await self._app(scope, receive, send)
            return
        path, method = scope["path"], scope.get("method", "GET")
        if path == self._metadata_path and method in ("GET", "HEAD"):
            document = {
                "resource": self._resource,
                "authorization_servers": [self._verifier.issuer],
                "bearer_methods_supported": ["header"],
            }
            await _answer(scope, receive, send, 200, [], document)
            return
        if not self._is_public(path):
            try:
                claims = await self._admit(scope, method, path)
            except CountersignError as error:
                await self._deny(scope, receive, send, error)
                return
            scope["countersign"] = claims
            _claims.set(claims)
        await self._app(scope, receive, send)

    def _is_public(self, path: str) -> bool:
        if _is_ambiguous(path):
            return False
        return any(path == each or each.endswith("/") and path.startswith(each) for each in self._public)

    async def _admit(self, scope: Scope, method: str, path: str) -> Claims:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"authorization"]
        token = bearer_of(given)
        thumbprint = self._thumbprint(scope) if self._thumbprint else None
        claims = await self._verifier.verify_async(token, self._audience, self._orgs, certificate_thumbprint=thumbprint)
        if not _is_ambiguous(path):
            for route in self._routes:
                parameters = route.match(method, path)
                if parameters is None:
                    continue
                if route.permission is not None:
                    require(claims, route.permission, route.resource_of(parameters))
                return claims
        raise CountersignError("PERMISSION_MISSING", "the path has no rule")

    async def _deny(self, scope: Scope, receive: Receive, send: Send, error: CountersignError) -> None:
        headers = [(b"countersign-reason", error.reason.encode())]
        challenge = []
        if self._metadata_url:
            challenge.append(f'resource_metadata="{self._metadata_url}"')
        if error.code == "UNAVAILABLE":
            status = 503
            headers.append((b"retry-after", b"1"))
        elif error.reason == "CREDENTIAL_MISSING":
            # RFC 6750, 3.1: without a credential there is no error to tell.
            status = 401
        elif error.code == "PERMISSION_DENIED" and error.reason == "PERMISSION_MISSING":
            status = 403
            challenge.append('error="insufficient_scope"')
            if permission := error.metadata.get("permission"):
                challenge.append(f'scope="{permission}"')
        else:
            status = 401
            challenge.append('error="invalid_token"')
        if status != 503:
            value = "Bearer " + ", ".join(challenge) if challenge else "Bearer"
            headers.append((b"www-authenticate", value.encode()))
        await _answer(scope, receive, send, status, headers, {"reason": error.reason, "message": error.message})


def _is_ambiguous(path: str) -> bool:
    """Whether what is behind this may read the path otherwise than the rules do."""
    if "\0" in path or "\\" in path:
        return True
    segments = path.split("/")[1:]
    # One `/` at the end is an empty last segment.
    return any(segment in (".", "..") for segment in segments) or "" in segments[:-1]


async def _answer(
    scope: Scope, receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: dict[str, Any]
) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted: the server answers 403.
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    text = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope.get("method") == "HEAD" else text})
