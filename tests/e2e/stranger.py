"""An outside service verifies JWTs: knows the protos, a URL and a token, and nothing else of Countersign.

Generates a client from proto/, creates a service account and a token with it, exchanges the
token, and verifies the JWT with a standard library and the published keys. Then checks that
what must be refused is refused, with the exact reason. Prints a line for each step; fails
at the first error.

Needs the packages of tests/e2e/requirements.txt, and in the environment COUNTERSIGN_ENDPOINT,
COUNTERSIGN_OPERATOR_TOKEN and COUNTERSIGN_ORG_ID, as `countersign dev` writes them into
dev.env. May be run many times against one server. Where COUNTERSIGN_SIGNING_ALGORITHM is
set, the server must sign with that.
"""

import base64
import json
import os
import secrets
import sys
import tempfile
import time
import urllib.request
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import grpc
import jwt
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "proto"
SERVICES = ["AccountService", "OrgService", "TokenService"]
BILLING = "https://billing.example"
LEDGER = "https://ledger.example"
DEADLINE = 120  # seconds, for each call
# What a JWT may be signed with, and the members of a published key for it. Pinned: the key that a
# JWT names says which of them it is, and never the JWT.
ALGORITHMS = {
    "EdDSA": ["alg", "crv", "kid", "kty", "use", "x"],
    "ES256": ["alg", "crv", "kid", "kty", "use", "x", "y"],
    "RS256": ["alg", "e", "kid", "kty", "n", "use"],
}


def main():
    endpoint = setting("COUNTERSIGN_ENDPOINT")
    operator = bearer(setting("COUNTERSIGN_OPERATOR_TOKEN"))
    org_id = setting("COUNTERSIGN_ORG_ID")
    with tempfile.TemporaryDirectory() as generated:
        generate(generated)
        with grpc.insecure_channel(endpoint.removeprefix("http://")) as channel:
            run(Client(channel), channel, endpoint, operator, org_id)
    print("all good")


