"""OAuth libraries of Python against a server: Authlib, and oauthlib with requests-oauthlib.

Discovery, client credentials, token exchange, introspection, revocation, and what a client is told that is none.

Needs the packages of tests/e2e/requirements.txt, and in the environment COUNTERSIGN_ENDPOINT, COUNTERSIGN_CLIENT_ID,
COUNTERSIGN_SERVICE_TOKEN, COUNTERSIGN_OPERATOR_TOKEN and COUNTERSIGN_ORG_ID, as `countersign dev` writes them into
dev.env.
"""

import os
import secrets

os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # the server is on loopback

import jwt
import requests
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc.jwk import ECKey, OKPKey
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError
from requests_oauthlib import OAuth2Session as Session

ENDPOINT = os.environ["COUNTERSIGN_ENDPOINT"]
CLIENT_ID = os.environ["COUNTERSIGN_CLIENT_ID"]
SECRET = os.environ["COUNTERSIGN_SERVICE_TOKEN"]
BILLING = "https://billing.example"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def main():
    metadata = discover()
    for method in "client_secret_basic", "client_secret_post":
        with_authlib(metadata, method)
    with_oauthlib(metadata)
    for algorithm in "EdDSA", "ES256":
        with_key(metadata, algorithm)
    print("all good")


def discover():
    answer = requests.get(f"{ENDPOINT}/.well-known/oauth-authorization-server", timeout=60)
    answer.raise_for_status()
    metadata = AuthorizationServerMetadata(answer.json())
    metadata.validate_issuer()
    metadata.validate_token_endpoint_auth_methods_supported()
    metadata.validate_grant_types_supported()
    for name in "token_endpoint", "introspection_endpoint", "revocation_endpoint":
        assert metadata[name].startswith(ENDPOINT), metadata[name]
    done("Authlib: the metadata")
    return metadata


def verified(metadata, token, audience):
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    algorithm = jwt.get_unverified_header(token)["alg"]
    return jwt.decode(token, key, algorithms=[algorithm], issuer=metadata["issuer"], audience=audience)


def with_authlib(metadata, method):
    session = OAuth2Session(CLIENT_ID, SECRET, token_endpoint_auth_method=method, scope="accounts.read tokens.introspect",
                            revocation_endpoint_auth_method=method)
    token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", audience=BILLING)
    assert token["token_type"] == "Bearer" and token["expires_in"] <= 300, token
    claims = verified(metadata, token["access_token"], BILLING)
    assert claims["client_id"] == CLIENT_ID and claims["scope"] == token["scope"], claims
    done(f"Authlib, {method}: client credentials")

    exchanged = session.fetch_token(
        metadata["token_endpoint"], grant_type=EXCHANGE, subject_token=SECRET, subject_token_type=ACCESS_TOKEN,
        resource=BILLING,
    )
    assert exchanged["issued_token_type"] == ACCESS_TOKEN, exchanged
    verified(metadata, exchanged["access_token"], BILLING)
    done(f"Authlib, {method}: token exchange")

    answer = session.introspect_token(metadata["introspection_endpoint"], token=token["access_token"])
    assert answer.json()["active"] is True and answer.json()["sub"] == claims["sub"], answer.json()
    answer = session.introspect_token(metadata["introspection_endpoint"], token="rubbish")
    assert answer.json() == {"active": False}, answer.json()
    done(f"Authlib, {method}: introspection")

    assert session.revoke_token(metadata["revocation_endpoint"], token="rubbish").status_code == 200
    answer = session.revoke_token(metadata["revocation_endpoint"], token=token["access_token"])
    assert answer.json()["error"] == "unsupported_token_type", answer.json()
    done(f"Authlib, {method}: revocation")


def with_oauthlib(metadata):
    session = Session(client=BackendApplicationClient(client_id=CLIENT_ID, scope=["accounts.read"]))
    token = session.fetch_token(metadata["token_endpoint"], client_id=CLIENT_ID, client_secret=SECRET, audience=BILLING)
    assert token.scope == "accounts.read" and token["expires_in"] <= 300, token
    verified(metadata, token["access_token"], BILLING)
    session = Session(client=BackendApplicationClient(client_id=CLIENT_ID))
    wrong = SECRET[:-1] + ("1" if SECRET.endswith("0") else "0")
    try:
        session.fetch_token(metadata["token_endpoint"], client_id=CLIENT_ID, client_secret=wrong)
    except InvalidClientError as error:
        assert error.status_code == 401 and error.description.startswith("TOKEN_INVALID"), error.description
    else:
        raise AssertionError("a wrong secret was accepted")
    done("oauthlib: client credentials, and what a wrong secret is told")


def with_key(metadata, algorithm):
    """A token with a key: Authlib signs the assertion, whose audience has to be said."""
    key = ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
    kind = jwt.algorithms.OKPAlgorithm if algorithm == "EdDSA" else jwt.algorithms.ECAlgorithm
    account = call("AccountService/CreateServiceAccount", name=f"keys-{secrets.token_hex(4)}")["account"]
    asked = {"accountId": account["id"], "kind": "TOKEN_KIND_KEY", "publicJwk": kind.to_jwk(key.public_key())}
    token_id = call("TokenService/CreateToken", **asked)["token"]["id"]
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

    signing = (OKPKey if algorithm == "EdDSA" else ECKey).import_key(pem)

    def ask(**claims):
        session = OAuth2Session(token_id, signing, token_endpoint_auth_method="private_key_jwt")
        session.register_client_auth_method(PrivateKeyJWT(claims=claims or None, alg=algorithm))
        return session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", audience=BILLING)

    token = ask(aud=metadata["issuer"])
    assert verified(metadata, token["access_token"], BILLING)["client_id"] == token_id
    try:
        ask()
    except OAuthError as error:
        assert error.error == "invalid_client", error
    else:
        raise AssertionError("an assertion for the endpoint was accepted")
    done(f"Authlib, private_key_jwt, {algorithm}: client credentials, and what an assertion for the endpoint is told")


def call(method, **message):
    """Calls an RPC as the operator, in JSON."""
    headers = {"authorization": f"Bearer {os.environ['COUNTERSIGN_OPERATOR_TOKEN']}"}
    message["orgId"] = os.environ["COUNTERSIGN_ORG_ID"]
    answer = requests.post(f"{ENDPOINT}/countersign.v1.{method}", json=message, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def done(what):
    print(f"ok: {what}", flush=True)


if __name__ == "__main__":
    main()
