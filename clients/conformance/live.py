"""The scenarios against a running server: two nodes on one database, with a TCP proxy in front of each library."""

import base64
import hashlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from suite import Failed, equal, read

AUDIENCE = "https://billing.example"
# Of the platform whose JWTs are exchanged by a rule.
PLATFORM, WORKLOAD = "https://platform.example", "system:serviceaccount:prod:deployer"
JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt"
# From the answer of the change to the refusal; a debug binary on a busy machine.
HEARD_WITHIN = 10
READY_WITHIN = 60
# Of the verifier whose server is killed.
STALENESS = 6


### The deployment.


class Postgres:
    """A PostgreSQL that is reached through a socket alone."""

    def __init__(self, work):
        self.directory = work / "postgres"
        self.directory.mkdir(mode=0o700)
        self._owner = {"cwd": self.directory, "stdin": subprocess.DEVNULL}
        if os.geteuid() == 0:
            # It refuses to run as root.
            names = {user.pw_name: user for user in pwd.getpwall()}
            user = names.get("postgres") or names["nobody"]
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            self._owner |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data, self._bin = self.directory / "data", programs()
        make = [self._bin / "initdb", "-D", self._data, "-U", "countersign", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([*make, "--no-sync"], stdout=subprocess.DEVNULL, timeout=120, check=True, **self._owner)
        self.url = f"postgres://countersign@localhost/postgres?host={self.directory}"
        self.start()

    def start(self):
        command = [
            self._bin / "postgres",
            "-D",
            self._data,
            "-k",
            self.directory,
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]
        log = (self.directory / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._owner)
        ask = [self._bin / "pg_isready", "-q", "-h", self.directory, "-U", "countersign", "-d", "postgres"]
        wait_for(lambda: subprocess.run(ask).returncode == 0, READY_WITHIN, "PostgreSQL answers")

    def stop(self):
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=60)

    def copy(self):
        """What a backup holds; the server is stopped for it."""
        self.stop()
        backup = self.directory / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        subprocess.run(["cp", "-a", self._data, backup], check=True)
        self.start()

    def restore(self):
        self.stop()
        shutil.rmtree(self._data)
        subprocess.run(["cp", "-a", self.directory / "backup", self._data], check=True)
        self.start()


def programs():
    if named := os.environ.get("COUNTERSIGN_PG_BIN"):
        return Path(named)
    installed = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if installed:
        return max(installed, key=lambda path: int(re.search(r"\d+", str(path))[0]))
    return Path(shutil.which("initdb") or sys.exit("PostgreSQL is not installed")).parent


