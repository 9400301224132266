"""Runs the two services beside each other, with a caller, against a `countersign dev`."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from countersign import Client, TokenSource

HERE = Path(__file__).parent
ENDPOINT = os.environ["COUNTERSIGN_ENDPOINT"]


def main():
    operator = Client(ENDPOINT, os.environ["COUNTERSIGN_OPERATOR_TOKEN"], org_id=os.environ["COUNTERSIGN_ORG_ID"])
    with operator, ExitStack() as stack:
        customer = f"acme-{secrets.token_hex(3)}"
        operator.orgs.create_resource(path=f"customers/{customer}")
        _, customers_token = make(operator, "customers", [("tokens.introspect", "*")])
        _, invoices_token = make(operator, "invoices", [("tokens.introspect", "*"), ("customers.read", "*")])
        caller, caller_token = make(operator, "caller", [("invoices.read", f"customers/{customer}")])
        customers = serve(stack, "customers.py", customers_token)
        invoices = serve(stack, "invoices.py", invoices_token, CUSTOMERS=customers)

        source = stack.enter_context(TokenSource(ENDPOINT, caller_token))
        jwt = source.get("https://invoices.example")
        answer = json.loads(get(f"{invoices}/invoices/{customer}", jwt)[1])
        equal(answer["of"]["customer"], customer, "the customer")
        equal(answer["invoices"], [17, 23], "the invoices")
        equal(get(f"{invoices}/invoices/umbrella", jwt)[0], 403, "the status for another customer")
        equal(get(f"{invoices}/invoices/{customer}", None)[0], 401, "the status without a credential")
        equal(get(f"{customers}/customers/{customer}", jwt)[0], 401, "the status at the other service")
        operator.accounts.deactivate_account(account_id=caller, reason="the end of the example")
        began = time.monotonic()
        while (status := get(f"{invoices}/invoices/{customer}", jwt)[0]) == 200:
            if time.monotonic() - began > 10:
                sys.exit("the JWT of a deactivated account is still good after 10 s")
            time.sleep(0.01)
        equal(status, 401, "the status after the account was deactivated")
        print(f"two services; the JWT was refused {time.monotonic() - began:.2f} s after its account was deactivated")


def make(operator, name, grants):
    name = f"{name}-{secrets.token_hex(3)}"
    grants = [{"permission": permission, "resource": resource} for permission, resource in grants]
    account = operator.accounts.create_service_account(name=name, grants=grants).account
    return account.id, operator.tokens.create_token(account_id=account.id).secret


def serve(stack, program, token, **more):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    variables |= {"COUNTERSIGN_ENDPOINT": ENDPOINT, "COUNTERSIGN_TOKEN": token, **more}
    process = subprocess.Popen([sys.executable, HERE / program, str(port)], env=variables)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            # Refused: that it is answered is enough.
            get(url, None)
            return url
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{program} does not answer")


def get(url, jwt):
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {jwt}"} if jwt else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def equal(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found!r}, and not {expected!r}")


if __name__ == "__main__":
    main()
