"""An invitation is emailed, and its recipient signs up in a real browser and logs in.

Runs the binary as in production: `migrate`, `bootstrap` and `serve`, on a PostgreSQL of its own, beside
a mail server (aiosmtpd) that accepts emails only over STARTTLS and with a password. Invites a person,
takes the link from the email that came, fills in the page in headless Chromium at the width of a phone
with scripts switched off, and logs in over gRPC. Prints a line for each step; fails at the
first error, and ends all processes that it started.

    python3 tests/e2e/mailed_invitation.py target/debug/countersign

Needs Chromium, grpcurl, the programs of PostgreSQL 15 or newer (COUNTERSIGN_PG_BIN where they are in an
unusual place), and the packages of tests/e2e/requirements.txt.
"""

import asyncio
import base64
import datetime
import email
import email.policy
import html
import ipaddress
import logging
import os
import pwd
import queue
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from accept_invitation import sign_up
from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from set_password import PASSWORD, Browser, call, done, equal, wait_for, wrong

# Long words do not fit on a phone by themselves; the rest does not go into HTML as it is.
ORG = "Donaudampfschifffahrtsgesellschaft Müller & Söhne <Wien>"
ADDRESS = "ann@example.org"
MAIL_FROM = "Accounts <no-reply@example.org>"
SMTP_USER, SMTP_PASSWORD = "countersign", secrets.token_hex(12)


def main():
    [countersign] = sys.argv[1:]
    # What is started here ends with this process, also when it is terminated.
    signal.signal(signal.SIGTERM, lambda *_: wrong("somebody ended it"))
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        # As root, PostgreSQL's own user has to pass through it.
        work.chmod(0o711)
        authority, context = certificates(work)
        with postgres(work / "postgres") as database_url, mail_server(context) as (port, mails):
            smtp = {
                "COUNTERSIGN_SMTP_URL": f"smtp://{SMTP_USER}:{SMTP_PASSWORD}@127.0.0.1:{port}",
                "COUNTERSIGN_SMTP_CA_FILE": str(authority),
                "COUNTERSIGN_MAIL_FROM": MAIL_FROM,
            }
            with server(Path(countersign).resolve(), work, database_url, smtp) as operator:
                run(operator, mails, work)
    print("all good")


def run(operator, mails, work):
    made = call(
        "OrgService/CreateOrg",
        {"slug": "dampf", "display_name": ORG, "owner_service_account_name": "root"},
        operator,
    )
    grants = [{"role_id": "auditor", "resource": "*"}]
    invitation = {"org_id": made["org"]["id"], "email": ADDRESS, "grants": grants}
    call("OrgService/CreateInvitation", invitation, operator)
    try:
        recipients, mail = mails.get(timeout=120)
    except queue.Empty:
        wrong("no mail came within 20 s")
    equal(recipients, [ADDRESS], "to whom the mail goes")
    link = link_of(mail)
    done("the mail server has the invitation, as text and as HTML, with the org's name and the link")
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as profile:
        with Browser(profile) as browser:
            sign_up(browser, link, ADDRESS)
    answer = call("TokenService/Login", {"username": ADDRESS, "password": PASSWORD})
    orgs = [(org["orgId"], org["displayName"]) for org in answer["orgs"]]
    equal(orgs, [(made["org"]["id"], ORG)], "the orgs of the new user")
    equal(answer["account"]["title"], "Ann <i> Ruiz", "the name of the new user")
    done("the new user logged in over gRPC, and acts in the org")
    equal(mails.qsize(), 0, "more mails")


