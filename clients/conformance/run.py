#!/usr/bin/env python3
"""Runs the conformance suite against the client libraries, and writes the table of clients/README.md.

    clients/conformance/run.py [--binary BINARY] [--only NAME] [--no-table] [LANGUAGE[=FOLDER]…]

Default: every language in clients/ that has `tasks`; FOLDER is where that of a language is. Without --binary the
scenarios against a running server are not run. --only: those parts whose name begins so (vectors, faults, live). Fails
where a check of any language fails.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from suite import HERE, Failed, Unsupported, equal, read

CLIENTS = HERE.parent
LANGUAGES = ["python", "typescript", "rust"]
NOT_RUN = 77
TIMEOUT = 60
# The rows of the table, by the four parts of a library.
ROWS = {
    "Token source": [
        "cache and single flight",
        "refresh ahead of expiry",
        "server away, backoff",
        "final reasons",
        "token file",
        "federation assertion in a file",
        "answers that are none",
        "live: secret over gRPC and HTTP",
        "live: key",
        "live: assertion of another issuer",
        "live: rotated, with a file",
        "live: revoked",
        "live: server killed",
    ],
    "Verifier": [
        "good JWTs",
        "attacks: form, header, signature",
        "claims",
        "client certificates",
        "rights on resources",
        "revocations and versions",
        "federation rules",
        "secrets",
        "staleness and clocks",
        "keys",
        "streams that misbehave",
        "key sets that misbehave",
        "live: token rotated",
        "live: token reset",
        "live: token revoked",
        "live: token leaked",
        "live: account deactivated and back",
        "live: org suspended",
        "live: signing key rotated and revoked",
        "live: rule disabled",
        "live: stream cut",
        "live: stream slowed",
        "live: stream silent",
        "live: node changed",
        "live: flood of unknown keys",
        "live: server killed",
        "live: database restored",
        "live: clock 30 s off",
    ],
    "Interceptor": ["gRPC", "gRPC, called from the other languages", "HTTP", "stale"],
    "Errors": ["reasons and details", "live: pages", "live: request ids"],
}


class Driver:
    """The driver of one library, as a process."""

    def __init__(self, language, tasks):
        self.language = language
        self._process = subprocess.Popen(
            [tasks, "driver"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._lock = threading.Lock()
        self._waiting = {}
        self._seq = 0
        threading.Thread(target=self._read, daemon=True).start()
        self.hello = self.ok("hello")

    def _read(self):
        for line in self._process.stdout:
            try:
                answer = json.loads(line)
                waiting = self._waiting.pop(answer["seq"])
            except (ValueError, KeyError, TypeError):
                print(f"{self.language}: no answer of a driver: {line.rstrip()}", file=sys.stderr)
                continue
            waiting.put(answer)
        for waiting in list(self._waiting.values()):
            waiting.put({"error": {"reason": "DRIVER_ENDED"}})

    def send(self, op, **fields):
        """Sends a request; gives what waits for its answer."""
        answers = queue.Queue(1)
        with self._lock:
            self._seq += 1
            self._waiting[self._seq] = answers
            self._process.stdin.write(json.dumps({"seq": self._seq, "op": op, **fields}) + "\n")
            self._process.stdin.flush()

        def wait(timeout=TIMEOUT):
            try:
                answer = answers.get(timeout=timeout)
            except queue.Empty:
                raise Failed(f"{op} was not answered within {timeout} s") from None
            if answer.get("error", {}).get("reason") == "NOT_SUPPORTED":
                raise Unsupported(op)
            if answer.get("error", {}).get("reason") in ("DRIVER_FAULT", "DRIVER_ENDED"):
                raise Failed(f"{op}: {answer['error']}")
            return answer

        return wait

    def ask(self, op, **fields):
        """The answer, with `ok` or `error`."""
        return self.send(op, **fields)()

    def ok(self, op, **fields):
        answer = self.ask(op, **fields)
        if "ok" not in answer:
            raise Failed(f"{op} failed: {answer['error']}")
        return answer["ok"]

    def error(self, op, *reasons, **fields):
        """The error, which must have one of the reasons."""
        answer = self.ask(op, **fields)
        if "error" not in answer:
            raise Failed(f"{op} passed, and not {' or '.join(reasons)}")
        if answer["error"]["reason"] not in reasons:
            raise Failed(
                f"{op}: {answer['error']['reason']} ({answer['error'].get('message')}), and not {' or '.join(reasons)}"
            )
        return answer["error"]

    def close(self):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Results:
    """What was found, by row and language."""

    def __init__(self):
        self.passed, self.failures, self.unsupported = {}, {}, {}

    def check(self, part, row, language, name, call):
        """Runs one check; gives whether it held."""
        assert row in ROWS[part], row
        place = (part, row, language)
        try:
            call()
        except Unsupported as error:
            self.unsupported.setdefault(place, set()).add(str(error))
            return False
        except Failed as error:
            print(f"FAILED  {language}: {part}: {row}: {name}: {error}", flush=True)
            self.failures.setdefault(place, []).append(name)
            return False
        self.passed[place] = self.passed.get(place, 0) + 1
        return True

    def cell(self, part, row, language):
        place = (part, row, language)
        passed, failed = self.passed.get(place, 0), len(self.failures.get(place, ()))
        if failed:
            return f"**{failed} of {passed + failed} failed**"
        if place in self.unsupported or not passed:
            return "not run"
        return str(passed)


### The vectors.


def holds(answer, expect):
    """Whether an answer of `verify` is what the vector expects."""
    if "reason" in expect:
        if "error" not in answer:
            raise Failed(f"accepted, and not {expect['reason']}")
        error = answer["error"]
        if error["reason"] != expect["reason"] or error.get("check") not in expect["checks"]:
            found = f"{error['reason']} {error.get('check')}"
            raise Failed(
                f"{found} ({error.get('message')}), and not {expect['reason']} {' or '.join(expect['checks'])}"
            )
        return
    if "ok" not in answer:
        raise Failed(f"refused: {answer['error']}")
    if "claims" in expect:
        equal(answer["ok"]["claims"], expect["claims"], "the claims")


def vectors(driver, results):
    language = driver.language
    jwts = read("jwts.json")
    driver.ok("verifier", id="jwts", issuer=jwts["issuer"], clock=jwts["clock"])
    driver.ok("feed", id="jwts", items=jwts["feed"])
    for case in jwts["cases"]:
        asked = {name: case[name] for name in ("orgs", "certificate_thumbprint") if name in case}
        wait = driver.send("verify", id="jwts", jwt=case["jwt"], audience=jwts["audience"], **asked)
        results.check("Verifier", case["row"], language, case["name"], lambda: holds(wait(), case["expect"]))
    for case in read("rights.json")["cases"]:
        asked = {name: case[name] for name in ("claims", "permission", "resource") if name in case}
        wait = driver.send("allows", **asked)
        results.check(
            "Verifier", case["row"], language, case["name"], lambda: equal(wait()["ok"], case["expect"], "the answer")
        )
    streams = read("streams.json")
    for case in streams["cases"]:
        run = lambda: scenario(driver, streams, case)  # noqa: E731
        results.check("Verifier", case["row"], language, case["name"], run)
    for case in read("errors.json")["cases"]:
        results.check("Errors", case["row"], language, case["name"], lambda: status(driver, case))
    services(driver, results)


def scenario(driver, streams, case):
    driver.ok("verifier", id="stream", issuer=streams["issuer"], clock=streams["clock"], **case["verifier"])
    for number, step in enumerate(case["steps"], 1):
        try:
            if "feed" in step:
                answer = driver.ok("feed", id="stream", items=step["feed"])
                if "cursor" in step:
                    equal(answer["cursor"], step["cursor"], "the cursor")
            elif "clock" in step:
                driver.ok("clock", id="stream", **step["clock"])
            else:
                asked = {"audience": streams["audience"]} | step["verify"]
                holds(driver.ask("verify", id="stream", **asked), step["expect"])
        except Failed as error:
            raise Failed(f"step {number}: {error}") from None


def status(driver, case):
    asked = {name: case[name] for name in ("code", "message", "details") if name in case}
    answer = driver.ok("status", **asked)
    expect = dict(case["expect"])
    expect["code"] = expect.pop("code_name")
    for name, value in expect.items():
        equal(answer.get(name), value, name)
    if "details" in case or answer.get("message"):
        equal(answer["message"], case["message"], "the message")


def services(driver, results):
    """The interceptors, before a service of the driver's."""
    import http.client

    language, given = driver.language, read("services.json")
    metadata = "https://billing.example/.well-known/oauth-protected-resource"
    driver.ok("verifier", id="door", issuer=given["issuer"], clock=given["clock"])
    driver.ok("feed", id="door", items=given["feed"])
    addresses = {}
    for transport, row in (("grpc", "gRPC"), ("http", "HTTP")):

        def start():
            serving = {"audience": given["audience"], "orgs": given["orgs"], "metadata_url": metadata}
            answer = driver.ok("serve", id=transport, verifier="door", transport=transport, **serving)
            addresses[row] = answer["address"]

        results.check("Interceptor", row, language, "it starts", start)

    def call(case):
        asked = {name: case[name] for name in ("path", "access_token", "method") if name in case}
        if "reason" not in case["expect"]:
            equal(driver.ok("call", address=addresses["gRPC"], **asked), case["expect"], "the answer")
            return
        error = driver.error("call", case["expect"]["reason"], address=addresses["gRPC"], **asked)
        if "metadata" in case["expect"]:
            equal(error.get("metadata"), case["expect"]["metadata"], "the metadata")

    def get(case):
        status, headers, body = fetch(case["target"], case.get("access_token"))
        expect = case["expect"]
        allowed = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
        if status not in allowed:
            raise Failed(f"status {status} {body[:100]!r}, and not {expect['status']}")
        if expect["reason"]:
            equal(headers.get("countersign-reason"), expect["reason"], "countersign-reason")
            challenge = headers.get("www-authenticate", "")
            for part in (
                f'resource_metadata="{metadata}"',
                *([f'error="{expect["error"]}"'] if expect["error"] else []),
            ):
                if not challenge.startswith("Bearer ") or part not in challenge:
                    raise Failed(f"www-authenticate: {challenge!r} without {part}")
            if expect["error"] is None and "error=" in challenge:
                raise Failed(f"www-authenticate: {challenge!r} has an error")
            if "scope" in expect and f'scope="{expect["scope"]}"' not in challenge:
                raise Failed(f"www-authenticate: {challenge!r} without the scope")

    def fetch(target, token):
        connection = http.client.HTTPConnection(addresses["HTTP"], timeout=20)
        try:
            connection.putrequest("GET", target)
            if token:
                connection.putheader("authorization", f"Bearer {token}")
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    for case in given["cases"]:
        if case["row"] in addresses:
            run = (lambda: call(case)) if case["row"] == "gRPC" else (lambda: get(case))  # noqa: B023
            results.check("Interceptor", case["row"], language, case["name"], run)
    first = {row: next(case for case in given["cases"] if case["row"] == row) for row in addresses}

    def stale():
        driver.ok("clock", id="door", monotonic=given["clock"]["monotonic"] + 60)
        if "gRPC" in addresses:
            case = first["gRPC"]
            error = driver.error(
                "call",
                "VERIFIER_STALE",
                address=addresses["gRPC"],
                path=case["path"],
                access_token=case["access_token"],
            )
            equal(error["retryable"], True, "retryable")
        if "HTTP" in addresses:
            status, headers, _ = fetch(first["HTTP"]["target"], first["HTTP"]["access_token"])
            equal((status, headers.get("countersign-reason")), (503, "VERIFIER_STALE"), "the answer")

    if addresses:
        results.check("Interceptor", "stale", language, "a verifier that is stale", stale)
    for transport in ("grpc", "http"):
        driver.ask("close", id=transport)


