"""Nightly rotation: replaces the token in a file by a new one. Programs that read the file go on with the new one; the
old one works for another hour.

    COUNTERSIGN_TOKEN_FILE=… rotate_nightly.py

The token must have been made with `may_manage_tokens`.
"""

import os
from datetime import timedelta

from countersign import Client, TokenFile

file = TokenFile(os.environ["COUNTERSIGN_TOKEN_FILE"])
with Client(os.environ["COUNTERSIGN_ENDPOINT"], file, ca_file=os.environ.get("COUNTERSIGN_CA_FILE")) as client:
    token_id = client.accounts.get_caller().credential_id
    file.write(client.tokens.rotate_token(token_id=token_id, overlap=timedelta(hours=1)).secret)
    print(token_id, "rotated; the next one is", client.accounts.get_caller().secret_obfuscated)
