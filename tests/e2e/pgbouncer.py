"""PgBouncer before the database, as an operator has it: what works, and what the start says where it does not.

Runs the binary as in production behind a PgBouncer in session mode, where everything works; and in transaction mode,
and without the parameter that it has to ignore, where older ones (before 1.21) cannot work, and the start says what is
needed. A newer one works in transaction mode with `max_prepared_statements`. Prints a line for each step; fails at the
first error, and ends all processes that it started.

    python3 tests/e2e/pgbouncer.py target/debug/countersign

Needs PgBouncer, grpcurl, the programs of PostgreSQL 15 or newer, and the packages of tests/e2e/requirements.txt.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from mailed_invitation import ending, free_port, postgres, server
from set_password import call, done, equal, wait_for, wrong

# The first that prepares statements again in another session.
PREPARES = (1, 21)


def main():
    [countersign] = sys.argv[1:]
    countersign = Path(countersign).resolve()
    signal.signal(signal.SIGTERM, lambda *_: wrong("ended by a signal"))
    version = pgbouncer_version()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        # As root, PostgreSQL's own user has to pass through it.
        work.chmod(0o711)
        with postgres(work / "postgres") as database_url:
            ignoring = "ignore_startup_parameters = extra_float_digits"
            with pgbouncer(work / "session", work / "postgres", "session", ignoring) as url:
                serves(countersign, work, url, "session mode")
            with pgbouncer(work / "strict", work / "postgres", "session", "") as url:
                says(countersign, work, url, "ignore_startup_parameters = extra_float_digits")
                done("the start says which parameter PgBouncer has to ignore")
            if version >= PREPARES:
                prepared = f"{ignoring}\nmax_prepared_statements = 200"
                with pgbouncer(work / "transaction", work / "postgres", "transaction", prepared) as url:
                    serves(countersign, work, url, "transaction mode")
            with pgbouncer(work / "loses", work / "postgres", "transaction", ignoring) as url:
                says(countersign, work, url, "max_prepared_statements")
                done("the start says what PgBouncer needs in transaction mode")
        equal(database_url.startswith("postgres://"), True, "whether there was a database")
    print("all good")


def pgbouncer_version():
    text = subprocess.run(["pgbouncer", "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", text) or wrong(f"no version in {text}")
    done(f"PgBouncer {found[1]}.{found[2]}")
    return int(found[1]), int(found[2])


def serves(countersign, work, url, mode):
    place = work / mode.replace(" ", "-")
    place.mkdir()
    with server(countersign, place, url, {}) as operator:
        made = call("OrgService/CreateOrg", {"slug": f"{mode.split()[0]}s", "display_name": mode,
                                             "owner_service_account_name": "root"}, operator)
        equal(made["org"]["slug"], f"{mode.split()[0]}s", "the slug of the new org")
        for _ in range(20):
            call("TokenService/ExchangeToken", {}, operator)
    done(f"it works behind PgBouncer in {mode}")


def says(countersign, work, url, expected):
    """What a command says that cannot work there."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    command = [countersign, "migrate", "--database-url", url]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    if ended.returncode == 0 or expected not in ended.stderr:
        wrong(f"migrate ended with {ended.returncode} and said: {ended.stderr}")


@contextmanager
def pgbouncer(directory, sockets, mode, settings):
    """A PgBouncer in front of the PostgreSQL whose socket is there; gives the URL of a database behind it."""
    directory.mkdir()
    directory.chmod(0o755)
    port, file, log = free_port(), directory / "pgbouncer.ini", directory / "log"
    file.write_text(f"""
[databases]
postgres = host={sockets} user=countersign
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
{settings}
""")
    command = ["pgbouncer", file]
    if os.geteuid() == 0:
        # It refuses to run as root.
        command[1:1] = ["--user", "postgres"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    # Without waiting for its clients.
    with ending(process, signal.SIGTERM):
        said = lambda: process.poll() is not None or "listening on 127.0.0.1" in log.read_text()  # noqa: E731
        wait_for(said, "a PgBouncer that listens")
        if process.poll() is not None:
            wrong(f"PgBouncer ended by itself: {log.read_text()}")
        yield f"postgres://countersign@127.0.0.1:{port}/postgres"


if __name__ == "__main__":
    main()