class Node:
    """One server of the deployment."""

    def __init__(self, binary, variables, work, name):
        self._binary, self._log = binary, work / f"{name}.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._variables = variables | {"COUNTERSIGN_LISTEN": f"127.0.0.1:{self.port}"}
        self._process = None

    def start(self):
        log = self._log.open("ab")
        how = {"env": self._variables, "stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        self._process = subprocess.Popen([self._binary, "serve"], **how)
        wait_for(self._is_ready, READY_WITHIN, "the server is ready")

    def _is_ready(self):
        if self._process.poll() is not None:
            sys.exit(f"a server ended by itself:\n{self._log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=20) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self):
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self):
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()


class Deployment:
    def __init__(self, binary, work):
        self.postgres = Postgres(work)
        key, token = work / "master.key", work / "operator.token"
        key.write_text(f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
        key.chmod(0o600)
        variables = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
        self.issuer = "http://127.0.0.1"
        variables |= {
            "COUNTERSIGN_DATABASE_URL": self.postgres.url,
            "COUNTERSIGN_ISSUER": self.issuer,
            "COUNTERSIGN_FEDERATION_ISSUERS": PLATFORM,
            "COUNTERSIGN_MASTER_KEY_FILE": str(key),
        }
        self.nodes = [Node(binary, variables, work, name) for name in ("one", "two")]
        for command in (["migrate"], ["bootstrap", "--output", token]):
            done = subprocess.run([binary, *command], env=variables, timeout=120, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{command[0]} failed: {done.stderr}")
        self.operator = token.read_text().strip()
        for node in self.nodes:
            node.start()

    def call(self, method, body, credential=None, node=0):
        """An RPC over JSON."""
        headers = {"content-type": "application/json"}
        if credential:
            headers["authorization"] = f"Bearer {credential}"
        url = f"{self.nodes[node].url}/countersign.v1.{method}"
        for attempt in range(5):
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                reason, text = error.headers.get("countersign-reason"), error.read().decode()
                # A busy machine; a node whose database has just come back.
                if reason in ("DATABASE_UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED", "CONFLICT") and attempt < 4:
                    time.sleep(1)
                    continue
                raise Failed(f"{method}: {reason} {text[:300]}") from None

    def close(self):
        for node in self.nodes:
            node.stop()
        self.postgres.stop()


class Proxy:
    """In front of a server: cuts, slows, leads to another one, or swallows the answer to a request."""

    def __init__(self, port):
        self.target, self.delay, self.refuses, self.swallows = port, 0.0, False, 0
        # Sockets that lead nowhere any more, and do not say so.
        self._silent = set()
        self._pairs, self._lock = [], threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            swallow = None
            if self.swallows:
                self.swallows -= 1
                swallow = threading.Event()
            with self._lock:
                self._pairs.append((client, server))
            for source, sink, watches in ((client, server, True), (server, client, False)):
                arguments = (source, sink, swallow, watches)
                threading.Thread(target=self._pump, args=arguments, daemon=True).start()

    def _pump(self, source, sink, swallow, watches):
        frames = Frames() if watches and swallow else None
        try:
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if source in self._silent:
                    continue
                if frames and not swallow.is_set() and frames.has_call(data):
                    swallow.set()
                    # The server has the time to do it; its answer goes nowhere.
                    threading.Timer(1.5, close, (source, sink)).start()
                if swallow and swallow.is_set() and not watches:
                    continue
                sink.sendall(data)
        except OSError:
            pass
        close(source, sink)

    def silence(self):
        """As a firewall that has forgotten the connections."""
        with self._lock:
            self._silent.update(each for pair in self._pairs for each in pair)

    def cut(self):
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            close(*pair)

    def close(self):
        self._listening.close()
        self.cut()


class Frames:
    """Finds the headers of a call in what an HTTP/2 client sends."""

    def __init__(self):
        self._data, self._preface = b"", False

    def has_call(self, data):
        self._data += data
        if not self._preface:
            if len(self._data) < 24:
                return False
            self._data, self._preface = self._data[24:], True
        while len(self._data) >= 9:
            length, kind = int.from_bytes(self._data[:3]), self._data[3]
            if kind == 1:
                return True
            if len(self._data) < 9 + length:
                return False
            self._data = self._data[9 + length :]
        return False


def close(*sockets):
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        each.close()


def free_port():
    # A client of this port could be given it meanwhile; the server then says so.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def wait_for(holds, seconds, what):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.05)


### What each library has.


class Place:
    """One library in the deployment: an org, a verifier behind a proxy, and what to change."""

    def __init__(self, deployment, driver, directory):
        self.deployment, self.driver, self.directory = deployment, driver, directory
        self.language = driver.language
        self.name = f"{self.language}-{secrets.token_hex(3)}"
        made = deployment.call(
            "OrgService/CreateOrg",
            {"slug": self.name, "display_name": self.name, "owner_service_account_name": "root"},
            deployment.operator,
        )
        self.org = made["org"]["id"]
        self.admin = self.token(made["owner"]["id"])["secret"]
        self.proxy = Proxy(deployment.nodes[0].port)
        self.watcher = self.token(self.account("watcher", "tokens.introspect"))["secret"]
        self._platform = None
        self.verifier("v")

    def call(self, method, body, node=0):
        return self.deployment.call(method, {"org_id": self.org} | body, self.deployment.operator, node)

    def account(self, name, *permissions, org=None):
        grants = [{"permission": permission, "resource": "*"} for permission in permissions]
        body = {"name": f"{name}-{secrets.token_hex(3)}", "grants": grants} | ({"org_id": org} if org else {})
        return self.call("AccountService/CreateServiceAccount", body)["account"]["id"]

    def token(self, account, **fields):
        return self.call("TokenService/CreateToken", {"account_id": account, "ttl": "86400s"} | fields)

    def subject(self):
        """A new account with a token: its ids and secret."""
        account = self.account("reader", "reports.read")
        made = self.token(account)
        return account, made["token"]["id"], made["secret"]

    def rule(self):
        """A rule by which JWTs of the platform act as a new account."""
        if self._platform is None:
            self.call("OrgService/UpdateTokenPolicy", {"policy": {"allow_federation": True}})
            jwks = json.dumps({"keys": [read("private_keys.json")["issuer"]["jwk"]]})
            issuer = {"kind": "ISSUER_KIND_JWKS", "issuer": PLATFORM, "jwks": jwks}
            self._platform = self.call("OrgService/CreateIssuer", {"issuer": issuer})["issuer"]["id"]
        account = self.account("workload", "reports.read", "tokens.introspect")
        rule = {"issuer_id": self._platform, "account_id": account, "subject": WORKLOAD}
        rule["audiences"] = [self.deployment.issuer]
        return self.call("OrgService/CreateFederationRule", {"rule": rule})["rule"]["id"]

    def exchange_by(self, rule):
        body = {"subject_token": assertion(self.deployment.issuer), "subject_token_type": JWT_TYPE}
        body |= {"federation_rule_id": rule, "audiences": [AUDIENCE], "requested_ttl": "3600s"}
        return self.deployment.call("TokenService/ExchangeToken", body)["accessToken"]

    def exchange(self, secret, node=0):
        body = {"subject_token": secret, "audiences": [AUDIENCE], "requested_ttl": "3600s"}
        return self.deployment.call("TokenService/ExchangeToken", body, node=node)["accessToken"]

    def verifier(self, name, **options):
        options = {"credential": {"secret": self.watcher}, "endpoint": self.proxy.url} | options
        self.driver.ok("verifier", id=name, issuer=self.deployment.issuer, verifier_name=name, **options)

    def verify(self, jwt, name="v"):
        return self.driver.ask("verify", id=name, jwt=jwt, audience=AUDIENCE, orgs=[self.org])

    def good(self, jwt, name="v", within=HEARD_WITHIN):
        """It is accepted, also where that takes a moment."""
        last = []

        def holds():
            last[:] = [self.verify(jwt, name)]
            return "ok" in last[0]

        try:
            wait_for(holds, within, "accepted")
        except Failed:
            raise Failed(f"refused: {last[0]['error']}") from None

    def refused(self, jwt, *reasons, name="v", within=HEARD_WITHIN):
        last = []

        def holds():
            last[:] = [self.verify(jwt, name)]
            return "error" in last[0] and last[0]["error"]["reason"] in reasons

        try:
            wait_for(holds, within, f"refused with {' or '.join(reasons)}")
        except Failed as error:
            raise Failed(f"{error}: {last[0].get('error', 'accepted')}") from None

    def acknowledges(self, key_ids):
        """The server has heard from the library which keys it holds; else an operator revokes blindly."""

        def holds():
            listed = self.call("TokenService/ListVerifiers", {}).get("verifiers", [])
            return any(each["verifierName"] == "v" and set(each.get("heldKeyIds", [])) == key_ids for each in listed)

        wait_for(holds, 40, f"the acknowledgement of {len(key_ids)} keys")

    def still(self, jwt, name="v"):
        """It is accepted now."""
        answer = self.verify(jwt, name)
        if "ok" not in answer:
            raise Failed(f"refused: {answer['error']}")


### The scenarios of one library.


def rotated(place):
    _, token, first = place.subject()
    old = place.exchange(first)
    place.good(old)
    second = place.call("TokenService/RotateToken", {"token_id": token, "overlap": "3600s"})["secret"]
    new = place.exchange(second)
    place.good(new)
    time.sleep(1)
    place.still(old)
    place.call("TokenService/FinishRotation", {"token_id": token})
    place.refused(old, "ACCESS_TOKEN_STALE", "TOKEN_EXPIRED")
    place.still(new)


def reset(place):
    _, token, first = place.subject()
    old = place.exchange(first)
    place.good(old)
    second = place.call("TokenService/RotateToken", {"token_id": token, "overlap": "0s"})["secret"]
    place.refused(old, "ACCESS_TOKEN_STALE", "TOKEN_EXPIRED")
    place.good(place.exchange(second))


def revoked(place):
    _, token, secret = place.subject()
    jwt, (_, _, other) = place.exchange(secret), place.subject()
    place.good(jwt)
    place.call("TokenService/RevokeToken", {"token_id": token, "reason": "REVOKE_REASON_SUPERSEDED"})
    place.refused(jwt, "TOKEN_REVOKED")
    place.good(place.exchange(other))


def leaked(place):
    _, _, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    place.deployment.call("TokenService/ReportLeakedToken", {"token_texts": [secret]})
    place.refused(jwt, "TOKEN_REVOKED", "ACCESS_TOKEN_STALE")


def deactivated(place):
    account, _, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    place.call("AccountService/DeactivateAccount", {"account_id": account, "reason": "test"})
    place.refused(jwt, "ACCOUNT_DEACTIVATED", "ACCESS_TOKEN_STALE")
    place.call("AccountService/ActivateAccount", {"account_id": account, "reason": "test"})
    place.good(place.exchange(secret))
    place.refused(jwt, "ACCOUNT_DEACTIVATED", "ACCESS_TOKEN_STALE")


def suspended(place):
    # A verifier of every org: that of the org itself ends with it.
    body = {"name": f"verify-{place.name}", "grants": [{"permission": "platform.verify", "resource": "*"}]}
    caller = place.deployment.call("AccountService/GetCaller", {}, place.deployment.operator)
    made = place.deployment.call(
        "AccountService/CreateServiceAccount", {"org_id": caller["org"]["id"]} | body, place.deployment.operator
    )
    token = {"org_id": caller["org"]["id"], "account_id": made["account"]["id"]}
    watcher = place.deployment.call("TokenService/CreateToken", token, place.deployment.operator)["secret"]
    place.verifier("all", credential={"secret": watcher})
    _, _, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt, "all")
    place.call("OrgService/SuspendOrg", {"reason": "test"})
    try:
        place.refused(jwt, "ORG_SUSPENDED", "ACCESS_TOKEN_STALE", name="all")
    finally:
        place.call("OrgService/ResumeOrg", {"reason": "test"})
    place.good(place.exchange(secret), "all")
    place.driver.ok("close", id="all")


def rule_disabled(place):
    def change(**fields):
        place.call("OrgService/UpdateFederationRule", {"rule": {"id": rule} | fields})

    rule, other = place.rule(), place.rule()
    first, beside = place.exchange_by(rule), place.exchange_by(other)
    place.good(first)
    place.good(beside)
    change(disabled=True)
    place.refused(first, "ACCESS_TOKEN_STALE")
    change(disabled=False)
    second = place.exchange_by(rule)
    place.good(second)
    place.refused(first, "ACCESS_TOKEN_STALE")
    change(scopes=["reports.read"])
    place.refused(second, "ACCESS_TOKEN_STALE")
    third = place.exchange_by(rule)
    place.good(third)
    place.call("TokenService/RevokeToken", {"token_id": rule})
    place.refused(third, "TOKEN_REVOKED")
    place.refused(first, "TOKEN_REVOKED")
    place.still(beside)


def cut(place):
    _, token, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    place.proxy.refuses = True
    try:
        place.proxy.cut()
        time.sleep(1)
        place.still(jwt)
        place.call("TokenService/RevokeToken", {"token_id": token})
    finally:
        place.proxy.refuses = False
    place.refused(jwt, "TOKEN_REVOKED", within=20)


def slowed(place):
    _, token, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    place.proxy.delay = 2.0
    try:
        place.call("TokenService/RevokeToken", {"token_id": token})
        place.refused(jwt, "TOKEN_REVOKED", within=20)
    finally:
        place.proxy.delay = 0.0


def silent(place):
    proxy = Proxy(place.deployment.nodes[0].port)
    place.verifier("silent", endpoint=proxy.url)
    _, token, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt, "silent")
    proxy.silence()
    place.call("TokenService/RevokeToken", {"token_id": token})
    # The library notices by itself that no checkpoint comes, and connects anew.
    place.refused(jwt, "TOKEN_REVOKED", name="silent", within=40)
    place.driver.ok("close", id="silent")
    proxy.close()


def flood(place):
    given = read("key_sets.json")
    _, _, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    before = place.driver.ok("state", id="v")["key_set_fetches"]
    for unknown in given["cases"]:
        place.driver.error("verify", "ACCESS_TOKEN_INVALID", id="v", jwt=unknown, audience=AUDIENCE)
    fetches = place.driver.ok("state", id="v")["key_set_fetches"] - before
    if fetches > 1:
        raise Failed(f"{fetches} fetches of the key set at 200 unknown kids")
    place.still(jwt)


def other_node(place):
    _, token, secret = place.subject()
    jwt = place.exchange(secret)
    place.good(jwt)
    place.proxy.target = place.deployment.nodes[1].port
    place.proxy.cut()
    try:
        place.call("TokenService/RevokeToken", {"token_id": token})
        place.refused(jwt, "TOKEN_REVOKED", within=20)
        _, _, secret = place.subject()
        place.good(place.exchange(secret), within=20)
    finally:
        place.proxy.target = place.deployment.nodes[0].port
        place.proxy.cut()


def clock_off(place):
    for offset in (30, -30):
        place.verifier(f"off{offset}", wall_offset=offset)
        _, token, secret = place.subject()
        jwt = place.exchange(secret)
        place.good(jwt, f"off{offset}")
        place.call("TokenService/RevokeToken", {"token_id": token})
        place.refused(jwt, "TOKEN_REVOKED", name=f"off{offset}")
        place.driver.ok("close", id=f"off{offset}")


def source_secret(place):
    _, _, secret = place.subject()
    for transport in ("grpc", "http"):
        place.driver.ok("source", id="s", endpoint=place.proxy.url, transport=transport, credential={"secret": secret})
        answer = place.driver.ok("get", id="s", audiences=[AUDIENCE], scopes=["reports.read"])
        equal(claims_of(answer["access_token"])["scope"], "reports.read", "the scope")
        place.good(answer["access_token"])
        place.driver.error("get", "SCOPE_NOT_HELD", id="s", scopes=["reports.write"])
        place.driver.ok("close", id="s")


def source_key(place):
    given = read("private_keys.json")["keys"][place.language]
    path = place.directory / f"{place.language}.pem"
    path.write_text(given["pem"])
    path.chmod(0o600)
    account = place.account("signer", "reports.read", "tokens.introspect")
    made = place.token(account, kind="TOKEN_KIND_KEY", public_jwk=json.dumps(given["public_jwk"]))
    credential = {"key_file": str(path), "token_id": made["token"]["id"]}
    for transport in ("grpc", "http"):
        place.driver.ok(
            "source",
            id="s",
            endpoint=place.proxy.url,
            transport=transport,
            credential=credential,
            issuer=place.deployment.issuer,
        )
        for audience in (AUDIENCE, "https://ledger.example"):
            answer = place.driver.ok("get", id="s", audiences=[audience])
            equal(claims_of(answer["access_token"])["client_id"], made["token"]["id"], "client_id")
        place.driver.ok("close", id="s")
    # The stream, too, is read with a key.
    place.verifier("key", credential=credential)
    _, _, secret = place.subject()
    place.good(place.exchange(secret), "key")
    place.driver.ok("close", id="key")


def source_assertion(place):
    rule, path = place.rule(), place.directory / f"{place.language}.assertion"
    path.write_text(assertion(place.deployment.issuer))
    credential = {"assertion_file": str(path), "rule_id": rule}
    for transport in ("grpc", "http"):
        place.driver.ok("source", id="s", endpoint=place.proxy.url, transport=transport, credential=credential)
        answer = place.driver.ok("get", id="s", audiences=[AUDIENCE])
        claims = claims_of(answer["access_token"])
        equal((claims["client_id"], claims["token_kind"]), (rule, "FEDERATED"), "client_id and token_kind")
        place.good(answer["access_token"])
        path.write_text(assertion("https://ledger.example"))
        place.driver.error("get", "TOKEN_INVALID", id="s", audiences=["https://a.example"])
        path.write_text(assertion(place.deployment.issuer))
        place.driver.ok("get", id="s", audiences=["https://a.example"])
        place.driver.ok("close", id="s")
    # The stream, too, is read with it.
    place.verifier("federated", credential=credential)
    place.good(place.exchange_by(rule), "federated")
    place.driver.ok("close", id="federated")


def source_file(place):
    _, token, first = place.subject()
    path = place.directory / f"{place.language}.token"
    path.write_text(first)
    place.driver.ok("source", id="s", endpoint=place.proxy.url, credential={"token_file": str(path)})
    place.driver.ok("get", id="s", audiences=[AUDIENCE])
    second = place.call("TokenService/RotateToken", {"token_id": token, "overlap": "0s"})["secret"]
    place.driver.error("get", "TOKEN_EXPIRED", "TOKEN_INVALID", id="s", audiences=["https://a.example"])
    path.write_text(second)
    answer = place.driver.ok("get", id="s", audiences=[AUDIENCE])
    place.good(answer["access_token"])
    place.driver.ok("close", id="s")


def source_revoked(place):
    _, token, secret = place.subject()
    place.driver.ok("source", id="s", endpoint=place.proxy.url, credential={"secret": secret})
    place.driver.ok("get", id="s", audiences=[AUDIENCE])
    place.call("TokenService/RevokeToken", {"token_id": token})
    error = place.driver.error("get", "TOKEN_REVOKED", id="s", audiences=["https://a.example"])
    equal(error["retryable"], False, "retryable")
    place.driver.error("get", "TOKEN_REVOKED", id="s", audiences=[AUDIENCE])
    place.driver.ok("close", id="s")


def pages(place):
    ids = {place.account("paged") for _ in range(8)}
    found = place.driver.ok("list_accounts", endpoint=place.proxy.url, credential={"secret": place.admin}, page_size=3)
    if len(found["ids"]) != len(set(found["ids"])) or not ids <= set(found["ids"]):
        raise Failed(f"{len(found['ids'])} ids, and not each account once")
    equal(found["calls"], -(-len(found["ids"]) // 3), "calls")
    some = place.driver.ok(
        "list_accounts", endpoint=place.proxy.url, credential={"secret": place.admin}, page_size=3, limit=4
    )
    equal((len(some["ids"]), some["calls"]), (4, 2), "ids and calls of a caller that stops")


def request_ids(place):
    name = f"once-{secrets.token_hex(3)}"
    proxy = Proxy(place.deployment.nodes[0].port)
    proxy.swallows = 1
    try:
        made = place.driver.ok(
            "create_account", endpoint=proxy.url, credential={"secret": place.admin}, name=name, timeout=30
        )
    finally:
        proxy.close()
    equal(proxy.swallows, 0, "answers that are still to be swallowed")
    found = place.call("AccountService/ListAccounts", {"query": name})["accounts"]
    equal([account["id"] for account in found], [made["id"]], "the accounts of that name")


def assertion(audience):
    """A JWT of the platform for its workload: RS256 (RFC 8017, section 8.2.1), by arithmetic."""
    key, now = read("private_keys.json")["issuer"], int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "kid": key["jwk"]["kid"]}
    claims = {"iss": PLATFORM, "sub": WORKLOAD, "aud": audience, "iat": now, "exp": now + 600}
    # No two are the same.
    claims["jti"] = secrets.token_hex(8)
    message = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message.encode()).digest()
    modulus = int(key["modulus"], 16)
    length = (modulus.bit_length() + 7) // 8
    padded = b"\0\1" + b"\xff" * (length - len(digest) - 3) + b"\0" + digest
    signature = pow(int.from_bytes(padded), int(key["exponent"], 16), modulus)
    return f"{message}.{base64url(signature.to_bytes(length))}"


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims_of(jwt):
    payload = jwt.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


### What happens to the deployment, and so to all libraries at once.


def signing_keys(places, deployment, each):
    jwts, news = {}, {}

    def before(place):
        _, _, secret = place.subject()
        jwts[place] = (secret, place.exchange(secret))
        place.good(jwts[place][1])

    each(before)
    listed = deployment.call("TokenService/ListSigningKeys", {}, deployment.operator)["signingKeys"]
    old = next(key["kid"] for key in listed if key["state"] == "SIGNING_KEY_STATE_ACTIVE")
    deployment.call("TokenService/RotateSigningKey", {"activateNow": True}, deployment.operator)

    def after_rotation(place):
        # Both nodes may sign with it a moment later.
        def signs():
            news[place] = place.exchange(jwts[place][0])
            return kid_of(news[place]) != old

        wait_for(signs, 20, "the new key signs")
        place.good(news[place])
        place.still(jwts[place][1])
        place.acknowledges({old, kid_of(news[place])})

    each(after_rotation)
    # What a verifier says is recorded once a second.
    time.sleep(1.1)
    deployment.call(
        "TokenService/RevokeSigningKey", {"kid": old, "reason": "REVOKE_REASON_KEY_COMPROMISE"}, deployment.operator
    )

    def after_revocation(place):
        place.refused(jwts[place][1], "ACCESS_TOKEN_INVALID")
        place.still(news[place])
        place.acknowledges({kid_of(news[place])})

    each(after_revocation)


def killed(places, deployment, each):
    jwts = {}

    def before(place):
        _, _, secret = place.subject()
        place.verifier("short", staleness=STALENESS)
        place.driver.ok("source", id="kept", endpoint=place.proxy.url, credential={"secret": secret})
        jwts[place] = place.driver.ok("get", id="kept", audiences=[AUDIENCE])["access_token"]
        place.good(jwts[place], "short")

    each(before)
    for node in deployment.nodes:
        node.kill()
    for place in places:
        place.proxy.cut()

    def meanwhile(place):
        place.still(jwts[place])
        place.refused(jwts[place], "VERIFIER_STALE", name="short", within=STALENESS + 5)

    def kept(place):
        answer = place.driver.ok("get", id="kept", audiences=[AUDIENCE])
        equal(answer["access_token"], jwts[place], "the token that is kept")
        error = place.driver.error("get", "UNAVAILABLE", "", id="kept", audiences=["https://a.example"], timeout=1)
        equal(error["retryable"], True, "retryable")

    each(kept, part="Token source")
    each(meanwhile)
    for node in deployment.nodes:
        node.start()
    each(lambda place: place.good(jwts[place], "short", within=20))
    each(
        lambda place: place.driver.ok("get", id="kept", audiences=["https://b.example"], timeout=20),
        part="Token source",
    )
    for place in places:
        place.driver.ok("close", id="short")
        place.driver.ok("close", id="kept")


def restored(places, deployment, each):
    """The revocation is gone with the database of before: what a verifier has heard is not."""
    made = {}

    def before(place):
        _, token, secret = place.subject()
        made[place] = (token, place.exchange(secret))
        place.good(made[place][1])

    each(before)
    deployment.postgres.copy()
    wait_for(lambda: all(node._is_ready() for node in deployment.nodes), READY_WITHIN, "the servers are ready")

    def revoke(place):
        place.call("TokenService/RevokeToken", {"token_id": made[place][0]})
        place.refused(made[place][1], "TOKEN_REVOKED", within=20)

    each(revoke)
    for node in deployment.nodes:
        node.stop()
    deployment.postgres.restore()
    for node in deployment.nodes:
        node.start()

    def after(place):
        _, _, secret = place.subject()
        place.good(place.exchange(secret), within=30)
        place.refused(made[place][1], "TOKEN_REVOKED")

    each(after)


def kid_of(jwt):
    header = jwt.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]


