"""Foreign issuers against a server: workloads that come without a secret.

    federation.py certificates DIRECTORY    makes ca.pem, and a certificate for localhost, in that directory
    federation.py run DIRECTORY             the rest, against a server with --federation-ca DIRECTORY/ca.pem

An issuer over TLS that turns its keys, whose JWTs Authlib's JOSE library (joserfc) signs; JWT-SVIDs of SPIFFE, with a
bundle; and a cluster's JWTs in the shape of Kubernetes, with keys that are stored. Where there is Node, also
oidc-provider (node/issuer.mjs), which knows OpenID Connect alone.

Needs the packages of tests/e2e/requirements.txt, and in the environment what `countersign dev` writes into dev.env.
"""

import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt as pyjwt
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"


def main():
    directory = Path(sys.argv[2])
    if sys.argv[1] == "certificates":
        return certificates(directory)
    world = World()
    discovered(world, directory)
    svids(world)
    cluster(world)
    if len(sys.argv) > 3:
        by_oidc_provider(world, directory, Path(sys.argv[3]))
    print("all good")


def certificates(directory):
    now = datetime.datetime.now(datetime.timezone.utc)

    def build(subject, issuer, key, signer, extensions):
        name = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
        builder = (
            x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=2))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = build("issuers", "issuers", authority, authority, [(x509.BasicConstraints(True, 0), True)])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = build("localhost", "issuers", server, authority, [(x509.SubjectAlternativeName(names), False)])
    pem = serialization.Encoding.PEM
    (directory / "ca.pem").write_bytes(ca.public_bytes(pem))
    (directory / "issuer.pem").write_bytes(leaf.public_bytes(pem))
    key = server.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "issuer.key").touch(mode=0o600)
    (directory / "issuer.key").write_bytes(key)


class World:
    """The server, as its administrators and its clients see it."""

    def __init__(self):
        self.endpoint = os.environ["COUNTERSIGN_ENDPOINT"]
        self.operator = os.environ["COUNTERSIGN_OPERATOR_TOKEN"]
        self.org_id = os.environ["COUNTERSIGN_ORG_ID"]
        name = f"workload-{uuid.uuid4().hex[:8]}"
        account = self.call("AccountService/CreateServiceAccount", name=name,
                            grants=[{"permission": "invoices.read", "resource": "*"}])
        self.account_id = account["account"]["id"]

    def call(self, method, **request):
        answer = requests.post(
            f"{self.endpoint}/countersign.v1.{method}", json={"orgId": self.org_id, **request}, timeout=60,
            headers={"authorization": f"Bearer {self.operator}"},
        )
        assert answer.status_code == 200, (method, answer.text)
        return answer.json()

    def issuer(self, **issuer):
        tried = self.call("OrgService/CreateIssuer", issuer=issuer, validateOnly=True)
        made = self.call("OrgService/CreateIssuer", issuer=issuer)["issuer"]
        return made["id"], tried

    def rule(self, issuer_id, **rule):
        rule = {"issuerId": issuer_id, "accountId": self.account_id, "audiences": [self.endpoint], **rule}
        return self.call("OrgService/CreateFederationRule", rule=rule)["rule"]["id"]

    def token(self, **parameters):
        return requests.post(f"{self.endpoint}/oauth2/token", data=parameters, timeout=60)

    def exchanges(self, rule_id, assertion):
        """By both grants, and both names of the rule; what is made is verified by another library."""
        for parameters in (
            {"grant_type": JWT_BEARER, "assertion": assertion, "client_id": rule_id},
            {"grant_type": JWT_BEARER, "assertion": assertion, "federation_rule_id": rule_id},
            {"grant_type": EXCHANGE, "subject_token": assertion, "subject_token_type": JWT_TYPE, "client_id": rule_id},
        ):
            answer = self.token(scope="invoices.read", **parameters)
            assert answer.status_code == 200, answer.text
            token = answer.json()["access_token"]
            key = pyjwt.PyJWKClient(f"{self.endpoint}/.well-known/jwks.json").get_signing_key_from_jwt(token)
            algorithm = pyjwt.get_unverified_header(token)["alg"]
            claims = pyjwt.decode(token, key, algorithms=[algorithm], issuer=self.endpoint, audience=self.endpoint)
            assert claims["client_id"] == rule_id and claims["sub"] == self.account_id, claims
            assert claims["token_kind"] == "FEDERATED" and claims["scope"] == "invoices.read", claims

    def refuses(self, rule_id, assertion, failed):
        answer = self.token(grant_type=JWT_BEARER, assertion=assertion, client_id=rule_id)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant"), answer.text
        assert answer.headers["countersign-reason"] == "TOKEN_INVALID", answer.headers
        explained = self.call("TokenService/ExplainToken", assertion=assertion, federationRuleId=rule_id)
        first = next(check for check in explained["checks"] if not check.get("passed"))
        assert first["name"] == failed, (failed, explained)


