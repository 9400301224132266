"""Calls of the API: bearer, deadline, retries, typed errors, pages."""

from __future__ import annotations

import datetime
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

import grpc
from countersign._channel import OwnProcess
from countersign.errors import NOTHING_DONE, CountersignError

Answer = TypeVar("Answer", bound=Message)
Item = TypeVar("Item")
FIRST_WAIT = 0.1
LONGEST_WAIT = 30.0


class Backoff:
    """Waits that double, with full jitter, and never shorter than the server asks for."""

    def __init__(self, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> None:
        self._first, self._longest = first, longest
        self._failures = 0

    def next(self, error: CountersignError | None = None) -> float:
        # The exponent is bounded: a number that grows for days is none of a float.
        most = min(self._longest, self._first * float(2 ** min(self._failures, 30)))
        self._failures += 1
        asked = error.retry_after if error and error.retry_after else 0.0
        # Not all at once where the server gave all the same time.
        return max(random.uniform(0.1, 1.0) * most, asked * random.uniform(1.0, 1.1))

    def reset(self) -> None:
        self._failures = 0


class Caller:
    """What the service classes call with."""

    def __init__(
        self,
        channel: grpc.Channel,
        bearer: Callable[[], str] | None,
        org_id: str | None = None,
    ) -> None:
        self._channel = channel
        self._bearer = bearer
        self._org_id = org_id
        self._process = OwnProcess("client")
        self._methods: dict[str, Any] = {}

    def _metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._bearer()}")] if self._bearer else []

    def _method(self, path: str, kind: str, answer: type[Answer]) -> Any:
        method = self._methods.get(path)
        if method is None:
            method = getattr(self._channel, kind)(
                path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
            self._methods[path] = method
        return method

    def build(self, request_type: type[Message], request: Message | None, fields: dict[str, Any]) -> Message:
        """The request, of a message or of fields by name."""
        if request is not None and fields:
            raise TypeError("give a request, or its fields")
        made = request_type()
        if request is not None:
            made.CopyFrom(request)
        else:
            made = request_type(**{name: _value(value) for name, value in fields.items() if value is not None})
        names = made.DESCRIPTOR.fields_by_name
        if self._org_id and "org_id" in names and not made.org_id:  # type: ignore[attr-defined]
            made.org_id = self._org_id  # type: ignore[attr-defined]
        # So that a retry creates nothing twice.
        if "request_id" in names and not made.request_id:  # type: ignore[attr-defined]
            made.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
        return made

    def unary(
        self,
        path: str,
        request_type: type[Message],
        answer: type[Answer],
        request: Message | None,
        fields: dict[str, Any],
        timeout: float,
        reads: bool,
    ) -> Answer:
        self._process.check()
        message = self.build(request_type, request, fields)
        repeatable = reads or "request_id" in message.DESCRIPTOR.fields_by_name
        method = self._method(path, "unary_unary", answer)
        backoff, deadline = Backoff(), time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return method(message, metadata=self._metadata(), timeout=max(left, 0.001))  # type: ignore[no-any-return]
            except grpc.RpcError as failed:
                error = CountersignError.from_rpc(failed)
            wait = backoff.next(error)
            may = error.retryable and (repeatable or error.reason in NOTHING_DONE)
            if not may or time.monotonic() + wait >= deadline:
                raise error from None
            time.sleep(wait)

    def pages(
        self,
        path: str,
        request_type: type[Message],
        answer: type[Answer],
        request: Message | None,
        fields: dict[str, Any],
        timeout: float,
        items: str,
    ) -> Pages[Any, Answer]:
        self._process.check()
        first = self.build(request_type, request, fields)
        return Pages(lambda page: self.unary(path, request_type, answer, page, {}, timeout, True), first, items)

    def stream(
        self,
        path: str,
        request_type: type[Message],
        answer: type[Answer],
        request: Message | None,
        fields: dict[str, Any],
        timeout: float | None,
    ) -> Stream[Answer]:
        self._process.check()
        message = self.build(request_type, request, fields)
        return Stream(self._method(path, "unary_stream", answer)(message, metadata=self._metadata(), timeout=timeout))


class Pages(Generic[Item, Answer]):
    """What a list has, over all its pages: `for account in client.accounts.list_accounts(): …`.

    A page is asked for when it is needed. `pages()` gives the answers themselves.
    """

    def __init__(self, call: Callable[[Message], Answer], request: Message, items: str) -> None:
        self._call, self._request, self._items = call, request, items

    def __iter__(self) -> Iterator[Item]:
        for page in self.pages():
            yield from getattr(page, self._items)

    def pages(self) -> Iterator[Answer]:
        request = type(self._request)()
        request.CopyFrom(self._request)
        while True:
            page = self._call(request)
            yield page
            following = page.next_page_token  # type: ignore[attr-defined]
            if not following:
                return
            if following == request.page_token:  # type: ignore[attr-defined]
                raise CountersignError("INTERNAL", "the server gave the same page again")
            request.page_token = following  # type: ignore[attr-defined]


class Stream(Generic[Answer]):
    """The messages of a stream, until it ends; `cancel()` ends it from another thread."""

    def __init__(self, call: Any) -> None:
        self._stream = call
        self._cancelled = False

    def __iter__(self) -> Iterator[Answer]:
        try:
            yield from self._stream
        except grpc.RpcError as failed:
            if not self._cancelled:
                raise CountersignError.from_rpc(failed) from None

    def cancel(self) -> None:
        self._cancelled = True
        self._stream.cancel()


def _value(value: Any) -> Any:
    if isinstance(value, datetime.timedelta):
        microseconds = value // datetime.timedelta(microseconds=1)
        return {"seconds": microseconds // 1_000_000, "nanos": microseconds % 1_000_000 * 1000}
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone: datetime.now(UTC)")
        return _value(value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
    return value
