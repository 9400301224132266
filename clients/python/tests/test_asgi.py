import asyncio
import json

import pytest

from conftest import AUDIENCE
from countersign import Middleware, Route, current_claims

ROUTES = [
    Route("GET", "/reports/{path:path}", "a.write", "reports/{path}"),
    Route("GET", "/orgs/{org}/x", "a.read"),
    Route("GET", "/me"),
]
DETAILS = [{"type": "countersign_grant", "identifier": "reports/acme", "actions": ["a.write"]}]


async def app(scope, _receive, send):
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    claims = scope.get("countersign")
    body = json.dumps({"sub": claims.account_id if claims else None}).encode()
    assert claims is None or current_claims() is claims
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def ask(middleware, path, jwt=None, method="GET", kind="http", headers=()):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    given = [(b"authorization", f"Bearer {jwt}".encode())] if jwt else []
    scope = {"type": kind, "path": path, "headers": [*given, *headers]} | ({"method": method} if kind == "http" else {})
    asyncio.run(middleware(scope, receive, send))
    if kind != "http":
        return sent
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, sent[1]["body"]


@pytest.fixture
def middleware(issuer):
    options = {"public": ["/healthz", "/static/"], "resource": "https://billing.example/api"}
    return Middleware(app, issuer.verifier(), AUDIENCE, ROUTES, **options)


def test_routes(middleware, issuer):
    jwt = issuer.jwt(authorization_details=DETAILS)
    for path, status in {
        "/reports/acme": 200,
        "/reports/acme/may": 200,
        "/reports/acme2": 403,
        "/reports/": 403,
        "/reports/acme/../other": 403,
        "/orgs/1/x": 200,
        "/orgs/1/2/x": 403,
        "/me": 200,
        "/me/": 403,
        "/other": 403,
    }.items():
        assert ask(middleware, path, jwt)[0] == status, path
    assert ask(middleware, "/me", jwt, method="POST")[0] == 403
    assert ask(middleware, "/me", jwt, method="HEAD")[0] == 200


def test_public(middleware):
    for path, status in {
        "/healthz": 200,
        "/static/app.js": 200,
        "/static": 401,
        "/healthz/x": 401,
        "/static/../me": 401,
    }.items():
        assert ask(middleware, path)[0] == status, path


def test_the_metadata(middleware):
    url = "https://billing.example/.well-known/oauth-protected-resource/api"
    status, headers, _ = ask(middleware, "/me")
    assert (status, headers["www-authenticate"]) == (401, f'Bearer resource_metadata="{url}"')
    status, headers, body = ask(middleware, "/.well-known/oauth-protected-resource/api")
    assert (status, json.loads(body)["authorization_servers"]) == (200, ["https://id.example"])
    assert json.loads(body)["resource"] == "https://billing.example/api"


def test_two_credentials(middleware, issuer):
    jwt = issuer.jwt()
    assert ask(middleware, "/me", jwt, headers=[(b"authorization", b"Bearer x")])[0] == 401


def test_a_websocket(middleware, issuer):
    assert ask(middleware, "/me", kind="websocket")[0]["type"] == "websocket.close"


def test_the_lifespan(middleware):
    assert ask(middleware, "", kind="lifespan") == [{"type": "lifespan.startup.complete"}]


def test_certificates(issuer):
    jwt = issuer.jwt(cnf={"x5t#S256": "abc"})
    for given, status in (("abc", 200), ("abd", 401), (None, 401)):
        middleware = Middleware(app, issuer.verifier(), AUDIENCE, ROUTES, certificate_thumbprint=lambda _scope: given)
        assert ask(middleware, "/me", jwt)[0] == status