def across(drivers, results):
    """Each library calls the services of the others: the refusals are understood there."""
    given = read("services.json")
    cases = [case for case in given["cases"] if case["row"] == "gRPC"]
    for serving in drivers:
        serving.ok("verifier", id="across", issuer=given["issuer"], clock=given["clock"])
        serving.ok("feed", id="across", items=given["feed"])
        options = {"audience": given["audience"], "orgs": given["orgs"], "verifier": "across", "transport": "grpc"}
        answer = serving.ask("serve", id="across-service", **options)
        for calling in drivers:
            if calling is serving or "ok" not in answer:
                continue
            for case in cases:

                def call(case=case, calling=calling, address=answer["ok"]["address"]):
                    asked = {name: case[name] for name in ("path", "access_token", "method") if name in case}
                    if "reason" in case["expect"]:
                        calling.error("call", case["expect"]["reason"], address=address, **asked)
                    else:
                        equal(calling.ok("call", address=address, **asked), case["expect"], "the answer")

                row = "gRPC, called from the other languages"
                results.check("Interceptor", row, serving.language, f"{case['name']}, from {calling.language}", call)
        serving.ask("close", id="across-service")


### The table.


def table(results, runtimes, missing):
    languages = [language for language in LANGUAGES if language in runtimes or language in missing]
    names = {"python": "Python", "typescript": "TypeScript", "rust": "Rust"}
    lines = ["| | " + " | ".join(names[language] for language in languages) + " |", "|---|" + "---|" * len(languages)]
    for part, rows in ROWS.items():
        lines.append(f"| **{part}** |" + " |" * len(languages))
        for row in rows:
            cells = [results.cell(part, row, language) for language in languages]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    versions = [f"{names[name]} {version}" for name, version in runtimes.items()]
    lines += [
        "",
        f"Run with {', '.join(versions)}." + "".join(f" {names[name]}: {why}." for name, why in missing.items()),
    ]
    return "\n".join(lines)


