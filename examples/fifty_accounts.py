"""50 accounts: one for each device, with a token of 90 days in a file of its own. What is there already stays.

COUNTERSIGN_TOKEN=… COUNTERSIGN_ORG_ID=… fifty_accounts.py FOLDER
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from countersign import Client, CountersignError, TokenFile


def make(name):
    try:
        account = client.accounts.create_service_account(name=name, grants=[grant]).account
    except CountersignError as error:
        if error.reason != "RESOURCE_EXISTS":
            raise
        return f"{name} is there"
    made = client.tokens.create_token(account_id=account.id, display_name=name, ttl=timedelta(days=90))
    TokenFile(Path(sys.argv[1]) / name).write(made.secret)
    return f"{name} {account.id} {made.token.id}"


grant = {"permission": "readings.write", "resource": "*"}
with Client.from_env() as client, ThreadPoolExecutor(8) as pool:
    print(*pool.map(make, [f"device-{number:02}" for number in range(50)]), sep="\n")
