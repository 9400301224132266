"""Sync: makes the service accounts whose names begin with `svc-` those of a JSON file: {"svc-a": ["reports.read"]}.

COUNTERSIGN_TOKEN=… sync.py FILE
"""

import json
import sys
from pathlib import Path

from countersign import Client

wanted = json.loads(Path(sys.argv[1]).read_text())
with Client.from_env() as client:
    there = {
        each.name: each.id for each in client.accounts.list_accounts(query="svc-", kind="ACCOUNT_KIND_SERVICE_ACCOUNT")
    }
    for name, permissions in wanted.items():
        if name not in there:
            there[name] = client.accounts.create_service_account(name=name).account.id
        held = {grant.permission for grant in client.accounts.list_grants(account_id=there[name])}
        for change, names in (("grant_access", set(permissions) - held), ("revoke_access", held - set(permissions))):
            if grants := [{"permission": each, "resource": "*"} for each in sorted(names - {""})]:
                getattr(client.accounts, change)(account_id=there[name], grants=grants)
                print(change, name, *[grant["permission"] for grant in grants])
    for name in there.keys() - wanted.keys():
        client.accounts.deactivate_account(account_id=there[name], reason="not in the file")
        print("deactivated", name)