def write_table(text):
    path = CLIENTS / "README.md"
    begin, end = "<!-- conformance -->\n", "<!-- /conformance -->"
    head, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, mark, tail = rest.partition(end)
    if not mark:
        raise SystemExit(f"{path} has no place for the table")
    path.write_text(f"{head}{begin}{text}\n{mark}{tail}", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--no-table", action="store_true")
    parser.add_argument("--installed", action="store_true", help="the libraries are installed already")
    parser.add_argument("languages", nargs="*")
    options = parser.parse_args()
    chosen = options.languages or LANGUAGES
    results, runtimes, missing, drivers = Results(), {}, {}, []
    for language, _, folder in (name.partition("=") for name in chosen):
        tasks = (Path(folder) if folder else CLIENTS / language) / "tasks"
        if not tasks.exists():
            missing[language] = "not there"
            continue
        if not options.installed:
            probe = subprocess.run([tasks, "install"], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
            if probe.returncode == NOT_RUN:
                missing[language] = f"not run, {probe.stdout.strip()}"
                print(f"not run: {language}: {probe.stdout.strip()}", flush=True)
                continue
            if probe.returncode:
                sys.exit(f"{language}: the installation failed")
        driver = Driver(language, tasks)
        runtimes[language] = driver.hello["runtime"]
        drivers.append(driver)
    for driver in drivers:
        began = time.monotonic()
        if "vectors".startswith(options.only):
            vectors(driver, results)
        print(f"{driver.language}: vectors, {time.monotonic() - began:.1f} s", flush=True)
    if "vectors".startswith(options.only):
        across(drivers, results)
    from faults import faults

    began = time.monotonic()
    if "faults".startswith(options.only):
        together(faults, drivers, results)
        print(f"faults, {time.monotonic() - began:.1f} s", flush=True)
    if options.binary and "live".startswith(options.only):
        from live import live

        began = time.monotonic()
        live(options.binary.resolve(), drivers, results)
        print(f"live, {time.monotonic() - began:.1f} s", flush=True)
    for driver in drivers:
        driver.close()
    text = table(results, runtimes, missing)
    print(f"\n{text}")
    if not options.no_table and not options.only and options.binary:
        write_table(text)
    for (part, row, language), operations in sorted(results.unsupported.items()):
        print(f"not run: {language}: {part}: {row}: the driver has no {', '.join(sorted(operations))}")
    if listed := os.environ.get("CI_NOT_RUN"):
        with open(listed, "a", encoding="utf-8") as file:
            for language, why in missing.items():
                print(f"clients/{language}: {why}", file=file)
    if results.failures:
        sys.exit("failed")
    if not drivers:
        sys.exit("no library was run")


def together(part, drivers, results):
    """A part for each driver at once: it waits more than it computes."""
    faults = []

    def one(driver):
        try:
            part(driver, results)
        except BaseException as error:
            faults.append(f"{driver.language}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(driver,)) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        sys.exit("; ".join(faults))


if __name__ == "__main__":
    main()