OWN = {
    ("Token source", "live: secret over gRPC and HTTP"): source_secret,
    ("Token source", "live: key"): source_key,
    ("Token source", "live: assertion of another issuer"): source_assertion,
    ("Token source", "live: rotated, with a file"): source_file,
    ("Token source", "live: revoked"): source_revoked,
    ("Verifier", "live: token rotated"): rotated,
    ("Verifier", "live: token reset"): reset,
    ("Verifier", "live: token revoked"): revoked,
    ("Verifier", "live: token leaked"): leaked,
    ("Verifier", "live: account deactivated and back"): deactivated,
    ("Verifier", "live: org suspended"): suspended,
    ("Verifier", "live: rule disabled"): rule_disabled,
    ("Verifier", "live: stream cut"): cut,
    ("Verifier", "live: stream slowed"): slowed,
    ("Verifier", "live: node changed"): other_node,
    ("Verifier", "live: flood of unknown keys"): flood,
    ("Verifier", "live: clock 30 s off"): clock_off,
    ("Errors", "live: pages"): pages,
    ("Errors", "live: request ids"): request_ids,
}
# Waits longest, beside the others.
BESIDE = {("Verifier", "live: stream silent"): silent}
SHARED = {
    ("Verifier", "live: signing key rotated and revoked"): signing_keys,
    ("Verifier", "live: server killed"): killed,
    ("Verifier", "live: database restored"): restored,
}


