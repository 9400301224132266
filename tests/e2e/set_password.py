"""A person sets a password in a real browser, by keyboard, without JavaScript.

Has `countersign dev` create a user, takes the link from the email that it wrote, and opens the page
in headless Chromium, as wide as a narrow phone, with scripts switched off. Types a password that is too
short, reads what a screen reader would get, types a good one, and logs in with it over gRPC. No page
may be wider than the phone. Prints a line for each step; fails at the first
error.

    python3 tests/e2e/set_password.py .countersign

Needs Chromium, grpcurl, and in the environment COUNTERSIGN_ENDPOINT, COUNTERSIGN_ORG_ID and
COUNTERSIGN_OPERATOR_TOKEN, as `countersign dev` writes them into dev.env.
"""

import email
import email.policy
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

PASSWORD = "seven green bicycles"
# The narrowest phone still in use, and what a page is as wide as when it is enlarged to 400 %
# (WCAG 1.4.10).
WIDTH = 320
# A browser that is asked to leave no traces and to talk only to this machine.
CHROMIUM = [
    "chromium",
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--no-default-browser-check",
    "--no-first-run",
]


def main():
    [data_dir] = sys.argv[1:]
    address = f"person-{uuid.uuid4().hex[:8]}@example.org"
    call(
        "AccountService/CreateUser",
        {"org_id": setting("COUNTERSIGN_ORG_ID"), "email": address},
        setting("COUNTERSIGN_OPERATOR_TOKEN"),
    )
    link = wait_for(lambda: link_to(address, Path(data_dir) / "mail"), f"a mail to {address}")
    done("a user was created, and the mail with the link is there")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        with Browser(profile) as browser:
            fill_in(browser, link, address)
    answer = call("TokenService/Login", {"username": address, "password": PASSWORD})
    equal(answer["account"]["state"], "ACCOUNT_STATE_ACTIVE", "the state of the account")
    done("the new user logged in over gRPC")
    print("all good")


def fill_in(browser, link, address):
    browser.open(link)
    equal(browser.field("Email address")["value"], address, "the address on the page")
    # The cursor is in the first field that one fills in.
    browser.type("too short")
    browser.press("Tab")
    browser.type("too shirt")
    browser.submit()
    said = browser.field("Password")["description"]
    if "Must be 12 to 128 characters" not in said or not browser.field("Password")["invalid"]:
        wrong(f"a screen reader is told {said!r} of a short password")
    if "does not match" not in browser.field("Repeat password")["description"].lower():
        wrong("nobody is told that the two passwords differ")
    for field in ("Password", "Repeat password"):
        equal(browser.field(field)["value"], "", f"what the page shows of {field}")
    done("a short password, twice different: the page says both at once, to a screen reader, too")
    browser.type(PASSWORD)
    browser.press("Tab")
    browser.type(PASSWORD)
    browser.submit()
    if "Your password is saved" not in browser.text():
        wrong(f"the page shows {browser.text()!r}")
    done("a good one is saved: by keyboard, without JavaScript")
    browser.open(link)
    if "This link no longer works" not in browser.text():
        wrong(f"the used link shows {browser.text()!r}")
    done("the link works no more")


class Browser:
    """Chromium, spoken to in the DevTools protocol: JSON texts that end with a zero byte."""

    def __init__(self, profile):
        # Two pipes instead of a port: no other process can talk to it.
        options = [f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        if os.geteuid() == 0:
            # Chromium's sandbox is not for root.
            options.append("--no-sandbox")
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        # It reads from descriptor 3 and writes to 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{read_there} 4>&{write_there}', "bash"]
        self.process = subprocess.Popen(
            [*shell, *CHROMIUM, *options],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self.to, self.answers = os.fdopen(write_here, "wb", 0), os.fdopen(read_here, "rb", 0)
        self.buffer, self.number, self.session = b"", 0, None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.ask("Emulation.setScriptExecutionDisabled", value=True)
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=640, deviceScaleFactor=1, mobile=True
        )
        for domain in ("Page", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # Asked to, it ends with all its processes, which a signal would leave to end later.
        self.to.write(json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.to.close()
        self.answers.close()

    def open(self, url):
        self.until("Page.loadEventFired", lambda: self.ask("Page.navigate", url=url))
        self.fits()

    def type(self, text):
        self.ask("Input.insertText", text=text)

    def press(self, key):
        codes = {"Tab": 9, "Enter": 13}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                **text,
            )

    def submit(self):
        """Enter in a field, and what comes back."""
        self.until("Page.loadEventFired", lambda: self.press("Enter"))
        self.fits()

    def fits(self):
        """Checks that the current page needs no sideways scrolling."""
        width = self.ask("Page.getLayoutMetrics")["cssContentSize"]["width"]
        if width > WIDTH:
            wrong(f"a page is {width} wide where {WIDTH} can be seen: {self.text()!r}")

    def text(self):
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        page = self.ask("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        return re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)

    def field(self, name):
        """A text field as assistive technology gets it."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        for node in nodes:
            value = lambda key: node.get(key, {}).get("value", "")  # noqa: E731
            if value("role") == "textbox" and value("name") == name:
                properties = {p["name"]: p["value"].get("value") for p in node.get("properties", [])}
                invalid = properties.get("invalid", "false") == "true"
                return {"value": value("value"), "description": value("description"), "invalid": invalid}
        wrong(f"no field called {name!r} on the page: {self.text()!r}")

    def ask(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    wrong(f"{method}: {answer['error']}")
                return answer["result"]
            self.heard.append(answer.get("method"))

    heard = []

    def until(self, event, act):
        self.heard = []
        act()
        while event not in self.heard:
            self.heard.append(self.read().get("method"))

    def read(self):
        while b"\0" not in self.buffer:
            more = os.read(self.answers.fileno(), 1 << 16)
            if not more:
                wrong("the browser ended by itself")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)


def link_to(address, directory):
    for path in directory.glob("*.eml"):
        mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if mail["to"] == address:
            text = mail.get_body(("plain",)).get_content()
            return re.search(r"http\S+\?code=\S+", text)[0]
    return None


def call(method, message, token=None):
    headers = ["-H", f"authorization: Bearer {token}"] if token else []
    address = setting("COUNTERSIGN_ENDPOINT").removeprefix("http://")
    path = f"countersign.v1.{method}"
    command = ["grpcurl", "-plaintext", *headers, "-d", json.dumps(message), address, path]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if answer.returncode != 0:
        wrong(f"{method}: {answer.stderr}")
    return json.loads(answer.stdout)


def wait_for(look, what):
    for _ in range(400):
        if found := look():
            return found
        time.sleep(0.05)
    wrong(f"{what} did not come within 20 s")


def setting(name):
    return os.environ.get(name) or wrong(f"{name} is not set: `set -a; source .countersign/dev.env`")


def equal(found, expected, what):
    if found != expected:
        wrong(f"{what}: found {found!r}, expected {expected!r}")


def done(what):
    print("ok ", what, flush=True)


def wrong(what):
    sys.exit(f"{Path(sys.argv[0]).stem}: {what}")


if __name__ == "__main__":
    main()
