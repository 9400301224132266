#!/usr/bin/env python3
"""Writes vectors/: JWTs, rights, streams and errors, with what is right for each.

    make_vectors.py        needs PyJWT, cryptography and googleapis-common-protos

Signatures of ES256 differ with each run, and so do the keys of ES256 and RS256: what they are for does not. All keys
are made here and sign nothing else.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from jwt.algorithms import get_default_algorithms

VECTORS = Path(__file__).parent / "vectors"
ISSUER = "https://id.example"
AUDIENCE = "https://billing.example"
NOW = 1_790_000_000
CLOCK = {"wall": NOW, "monotonic": 1000}
ALGORITHMS = get_default_algorithms()
ORG, OTHER_ORG = "org_01m8hx6g6jf5ave95efn33p616", "org_01m8hx6g6jf5ave95efn33p617"
ACCOUNT, OTHER_ACCOUNT = "acct_01m8hx6g6zf3msazvk845t3et9", "acct_01m8hx6g6zf3msazvk845t3eta"
TOKEN, OTHER_TOKEN = "tok_01m8hxdca4e86ajjkym76wqn72", "tok_01m8hxdca4e86ajjkym76wqn73"
SESSION, RULE = "ses_01m8hxdca4e86ajjkym76wqn74", "fed_01m8hxdca4e86ajjkym76wqn75"


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Pair:
    def __init__(self, alg, private):
        self.alg, self.private = alg, private
        jwk = ALGORITHMS[alg].to_jwk(private.public_key(), as_dict=True)
        jwk.pop("key_ops", None)
        members = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
        thumbprint = json.dumps({name: jwk[name] for name in members}, separators=(",", ":")).encode()
        self.kid = encode(hashlib.sha256(thumbprint).digest())
        self.jwk = {**{name: jwk[name] for name in members}, "use": "sig", "alg": alg, "kid": self.kid}

    def sign(self, message):
        return ALGORITHMS[self.alg].sign(message, self.private)


def ed25519_pair(seed):
    return Pair("EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ED, NEXT, STRANGER = ed25519_pair(1), ed25519_pair(2), ed25519_pair(3)
EC = Pair("ES256", ec.generate_private_key(ec.SECP256R1()))
RSA = Pair("RS256", rsa.generate_private_key(65537, 2048))
PLATFORM = Pair("RS256", rsa.generate_private_key(65537, 2048))
KEYS = [ED.jwk, EC.jwk, RSA.jwk]


def claims(**changes):
    made = {
        "iss": ISSUER,
        "sub": ACCOUNT,
        "aud": AUDIENCE,
        "exp": NOW + 300,
        "iat": NOW,
        "nbf": NOW,
        "jti": "01a2032e-398a-7c88-bc12-5c1744c73066",
        "client_id": TOKEN,
        "scope": "invoices.read reports.read",
        "org": ORG,
        "account_kind": "SERVICE_ACCOUNT",
        "token_kind": "SECRET",
        "org_ver": 3,
        "acct_ver": 5,
        "secret": 2,
    }
    made |= changes
    return {name: value for name, value in made.items() if value is not ...}


def of_rule(**changes):
    return claims(**{"client_id": RULE, "token_kind": "FEDERATED", "rule_ver": 4} | without("secret") | changes)


def without(*names):
    return {name: ... for name in names}


def jwt(payload=None, key=ED, *, header=None, signature=None, header_text=None, payload_text=None):
    head = {"typ": "at+jwt", "alg": key.alg, "kid": key.kid} | (header or {})
    head = {name: value for name, value in head.items() if value is not ...}
    payload = claims() if payload is None else payload
    parts = [
        header_text or json.dumps(head, separators=(",", ":")),
        payload_text or json.dumps(payload, separators=(",", ":")),
    ]
    message = ".".join(encode(part.encode()) for part in parts).encode()
    signed = key.sign(message) if signature is None else signature
    return f"{message.decode()}.{encode(signed)}"


def good(payload=None, **more):
    return {"claims": payload if payload is not None else claims(), **more}


def bad(*checks, reason="ACCESS_TOKEN_INVALID"):
    return {"reason": reason, "checks": list(checks)}


### JWTs.

cases = []


def case(row, name, token, expect, **more):
    cases.append({"row": row, "name": name, "jwt": token, **more, "expect": expect})


def good_jwts():
    row = "good JWTs"

    def passes(name, payload, key=ED, **more):
        case(row, name, jwt(payload, key), {"claims": payload}, **more)

    passes("Ed25519", claims())
    passes("P-256", claims(), EC)
    passes("RSA", claims(), RSA)
    passes("two audiences", claims(aud=["https://ledger.example", AUDIENCE]))
    passes("a list of one audience", claims(aud=[AUDIENCE]))
    passes("one second before its end", claims(exp=NOW + 1))
    passes("issued 60 s in the future", claims(iat=NOW + 60, nbf=NOW + 60))
    passes("issued long ago", claims(iat=NOW - 86400, nbf=NOW - 86400))
    passes("without a scope", claims(**without("scope")))
    passes("an empty scope", claims(scope=""))
    passes("of a session", claims(client_id=SESSION, token_kind="SESSION", **without("secret")))
    passes("of a federation rule", of_rule())
    passes("of a federation rule in its first version", of_rule(rule_ver=1))
    passes("claims that are not known", claims(roles=["member"], department={"x": [1, None, True]}))
    passes("text beyond ASCII", claims(name="Zoë Ruiz 東京"))
    passes("the org of the request", claims(), orgs=[OTHER_ORG, ORG])
    passes("version 0", claims(org_ver=0, acct_ver=0))
    passes("a large version", claims(acct_ver=2**53 - 1))
    token = jwt(header={"jku": "https://evil.example/keys", "x5u": "https://evil.example/cert"})
    case(row, "URLs of keys in the header, which are ignored", token, good())


def attacks():
    row = "attacks: form, header, signature"
    token = jwt()
    head, payload, signature = token.split(".")

    def refused(name, token, *checks, **more):
        case(row, name, token, bad(*checks), **more)

    refused("empty", "", "format")
    refused("a word", "hello", "format")
    refused("two parts", f"{head}.{payload}", "format", "typ")
    refused("four parts", f"{token}.{signature}", "format")
    refused("five parts, as JWE", f"{token}..", "format")
    refused("an empty header", f".{payload}.{signature}", "format")
    refused("an empty payload", f"{head}..{signature}", "format")
    refused("no signature", f"{head}.{payload}.", "format", "signature")
    refused("padding", f"{head}=.{payload}.{signature}", "format", "signature")
    refused("the other base64", f"{head}.{payload}.{signature[:-3]}+/A", "format", "signature")
    refused("white space inside", f"{head}. {payload}.{signature}", "format", "signature")
    refused("a line break at the end", token + "\n", "format", "signature")
    refused("a NUL at the end", token + "\0", "format", "signature")
    refused("beyond ASCII", f"{head}.{payload}.{signature}é", "format", "signature")
    refused("17 KiB", jwt(claims(padding="x" * 17 * 1024)), "format")
    refused("a header that is a list", jwt(header_text='["at+jwt"]'), "format")
    refused("a header that is null", jwt(header_text="null"), "format")
    refused("a header that is no JSON", jwt(header_text='{"typ":"at+jwt",'), "format")
    refused("a payload that is a list", jwt(payload_text="[1]"), "format", "claims")
    refused("a payload that is no JSON", jwt(payload_text="{"), "format", "claims")
    refused(
        "a payload nested 6 000 deep", jwt(payload_text='{"a":' + "[" * 6000 + "]" * 6000 + "}"), "format", "claims"
    )
    refused("a token string", "csign_sat_0355bvSkJr56MDq5mft6iA_" + "0" * 43 + "_000000", "format")

    refused("typ JWT", jwt(header={"typ": "JWT"}), "typ")
    refused("typ AT+JWT", jwt(header={"typ": "AT+JWT"}), "typ")
    refused("typ application/at+jwt", jwt(header={"typ": "application/at+jwt"}), "typ")
    refused("no typ", jwt(header={"typ": ...}), "typ")
    refused("typ a list", jwt(header={"typ": ["at+jwt"]}), "typ", "format")
    refused("crit", jwt(header={"crit": ["exp"], "exp": NOW}), "crit")
    refused("an empty crit", jwt(header={"crit": []}), "crit", "format")
    refused("b64 false", jwt(header={"crit": ["b64"], "b64": False}), "crit", "format", "signature")
    refused("no kid", jwt(header={"kid": ...}), "kid")
    refused("kid a number", jwt(header={"kid": 1}), "kid", "format")
    refused("an empty kid", jwt(header={"kid": ""}), "kid")
    refused("an unknown kid", jwt(key=STRANGER), "kid")
    refused("a kid that is a path", jwt(header={"kid": "../../dev/null"}), "kid")
    refused("the name of a member as kid", jwt(header={"kid": "__proto__"}), "kid")
    refused("a JWK in the header", jwt(key=STRANGER, header={"jwk": STRANGER.jwk}), "kid")

    refused("alg none", jwt(header={"alg": "none"}, signature=b""), "alg", "format", "signature")
    refused("alg none with a signature", jwt(header={"alg": "none"}), "alg")
    refused("alg NONE", jwt(header={"alg": "nOnE"}, signature=b""), "alg", "format", "signature")
    refused("no alg", jwt(header={"alg": ...}), "alg", "format")
    refused("alg a list", jwt(header={"alg": ["EdDSA"]}), "alg", "format")
    refused("alg Ed25519", jwt(header={"alg": "Ed25519"}), "alg")
    refused("alg ES256 with a key for EdDSA", jwt(header={"alg": "ES256"}), "alg")
    refused("alg EdDSA with a key for RS256", jwt(key=RSA, header={"alg": "EdDSA"}), "alg")
    refused("alg PS256 with a key for RS256", jwt(key=RSA, header={"alg": "PS256"}), "alg")
    refused("alg RS512 with a key for RS256", jwt(key=RSA, header={"alg": "RS512"}), "alg")
    for pair, name in ((ED, "the Ed25519 key"), (RSA, "the RSA key")):
        public = pair.private.public_key()
        raw = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        head_text = json.dumps({"typ": "at+jwt", "alg": "HS256", "kid": pair.kid})
        message = f"{encode(head_text.encode())}.{payload}".encode()
        mac = hmac.HMAC(raw, hashes.SHA256())
        mac.update(message)
        refused(f"HS256 with {name} as its secret", f"{message.decode()}.{encode(mac.finalize())}", "alg")

    flipped = bytearray(base64.urlsafe_b64decode(signature + "=="))
    flipped[10] ^= 1
    refused("one bit of the signature", f"{head}.{payload}.{encode(bytes(flipped))}", "signature")
    refused("a shorter signature", f"{head}.{payload}.{encode(bytes(flipped)[:63])}", "signature", "format")
    refused("a signature of zeros", jwt(signature=bytes(64)), "signature")
    refused(
        "another payload under the signature",
        f"{head}.{encode(json.dumps(claims(sub=OTHER_ACCOUNT)).encode())}.{signature}",
        "signature",
    )
    refused(
        "another header under the signature",
        f"{encode(json.dumps({'typ': 'at+jwt', 'alg': ED.alg, 'kid': ED.kid, 'x': 1}).encode())}.{payload}.{signature}",
        "signature",
    )
    refused("signed by another key of the set's algorithm", jwt(key=STRANGER, header={"kid": ED.kid}), "signature")
    refused(
        "an ES256 signature in DER",
        jwt(key=EC, signature=EC.private.sign(b"x", ec.ECDSA(hashes.SHA256()))),
        "signature",
        "format",
    )
    refused("an ES256 signature of zeros", jwt(key=EC, signature=bytes(64)), "signature")
    refused("an ES256 signature of 0xff", jwt(key=EC, signature=b"\xff" * 64), "signature")
    order = 2**255 - 19
    refused(
        "a small-order point as signature",
        jwt(signature=(1).to_bytes(32, "little") + order.to_bytes(32, "little")),
        "signature",
    )


def bad_claims():
    row = "claims"

    def refused(name, payload, *checks, reason="ACCESS_TOKEN_INVALID", **more):
        case(row, name, jwt(payload), bad(*checks, reason=reason), **more)

    refused("another issuer", claims(iss="https://evil.example"), "iss")
    refused("the issuer with a slash", claims(iss=ISSUER + "/"), "iss")
    refused("the issuer in capitals", claims(iss="https://ID.example"), "iss")
    refused("another audience", claims(aud="https://ledger.example"), "aud")
    refused("an audience that begins like it", claims(aud=AUDIENCE + ".evil.example"), "aud")
    refused("the issuer as audience", claims(aud=ISSUER), "aud")
    refused("no audience among several", claims(aud=["https://a.example", "https://b.example"]), "aud")
    refused("an empty list of audiences", claims(aud=[]), "aud", "claims")
    refused("audiences with a number", claims(aud=[AUDIENCE, 1]), "claims", "aud", "format")
    refused("an object as audience", claims(aud={"0": AUDIENCE}), "claims", "aud", "format")
    refused("ended this second", claims(exp=NOW), "exp")
    refused("ended a second ago", claims(exp=NOW - 1), "exp")
    refused("good from 61 s on", claims(nbf=NOW + 61), "nbf")
    refused("issued in 61 s", claims(iat=NOW + 61), "iat")
    for name in ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "org"):
        own = [name] if name in ("iss", "aud", "exp", "iat", "nbf") else []
        refused(f"no {name}", claims(**without(name)), "claims", *own, "format")
        refused(f"{name} null", claims(**{name: None}), "claims", *own, "format")
    for name in ("sub", "jti", "client_id", "org"):
        refused(f"{name} a number", claims(**{name: 7}), "claims", "format")
    refused("an empty sub", claims(sub=""), "claims")
    refused("exp a string", claims(exp=str(NOW + 300)), "claims", "exp", "format")
    refused("exp true", claims(exp=True), "claims", "exp", "format")
    refused("nbf a string", claims(nbf=str(NOW)), "claims", "nbf", "format")
    refused("no org_ver", claims(**without("org_ver")), "claims", "format")
    refused("no acct_ver", claims(**without("acct_ver")), "claims", "format")
    refused("acct_ver a string", claims(acct_ver="5"), "claims", "format")
    refused("org_ver 1.5", claims(org_ver=1.5), "claims", "format")
    refused("no secret, of a token", claims(**without("secret")), "claims", "format")
    refused("secret a string", claims(secret="2"), "claims", "format")
    refused("a token with the version of a rule", claims(rule_ver=1), "claims", "format")
    refused("a token with that in place of its secret", claims(rule_ver=1, **without("secret")), "claims", "format")
    refused("a rule without its version", of_rule(**without("rule_ver")), "claims", "format")
    refused("a rule with a secret", of_rule(secret=2), "claims", "format")
    refused("a rule with a secret in place of its version", claims(client_id=RULE), "claims", "format")
    for name, version in (("0", 0), ("-1", -1), ("a string", "4"), ("1.5", 1.5), ("true", True), ("null", None)):
        refused(f"rule_ver {name}", of_rule(rule_ver=version), "claims", "format")
    refused("a session with a secret", claims(client_id=SESSION, token_kind="SESSION"), "claims", "format")
    refused("a session with the version of a rule", of_rule(client_id=SESSION), "claims", "format")
    refused("another kind of credential", claims(client_id="key_01m8hxdca4e86ajjkym76wqn75"), "claims", "format")
    refused("scope a list", claims(scope=["reports.read"]), "claims", "format")
    refused(
        "authorization_details an object",
        claims(authorization_details={"type": "countersign_grant"}),
        "claims",
        "format",
    )
    refused(
        "authorization_details with a text", claims(authorization_details=["countersign_grant"]), "claims", "format"
    )
    refused("act", claims(act={"sub": OTHER_ACCOUNT, "org_ver": 1, "acct_ver": 1}), "act")
    refused("another tenant", claims(), "org", orgs=[OTHER_ORG])
    refused("no tenant at all", claims(), "org", orgs=[])


def bound():
    row = "client certificates"
    print_, other = encode(bytes(range(32))), encode(bytes(32))
    binding = claims(cnf={"x5t#S256": print_})
    case(row, "the certificate", jwt(binding), {"claims": binding}, certificate_thumbprint=print_)
    case(row, "a certificate, and a JWT that is not bound", jwt(), good(), certificate_thumbprint=print_)

    def refused(name, payload, **more):
        case(row, name, jwt(payload), bad("cnf", reason="CLIENT_CERTIFICATE_NOT_ALLOWED"), **more)

    refused("none to compare", binding)
    refused("another one", binding, certificate_thumbprint=other)
    refused("an empty one", binding, certificate_thumbprint="")
    refused("another kind of binding", claims(cnf={"jkt": print_}), certificate_thumbprint=print_)
    refused("another kind beside it", claims(cnf={"x5t#S256": print_, "jkt": other}), certificate_thumbprint=print_)
    refused("an empty cnf", claims(cnf={}), certificate_thumbprint=print_)
    refused("cnf null", claims(cnf=None), certificate_thumbprint=print_)
    refused("a thumbprint that is a number", claims(cnf={"x5t#S256": 1}), certificate_thumbprint=print_)


### Rights.


def rights():
    detail = {"type": "countersign_grant", "identifier": "customers/acme", "actions": ["reports.read", "reports.list"]}
    whole = claims(scope="invoices.read reports.write")
    narrow = claims(scope="", authorization_details=[detail])
    made = []

    def right(name, payload, permission, resource, allowed):
        asked = {"claims": payload, "permission": permission} | ({"resource": resource} if resource is not None else {})
        made.append({"row": "rights on resources", "name": name, **asked, "expect": {"allowed": allowed}})

    right("the whole org, by scope", whole, "invoices.read", None, True)
    right("a resource, by scope", whole, "invoices.read", "customers/acme", True)
    right("the last of the scope", whole, "reports.write", "customers/acme", True)
    right("not held", whole, "reports.read", "customers/acme", False)
    right("the beginning of one", whole, "invoices", "customers/acme", False)
    right("in capitals", whole, "Invoices.Read", None, False)
    right("an empty permission", whole, "", None, False)
    right("two permissions in one", whole, "invoices.read reports.write", None, False)
    right("no scope", claims(**without("scope")), "invoices.read", None, False)
    right("the resource itself", narrow, "reports.read", "customers/acme", True)
    right("another action on it", narrow, "reports.list", "customers/acme", True)
    right("below it", narrow, "reports.read", "customers/acme/2026/may", True)
    right("above it", narrow, "reports.read", "customers", False)
    right("beside it", narrow, "reports.read", "customers/acme2", False)
    right("a name that begins like it", narrow, "reports.read", "customers/acme-eu", False)
    right("in capitals", narrow, "reports.read", "customers/ACME", False)
    right("the whole org, of a right on a resource", narrow, "reports.read", None, False)
    right("an action that is not in it", narrow, "reports.write", "customers/acme", False)
    right("an empty resource", narrow, "reports.read", "", False)
    right("out by dots", narrow, "reports.read", "customers/acme/../umbrella", False)
    right("a dot", narrow, "reports.read", "customers/acme/./x", False)
    right("an empty segment", narrow, "reports.read", "customers/acme//x", False)
    right("a slash at the end", narrow, "reports.read", "customers/acme/", False)
    right("a slash at the beginning", narrow, "reports.read", "/customers/acme", False)
    second = claims(scope="", authorization_details=[{"type": "x"}, detail | {"identifier": "suppliers"}, detail])
    right("the second of several", second, "reports.read", "suppliers/initech", True)
    right("the last of several", second, "reports.read", "customers/acme/x", True)
    foreign = claims(scope="", authorization_details=[detail | {"type": "payment_initiation"}])
    right("a detail of another type", foreign, "reports.read", "customers/acme", False)
    empty = claims(scope="", authorization_details=[detail | {"identifier": ""}])
    right("a detail with an empty path", empty, "reports.read", "customers/acme", False)
    broken = claims(
        scope="", authorization_details=[{"type": "countersign_grant"}, detail | {"actions": "reports.read"}]
    )
    right("details that lack members", broken, "reports.read", "customers/acme", False)
    right("no details", claims(**without("scope")), "reports.read", "customers/acme", False)
    return made


### Streams.


def key_set(*pairs):
    return {"key_set": {"keys": [pair.jwk for pair in pairs]}}


def checkpoint(cursor="c1", time=NOW, lag=0):
    return {"checkpoint": {"cursor": cursor, "time": time, "lag": lag}}


def revocation(expire_time=NOW + 3600, **fields):
    made = {"org_id": ORG, "expire_time": expire_time} | fields
    return {"revocation": {name: value for name, value in made.items() if value is not ...}}


def feed(*items, cursor=None):
    return {"feed": list(items)} | ({} if cursor is None else {"cursor": cursor})


def verify(expect, payload=None, key=ED, **more):
    return {"verify": {"jwt": jwt(payload, key), **more}, "expect": expect}


def clock(wall=None, monotonic=None):
    given = {"wall": wall, "monotonic": monotonic}
    return {"clock": {name: value for name, value in given.items() if value is not None}}


OK = {}
STALE = bad("fresh", reason="VERIFIER_STALE")


def streams():
    made = []

    def scenario(row, name, *steps, begin=True, **options):
        first = [feed(key_set(ED, EC), checkpoint())] if begin else []
        made.append({"row": row, "name": name, "verifier": options, "steps": first + list(steps)})

    # What ends JWTs.
    row = "revocations and versions"
    ends = {
        "a token": ({"token_id": TOKEN}, {}, bad("token", reason="TOKEN_REVOKED")),
        "a session": (
            {"session_id": SESSION},
            {"client_id": SESSION, "token_kind": "SESSION", **without("secret")},
            bad("session", reason="TOKEN_REVOKED"),
        ),
        "a rule": (
            {"rule_id": RULE},
            {"client_id": RULE, "token_kind": "FEDERATED", "rule_ver": 4, **without("secret")},
            bad("rule", reason="TOKEN_REVOKED"),
        ),
        "a secret": ({"secret": {"token_id": TOKEN, "number": 2}}, {}, bad("secret", reason="ACCESS_TOKEN_STALE")),
        "an account": ({"account_id": ACCOUNT}, {}, bad("account", reason="ACCOUNT_DEACTIVATED")),
        "an org": ({"org": True}, {}, bad("org_state", reason="ORG_SUSPENDED")),
        "a version of an account": (
            {"account_id": ACCOUNT, "min_version": 6},
            {},
            bad("account_version", reason="ACCESS_TOKEN_STALE"),
        ),
        "a version of an org": ({"org": True, "min_version": 4}, {}, bad("org_version", reason="ACCESS_TOKEN_STALE")),
    }
    for name, (subject, changes, expect) in ends.items():
        scenario(
            row, name, verify(OK, claims(**changes)), feed(revocation(**subject)), verify(expect, claims(**changes))
        )
    reasons = {
        "an account that was deactivated": (
            {"account_id": ACCOUNT, "min_version": 6},
            "account_version",
            "ACCOUNT_DEACTIVATED",
        ),
        "an org that was suspended": ({"org": True, "min_version": 4}, "org_version", "ORG_SUSPENDED"),
        "a token that expired early": ({"token_id": TOKEN}, "token", "TOKEN_EXPIRED"),
        "a token that is blocked": ({"token_id": TOKEN}, "token", "TOKEN_BLOCKED"),
    }
    for name, (subject, check, reason) in reasons.items():
        scenario(row, name, feed(revocation(**subject, reason=reason)), verify(bad(check, reason=reason)))
    scenario(row, "another token", feed(revocation(token_id=OTHER_TOKEN)), verify(OK))
    scenario(row, "another account", feed(revocation(account_id=OTHER_ACCOUNT, min_version=99)), verify(OK))
    scenario(row, "the version that is asked for", feed(revocation(account_id=ACCOUNT, min_version=5)), verify(OK))
    scenario(
        row,
        "versions only rise",
        feed(revocation(account_id=ACCOUNT, min_version=7), revocation(account_id=ACCOUNT, min_version=2)),
        verify(bad("account_version", reason="ACCESS_TOKEN_STALE"), claims(acct_ver=6)),
        verify(OK, claims(acct_ver=7)),
    )
    scenario(
        row,
        "an account in another org",
        feed(revocation(org_id=OTHER_ORG, account_id=ACCOUNT, min_version=99)),
        verify(OK),
        verify(bad("account_version", reason="ACCESS_TOKEN_STALE"), claims(org=OTHER_ORG)),
    )
    scenario(row, "another org", feed(revocation(org_id=OTHER_ORG, org=True, min_version=99)), verify(OK))
    scenario(
        row,
        "back again: a JWT of the new version",
        feed(revocation(account_id=ACCOUNT, min_version=6, reason="ACCOUNT_DEACTIVATED")),
        verify(bad("account_version", reason="ACCOUNT_DEACTIVATED")),
        verify(OK, claims(acct_ver=6)),
    )
    scenario(
        row,
        "before the first checkpoint of a resumed stream",
        feed(revocation(token_id=TOKEN)),
        feed(checkpoint("c2")),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )

    row = "federation rules"
    stale_rule, no_rule = bad("rule_version", reason="ACCESS_TOKEN_STALE"), bad("rule", reason="TOKEN_REVOKED")
    scenario(
        row,
        "a rule that was changed",
        feed(revocation(rule_id=RULE, min_version=5, reason="ACCESS_TOKEN_STALE")),
        verify(stale_rule, of_rule()),
        verify(OK, of_rule(rule_ver=5)),
        verify(OK),
    )
    scenario(row, "the version itself is good", feed(revocation(rule_id=RULE, min_version=4)), verify(OK, of_rule()))
    scenario(
        row,
        "a version, without a reason",
        feed(revocation(rule_id=RULE, min_version=9)),
        verify(stale_rule, of_rule()),
    )
    scenario(
        row,
        "a version counts in whichever org",
        feed(revocation(org_id=OTHER_ORG, rule_id=RULE, min_version=5)),
        verify(stale_rule, of_rule()),
        verify(stale_rule, of_rule(org=OTHER_ORG)),
    )
    scenario(
        row,
        "a lower version, heard later",
        feed(revocation(rule_id=RULE, min_version=5)),
        feed(revocation(rule_id=RULE, min_version=2, reason="TOKEN_BLOCKED")),
        verify(stale_rule, of_rule()),
        verify(OK, of_rule(rule_ver=5)),
    )
    scenario(
        row,
        "a higher version, heard later, with its reason",
        feed(revocation(rule_id=RULE, min_version=2)),
        verify(OK, of_rule()),
        feed(revocation(rule_id=RULE, min_version=5, reason="TOKEN_BLOCKED")),
        verify(bad("rule_version", reason="TOKEN_BLOCKED"), of_rule()),
    )
    scenario(
        row,
        "a rule that was revoked",
        feed(revocation(rule_id=RULE, reason="TOKEN_REVOKED")),
        verify(no_rule, of_rule()),
        verify(no_rule, of_rule(rule_ver=2**53 - 1)),
        verify(OK, of_rule(client_id=RULE[:-1] + "6")),
    )
    scenario(
        row,
        "revoked, and a version heard later",
        feed(revocation(rule_id=RULE, reason="TOKEN_REVOKED")),
        feed(revocation(rule_id=RULE, min_version=3, reason="ACCESS_TOKEN_STALE")),
        verify(no_rule, of_rule()),
        feed(revocation(rule_id=RULE, min_version=5, reason="ACCESS_TOKEN_STALE")),
        verify(no_rule, of_rule()),
        verify(no_rule, of_rule(rule_ver=6)),
    )
    scenario(
        row,
        "a version, and revoked later",
        feed(revocation(rule_id=RULE, min_version=5)),
        feed(revocation(rule_id=RULE)),
        verify(no_rule, of_rule(rule_ver=5)),
    )
    scenario(
        row,
        "another rule",
        feed(revocation(rule_id=RULE[:-1] + "6", min_version=99), revocation(rule_id=RULE[:-1] + "7")),
        verify(OK, of_rule()),
    )
    scenario(
        row,
        "forgotten in its time",
        feed(revocation(rule_id=RULE, min_version=5, expire_time=NOW + 100)),
        clock(wall=NOW + 155, monotonic=1010),
        feed(checkpoint("c2", time=NOW + 155)),
        verify(stale_rule, of_rule()),
        clock(wall=NOW + 170),
        feed(checkpoint("c3", time=NOW + 170)),
        verify(OK, of_rule()),
    )

    row = "secrets"
    secret = {"token_id": TOKEN, "number": 1}
    scenario(
        row,
        "the secret before",
        feed(revocation(secret=secret)),
        verify(OK),
        verify(bad("secret", reason="ACCESS_TOKEN_STALE"), claims(secret=1)),
    )
    scenario(
        row,
        "the same number of another token",
        feed(revocation(secret={"token_id": OTHER_TOKEN, "number": 2})),
        verify(OK),
    )
    scenario(
        row,
        "one secret, and then the token",
        feed(revocation(secret=secret)),
        verify(OK),
        feed(revocation(token_id=TOKEN)),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )
    leaked = {"token_id": TOKEN, "number": 2}
    scenario(
        row,
        "a leak, with its reason",
        feed(revocation(secret=leaked, reason="ACCESS_TOKEN_STALE")),
        verify(bad("secret", reason="ACCESS_TOKEN_STALE")),
        verify(OK, claims(secret=3)),
    )

    # Clocks.
    row = "staleness and clocks"
    scenario(row, "nothing heard yet", verify(STALE), begin=False)
    scenario(row, "keys, and no checkpoint yet", feed(key_set(ED)), verify(STALE), begin=False)
    scenario(row, "30 s", clock(monotonic=1030), verify(OK), clock(monotonic=1030.5), verify(STALE))
    scenario(row, "heard again", clock(monotonic=1040), verify(STALE), feed(checkpoint("c2")), verify(OK))
    scenario(
        row,
        "the lag counts",
        feed(checkpoint("c2", lag=20)),
        clock(monotonic=1009),
        verify(OK),
        clock(monotonic=1011),
        verify(STALE),
    )
    scenario(row, "a lag beyond the bound", feed(checkpoint("c2", lag=31)), verify(STALE))
    scenario(row, "a lag below zero", feed(checkpoint("c2", lag=-100)), clock(monotonic=1031), verify(STALE))
    scenario(row, "a bound of its own", clock(monotonic=1006), verify(STALE), staleness=5)
    scenario(row, "a wall clock an hour back", clock(wall=NOW - 3600), verify(bad("nbf", "iat")))
    scenario(row, "a wall clock 30 s back", clock(wall=NOW - 30), verify(OK))
    scenario(row, "a wall clock 30 s ahead", clock(wall=NOW + 30), verify(OK))
    scenario(
        row,
        "a wall clock that steps, and freshness",
        clock(wall=NOW + 200),
        verify(OK),
        clock(wall=NOW - 50),
        verify(OK),
        clock(monotonic=1031),
        verify(STALE),
    )
    scenario(
        row,
        "it goes on where that was asked for",
        clock(monotonic=1119),
        verify(OK),
        clock(monotonic=1121),
        verify(STALE),
        open_for=120,
    )
    scenario(
        row,
        "open, and what was heard before",
        feed(revocation(token_id=TOKEN)),
        clock(monotonic=1060),
        verify(bad("token", reason="TOKEN_REVOKED")),
        open_for=120,
    )
    scenario(row, "open, and nothing heard ever", verify(STALE), begin=False, open_for=120)
    scenario(
        row,
        "open, and a key that was revoked",
        feed({"revocation": {"key_id": ED.kid}}),
        clock(monotonic=1060),
        verify(bad("kid")),
        open_for=120,
    )
    scenario(
        row,
        "forgotten in its time",
        feed(revocation(token_id=TOKEN, expire_time=NOW + 100)),
        clock(wall=NOW + 155, monotonic=1010),
        feed(checkpoint("c2", time=NOW + 155)),
        verify(bad("token", reason="TOKEN_REVOKED")),
        clock(wall=NOW + 170),
        feed(checkpoint("c3", time=NOW + 170)),
        verify(OK),
    )
    scenario(
        row,
        "a clock that steps forward and back forgets nothing",
        feed(revocation(token_id=TOKEN, expire_time=NOW + 100)),
        clock(wall=NOW + 7200),
        feed(checkpoint("c2", time=NOW + 1)),
        clock(wall=NOW),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )
    scenario(
        row,
        "the later end counts",
        feed(revocation(token_id=TOKEN, expire_time=NOW + 1000), revocation(token_id=TOKEN, expire_time=NOW + 1)),
        clock(wall=NOW + 200),
        feed(checkpoint("c2", time=NOW + 200)),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )
    scenario(
        row,
        "the later end counts, also where it is heard later",
        feed(revocation(token_id=TOKEN, expire_time=NOW + 1), revocation(token_id=TOKEN, expire_time=NOW + 1000)),
        clock(wall=NOW + 200),
        feed(checkpoint("c2", time=NOW + 200)),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )
    scenario(
        row,
        "without an end, for ever",
        feed(revocation(token_id=TOKEN, expire_time=...)),
        clock(wall=NOW + 90_000),
        feed(checkpoint("c2", time=NOW + 90_000)),
        verify(bad("token", reason="TOKEN_REVOKED"), claims(iat=NOW + 90_000, nbf=NOW + 90_000, exp=NOW + 90_300)),
    )

    row = "keys"
    scenario(row, "a new key", verify(bad("kid"), key=NEXT), feed(key_set(ED, NEXT)), verify(OK, key=NEXT), verify(OK))
    scenario(row, "a key that is gone", feed(key_set(NEXT)), verify(bad("kid")), verify(OK, key=NEXT))
    scenario(
        row, "a key that was revoked", feed({"revocation": {"key_id": ED.kid}}), verify(bad("kid")), verify(OK, key=EC)
    )
    scenario(
        row,
        "it never comes back",
        feed({"revocation": {"key_id": ED.kid}}, key_set(ED, EC)),
        verify(bad("kid")),
        verify(OK, key=EC),
    )
    scenario(
        row,
        "revoked before it was seen",
        feed({"revocation": {"key_id": NEXT.kid}}, key_set(ED, NEXT)),
        verify(bad("kid"), key=NEXT),
        verify(OK),
    )
    strange = [{"kty": "AKP", "alg": "ML-DSA-44", "kid": "pq", "use": "sig"}, NEXT.jwk | {"use": "enc"}, ED.jwk]
    scenario(
        row,
        "keys of another kind beside it",
        feed({"key_set": {"keys": strange}}),
        verify(OK),
        verify(bad("kid"), key=NEXT),
    )
    broken = [NEXT.jwk | {"x": "AAAA"}, ED.jwk]
    scenario(
        row,
        "a key that is broken beside it",
        feed({"key_set": {"keys": broken}}),
        verify(OK),
        verify(bad("kid"), key=NEXT),
    )
    twisted = [ED.jwk | {"alg": "ES256"}, EC.jwk]
    scenario(
        row,
        "an algorithm that is not the key's",
        feed({"key_set": {"keys": twisted}}),
        verify(bad("kid", "alg")),
        verify(OK, key=EC),
    )
    scenario(row, "a set without keys", feed(key_set()), verify(bad("kid")))

    row = "streams that misbehave"
    for code in (
        "UNAVAILABLE",
        "UNKNOWN",
        "INTERNAL",
        "CANCELLED",
        "DEADLINE_EXCEEDED",
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
        "OUT_OF_RANGE",
    ):
        scenario(
            row,
            f"it ends with {code}",
            feed(revocation(token_id=OTHER_TOKEN), {"cut": {"code": code}}, cursor="c1"),
            verify(OK),
            verify(bad("token", reason="TOKEN_REVOKED"), claims(client_id=OTHER_TOKEN)),
        )
    expired = {"cut": {"code": "OUT_OF_RANGE", "reason": "CURSOR_EXPIRED"}}
    scenario(
        row,
        "a cursor that expired begins anew, with what was heard",
        feed(revocation(token_id=TOKEN), expired, cursor=""),
        feed(key_set(ED), checkpoint("n1"), cursor="n1"),
        verify(bad("token", reason="TOKEN_REVOKED")),
    )
    scenario(
        row,
        "it repeats itself",
        feed(*[revocation(token_id=OTHER_TOKEN), checkpoint("c2")] * 50, cursor="c2"),
        verify(OK),
    )
    scenario(
        row,
        "it goes back in time",
        feed(revocation(account_id=ACCOUNT, min_version=6), checkpoint("c2", time=NOW + 10)),
        feed(revocation(account_id=ACCOUNT, min_version=1), checkpoint("c0", time=NOW - 9999)),
        verify(bad("account_version", reason="ACCESS_TOKEN_STALE")),
    )
    flood = [revocation(token_id=f"tok_{number:026}") for number in range(500)]
    scenario(
        row,
        "500 revocations at once",
        feed(*flood),
        verify(OK),
        verify(bad("token", reason="TOKEN_REVOKED"), claims(client_id=f"tok_{499:026}")),
    )
    scenario(row, "it is silent", clock(monotonic=1031), verify(STALE), verify(STALE))
    scenario(
        row,
        "a revocation of something unknown",
        feed({"revocation": {"org_id": ORG, "expire_time": NOW + 99}}),
        verify(STALE),
        feed(checkpoint("c2")),
        verify(STALE),
    )
    return made


### Errors.


def errors():
    made = []

    def status(name, code, message, details, **expect):
        packed = None
        if details is not None:
            made_status = status_pb2.Status(code=code, message=message)
            for detail in details:
                made_status.details.add().CopyFrom(detail if isinstance(detail, any_pb2.Any) else pack(detail))
            packed = base64.b64encode(made_status.SerializeToString()).decode()
        expected = {"retry_after": None, "metadata": {}, "violations": [], "request_id": ""} | expect
        asked = {"code": code, "message": message} | ({} if packed is None else {"details": packed})
        made.append({"row": "reasons and details", "name": name, **asked, "expect": expected})

    def info(reason, **metadata):
        return error_details_pb2.ErrorInfo(domain="countersign", reason=reason, metadata=metadata)

    def retry(seconds, nanos=0):
        detail = error_details_pb2.RetryInfo()
        detail.retry_delay.seconds, detail.retry_delay.nanos = seconds, nanos
        return detail

    request = error_details_pb2.RequestInfo(request_id="01m8hx6g6zf3msazvk845t3et9")
    known = {"request_id": request.request_id}
    status(
        "a permission that is missing",
        7,
        "not allowed",
        [info("PERMISSION_MISSING", permission="tokens.write", resource="customers/acme"), request],
        reason="PERMISSION_MISSING",
        code_name="PERMISSION_DENIED",
        retryable=False,
        metadata={"permission": "tokens.write", "resource": "customers/acme"},
        **known,
    )
    bad_request = error_details_pb2.BadRequest()
    bad_request.field_violations.add(field="grants[0].resource", description="no such resource")
    bad_request.field_violations.add(field="name", description="too long")
    status(
        "wrong fields",
        3,
        "2 fields",
        [info("INVALID_FIELD"), request, bad_request],
        reason="INVALID_FIELD",
        code_name="INVALID_ARGUMENT",
        retryable=False,
        violations=[
            {"field": "grants[0].resource", "description": "no such resource"},
            {"field": "name", "description": "too long"},
        ],
        **known,
    )
    status(
        "overloaded",
        8,
        "later",
        [info("OVERLOADED"), retry(1, 500_000_000)],
        reason="OVERLOADED",
        code_name="RESOURCE_EXHAUSTED",
        retryable=True,
        retry_after=1.5,
    )
    status(
        "throttled",
        8,
        "later",
        [info("THROTTLED"), retry(60)],
        reason="THROTTLED",
        code_name="RESOURCE_EXHAUSTED",
        retryable=True,
        retry_after=60,
    )
    status(
        "too large, which stays so",
        8,
        "large",
        [info("MESSAGE_TOO_LARGE")],
        reason="MESSAGE_TOO_LARGE",
        code_name="RESOURCE_EXHAUSTED",
        retryable=False,
    )
    status(
        "the database is away",
        14,
        "away",
        [info("DATABASE_UNAVAILABLE")],
        reason="DATABASE_UNAVAILABLE",
        code_name="UNAVAILABLE",
        retryable=True,
    )
    status("a conflict", 10, "again", [info("CONFLICT")], reason="CONFLICT", code_name="ABORTED", retryable=True)
    status(
        "an etag of before",
        10,
        "changed",
        [info("ETAG_MISMATCH")],
        reason="ETAG_MISMATCH",
        code_name="ABORTED",
        retryable=False,
    )
    status(
        "too slow",
        4,
        "slow",
        [info("DEADLINE_EXCEEDED")],
        reason="DEADLINE_EXCEEDED",
        code_name="DEADLINE_EXCEEDED",
        retryable=True,
    )
    status(
        "a fault",
        13,
        "fault",
        [info("INTERNAL"), request],
        reason="INTERNAL",
        code_name="INTERNAL",
        retryable=False,
        **known,
    )
    status(
        "revoked",
        16,
        "revoked",
        [info("TOKEN_REVOKED")],
        reason="TOKEN_REVOKED",
        code_name="UNAUTHENTICATED",
        retryable=False,
    )
    status(
        "a replay",
        6,
        "made before",
        [info("REQUEST_REPLAYED", id=TOKEN)],
        reason="REQUEST_REPLAYED",
        code_name="ALREADY_EXISTS",
        retryable=False,
        metadata={"id": TOKEN},
    )
    status(
        "a cursor that expired",
        11,
        "old",
        [info("CURSOR_EXPIRED")],
        reason="CURSOR_EXPIRED",
        code_name="OUT_OF_RANGE",
        retryable=False,
    )
    status(
        "a reason of next year, by its code",
        14,
        "new",
        [info("MOON_IN_THE_WAY")],
        reason="MOON_IN_THE_WAY",
        code_name="UNAVAILABLE",
        retryable=True,
    )
    status(
        "a reason of next year that stays",
        9,
        "new",
        [info("MOON_FULL")],
        reason="MOON_FULL",
        code_name="FAILED_PRECONDITION",
        retryable=False,
    )
    status("no details, away", 14, "connection refused", None, reason="", code_name="UNAVAILABLE", retryable=True)
    status("no details, not known", 2, "odd", None, reason="", code_name="UNKNOWN", retryable=False)
    status(
        "details of another domain",
        7,
        "of a proxy",
        [error_details_pb2.ErrorInfo(domain="proxy.example", reason="TOKEN_REVOKED")],
        reason="",
        code_name="PERMISSION_DENIED",
        retryable=False,
    )
    odd = any_pb2.Any(type_url="type.googleapis.com/example.Unknown", value=b"\x01\x02")
    status(
        "a detail that is not known",
        16,
        "revoked",
        [odd, info("TOKEN_EXPIRED")],
        reason="TOKEN_EXPIRED",
        code_name="UNAUTHENTICATED",
        retryable=False,
    )
    torn = any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
    status(
        "a detail that is broken",
        8,
        "later",
        [torn, info("OVERLOADED")],
        reason="OVERLOADED",
        code_name="RESOURCE_EXHAUSTED",
        retryable=True,
    )
    made.append(
        {
            "row": "reasons and details",
            "name": "details that are no status",
            "code": 14,
            "message": "x",
            "details": base64.b64encode(b"\xff\xff\xff").decode(),
            "expect": {
                "reason": "",
                "code_name": "UNAVAILABLE",
                "retryable": True,
                "retry_after": None,
                "metadata": {},
                "violations": [],
                "request_id": "",
            },
        }
    )
    return made


### For the interceptors, and for the key sets that misbehave.


def services():
    detail = {"type": "countersign_grant", "identifier": "customers/acme", "actions": ["reports.read", "reports.write"]}
    acme = jwt(claims(scope="", authorization_details=[detail]))
    whole = jwt(claims(scope="reports.read reports.write"))
    reader = jwt(claims(scope="invoices.read"))
    made = []

    def grpc(name, token, path, expect, **more):
        made.append(
            {
                "row": "gRPC",
                "name": name,
                "path": path,
                **({"access_token": token} if token else {}),
                **more,
                "expect": expect,
            }
        )

    def http(name, token, path, status, reason="", **expect):
        made.append(
            {
                "row": "HTTP",
                "name": name,
                "target": path,
                **({"access_token": token} if token else {}),
                "expect": {"status": status, "reason": reason} | expect,
            }
        )

    passed = {"path": "customers/acme", "display_name": ACCOUNT}
    denied = {
        "reason": "PERMISSION_MISSING",
        "metadata": {"permission": "reports.write", "resource": "customers/umbrella"},
    }
    grpc("a right in the whole org", whole, "customers/acme", passed)
    grpc("a right on the resource", acme, "customers/acme", passed)
    grpc("below it", acme, "customers/acme/2026", passed | {"path": "customers/acme/2026"})
    grpc("on another resource", acme, "customers/umbrella", denied)
    grpc("no such right", reader, "customers/umbrella", denied)
    grpc("no credential", None, "customers/acme", {"reason": "CREDENTIAL_MISSING"})
    grpc("no JWT", "hello", "customers/acme", {"reason": "ACCESS_TOKEN_INVALID"})
    grpc("expired", jwt(claims(exp=NOW - 1)), "customers/acme", {"reason": "ACCESS_TOKEN_INVALID"})
    grpc(
        "for another audience",
        jwt(claims(aud="https://ledger.example", scope="reports.write")),
        "customers/acme",
        {"reason": "ACCESS_TOKEN_INVALID"},
    )
    grpc(
        "of another tenant",
        jwt(claims(org=OTHER_ORG, scope="reports.write")),
        "customers/acme",
        {"reason": "ACCESS_TOKEN_INVALID"},
    )
    grpc(
        "bound to a certificate",
        jwt(claims(cnf={"x5t#S256": "x" * 43}, scope="reports.write")),
        "customers/acme",
        {"reason": "CLIENT_CERTIFICATE_NOT_ALLOWED"},
    )
    grpc(
        "revoked",
        jwt(claims(client_id=OTHER_TOKEN, scope="reports.write")),
        "customers/acme",
        {"reason": "TOKEN_REVOKED"},
    )
    grpc(
        "a method without a rule",
        whole,
        "customers/acme",
        {"reason": "PERMISSION_MISSING"},
        method="/countersign.v1.OrgService/UpdateResource",
    )
    grpc("dots", acme, "customers/acme/../umbrella", {"reason": "PERMISSION_MISSING"})
    http("a right in the whole org", whole, "/reports/customers/acme", 200)
    http("a right on the resource", acme, "/reports/customers/acme", 200)
    http("below it", acme, "/reports/customers/acme/2026", 200)
    scoped = {"error": "insufficient_scope", "scope": "reports.read"}
    http("on another resource", acme, "/reports/customers/umbrella", 403, "PERMISSION_MISSING", **scoped)
    http("no such right", reader, "/reports/customers/acme", 403, "PERMISSION_MISSING", **scoped)
    http("no credential", None, "/reports/customers/acme", 401, "CREDENTIAL_MISSING", error=None)
    http("no JWT", "hello", "/reports/customers/acme", 401, "ACCESS_TOKEN_INVALID", error="invalid_token")
    http(
        "expired",
        jwt(claims(exp=NOW - 1)),
        "/reports/customers/acme",
        401,
        "ACCESS_TOKEN_INVALID",
        error="invalid_token",
    )
    http(
        "of another tenant",
        jwt(claims(org=OTHER_ORG)),
        "/reports/customers/acme",
        401,
        "ACCESS_TOKEN_INVALID",
        error="invalid_token",
    )
    http(
        "bound to a certificate",
        jwt(claims(cnf={"x5t#S256": "x" * 43})),
        "/reports/customers/acme",
        401,
        "CLIENT_CERTIFICATE_NOT_ALLOWED",
        error="invalid_token",
    )
    http(
        "revoked",
        jwt(claims(client_id=OTHER_TOKEN)),
        "/reports/customers/acme",
        401,
        "TOKEN_REVOKED",
        error="invalid_token",
    )
    http("a path that needs none", None, "/healthz", 200)
    for name, path in (
        ("dots", "/reports/customers/acme/../umbrella"),
        ("encoded dots", "/reports/customers/acme/%2e%2e/umbrella"),
        ("an encoded slash and dots", "/reports/customers/acme%2f..%2fumbrella"),
        ("an empty segment", "/reports/customers/acme//x"),
        ("an encoded NUL", "/reports/customers/acme%00"),
        ("a path without a rule", "/other"),
        ("another case", "/Reports/customers/acme"),
        ("dots behind the path that needs none", "/healthz/../reports/customers/umbrella"),
    ):
        http(name, acme, path, [403, 404])
        # Also with the right in the whole org: what the path means is not certain.
        http(f"{name}, with a right in the whole org", whole, path, [403, 404])
    begin = [{"key_set": {"keys": KEYS}}, revocation(token_id=OTHER_TOKEN), checkpoint()]
    return {"issuer": ISSUER, "audience": AUDIENCE, "orgs": [ORG], "clock": CLOCK, "feed": begin, "cases": made}


def key_sets():
    """Of servers of the runner's own, with the clock of the machine."""
    old = {"iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 4_000_000_000}
    unknown = [jwt(claims(**old), header={"kid": f"unknown-{number}"}) for number in range(200)]
    return {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "set": {"keys": [ED.jwk]},
        "next_set": {"keys": [ED.jwk, NEXT.jwk]},
        "good": jwt(claims(**old)),
        "next": jwt(claims(**old), NEXT),
        "cases": unknown,
    }


def private_keys():
    """For tokens of kind KEY; those of a deployment differ, so each language has its own. And for an issuer."""
    made = {}
    for name, seed in (("python", 11), ("typescript", 12), ("rust", 13)):
        pair = ed25519_pair(seed)
        pem = pair.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        made[name] = {"pem": pem, "public_jwk": {name: pair.jwk[name] for name in ("kty", "crv", "x")}}
    # Of another issuer: the runner signs with it by arithmetic alone.
    numbers = PLATFORM.private.private_numbers()
    issuer = {"jwk": PLATFORM.jwk, "modulus": f"{numbers.public_numbers.n:x}", "exponent": f"{numbers.d:x}"}
    return {"keys": made, "issuer": issuer, "cases": []}


def pack(message):
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def write(name, content):
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n"
        for key, value in content.items()
        if key != "cases"
    ]
    each = ",\n".join("    " + json.dumps(entry, ensure_ascii=False) for entry in content["cases"])
    (VECTORS / name).write_text("{\n" + "".join(lines) + '  "cases": [\n' + each + "\n  ]\n}\n")


def main():
    VECTORS.mkdir(exist_ok=True)
    for make in (good_jwts, attacks, bad_claims, bound):
        make()
    begin = [{"key_set": {"keys": KEYS}}, checkpoint()]
    common = {"issuer": ISSUER, "audience": AUDIENCE, "clock": CLOCK}
    write("jwts.json", common | {"feed": begin, "cases": cases})
    write("rights.json", {"cases": rights()})
    write("streams.json", common | {"cases": streams()})
    write("errors.json", {"cases": errors()})
    write("services.json", services())
    write("key_sets.json", key_sets())
    write("private_keys.json", private_keys())
    for path in sorted(VECTORS.iterdir()):
        print(path.name, len(json.loads(path.read_text())["cases"]), "cases", path.stat().st_size // 1024, "KiB")


if __name__ == "__main__":
    main()