def claims_for(issuer, world, **changes):
    now = int(time.time())
    claims = {"iss": issuer, "sub": "job:acme/app", "aud": world.endpoint, "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def signed(key, algorithm, claims):
    header = {"alg": algorithm, "kid": key.kid, "typ": "JWT"}
    return jwt.encode(header, claims, key, algorithms=[algorithm])


def new_key(kind, size, kid, **parameters):
    return kind.generate_key(size, parameters={"kid": kid, **parameters}, private=True)


class Issuer:
    """OpenID Connect discovery and keys, over TLS."""

    def __init__(self, directory):
        issuer = self
        self.keys, self.requests = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.requests.append(self.path)
                if self.path == "/.well-known/openid-configuration":
                    document = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                else:
                    document = {"keys": [key.as_dict(private=False) for key in issuer.keys]}
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "issuer.pem", directory / "issuer.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.url = f"https://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()


def discovered(world, directory):
    issuer = Issuer(directory)
    rsa, p256 = new_key(RSAKey, 2048, "r1", use="sig", alg="RS256"), new_key(ECKey, "P-256", "e1", use="sig")
    issuer.keys = [rsa, p256]
    issuer_id, tried = world.issuer(kind="ISSUER_KIND_OIDC", issuer=issuer.url)
    assert tried["issuer"]["keyIds"] == ["r1", "e1"], tried
    assert tried["issuer"]["jwksUri"] == f"{issuer.url}/keys", tried
    rule_id = world.rule(issuer_id, subject="job:acme/app")
    for key, algorithm in (rsa, "RS256"), (p256, "ES256"):
        world.exchanges(rule_id, signed(key, algorithm, claims_for(issuer.url, world)))
    done("an issuer over TLS: RS256, ES256")
    for failed, changes in (
        ("issuer", {"iss": f"{issuer.url}/"}),
        ("aud", {"aud": [world.endpoint, "https://other.example"]}),
        ("time", {"exp": int(time.time()) + 10 * 365 * 86_400}),
        ("subject", {"sub": "job:acme/other"}),
    ):
        world.refuses(rule_id, signed(rsa, "RS256", claims_for(issuer.url, world, **changes)), failed)
    other = new_key(RSAKey, 2048, "r1")
    world.refuses(rule_id, signed(other, "RS256", claims_for(issuer.url, world)), "signature")
    done("what it did not sign, or not so, is explained")

    # The keys turn: a new one is found as soon as it is used, an old one is gone. At most one fetch in 10 s.
    ed25519 = new_key(OKPKey, "Ed25519", "o1", use="sig")
    issuer.keys = [ed25519]
    deadline = time.monotonic() + 60
    while True:
        assertion = signed(ed25519, "EdDSA", claims_for(issuer.url, world))
        answer = world.token(grant_type=JWT_BEARER, assertion=assertion, client_id=rule_id)
        if answer.status_code == 200:
            break
        assert time.monotonic() < deadline, answer.text
        time.sleep(1)
    world.exchanges(rule_id, signed(ed25519, "EdDSA", claims_for(issuer.url, world)))
    world.refuses(rule_id, signed(rsa, "RS256", claims_for(issuer.url, world)), "key")
    assert issuer.requests.count("/keys") <= 10, issuer.requests
    done("its keys turned: EdDSA")


def svids(world):
    key = new_key(ECKey, "P-256", "svid")
    # A use of SPIFFE's, which the library does not know.
    jwk = {**key.as_dict(private=False), "use": "jwt-svid"}
    bundle = {"keys": [jwk], "spiffe_sequence": 1, "spiffe_refresh_hint": 600}
    issuer_id, _ = world.issuer(kind="ISSUER_KIND_SPIFFE", issuer="spiffe://localhost", jwks=json.dumps(bundle))
    rule_id = world.rule(issuer_id, subjectPrefix="spiffe://localhost/ns/web/")
    svid = lambda sub: claims_for(None, world, iat=None, sub=sub, aud=[world.endpoint])
    world.exchanges(rule_id, signed(key, "ES256", svid("spiffe://localhost/ns/web/sa/front")))
    world.refuses(rule_id, signed(key, "ES256", svid("spiffe://localhost/ns/db/sa/front")), "subject")
    world.refuses(rule_id, signed(key, "ES256", svid("spiffe://other.example/ns/web/sa/front")), "issuer")
    done("JWT-SVIDs, with a bundle")


def cluster(world):
    key = new_key(RSAKey, 2048, "k8s", use="sig", alg="RS256")
    jwks = json.dumps({"keys": [key.as_dict(private=False)]})
    url = "https://localhost:6443/cluster"
    issuer_id, _ = world.issuer(kind="ISSUER_KIND_JWKS", issuer=url, jwks=jwks, singleUseJti=True)
    rule_id = world.rule(
        issuer_id, subject="system:serviceaccount:prod:deployer",
        claims=[{"path": ["kubernetes.io", "namespace"], "values": ["prod"]}],
    )

    def token(namespace="prod", jti=None):
        return signed(key, "RS256", claims_for(
            url, world, sub="system:serviceaccount:prod:deployer", aud=[world.endpoint], nbf=int(time.time()),
            jti=jti or str(uuid.uuid4()),
            **{"kubernetes.io": {
                "namespace": namespace, "pod": {"name": "deployer-1", "uid": str(uuid.uuid4())},
                "serviceaccount": {"name": "deployer", "uid": str(uuid.uuid4())},
            }},
        ))

    once = token()
    answer = world.token(grant_type=JWT_BEARER, assertion=once, client_id=rule_id)
    assert answer.status_code == 200, answer.text
    world.refuses(rule_id, once, "replay")
    world.refuses(rule_id, token(namespace="staging"), "claims/kubernetes.io/namespace")
    done("a cluster's JWTs, each once")


def by_oidc_provider(world, directory, program):
    """An issuer that knows OpenID Connect alone gives its client a JWT by client credentials."""
    node = subprocess.Popen(["node", program, directory, world.endpoint], stdout=subprocess.PIPE, text=True)
    try:
        url = node.stdout.readline().strip()
        assert url.startswith("https://localhost:"), url
        issuer_id, tried = world.issuer(kind="ISSUER_KIND_OIDC", issuer=url)
        assert tried["issuer"]["keyIds"], tried
        # Its access token names the client as `sub`.
        rule_id = world.rule(issuer_id, subject="ci")
        for _ in range(2):
            answer = requests.post(
                f"{url}/token", auth=("ci", "a secret of the other issuer"), verify=directory / "ca.pem", timeout=60,
                data={"grant_type": "client_credentials", "resource": world.endpoint},
            )
            assert answer.status_code == 200, answer.text
            world.exchanges(rule_id, answer.json()["access_token"])
        done("oidc-provider, as a live foreign issuer")
    finally:
        node.kill()
        node.wait()


def done(what):
    print("ok ", what, flush=True)


if __name__ == "__main__":
    main()