def run(client, channel, endpoint, operator, org_id):
    accounts, orgs, tokens = client.AccountService, client.OrgService, client.TokenService

    described(channel)
    done("the server describes the RPCs that proto/ declares, by reflection v1alpha")

    keys = Keys(endpoint)
    algorithms = ", ".join(keys.algorithms)
    done(f"discovery leads to {len(keys.by_id)} published key(s), for {algorithms}, over plain HTTP")

    name = f"stranger-{secrets.token_hex(4)}"
    path = f"strangers/{name}"
    orgs.CreateResource(client.CreateResourceRequest(org_id=org_id, path=path), **operator)
    account = accounts.CreateServiceAccount(
        client.CreateServiceAccountRequest(
            org_id=org_id,
            name=name,
            grants=[
                client.Grant(permission="invoices.read", resource="*"),
                client.Grant(permission="invoices.list", resource="*"),
                client.Grant(permission="invoices.write", resource=path),
            ],
        ),
        **operator,
    ).account
    equal(account.kind, client.ACCOUNT_KIND_SERVICE_ACCOUNT, "the account's kind")
    equal(account.state, client.ACCOUNT_STATE_ACTIVE, "the account's state")
    done(f"created the service account {name}, {account.id}")

    request = client.CreateTokenRequest(org_id=org_id, account_id=account.id, display_name=name)
    request.ttl.FromSeconds(3600)
    created = tokens.CreateToken(request, **operator)
    token, secret = created.token, created.secret
    equal(len(secret), 83, "the length of the token's text")
    equal(secret.startswith("csign_sat_"), True, "the token's text begins with csign_sat_")
    equal(token.account_id, account.id, "the token's account")
    done(f"created the token {token.id}")

    answer = tokens.ExchangeToken(client.ExchangeTokenRequest(subject_token=secret), **anonymous())
    equal(answer.token_type, "Bearer", "token_type")
    equal(answer.issued_token_type, "urn:ietf:params:oauth:token-type:access_token", "issued_token_type")
    claims = keys.verify(answer.access_token, audience=keys.issuer)
    check_claims(claims, keys.issuer, account, token)
    equal(claims["aud"], keys.issuer, "aud when none is asked for")
    equal(claims["scope"], "invoices.list invoices.read", "scope")
    equal(list(answer.scopes), claims["scope"].split(), "scopes of the answer")
    equal(answer.expire_time.seconds, claims["exp"], "expire_time of the answer")
    equal(claims["exp"] - claims["iat"], 300, "the lifetime when none is asked for, in seconds")
    equal(claims["roles"], ["member"], "roles")
    details = [{"type": "countersign_grant", "identifier": path, "actions": ["invoices.write"]}]
    equal(claims["authorization_details"], details, "authorization_details")
    done("exchanged it, and verified header, signature and claims of the JWT")

    caller = accounts.GetCaller(client.GetCallerRequest(), **bearer(answer.access_token))
    equal(caller.account.id, account.id, "whom the JWT stands for at Countersign's own API")
    equal(caller.credential_id, token.id, "the credential behind the JWT")
    done("Countersign's own API takes the JWT for the account")

    request = client.ExchangeTokenRequest(
        subject_token=secret, scopes=["invoices.read"], audiences=[BILLING, LEDGER]
    )
    request.requested_ttl.FromSeconds(60)
    narrow = tokens.ExchangeToken(request, **anonymous()).access_token
    claims = keys.verify(narrow, audience=BILLING)
    check_claims(claims, keys.issuer, account, token)
    equal(claims["aud"], [BILLING, LEDGER], "aud when two are asked for")
    equal(claims["scope"], "invoices.read", "the narrowed scope")
    equal(claims["exp"] - claims["iat"], 60, "the lifetime that was asked for, in seconds")
    equal("roles" in claims, False, "a narrowed JWT has roles")
    equal("authorization_details" in claims, False, "a JWT narrowed to invoices.read says more")
    done("exchanged it for less: one scope, two audiences, one minute")

    refuses(jwt.InvalidAudienceError, lambda: keys.verify(narrow, audience="https://other.example"))
    refuses(jwt.InvalidAudienceError, lambda: keys.verify(narrow, audience=keys.issuer))
    refuses(jwt.InvalidSignatureError, lambda: keys.verify(tampered(narrow), audience=BILLING))
    done("refused the JWT for another audience, and one whose claims were changed")

    fails(
        lambda: accounts.GetCaller(client.GetCallerRequest(), **bearer(narrow)),
        grpc.StatusCode.UNAUTHENTICATED,
        "ACCESS_TOKEN_INVALID",
    )
    done("Countersign's own API refuses the JWT that is meant for somebody else")

    def exchange(**fields):
        return lambda: tokens.ExchangeToken(client.ExchangeTokenRequest(**fields), **anonymous())

    denied, invalid = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT
    fails(exchange(subject_token=secret, scopes=["tokens.write"]), denied, "SCOPE_NOT_HELD")
    fails(exchange(subject_token=secret, audiences=[BILLING, keys.issuer]), invalid, "INVALID_TARGET")
    fails(exchange(subject_token=narrow), invalid, "SUBJECT_NOT_EXCHANGEABLE")
    done("an exchange for more than is held, for the issuer among others, or of a JWT is refused")

    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    fails(exchange(subject_token=secret[:-1]), unauthenticated, "TOKEN_INVALID")
    fails(exchange(), unauthenticated, "CREDENTIAL_MISSING")
    done("an exchange of a cut token, or of none, is refused")

    details = fails(
        lambda: accounts.CreateServiceAccount(
            client.CreateServiceAccountRequest(
                org_id=org_id,
                name="two words",
                contact_email="nobody",
                grants=[client.Grant(permission="invoices.read")],
            ),
            **operator,
        ),
        invalid,
        "INVALID_FIELD",
    )
    bad = unpack(details, error_details_pb2.BadRequest)
    wrong = {violation.field for violation in bad.field_violations}
    equal(wrong, {"name", "contact_email", "grants[0].resource"}, "the fields that are named as wrong")
    done("a bad request is refused with every field that is wrong")

    seen = tokens.IntrospectToken(client.IntrospectTokenRequest(token_text=secret), **operator)
    equal((seen.active, seen.sub, seen.client_id), (True, account.id, token.id), "the introspection")
    revoked = tokens.RevokeToken(
        client.RevokeTokenRequest(
            org_id=org_id, token_id=token.id, reason=client.REVOKE_REASON_CESSATION_OF_OPERATION
        ),
        **operator,
    ).token
    equal(revoked.state, client.TOKEN_STATE_REVOKED, "the state of the revoked token")
    fails(exchange(subject_token=secret), unauthenticated, "TOKEN_REVOKED")
    fails(
        lambda: accounts.GetCaller(client.GetCallerRequest(), **bearer(answer.access_token)),
        unauthenticated,
        "TOKEN_REVOKED",
    )
    seen = tokens.IntrospectToken(client.IntrospectTokenRequest(token_text=secret), **operator)
    equal(seen, client.IntrospectTokenResponse(), "the introspection of the revoked token")
    done("revoked it: no exchange, no call with its JWT, and introspected as inactive")


