"""A verifier with a key of the test's own, and JWTs of it."""

import base64
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from countersign import Verifier
from countersign.v1 import token_service_pb2

ISSUER, AUDIENCE = "https://id.example", "https://billing.example"


class Issuer:
    def __init__(self):
        self.key = Ed25519PrivateKey.generate()

    def jwt(self, **changes):
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "acct_1", "aud": AUDIENCE, "exp": now + 300, "iat": now, "nbf": now, "jti": "j"}
        claims |= {"client_id": "tok_1", "org": "org_1", "org_ver": 1, "acct_ver": 1, "secret": 1, "scope": "a.read"}
        claims = {name: value for name, value in (claims | changes).items() if value is not ...}
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "k"})

    def verifier(self, **options):
        verifier = Verifier.offline(ISSUER, **options)
        item = token_service_pb2.WatchRevocationsResponse()
        x = base64.urlsafe_b64encode(self.key.public_key().public_bytes_raw()).rstrip(b"=").decode()
        item.key_set.keys.add(kty="OKP", crv="Ed25519", alg="EdDSA", use="sig", kid="k", x=x)
        verifier.feed(item)
        verifier.feed(checkpoint())
        return verifier


def checkpoint():
    item = token_service_pb2.WatchRevocationsResponse()
    item.checkpoint.cursor = "c"
    return item


def revoked(**fields):
    item = token_service_pb2.WatchRevocationsResponse()
    item.revocation.SetInParent()
    for name, value in fields.items():
        setattr(item.revocation, name, value)
    return item


@pytest.fixture
def issuer():
    return Issuer()
