"""Token source: calls a service with a JWT that is fresh for as long as the program runs.

COUNTERSIGN_TOKEN_FILE=… token_source.py http://127.0.0.1:8080/reports/customers/acme
"""

import sys
import urllib.request

from countersign import TokenSource

with TokenSource.from_env() as source:
    jwt = source.get("https://reports.example", "reports.read")
    request = urllib.request.Request(sys.argv[1], headers={"authorization": f"Bearer {jwt}"})
    with urllib.request.urlopen(request) as answer:
        print(answer.read().decode())
