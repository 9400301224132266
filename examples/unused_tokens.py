"""Unused tokens: lists those that nothing has used for so many days, and revokes them with --revoke.

COUNTERSIGN_TOKEN=… unused_tokens.py 90 [--revoke]
"""

import sys
from datetime import UTC, datetime, timedelta

from countersign import Client

since = datetime.now(UTC) - timedelta(days=float(sys.argv[1]))
with Client.from_env() as client:
    caller = client.accounts.get_caller().credential_id
    for token in client.tokens.list_tokens(idle_since=since, state="TOKEN_STATE_ACTIVE"):
        used = max((secret.last_use_time.ToDatetime() for secret in token.secrets), default=None)
        print(token.id, token.display_name or "(no name)", "made", token.create_time.ToDatetime(), "used", used)
        if "--revoke" in sys.argv and token.id != caller:
            client.tokens.revoke_token(token_id=token.id, reason="REVOKE_REASON_CESSATION_OF_OPERATION")