def link_of(raw):
    """The link of the invitation, which both parts of the email must contain, and the org's name with it."""
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    equal((mail["to"], mail["from"]), (ADDRESS, MAIL_FROM), "to whom and from whom the mail is")
    equal(mail.get_content_type(), "multipart/alternative", "the form of the mail")
    text, page = (mail.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for what, part, org in (("subject", mail["subject"], ORG), ("text", text, ORG), ("HTML", page, html.escape(ORG))):
        if org not in part:
            wrong(f"the {what} of the mail does not name the org: {part}")
    begin = os.environ["COUNTERSIGN_ENDPOINT"] + "/accept-invitation?code=csign_inv_"
    in_text = [line for line in text.splitlines() if line.startswith(begin)]
    equal(len(in_text), 1, "lines of the text that are the link")
    in_page = {html.unescape(link) for link in re.findall(r'href="([^"]*)"', page)}
    equal(in_page, set(in_text), "where the HTML of the mail leads")
    return in_text[0]


@contextmanager
def server(countersign, work, database_url, smtp):
    """Serves as in production, and gives the token of the operator."""
    key, token, log = work / "master.key", work / "operator.token", work / "serve.log"
    key.write_text(f"1:{base64.b64encode(secrets.token_bytes(32)).decode()}\n")
    key.chmod(0o600)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    os.environ["COUNTERSIGN_ENDPOINT"] = endpoint
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    variables |= smtp | {
        "COUNTERSIGN_DATABASE_URL": database_url,
        "COUNTERSIGN_ISSUER": endpoint,
        "COUNTERSIGN_LISTEN": f"127.0.0.1:{port}",
        "COUNTERSIGN_MASTER_KEY_FILE": str(key),
    }
    try:
        with log.open("wb") as out:
            how = {"env": variables, "stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            for command in (["migrate"], ["bootstrap", "--output", token]):
                subprocess.run([countersign, *command], timeout=120, check=True, **how)
            process = subprocess.Popen([countersign, "serve", "--reflection", "true"], **how)
        with ending(process, signal.SIGTERM):
            wait_for(lambda: is_ready(process, endpoint), "a server that is ready")
            done("migrated, bootstrapped, and serving")
            yield token.read_text().strip()
        equal(process.returncode, 0, "how the server ended")
    except BaseException:
        print(f"\n-- what the server said\n{log.read_text()}", file=sys.stderr)
        raise


def is_ready(process, endpoint):
    if process.poll() is not None:
        wrong(f"the server ended by itself, with {process.returncode}")
    try:
        with urllib.request.urlopen(f"{endpoint}/readyz", timeout=120) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextmanager
def postgres(directory):
    """A PostgreSQL that is reached only through a socket, and gives its URL."""
    directory.mkdir(mode=0o700)
    owner = {"cwd": directory, "stdin": subprocess.DEVNULL}
    if os.geteuid() == 0:
        # It refuses to run as root.
        names = {user.pw_name: user for user in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        os.chown(directory, user.pw_uid, user.pw_gid)
        owner |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, log = directory / "data", directory / "log"
    found = programs()
    make = [found / "initdb", "-D", data, "-U", "countersign", "-A", "trust", "-E", "UTF8", "--locale=C"]
    subprocess.run([*make, "--no-sync"], stdout=subprocess.DEVNULL, timeout=120, check=True, **owner)
    serve = [found / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"]
    with log.open("wb") as out:
        process = subprocess.Popen(serve, stdout=out, stderr=out, **owner)
    # Fast: it does not wait for clients that are still connected.
    with ending(process, signal.SIGINT):
        ask = [found / "pg_isready", "-q", "-h", directory, "-U", "countersign", "-d", "postgres"]
        answers = lambda: subprocess.run(ask, timeout=120).returncode == 0  # noqa: E731
        wait_for(lambda: process.poll() is not None or answers(), "a PostgreSQL that answers")
        if process.poll() is not None:
            wrong(f"PostgreSQL ended by itself: {log.read_text()}")
        yield f"postgres://countersign@localhost/postgres?host={directory}"


def programs():
    """Where those of PostgreSQL are: the newest, as for .ci/sqlx."""
    if named := os.environ.get("COUNTERSIGN_PG_BIN"):
        return Path(named)
    installed = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if installed:
        return max(installed, key=lambda path: int(re.search(r"\d+", str(path))[0]))
    return Path(shutil.which("initdb") or wrong("PostgreSQL is not installed")).parent


@contextmanager
def ending(process, how):
    """Ends the process, whatever happens meanwhile; it has two minutes to do so in good order."""
    try:
        yield
    finally:
        process.send_signal(how)
        try:
            process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Mailbox:
    """Stores what comes, as it came."""

    def __init__(self, mails):
        self.mails = mails

    async def handle_DATA(self, server, session, envelope):  # noqa: N802, aiosmtpd calls it so
        if session.ssl is None or not session.authenticated:
            return "530 5.7.0 nobody may send here like that"
        self.mails.put((envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 taken"


@contextmanager
def mail_server(context):
    """A mail server like that of a company: STARTTLS, then a password, else nothing. Gives its port, and a
    queue of the emails that it accepted."""
    mails = queue.Queue()
    # At each login it warns of what it does itself.
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    loop = asyncio.new_event_loop()

    def is_ours(_server, _session, _envelope, _mechanism, given):
        good = (given.login, given.password) == (SMTP_USER.encode(), SMTP_PASSWORD.encode())
        return AuthResult(success=good)

    def connection():
        return SMTP(
            Mailbox(mails),
            hostname="mail.example.org",
            tls_context=context,
            require_starttls=True,
            authenticator=is_ours,
            auth_required=True,
            loop=loop,
        )

    listening = loop.run_until_complete(loop.create_server(connection, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1], mails
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        listening.close()
        loop.close()


def certificates(directory):
    """An authority, in a file, and what a server with a certificate of it for 127.0.0.1 needs."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority for a test")])
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a mail server")])
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(subject, public_key, extension):
        unsigned = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=subject,
            public_key=public_key,
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(hours=1),
            not_valid_after=now + datetime.timedelta(days=1),
        ).add_extension(extension, critical=True)
        return unsigned.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, chain, private = (directory / name for name in ("authority.pem", "server.pem", "server.key"))
    constraint = x509.BasicConstraints(ca=True, path_length=0)
    authority.write_bytes(certificate(name, authority_key.public_key(), constraint))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    chain.write_bytes(certificate(server_name, key.public_key(), address))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, private)
    return authority, context


def free_port():
    """The issuer names the port, so that it must be known before the server takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    main()
