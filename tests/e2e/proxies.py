"""The proxy configurations of deploy/proxy/, each run in front of a server that trusts it.

Runs nginx, HAProxy or Envoy with the file as it is, but for its ports, and speaks to the server through it:
gRPC with its errors and a stream that stays open, gRPC-Web, JSON, OAuth, the key set, the readiness probe. The client has
an address of its own, 127.0.0.2, and writes another one into the header: the server must see the client's. The
access log must hold the path of a link from an email, and not its code. Prints a line for each step; fails at
the first error, and ends the proxy.

    python3 tests/e2e/proxies.py nginx|haproxy|envoy

Needs the proxy, curl with HTTP/2, the packages of tests/e2e/requirements.txt, and in the environment
COUNTERSIGN_ENDPOINT, COUNTERSIGN_ORG_ID and COUNTERSIGN_OPERATOR_TOKEN, as `countersign dev` writes them into
dev.env. The server must run with `--trusted-proxies 127.0.0.1`.
"""

import base64
import http.client
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import grpc
from google.rpc import error_details_pb2, status_pb2
from mailed_invitation import ending
from stranger import Client, bearer, done, equal, fails, generate, setting, unpack, wrong

DEPLOY = Path(__file__).resolve().parents[2] / "deploy/proxy"
# The file, the ports that it listens on for HTTP/1.1 and for HTTP/2, and the command.
PROXIES = {
    "nginx": ("nginx.conf", 8080, 8081, ["nginx", "-p", "{work}", "-c", "{file}"]),
    "haproxy": ("haproxy.cfg", 8090, 8090, ["haproxy", "-f", "{file}"]),
    "envoy": ("envoy.yaml", 8100, 8100, ["envoy", "-c", "{file}", "--base-id", "{pid}"]),
}
UPSTREAM = 50051
# The client's own address, and the one that it claims to have.
CLIENT, FORGED = "127.0.0.2", "203.0.113.9"
PATIENCE = 120  # seconds, for what needs a moment on a busy machine
EXCHANGE = "/countersign.v1.TokenService/ExchangeToken"
# An empty request: the token stands in the metadata.
EMPTY = bytes(5)


def main():
    [name] = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory, proxy(name, Path(directory)) as (http1, http2, log):
        generate(directory)
        with grpc.insecure_channel(f"127.0.0.1:{http2}") as channel:
            run(Client(channel), channel, http1, http2, log, directory)
    print("all good")


def run(client, channel, http1, http2, log, directory):
    org_id = setting("COUNTERSIGN_ORG_ID")
    operator = bearer(setting("COUNTERSIGN_OPERATOR_TOKEN"))

    keys = get(http1, "/.well-known/jwks.json")
    equal(keys.status, 200, "the status of the key set")
    equal(bool(json.loads(keys.read())["keys"]), True, "whether the key set has keys")
    equal(get(http1, "/readyz").status, 200, "the status of the readiness probe")
    done("the key set and the readiness probe pass")

    name = f"proxied-{secrets.token_hex(4)}"
    request = client.CreateServiceAccountRequest(org_id=org_id, name=name)
    account = client.AccountService.CreateServiceAccount(request, **operator).account

    def token(**restrictions):
        request = client.CreateTokenRequest(org_id=org_id, account_id=account.id, **restrictions)
        return client.TokenService.CreateToken(request, **operator)

    fails(lambda: token(scopes=["accounts.read"]), grpc.StatusCode.PERMISSION_DENIED, "SCOPE_NOT_HELD")
    done("gRPC passes, and errors with their details")

    tokens = {address: token(allowed_cidrs=[f"{address}/32"]) for address in (CLIENT, FORGED)}
    for address, expected in {CLIENT: "OK", FORGED: "ADDRESS_NOT_ALLOWED"}.items():
        made = tokens[address]
        equal(grpc_exchange(http2, made.secret, directory), expected, f"gRPC for {address} alone")
        equal(web_exchange(http1, made.secret), expected, f"gRPC-Web for {address} alone")
        equal(json_exchange(http1, made.secret), expected, f"JSON for {address} alone")
        equal(token_endpoint(http1, made), expected, f"the token endpoint for {address} alone")
    done(f"by gRPC, gRPC-Web, JSON and OAuth the server sees {CLIENT}, whatever the header claims")

    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE)
    equal(next(watch), bytes([8, 1]), "the first message of Health/Watch")
    equal(watch.is_active(), True, "whether Health/Watch stays open")
    watch.cancel()
    done("Health/Watch answers at once and stays open")

    code = f"csign_rst_{secrets.token_hex(20)}"
    equal(get(http1, f"/set-password?code={code}").status, 404, "the status of the page with a wrong code")
    lines = []
    while not any("/set-password" in line for line in lines):
        lines.append(log.get(timeout=PATIENCE))
    lines += rest(log)
    equal([line for line in lines if code in line], [], "the lines of the log with the code")
    [line] = [line for line in lines if "/set-password" in line]
    equal(CLIENT in line, True, f"whether the line names {CLIENT}")
    done("the access log names the client and the page, and not the code")


