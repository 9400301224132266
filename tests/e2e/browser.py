"""A page in a real browser exchanges a publishable token; the same page of another origin may not.

Takes the directory of the page that the README's tour created, serves it at the port that its token
names, and opens it in headless Chromium twice: as http://localhost, which the token names, and as
http://127.0.0.1, which is another origin at the same server. Then revokes the token, and opens the
first one again. Prints a line for each step; fails at the first error.

    python3 tests/e2e/browser.py target/client

Needs Chromium, grpcurl, the package PyJWT, and in the environment COUNTERSIGN_ENDPOINT and
COUNTERSIGN_SERVICE_TOKEN, as `countersign dev` writes them into dev.env.
"""

import html
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from set_password import CHROMIUM, done, equal, setting, wrong

PORT = 8765
ALLOWED = f"http://localhost:{PORT}"
OTHER = f"http://127.0.0.1:{PORT}"
# The error of fetch() when the browser lets the page read nothing, whatever the reason.
UNREADABLE = "TypeError: Failed to fetch"


def main():
    endpoint = setting("COUNTERSIGN_ENDPOINT")
    [directory] = sys.argv[1:]
    token = re.search(r"csign_pub_\w+", (Path(directory) / "index.html").read_text())[0]
    server = ThreadingHTTPServer(("127.0.0.1", PORT), partial(Quiet, directory=directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        run(endpoint, token)
    finally:
        server.shutdown()
    print("all good")


def run(endpoint, token):
    shown = open_page(ALLOWED)
    keys = jwt.PyJWKClient(f"{endpoint}/.well-known/jwks.json")
    try:
        claims = jwt.decode(
            shown,
            keys.get_signing_key_from_jwt(shown),
            algorithms=["EdDSA"],
            issuer=endpoint,
            audience=endpoint,
            # The clocks of two machines differ.
            leeway=60,
        )
    except jwt.PyJWTError as error:
        wrong(f"{ALLOWED} shows {shown!r}, which is no JWT: {error}")
    equal(claims["token_kind"], "PUBLISHABLE", "token_kind")
    equal(claims["scope"], "invoices.read", "scope")
    done(f"the page at {ALLOWED}, which the token names, got a good JWT")

    equal(open_page(OTHER), UNREADABLE, f"what {OTHER} shows")
    done(f"the same page at {OTHER} got nothing")

    token_id = claims["client_id"]
    call(endpoint, "RevokeToken", {"token_id": token_id, "reason": "REVOKE_REASON_CESSATION_OF_OPERATION"})
    wait_until_nobody_is_allowed(endpoint)
    equal(open_page(ALLOWED), UNREADABLE, f"what {ALLOWED} shows, now that no live token names it")
    done("after the token was revoked its own page gets nothing either")


def open_page(url):
    """The contents of the page when all that it waits for has come."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom"]
        if os.geteuid() == 0:
            # Chromium's sandbox is not for root.
            options.append("--no-sandbox")
        browser = subprocess.run([*CHROMIUM, *options, url], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre id="answer">(.*?)</pre>', browser.stdout, re.DOTALL)
    if not found or not found[1]:
        wrong(f"{url} shows nothing: {browser.stdout}\n{browser.stderr}")
    return html.unescape(found[1])


def call(endpoint, method, message):
    """A call of TokenService by the service account of `dev`, as in the tour."""
    authorization = f"authorization: Bearer {setting('COUNTERSIGN_SERVICE_TOKEN')}"
    address = endpoint.removeprefix("http://")
    path = f"countersign.v1.TokenService/{method}"
    command = ["grpcurl", "-plaintext", "-H", authorization, "-d", json.dumps(message), address, path]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def wait_until_nobody_is_allowed(endpoint):
    """The nodes are notified of a revocation some milliseconds after it."""
    ask = urllib.request.Request(
        f"{endpoint}/countersign.v1.TokenService/ExchangeToken",
        method="OPTIONS",
        headers={"origin": ALLOWED, "access-control-request-method": "POST"},
    )
    for _ in range(200):
        try:
            urllib.request.urlopen(ask, timeout=120).close()
        except urllib.error.HTTPError as error:
            equal(error.code, 403, "the answer to a page that no token names")
            return
        time.sleep(0.05)
    wrong("a revoked token's origin is still allowed after 10 s")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    main()
