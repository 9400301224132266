"""Receiver: a service that takes JWTs, and hears when one is revoked.

    COUNTERSIGN_TOKEN_FILE=… receiver.py 8080

Its own token needs `tokens.introspect`. Needs uvicorn.
"""

import sys

import uvicorn

from countersign import Middleware, Route, Verifier


async def report(scope, receive, send):
    text = f"{scope['path']} for {scope['countersign'].account_id}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


routes = [Route("GET", "/reports/{path:path}", "reports.read", "{path}")]
app = Middleware(report, Verifier.from_env(), "https://reports.example", routes)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