def live(binary, drivers, results):
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        work = Path(directory)
        # As root, PostgreSQL's own user has to pass through it.
        work.chmod(0o711)
        deployment = Deployment(binary, work)
        stack.callback(deployment.close)
        try:
            places = [Place(deployment, driver, work) for driver in drivers]
            at_once(places, lambda place: own(place, results))
            for (part, row), scenario in SHARED.items():
                began = time.monotonic()
                shared(places, deployment, results, part, row, scenario)
                print(f"{row.removeprefix('live: ')}: {time.monotonic() - began:.1f} s", flush=True)
        except BaseException:
            for log in sorted(work.glob("*.log")):
                print(f"-- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
            raise
        for place in places:
            place.driver.ask("close", id="v")
            place.proxy.close()


def own(place, results):
    def each(scenarios):
        for (part, row), scenario in scenarios.items():
            began = time.monotonic()
            results.check(part, row, place.language, row, lambda: scenario(place))  # noqa: B023
            print(f"{place.language}: {row.removeprefix('live: ')}: {time.monotonic() - began:.1f} s", flush=True)

    beside = threading.Thread(target=each, args=(BESIDE,))
    beside.start()
    each(OWN)
    beside.join()


def shared(places, deployment, results, part, row, scenario):
    def each(step, part=part):
        at_once(places, lambda place: results.check(part, row, place.language, step.__name__, lambda: step(place)))

    scenario(places, deployment, each)


def at_once(places, call):
    threads = [threading.Thread(target=call, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
