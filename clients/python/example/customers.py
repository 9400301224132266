"""A service that is called: GET /customers/<path> asks for `customers.read` on that path."""

import json
import sys

import uvicorn

from countersign import Middleware, Route, Verifier, current_claims

AUDIENCE = "https://customers.example"


async def customers(scope, _receive, send):
    path = scope["path"].removeprefix("/customers/")
    body = json.dumps({"customer": path, "asked_by": current_claims().account_id}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


routes = [Route("GET", "/customers/{path:path}", "customers.read", "customers/{path}")]
verifier = Verifier.from_env(verifier_name="customers")
app = Middleware(customers, verifier, AUDIENCE, routes, resource=AUDIENCE)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