@contextmanager
def proxy(name, work):
    """Runs the proxy; gives its ports for HTTP/1.1 and HTTP/2, and the lines that it prints."""
    source, http1, http2, command = PROXIES[name]
    text = (DEPLOY / source).read_text()
    server = setting("COUNTERSIGN_ENDPOINT").rpartition(":")[2]
    ports = {port: free_port() for port in {http1, http2}}
    for port, chosen in {**ports, UPSTREAM: server}.items():
        for form in f"127.0.0.1:{port}", f"127.0.0.1, port_value: {port}":
            text = text.replace(form, form.replace(str(port), str(chosen)))
    file = work / source
    file.write_text(text)
    # nginx changes to a user of its own, which has to get at its directories.
    work.chmod(0o755)
    arguments = [part.format(work=work, file=file, pid=os.getpid() % 32_768) for part in command]
    process = subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True)
    reader.start()
    with ending(process, signal.SIGTERM):
        try:
            wait_for_proxy(process, ports[http1])
            yield ports[http1], ports[http2], lines
        except BaseException:
            print(f"-- what {name} printed", *rest(lines), sep="\n", flush=True)
            raise


def wait_for_proxy(process, port):
    """Until the proxy passes the readiness probe: it has then seen that the server is ready."""
    deadline = time.monotonic() + PATIENCE
    while True:
        if process.poll() is not None:
            wrong(f"the proxy ended with {process.returncode}")
        if time.monotonic() > deadline:
            wrong("the proxy does not pass the readiness probe")
        try:
            if get(port, "/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)


def rest(lines):
    while not lines.empty():
        yield lines.get().rstrip()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connect(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE, source_address=(CLIENT, 0))


def get(port, path):
    connection = connect(port)
    connection.request("GET", path, headers={"x-forwarded-for": FORGED})
    return connection.getresponse()


def grpc_exchange(port, token, directory):
    """Exchanges the token by gRPC from the client's address; gives the reason of a refusal, or OK."""
    body = Path(directory, "request")
    body.write_bytes(EMPTY)
    headers = ["content-type: application/grpc", "te: trailers", *claims(token)]
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge", "--interface", CLIENT]
    command += ["--max-time", str(PATIENCE), "--dump-header", "-", "--output", os.devnull]
    command += [part for header in headers for part in ("--header", header)]
    command += ["--data-binary", f"@{body}", f"http://127.0.0.1:{port}{EXCHANGE}"]
    # The trailers too.
    return outcome(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def web_exchange(port, token):
    """The same by gRPC-Web over HTTP/1.1, where the trailers are the last frame of the body."""
    connection = connect(port)
    headers = ["content-type: application/grpc-web+proto", *claims(token)]
    connection.request("POST", EXCHANGE, body=EMPTY, headers=dict(line.split(": ", 1) for line in headers))
    answer = connection.getresponse()
    text, body = str(answer.headers), answer.read()
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        if body[0] & 0x80:
            text += body[5:end].decode()
        body = body[end:]
    return outcome(text)


def token_endpoint(port, made):
    """Client credentials at the token endpoint, over HTTP/1.1."""
    connection = connect(port)
    body = urlencode({"grant_type": "client_credentials", "client_id": made.token.id, "client_secret": made.secret})
    headers = {"content-type": "application/x-www-form-urlencoded", "x-forwarded-for": FORGED}
    connection.request("POST", "/oauth2/token", body=body, headers=headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    if answer.status == 200:
        equal(said["token_type"], "Bearer", "the type of what the token endpoint issued")
        return "OK"
    return answer.getheader("countersign-reason")


def json_exchange(port, token):
    """The same in JSON over HTTP/1.1."""
    connection = connect(port)
    headers = ["content-type: application/json", *claims(token)]
    connection.request("POST", EXCHANGE, body=b"{}", headers=dict(line.split(": ", 1) for line in headers))
    answer = connection.getresponse()
    return "OK" if "accessToken" in json.loads(answer.read()) else answer.headers["countersign-reason"]


def claims(token):
    return [f"authorization: Bearer {token}", f"x-forwarded-for: {FORGED}"]


def outcome(text):
    """The reason in headers and trailers, or OK."""
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {name.strip().lower(): value.strip() for name, value in lines}
    if found.get("grpc-status") == "0":
        return "OK"
    encoded = found.get("grpc-status-details-bin")
    if not encoded:
        wrong(f"a refusal without details: {text}")
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    return unpack(status.details, error_details_pb2.ErrorInfo).reason


if __name__ == "__main__":
    main()
