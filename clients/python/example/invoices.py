"""A service that calls another one: GET /invoices/<path> asks for `invoices.read`, and the customers for the name.

It is called with JWTs for itself, and calls with its own."""

import asyncio
import json
import os
import sys
import urllib.request

import uvicorn

from countersign import Middleware, Route, TokenSource, Verifier

AUDIENCE = "https://invoices.example"
source = TokenSource.from_env()


def customer(path, jwt):
    url = f"{os.environ['CUSTOMERS']}/customers/{path}"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {jwt}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


async def invoices(scope, _receive, send):
    path = scope["path"].removeprefix("/invoices/")
    jwt = await source.get_async("https://customers.example", "customers.read")
    body = {"invoices": [17, 23], "of": await asyncio.to_thread(customer, path, jwt)}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


routes = [Route("GET", "/invoices/{path:path}", "invoices.read", "customers/{path}")]
verifier = Verifier.from_env(verifier_name="invoices")
app = Middleware(invoices, verifier, AUDIENCE, routes, resource=AUDIENCE)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
