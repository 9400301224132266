"""What a verification costs beside the signature alone."""

import base64
import json
import platform
import timeit

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from countersign import Verifier
from countersign.v1 import token_service_pb2


def main():
    key = Ed25519PrivateKey.generate()
    x = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).rstrip(b"=").decode()
    verifier = Verifier.offline("https://id.example")
    item = token_service_pb2.WatchRevocationsResponse()
    item.key_set.keys.add(kty="OKP", crv="Ed25519", alg="EdDSA", use="sig", kid="k1", x=x)
    verifier.feed(item)
    item = token_service_pb2.WatchRevocationsResponse()
    item.checkpoint.cursor = "c"
    verifier.feed(item)
    # As many revocations as a busy deployment has in force.
    for number in range(10_000):
        item = token_service_pb2.WatchRevocationsResponse()
        item.revocation.token_id = f"tok_{number}"
        item.revocation.expire_time.seconds = 4_000_000_000
        verifier.feed(item)
    claims = {"iss": "https://id.example", "sub": "acct_1", "aud": "https://billing.example", "exp": 4_000_000_000}
    claims |= {"iat": 1, "nbf": 1, "jti": "j", "client_id": "tok_x", "org": "org_1", "org_ver": 1, "acct_ver": 1}
    claims |= {"secret": 1, "scope": "reports.read", "account_kind": "SERVICE_ACCOUNT", "token_kind": "SECRET"}
    token = jwt.encode(claims, key, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": "k1"})
    message, _, signature = token.encode().rpartition(b".")
    signature, public = base64.urlsafe_b64decode(signature + b"=="), key.public_key()

    whole = fastest(lambda: verifier.verify(token, "https://billing.example", ["org_1"]))
    bare = fastest(lambda: public.verify(signature, message))
    print(
        json.dumps(
            {"language": "python", "runtime": platform.python_version(), "verify_us": whole, "signature_us": bare}
        )
    )


def fastest(call):
    return round(min(timeit.repeat(call, number=500, repeat=7)) / 500 * 1e6, 1)


if __name__ == "__main__":
    main()
