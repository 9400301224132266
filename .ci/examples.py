"""Runs the programs of examples/ against the `countersign dev` that the environment names; fails at the first that
does not do what it says. With the Python of the client library."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from countersign import Client, CountersignError, Secret

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def main():
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        operator, org_id = os.environ["COUNTERSIGN_OPERATOR_TOKEN"], os.environ["COUNTERSIGN_ORG_ID"]
        admin = os.environ["COUNTERSIGN_SERVICE_TOKEN"]
        with Client(os.environ["COUNTERSIGN_ENDPOINT"], operator, org_id=org_id) as client:
            services(client, work)
            rotation(client, work)
            fifty(client, work, operator, org_id)
            unused(client, admin)
            sync(client, work, admin)
            refused(client, admin)


def services(client, work):
    port = free_port()
    watcher = token(client, work, "receiver", [("tokens.introspect", "*")])
    reader = token(client, work, "caller", [("reports.read", "*")])
    receiver = subprocess.Popen(
        [sys.executable, EXAMPLES / "receiver.py", str(port)], env=variables(COUNTERSIGN_TOKEN_FILE=watcher)
    )
    try:
        wait_for(port)
        url = f"http://127.0.0.1:{port}/reports/customers/acme"
        answer = program("token_source.py", url, COUNTERSIGN_TOKEN_FILE=reader)
        has(answer, "/reports/customers/acme for acct_")
        # The receiver's own token lacks the right.
        ended = subprocess.run(
            [sys.executable, EXAMPLES / "token_source.py", url],
            env=variables(COUNTERSIGN_TOKEN_FILE=watcher),
            capture_output=True,
            text=True,
        )
        has(ended.stderr, "SCOPE_NOT_HELD")
    finally:
        receiver.terminate()
        receiver.wait()
    print("ok  token_source.py, receiver.py")


def rotation(client, work):
    file = token(client, work, "rotates", [], may_manage_tokens=True)
    before = file.read_text()
    has(program("rotate_nightly.py", COUNTERSIGN_TOKEN_FILE=file), "rotated; the next one is csign_sat_")
    if file.read_text() == before or file.stat().st_mode & 0o077:
        sys.exit("the file has the old token, or others may read it")
    with Client(os.environ["COUNTERSIGN_ENDPOINT"], Secret(file.read_text())) as after:
        after.accounts.get_caller()
    print("ok  rotate_nightly.py")


def fifty(client, work, operator, org_id):
    folder = work / "tokens"
    folder.mkdir()
    settings = {"COUNTERSIGN_TOKEN": operator, "COUNTERSIGN_ORG_ID": org_id}
    made = program("fifty_accounts.py", folder, **settings).splitlines()
    if len(made) != 50 or len(list(folder.iterdir())) != 50 or any("acct_" not in line for line in made):
        sys.exit(f"fifty_accounts.py made {len(made)} accounts")
    again = program("fifty_accounts.py", folder, **settings).splitlines()
    if again != [f"{line.split()[0]} is there" for line in made]:
        sys.exit(f"fifty_accounts.py made accounts again: {again[:3]}")
    print("ok  fifty_accounts.py")


def unused(client, admin):
    account = client.accounts.create_service_account(name=f"idle-{secrets.token_hex(3)}").account
    idle = client.tokens.create_token(account_id=account.id, display_name="idle").token
    settings = {"COUNTERSIGN_TOKEN": admin}
    if idle.id in program("unused_tokens.py", 1, **settings):
        sys.exit("unused_tokens.py lists a token that was just made")
    has(program("unused_tokens.py", 0, **settings), idle.id)
    if client.tokens.get_token(token_id=idle.id).token.state != 1:
        sys.exit("unused_tokens.py revoked without --revoke")
    program("unused_tokens.py", 0, "--revoke", **settings)
    if client.tokens.get_token(token_id=idle.id).token.state != 3:
        sys.exit("unused_tokens.py did not revoke")
    print("ok  unused_tokens.py")


def sync(client, work, admin):
    file = work / "accounts.json"
    settings = {"COUNTERSIGN_TOKEN": admin}

    def synced(wanted):
        file.write_text(json.dumps(wanted))
        return program("sync.py", file, **settings)

    has(synced({"svc-a": ["reports.read"], "svc-b": []}), "grant_access svc-a reports.read")
    if synced({"svc-a": ["reports.read"], "svc-b": []}):
        sys.exit("sync.py changed what is as it should be")
    found = synced({"svc-a": ["reports.write"]})
    for line in ("grant_access svc-a reports.write", "revoke_access svc-a reports.read", "deactivated svc-b"):
        has(found, line)
    print("ok  sync.py")


def refused(client, admin):
    account = client.accounts.create_service_account(name=f"refused-{secrets.token_hex(3)}").account
    made = client.tokens.create_token(account_id=account.id)
    settings = {"COUNTERSIGN_TOKEN": admin}
    if "FAILED" in program("why_refused.py", made.token.id, **settings):
        sys.exit("why_refused.py finds a fault in a good token")
    client.tokens.revoke_token(token_id=made.token.id)
    has(program("why_refused.py", made.token.id, **settings), "TOKEN_REVOKED")
    has(program("why_refused.py", made.secret, **settings), "TOKEN_REVOKED")
    print("ok  why_refused.py")


def token(client, work, name, grants, **options):
    """A file with the token of a new account."""
    grants = [{"permission": permission, "resource": resource} for permission, resource in grants]
    account = client.accounts.create_service_account(name=f"{name}-{secrets.token_hex(3)}", grants=grants).account
    path = work / name
    path.write_text(client.tokens.create_token(account_id=account.id, **options).secret)
    return path


def variables(**settings):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    place = {"COUNTERSIGN_ENDPOINT": os.environ["COUNTERSIGN_ENDPOINT"]}
    return kept | place | {name: str(value) for name, value in settings.items()}


def program(name, *arguments, **settings):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    ended = subprocess.run(command, env=variables(**settings), capture_output=True, text=True, timeout=120)
    if ended.returncode:
        sys.exit(f"{name} failed:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def has(text, part):
    if part not in text:
        sys.exit(f"{part!r} is not in:\n{text}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def wait_for(port):
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the receiver does not listen")


if __name__ == "__main__":
    try:
        main()
    except CountersignError as error:
        sys.exit(f"examples: {error}")
