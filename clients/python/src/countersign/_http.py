"""One HTTP request: no redirects, no proxies of the environment, a deadline for all of it, a bounded answer."""

from __future__ import annotations

import http.client
import time

from countersign._channel import Endpoint
from countersign.errors import CountersignError


def request(
    endpoint: Endpoint, method: str, path: str, headers: dict[str, str], body: str | None, timeout: float, largest: int
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body; a retryable error where there is no answer."""
    deadline = time.monotonic() + timeout
    context = endpoint.tls()
    connection = (
        http.client.HTTPSConnection(endpoint.host, endpoint.port, timeout=timeout, context=context)
        if context
        else http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
    )
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        read = b""
        # In pieces, so that one that comes byte by byte ends, too.
        while len(read) <= largest and (piece := answer.read1(largest + 1 - len(read))):
            read += piece
            if time.monotonic() > deadline:
                raise TimeoutError
        found = {name.lower(): value for name, value in answer.getheaders()}
    except (OSError, http.client.HTTPException) as error:
        raise CountersignError("UNAVAILABLE", f"{type(error).__name__} at {endpoint.authority}") from None
    finally:
        connection.close()
    if len(read) > largest:
        raise CountersignError("INTERNAL", "the answer is too large", retryable=True)
    return answer.status, found, read