class Client:
    """The generated code: stubs by the names of their services, messages and enum values by theirs."""

    def __init__(self, channel):
        for service in SERVICES:
            stubs = import_module(f"countersign.v1.{snake(service)}_pb2_grpc")
            setattr(self, service, getattr(stubs, f"{service}Stub")(channel))

    def __getattr__(self, name):
        for module in ["account_service", "org_service", "token_service", "accounts", "orgs", "tokens"]:
            found = getattr(import_module(f"countersign.v1.{module}_pb2"), name, None)
            if found is not None:
                return found
        raise AttributeError(name)


def snake(service):
    return service.removesuffix("Service").lower() + "_service"


def generate(out):
    """What `buf generate` or protoc does, into a directory that Python imports from."""
    protos = [str(path) for path in sorted(PROTO.glob("countersign/v1/*.proto"))]
    well_known = files("grpc_tools") / "_proto"
    arguments = [f"-I{PROTO}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *arguments, *protos]) != 0:
        wrong("the client could not be generated")
    sys.path.insert(0, out)
    done(f"generated a Python client from {len(protos)} protos")


def described(channel):
    """Compares the reflection of the server with the protos that we have."""
    database = ProtoReflectionDescriptorDatabase(channel)
    served = set(database.get_services())
    for service in SERVICES:
        full_name = f"countersign.v1.{service}"
        equal(full_name in served, True, f"reflection lists {full_name}")
        said = database.FindFileContainingSymbol(full_name)
        said = {method.name for entry in said.service for method in entry.method}
        ours = import_module(f"countersign.v1.{snake(service)}_pb2").DESCRIPTOR
        equal(said, set(ours.services_by_name[service].methods_by_name), f"the RPCs of {service}")


class Keys:
    """The issuer's keys, found as any OpenID Connect or OAuth library finds them."""

    def __init__(self, endpoint):
        discovered = fetch(f"{endpoint}/.well-known/openid-configuration")
        self.issuer = discovered["issuer"]
        equal(self.issuer, endpoint, "the issuer of a dev server")
        equal(
            fetch(f"{endpoint}/.well-known/oauth-authorization-server")["jwks_uri"],
            discovered["jwks_uri"],
            "jwks_uri of both discovery documents",
        )
        published = fetch(discovered["jwks_uri"])["keys"]
        for key in published:
            equal(key["alg"] in ALGORITHMS, True, f"{key['alg']} is an algorithm of Countersign's")
            equal(sorted(key), ALGORITHMS[key["alg"]], "the members of a published key")
        self.algorithms = sorted({key["alg"] for key in published})
        equal(
            discovered["id_token_signing_alg_values_supported"],
            self.algorithms,
            "the algorithms that discovery names",
        )
        self.by_id = {key["kid"]: jwt.PyJWK(key) for key in published}

    def verify(self, token, audience):
        header = jwt.get_unverified_header(token)
        equal(sorted(header), ["alg", "kid", "typ"], "the members of the JWT's header")
        equal(header["kid"] in self.by_id, True, f"the key {header['kid']} is published")
        key = self.by_id[header["kid"]]
        algorithm = key.algorithm_name
        equal((header["typ"], header["alg"]), ("at+jwt", algorithm), "typ and alg of the JWT's header")
        expected = os.environ.get("COUNTERSIGN_SIGNING_ALGORITHM") or algorithm
        equal(algorithm, expected, "the algorithm of the key that signs")
        required = ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id"]
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=self.issuer,
            audience=audience,
            # The clocks of two machines differ.
            leeway=60,
            options={"require": required},
        )


