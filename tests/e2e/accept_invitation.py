"""A person accepts two invitations in a real browser, by keyboard, without JavaScript.

Has `countersign dev` invite a person who has no account, takes the link from the email that it wrote,
and fills in the page in headless Chromium with scripts switched off: names and a password. Then
invites the same person to another org, where the page asks only for that password. Logs in over
gRPC each time. Prints a line for each step; fails at the first error.

    python3 tests/e2e/accept_invitation.py .countersign

Needs what tests/e2e/set_password.py needs.
"""

import sys
import tempfile
import uuid
from pathlib import Path

from set_password import PASSWORD, Browser, call, done, equal, link_to, setting, wait_for, wrong

OPERATOR = "COUNTERSIGN_OPERATOR_TOKEN"


def main():
    [data_dir] = sys.argv[1:]
    mails = Path(data_dir) / "mail"
    unique = uuid.uuid4().hex[:8]
    address = f"invited-{unique}@example.org"
    first = invite(setting("COUNTERSIGN_ORG_ID"), address, mails)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, Browser(profile) as browser:
        sign_up(browser, first, address)
        equal(orgs(address), 1, "the orgs of the new user")
        done("the new user logged in over gRPC")
        made = call(
            "OrgService/CreateOrg",
            {"slug": f"org-{unique}", "display_name": "Another <b>org</b>", "owner_service_account_name": "root"},
            setting(OPERATOR),
        )
        for path in mails.glob("*.eml"):
            path.unlink()
        second = invite(made["org"]["id"], address, mails)
        join(browser, second, address)
    equal(orgs(address), 2, "the orgs of the guest")
    done("the guest logged in over gRPC, and acts in both orgs")
    print("all good")


def invite(org_id, address, mails):
    grants = [{"role_id": "auditor", "resource": "*"}]
    message = {"org_id": org_id, "email": address, "grants": grants}
    call("OrgService/CreateInvitation", message, setting(OPERATOR))
    return wait_for(lambda: link_to(address, mails), f"a mail to {address}")


def sign_up(browser, link, address):
    browser.open(link)
    equal(browser.field("Email address")["value"], address, "the address on the page")
    # The cursor is in the first field that one fills in.
    for text in ("Ann <i>", "Ruiz", "too short"):
        browser.type(text)
        browser.press("Tab")
    browser.type("too short")
    browser.submit()
    said = browser.field("Password")["description"]
    if "Must be 12 to 128 characters" not in said or not browser.field("Password")["invalid"]:
        wrong(f"a screen reader is told {said!r} of a short password")
    equal(browser.field("First name")["value"], "Ann <i>", "what the page keeps of the first name")
    equal(browser.field("Last name")["value"], "Ruiz", "what the page keeps of the last name")
    for field in ("Password", "Repeat password"):
        equal(browser.field(field)["value"], "", f"what the page shows of {field}")
    done("a short password: the page says so, and keeps the names")
    # The cursor is in the first field that is wrong.
    browser.type(PASSWORD)
    browser.press("Tab")
    browser.type(PASSWORD)
    browser.submit()
    if "You have joined" not in browser.text():
        wrong(f"the page shows {browser.text()!r}")
    done("somebody without an account signed up: by keyboard, without JavaScript")
    browser.open(link)
    if "This link no longer works" not in browser.text():
        wrong(f"the used link shows {browser.text()!r}")
    done("the link works no more")


def join(browser, link, address):
    browser.open(link)
    equal(browser.field("Email address")["value"], address, "the address on the page")
    if "Another &lt;b&gt;org" not in browser.text():
        wrong(f"the page does not name the org: {browser.text()!r}")
    browser.type("not the password at all")
    browser.submit()
    if "not the password" not in browser.text():
        wrong(f"a wrong password shows {browser.text()!r}")
    browser.type(PASSWORD)
    browser.submit()
    if "You have joined" not in browser.text():
        wrong(f"the page shows {browser.text()!r}")
    done("somebody with an account accepted with its password alone")


def orgs(address):
    answer = call("TokenService/Login", {"username": address, "password": PASSWORD})
    return len(answer["orgs"])


if __name__ == "__main__":
    main()
