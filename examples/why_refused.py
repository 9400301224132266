"""Why refused: every check of a token, by its id or its text, or of a JWT.

COUNTERSIGN_TOKEN=… why_refused.py tok_… [AUDIENCE]
"""

import sys

from countersign import Client

target, audience = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
which = {"token_id": target} if target.startswith("tok_") else {"token_text": target}
with Client.from_env() as client:
    for check in client.tokens.explain_token(**which, audience=audience).checks:
        print("passed" if check.passed else "FAILED", check.name, check.reason)