def fetch(url):
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        equal(answer.status, 200, f"the HTTP status of {url}")
        equal(answer.headers["Cache-Control"], "public, max-age=300", f"Cache-Control of {url}")
        return json.load(answer)


def check_claims(claims, issuer, account, token):
    """The claims of RFC 9068, section 2.2, and Countersign's own: all there, and of the right type."""
    types = {
        "iss": str,
        "sub": str,
        "exp": int,
        "iat": int,
        "nbf": int,
        "jti": str,
        "client_id": str,
        "scope": str,
        "org": str,
        "account_kind": str,
        "token_kind": str,
        "org_ver": int,
        "acct_ver": int,
        "secret": int,
    }
    for claim, kind in types.items():
        equal(type(claims.get(claim)), kind, f"the type of {claim}")
    equal(claims["iss"], issuer, "iss")
    equal(claims["sub"], account.id, "sub")
    equal(claims["client_id"], token.id, "client_id")
    equal(claims["org"], account.org_id, "org")
    equal(claims["account_kind"], "SERVICE_ACCOUNT", "account_kind")
    equal(claims["token_kind"], "SECRET", "token_kind")
    equal(claims["nbf"], claims["iat"], "nbf")
    equal(bool(claims["jti"]), True, "jti says something")
    equal(claims["iat"] <= time.time() < claims["exp"] <= token.expire_time.seconds, True, "iat ≤ now < exp")


def tampered(token):
    """The same JWT with another subject under the old signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["sub"] = "acct_somebody_else"
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


def bearer(credential):
    return {"metadata": (("authorization", f"Bearer {credential}"),), "timeout": DEADLINE}


def anonymous():
    return {"timeout": DEADLINE}


def fails(call, code, reason):
    """Makes a call that must fail, and gives the details of its status."""
    try:
        call()
    except grpc.RpcError as error:
        equal(error.code(), code, f"the code where {reason} is expected ({error.details()})")
        status = rpc_status.from_call(error)
        equal(status is not None, True, f"a status with details where {reason} is expected")
        info = unpack(status.details, error_details_pb2.ErrorInfo)
        equal((info.domain, info.reason), ("countersign", reason), "domain and reason of the ErrorInfo")
        return status.details
    wrong(f"a call succeeded that must fail with {reason}")


def unpack(details, kind):
    message = kind()
    if not any(detail.Unpack(message) for detail in details):
        wrong(f"the status has no {kind.DESCRIPTOR.full_name}")
    return message


def refuses(error, verify):
    try:
        verify()
    except error:
        return
    wrong(f"the JWT was accepted where {error.__name__} is expected")


def setting(name):
    return os.environ.get(name) or wrong(f"{name} is not set: `set -a; source .countersign/dev.env`")


def equal(found, expected, what):
    if found != expected:
        wrong(f"{what}: found {found!r}, expected {expected!r}")


def done(step):
    print(f"ok  {step}", flush=True)


def wrong(what):
    sys.exit(f"stranger: {what}")


if __name__ == "__main__":
    main()
