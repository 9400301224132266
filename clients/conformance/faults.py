"""Servers of the runner's own that misbehave: token endpoints and key sets."""

import json
import queue
import tempfile
import threading
import time
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from suite import Failed, equal, read

# Two token strings with a right checksum, of no deployment.
TOKENS = [
    "csign_sat_02xEbsg6yCEU5pMibQo2gB_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_",
    "csign_sat_02xEbsg6yCEU5pMibQo2gC_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_",
]
DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def with_checksum(body):
    import zlib

    number, digits = zlib.crc32(body.removesuffix("_").encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return body + digits


FIRST, SECOND = map(with_checksum, TOKENS)


class Endpoint:
    """An HTTP server whose answers a test decides. `requests` are (path, form) in the order in which they came."""

    def __init__(self):
        self.requests = []
        self.answer = lambda _endpoint, _form: json_answer({})
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802
                length = int(self.headers.get("content-length", 0))
                self.handled(dict(urllib.parse.parse_qsl(self.rfile.read(length).decode())))

            def do_GET(self):  # noqa: N802
                self.handled({})

            def handled(self, form):
                with endpoint._lock:
                    endpoint.requests.append((self.path, form))
                try:
                    status, headers, body = endpoint.answer(endpoint, form)
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionError):
                    pass

            def log_message(self, *_arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_arguments):
                """Clients go away, as they do."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def count(self):
        with self._lock:
            return len(self.requests)

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def json_answer(body, status=200, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"content-type": "application/json", **headers}, json.dumps(body).encode()


def token(text="jwt", life=300):
    return json_answer({"access_token": text, "token_type": "Bearer", "expires_in": life, "scope": "a"})


def numbered(life=300, delay=0.0):
    """A new token for each request."""

    def answer(endpoint, _form):
        number = endpoint.count
        time.sleep(delay)
        return token(f"jwt-{number}", life)

    return answer


def refusal(reason, status=400, error="invalid_grant", **headers):
    body = {"error": error, "error_description": f"{reason}: refused"}
    return json_answer(body, status, countersign_reason=reason, **headers)


@contextmanager
def source(driver, credential=None, answer=None):
    endpoint = Endpoint()
    endpoint.answer = answer or numbered()
    name = f"s-{endpoint.url}"
    driver.ok("source", id=name, endpoint=endpoint.url, transport="http", credential=credential or {"secret": FIRST})

    def get(**fields):
        return driver.ok("get", id=name, **fields)["access_token"]

    def fails(*reasons, **fields):
        return driver.error("get", *reasons, id=name, **fields)

    endpoint.get, endpoint.fails, endpoint.name = get, fails, name
    try:
        yield endpoint
    finally:
        driver.ask("close", id=name)
        endpoint.close()


def at_most(found, most, what):
    if found > most:
        raise Failed(f"{what}: {found}, and not at most {most}")


### Token sources.


def caches(driver):
    with source(driver) as server:
        first = server.get(audiences=["a", "b"], scopes=["x", "y"])
        equal(
            server.get(audiences=["b", "a"], scopes=["y", "x"]), first, "the same audiences and scopes in another order"
        )
        equal(server.count, 1, "requests")
        others = {server.get(audiences=["a"]), server.get(audiences=["a"], scopes=["x"]), server.get()}
        equal((len(others), server.count), (3, 4), "tokens and requests of other audiences and scopes")
        form = server.requests[0][1]
        equal(form.get("scope", "").split(" "), ["x", "y"], "the scope that is asked for")
        equal(server.requests[0][0], "/oauth2/token", "the path")
        equal(FIRST in (form.get("subject_token"), form.get("client_secret")), True, "whether the secret is presented")


def one_flight(driver):
    with source(driver, answer=numbered(delay=0.5)) as server:
        waits = [driver.send("get", id=server.name, audiences=["a"]) for _ in range(50)]
        got = {wait()["ok"]["access_token"] for wait in waits}
        equal((len(got), server.count), (1, 1), "tokens and requests of 50 callers")


def bounded(driver):
    with source(driver) as server:
        waits = []
        for number in range(1100):
            waits.append(driver.send("get", id=server.name, audiences=[f"a{number}"]))
            if len(waits) == 20:
                for wait in waits:
                    wait()
                waits = []
        for wait in waits:
            wait()
        at_most(driver.ok("sources", id=server.name)["cached"], 1000, "cached entries")
        before = server.count
        server.get(audiences=["a1099"])
        equal(server.count, before, "requests for the last one")


def refreshes(driver):
    with source(driver, answer=numbered(life=4)) as server:
        first = server.get()
        time.sleep(0.5)
        equal(server.get(), first, "while it is fresh")
        # 2/3 of 4 s, 10 % more, and a moment for the request.
        time.sleep(2.9)
        equal(server.count, 2, "requests, though nothing asked since")
        asked = time.monotonic()
        second = server.get()
        at_most(time.monotonic() - asked, 0.5, "seconds until the refreshed one is there")
        if second == first:
            raise Failed("the first token is still given")


def serves_on(driver):
    with source(driver, answer=numbered(life=8)) as server:
        first = server.get()
        time.sleep(0.2)
        server.get()
        server.answer = lambda _server, _form: refusal("DATABASE_UNAVAILABLE", 503, "temporarily_unavailable")
        time.sleep(6.3)
        equal(server.get(), first, "while the server is away")
        if server.count < 2:
            raise Failed("it was not asked for another token")
        at_most(server.count, 12, "requests while it is away")
        time.sleep(2)
        error = server.fails("DATABASE_UNAVAILABLE", "UNAVAILABLE", timeout=0.5)
        equal(error["retryable"], True, "retryable")
        server.answer = numbered(life=300)
        # The wait between two requests is up to 30 s.
        server.get(timeout=45)


def refused_connection(driver):
    with source(driver) as server:
        server.close()
        error = server.fails("UNAVAILABLE", "", timeout=1)
        equal(error["retryable"], True, "retryable")


def backs_off(driver):
    answer = lambda _server, _form: refusal("OVERLOADED", 503, "temporarily_unavailable")  # noqa: E731
    with source(driver, answer=answer) as server:
        server.fails("OVERLOADED", timeout=2.5)
        # 0.1 s doubling with jitter: without it, hundreds.
        at_most(server.count, 20, "requests in 2.5 s")


def waits_as_told(driver):
    answer = lambda _server, _form: refusal("THROTTLED", 429, "temporarily_unavailable", retry_after="3")  # noqa: E731
    with source(driver, answer=answer) as server:
        server.fails("THROTTLED", timeout=2)
        equal(server.count, 1, "requests before Retry-After")
        server.answer = numbered()
        server.get(timeout=10)


def stops(driver):
    for reason in ("TOKEN_INVALID", "TOKEN_REVOKED", "TOKEN_EXPIRED"):
        with source(driver, answer=lambda _server, _form, reason=reason: refusal(reason)) as server:
            error = server.fails(reason)
            equal(error["retryable"], False, "retryable")
            for number in range(20):
                server.fails(reason, audiences=[f"a{number}"])
            equal(server.count, 1, f"requests after {reason}")


def stops_with_what_it_has(driver):
    with source(driver, answer=numbered(life=3)) as server:
        server.get()
        server.get(audiences=["other"])
        server.answer = lambda _server, _form: refusal("TOKEN_REVOKED")
        time.sleep(0.3)
        server.get()
        time.sleep(2.3)
        # The refresh was refused: what is cached is gone, also that for others.
        server.fails("TOKEN_REVOKED")
        server.fails("TOKEN_REVOKED", audiences=["other"])


def lifted(driver):
    with source(driver, answer=lambda _server, _form: refusal("ACCOUNT_DEACTIVATED")) as server:
        server.fails("ACCOUNT_DEACTIVATED")
        for _ in range(10):
            server.fails("ACCOUNT_DEACTIVATED")
        at_most(server.count, 2, "requests")
        server.answer = numbered()
        until(lambda: "ok" in driver.ask("get", id=server.name), 10, "it works again")
        at_most(server.count, 6, "requests")


def of_the_request(driver):
    def answer(_server, form):
        return refusal("SCOPE_NOT_HELD", error="invalid_scope") if form.get("scope") == "too.much" else token()

    with source(driver, answer=answer) as server:
        server.get()
        asked = time.monotonic()
        server.fails("SCOPE_NOT_HELD", scopes=["too.much"])
        at_most(time.monotonic() - asked, 2, "seconds")
        at_most(server.count, 2, "requests")
        server.get()


def presents(server, text):
    """Whether the last request presented this token."""
    form = server.requests[-1][1]
    return text in (form.get("subject_token"), form.get("client_secret"))


def file_changes(driver):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "token"
        path.write_text("")
        with source(driver, {"token_file": str(path)}) as server:
            error = server.fails("CREDENTIAL_MISSING", timeout=0.5)
            equal((error["retryable"], server.count), (True, 0), "retryable, and requests")
            path.write_text(FIRST + "\n")
            server.get(timeout=10)
            equal(presents(server, FIRST), True, "the token of the file is presented")
            for garbage in ("", "garbage", FIRST[:40], FIRST[:-1] + ("0" if FIRST[-1] != "0" else "1"), "x" * 100_000):
                path.write_text(garbage)
                server.get(audiences=[f"a{len(garbage)}{garbage[:1]}"])
                equal(presents(server, FIRST), True, f"the token of before, while the file is {garbage[:10]!r}")
            path.unlink()
            server.get(audiences=["gone"])
            equal(presents(server, FIRST), True, "the token of before, while there is no file")
            path.write_text(SECOND)
            server.get(audiences=["next"])
            equal(presents(server, SECOND), True, "the next token of the file is presented")


def file_revives(driver):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "token"
        path.write_text(FIRST)

        def answer(_server, form):
            return token() if SECOND in form.values() else refusal("TOKEN_REVOKED")

        with source(driver, {"token_file": str(path)}, answer) as server:
            server.fails("TOKEN_REVOKED")
            server.fails("TOKEN_REVOKED")
            equal(server.count, 1, "requests")
            # Replaced as a mounted secret is: by a rename.
            (Path(directory) / "next").write_text(SECOND)
            (Path(directory) / "next").rename(path)
            server.get(timeout=10)


def assertion_file(driver):
    first, second = (
        "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIxIn0.c2lnbmF0dXJl",
        "eyJhbGciOiJFZERTQSJ9.eyJqdGkiOiIyIn0.c2lnbmF0dXJl",
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "assertion"
        path.write_text(first)
        with source(driver, {"assertion_file": str(path), "rule_id": "fed_1"}) as server:

            def presented():
                form = server.requests[-1][1]
                equal(form.get("federation_rule_id") or form.get("client_id"), "fed_1", "the rule")
                return form.get("assertion") or form.get("subject_token")

            server.get()
            equal(presented(), first, "the assertion")
            for wrong in ("", "garbage", "a.b"):
                path.write_text(wrong)
                server.get(audiences=[f"a{len(wrong)}"])
                equal(presented(), first, f"the assertion of before, while the file is {wrong!r}")
            path.write_text(second + "\n")
            server.get(audiences=["next"])
            equal(presented(), second, "the next assertion")
            server.answer = lambda _server, _form: refusal("TOKEN_INVALID")
            server.fails("TOKEN_INVALID", audiences=["refused"])
            before = server.count
            server.fails("TOKEN_INVALID", audiences=["again"])
            equal(server.count, before, "requests after the refusal")
            # A platform replaces it before it expires.
            server.answer = numbered()
            path.write_text(first)
            server.get(audiences=["later"], timeout=10)
            equal(presented(), first, "the assertion after the refusal")


def garbage(driver):
    bodies = [
        b"",
        b"<html>hello</html>",
        b"[]",
        b"null",
        b'{"access_token": 1, "token_type": "Bearer", "expires_in": 300}',
        b'{"token_type": "Bearer", "expires_in": 300}',
        b'{"access_token": "x", "token_type": "Bearer", "expires_in": "soon"}',
        b'{"access_token": "x", "token_type": "Bearer", "expires_in": -1}',
        b'{"access_token": "x", "token_type": "mac", "expires_in": 300}',
        b"\xff\xfe" * 100,
        b"x" * 3_000_000,
    ]
    for body in bodies:
        answers = queue.SimpleQueue()
        answers.put((200, {"content-type": "application/json"}, body))

        def answer(_server, _form, answers=answers):
            return token("good") if answers.empty() else answers.get()

        with source(driver, answer=answer) as server:
            equal(server.get(timeout=10), "good", f"the token after {body[:20]!r}")
            equal(server.count, 2, "requests")


def too_slow(driver):
    with source(driver, answer=numbered(life=1, delay=1.4)) as server:
        server.fails("UNAVAILABLE", "DEADLINE_EXCEEDED", timeout=4)
        server.answer = numbered(life=300)
        server.get(timeout=45)


### Key sets.


@contextmanager
def key_set_verifier(driver, answer):
    given, endpoint = read("key_sets.json"), Endpoint()
    endpoint.answer = lambda *_arguments: answer(given)
    name = f"v-{endpoint.url}"
    driver.ok("verifier", id=name, issuer=given["issuer"], endpoint=endpoint.url, revocation="none")

    def verify(jwt):
        return driver.ask("verify", id=name, jwt=jwt, audience=given["audience"])

    endpoint.verify, endpoint.name = verify, name
    try:
        yield endpoint, given
    finally:
        driver.ask("close", id=name)
        endpoint.close()


def passes(answer):
    if "ok" not in answer:
        raise Failed(f"refused: {answer['error']}")


def refuses(answer, reason, check):
    found = answer.get("error", {})
    equal((found.get("reason"), found.get("check")), (reason, check), "the answer")


def flood(driver):
    with key_set_verifier(driver, lambda given: json_answer(given["set"])) as (server, given):
        passes(server.verify(given["good"]))
        before = server.count
        waits = [driver.send("verify", id=server.name, jwt=jwt, audience=given["audience"]) for jwt in given["cases"]]
        for wait in waits:
            refuses(wait(), "ACCESS_TOKEN_INVALID", "kid")
        at_most(server.count - before, 1, "fetches at 200 unknown kids")
        passes(server.verify(given["good"]))


def rotated(driver):
    sets = ["set"]
    with key_set_verifier(driver, lambda given: json_answer(given[sets[-1]])) as (server, given):
        passes(server.verify(given["good"]))
        sets.append("next_set")
        passes(server.verify(given["next"]))
        passes(server.verify(given["good"]))


def large(driver):
    with key_set_verifier(driver, lambda _given: (200, {}, b'{"keys": [' + b" " * 10_000_000 + b"]}")) as (
        server,
        given,
    ):
        refuses(server.verify(given["good"]), "VERIFIER_STALE", "fresh")


def keeps(driver):
    bodies = [b"", b"<html>", b"[]", b'{"keys": {}}', b'{"keys": [' + b" " * 2_000_000 + b"]}", b"[" * 100_000]
    for body in bodies:
        answers = []
        answer = lambda given: (200, {}, body) if answers else json_answer(given["set"])  # noqa: B023, E731
        with key_set_verifier(driver, answer) as (server, given):
            passes(server.verify(given["good"]))
            answers.append("broken")
            refuses(server.verify(given["next"]), "ACCESS_TOKEN_INVALID", "kid")
            passes(server.verify(given["good"]))


def away(driver):
    answer = lambda _given: (503, {}, b"")  # noqa: E731
    with key_set_verifier(driver, answer) as (server, given):
        refuses(server.verify(given["good"]), "VERIFIER_STALE", "fresh")


def until(holds, seconds, what):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.1)


SOURCES = {
    "cache and single flight": {
        "cached by audiences and scopes": caches,
        "50 callers at once": one_flight,
        "bounded": bounded,
    },
    "refresh ahead of expiry": {"in the background": refreshes},
    "server away, backoff": {
        "it serves on": serves_on,
        "no server": refused_connection,
        "it backs off": backs_off,
        "Retry-After": waits_as_told,
    },
    "final reasons": {
        "it stops": stops,
        "also with what it has": stops_with_what_it_has,
        "one that is lifted": lifted,
        "one of the request alone": of_the_request,
    },
    "token file": {"it changes": file_changes, "it changes after the end": file_revives},
    "federation assertion in a file": {"it changes": assertion_file},
    "answers that are none": {"garbage": garbage, "slower than the token lives": too_slow},
}
KEY_SETS = {
    "a flood of kids": flood,
    "a new key": rotated,
    "10 MB": large,
    "garbage keeps the set before": keeps,
    "no set": away,
}


def faults(driver, results):
    # Beside each other: each waits, for clocks of the library's.
    threads = []

    def run(part, row, checks):
        for name, check in checks.items():
            results.check(part, row, driver.language, name, lambda: check(driver))  # noqa: B023

    for row, checks in SOURCES.items():
        threads.append(threading.Thread(target=run, args=("Token source", row, checks)))
    threads.append(threading.Thread(target=run, args=("Verifier", "key sets that misbehave", KEY_SETS)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
