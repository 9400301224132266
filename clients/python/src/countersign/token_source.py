"""A token source: exchanges a credential for JWTs, and keeps them fresh."""

from __future__ import annotations

import asyncio
import base64
import binascii
import copy
import json
import logging
import os
import random
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from countersign import _http
from countersign._call import Backoff
from countersign._channel import Endpoint, OwnProcess
from countersign._clock import Clock, SystemClock
from countersign.credentials import Credential, Key, Subject, credential_of, from_environment
from countersign.errors import FINAL, LIFTABLE, CountersignError
from countersign.v1 import token_service_pb2

log = logging.getLogger("countersign")

EXCHANGE = "/countersign.v1.TokenService/ExchangeToken"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
# For one request to the server.
REQUEST_TIMEOUT = 10.0
LARGEST_ANSWER = 64 * 1024
# How often a file is asked whether it has changed, for the JWTs that are kept.
FILE_INTERVAL = 5.0
Names = str | Iterable[str]
_Key = tuple[tuple[str, ...], tuple[str, ...], float | None]


@dataclass(frozen=True, repr=False)
class AccessToken:
    """A JWT that the source got."""

    text: str
    #: Unix time.
    expire_time: float
    scopes: tuple[str, ...]


class _Entry:
    """What is known for one set of audiences and scopes. Times are of the monotonic clock."""

    def __init__(self, now: float) -> None:
        self.token: AccessToken | None = None
        self.expires_at = 0.0
        self.refresh_at = 0.0
        self.fetched_at = 0.0
        self.used_at = now
        self.flight: _Flight | None = None


class _Flight:
    """One exchange, with its retries, and who waits for it."""

    def __init__(self, probe: bool) -> None:
        self.future: Future[AccessToken] = Future()
        self.waiters = 0
        self.last_error: CountersignError | None = None
        # The one that asks again after a reason that may have been lifted.
        self.probe = probe


@dataclass
class _Ended:
    """The final reason, for this version of the credential."""

    error: CountersignError
    version: object
    again_at: float
    wait: float


class TokenSource:
    """Gives JWTs for a credential.

    Caches by audiences and scopes; refreshes ahead of expiry in the background; makes one exchange at a time for
    each; goes on with what it has while the server is away; and stops at a reason that is final. Made for all threads
    of one process: one that forks makes it in each child.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Credential | str,
        *,
        transport: str = "grpc",
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        allow_plaintext: bool = False,
        max_entries: int = 1000,
        clock: Clock | None = None,
    ) -> None:
        if transport not in ("grpc", "http"):
            raise ValueError("transport is grpc or http")
        self._endpoint = Endpoint.parse(
            endpoint, ca_file=ca_file, cert_file=cert_file, key_file=key_file, allow_plaintext=allow_plaintext
        )
        credential = credential_of(credential)
        self._credential = credential.for_issuer(self._endpoint.url) if isinstance(credential, Key) else credential
        self._http = transport == "http"
        self._max_entries = max_entries
        self._clock = clock or SystemClock()
        self._process = OwnProcess("token source")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._entries: dict[_Key, _Entry] = {}
        self._ended: _Ended | None = None
        self._closed = False
        self._backoff = Backoff()
        self._not_before = 0.0
        self._last_error: CountersignError | None = None
        self._keeper: threading.Thread | None = None
        self._channel: grpc.Channel | None = None
        #: How many exchanges were sent.
        self.exchanges = 0

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """By `COUNTERSIGN_ENDPOINT`, `COUNTERSIGN_TOKEN_FILE` or `COUNTERSIGN_TOKEN`, and `COUNTERSIGN_CA_FILE`."""
        options.setdefault("ca_file", os.environ.get("COUNTERSIGN_CA_FILE"))
        return cls(os.environ["COUNTERSIGN_ENDPOINT"], from_environment(), **options)

    # What callers use.

    def get(
        self, audiences: Names = (), scopes: Names = (), *, ttl: float | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> str:
        """A JWT for these audiences (none: for Countersign's own API) with these permissions (none: all held)."""
        return self.get_token(audiences, scopes, ttl=ttl, timeout=timeout).text

    def get_token(
        self, audiences: Names = (), scopes: Names = (), *, ttl: float | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> AccessToken:
        """As `get`, with the time at which it ends."""
        found = self._find(audiences, scopes, ttl)
        if isinstance(found, AccessToken):
            return found
        try:
            return found.future.result(timeout)
        except CountersignError as error:
            raise copy.copy(error) from None
        except FutureTimeout:
            self._late(found)
        finally:
            self._leave(found)

    async def get_async(
        self, audiences: Names = (), scopes: Names = (), *, ttl: float | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> str:
        """As `get`, without blocking the event loop."""
        found = self._find(audiences, scopes, ttl)
        if isinstance(found, AccessToken):
            return found.text
        try:
            # Shielded: that this caller goes away ends nothing for the others.
            waiting = asyncio.shield(asyncio.wrap_future(found.future))
            return (await asyncio.wait_for(waiting, timeout)).text
        except CountersignError as error:
            raise copy.copy(error) from None
        except TimeoutError:
            self._late(found)
        finally:
            self._leave(found)

    def bearer(self) -> str:
        """What authenticates a call of Countersign's own API: the token itself, or a JWT for it."""
        return self._credential.bearer() or self.get()

    def call_credentials(self, audiences: Names, scopes: Names = ()) -> grpc.CallCredentials:
        """For calls of an encrypted gRPC channel."""
        return grpc.metadata_call_credentials(_Plugin(self, _names(audiences), _names(scopes)))

    def interceptor(self, audiences: Names, scopes: Names = ()) -> Interceptor:
        """For `grpc.intercept_channel`, also of a channel that is not encrypted."""
        return Interceptor(self, _names(audiences), _names(scopes))

    def aio_interceptors(self, audiences: Names, scopes: Names = ()) -> list[grpc.aio.ClientInterceptor]:
        """For `grpc.aio.secure_channel(…, interceptors=…)`."""
        return [kind(self, _names(audiences), _names(scopes)) for kind in (_AioUnaryUnary, _AioUnaryStream)]

    def auth(self, audiences: Names, scopes: Names = ()) -> Callable[[Any], Any]:
        """For `auth=` of requests and of httpx."""
        audiences, scopes = _names(audiences), _names(scopes)

        def authorize(request: Any) -> Any:
            request.headers["Authorization"] = f"Bearer {self.get(audiences, scopes)}"
            return request

        return authorize

    @property
    def cached(self) -> int:
        """How many JWTs are kept."""
        return sum(entry.token is not None for entry in list(self._entries.values()))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._entries.clear()
            self._changed.notify_all()
            channel, self._channel = self._channel, None
        if channel:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # How it works.

    def _find(self, audiences: Names, scopes: Names, ttl: float | None) -> AccessToken | _Flight:
        """What is kept; or the exchange to wait for."""
        self._process.check()
        key: _Key = (_names(audiences), _names(scopes), ttl)
        now = self._clock.monotonic()
        entry = self._entries.get(key)
        if entry is not None:
            token = entry.token
            if token is not None and now < entry.expires_at:
                entry.used_at = now
                return token
        with self._lock:
            if self._closed:
                raise RuntimeError("the token source is closed")
            probe = self._may_ask(now)
            entry = self._entries.get(key)
            if entry is None:
                self._make_room()
                entry = self._entries[key] = _Entry(now)
            entry.used_at = now
            if entry.token is not None and now < entry.expires_at:
                return entry.token
            flight = entry.flight or self._fly(key, entry, probe)
            flight.waiters += 1
            return flight

    def _may_ask(self, now: float) -> bool:
        """Raises the final reason; true where this is the call that finds out whether it was lifted."""
        ended = self._ended
        if ended is None:
            return False
        if self._credential.version() != ended.version:
            self._ended = None
            return False
        if ended.error.reason in LIFTABLE and now >= ended.again_at:
            ended.wait = min(ended.wait * 2, 60.0)
            ended.again_at = now + ended.wait
            return True
        raise copy.copy(ended.error)

    def _make_room(self) -> None:
        while len(self._entries) >= self._max_entries:
            idle = [key for key, entry in self._entries.items() if entry.flight is None]
            # Where all are asked for at this moment there is one more for that long.
            if not idle:
                return
            del self._entries[min(idle, key=lambda key: self._entries[key].used_at)]

    def _fly(self, key: _Key, entry: _Entry, probe: bool = False) -> _Flight:
        flight = entry.flight = _Flight(probe)
        if self._clock.monotonic() < self._not_before:
            # A caller that gives up before the next request learns how the last one failed.
            flight.last_error = self._last_error
        threading.Thread(target=self._run, args=(key, entry, flight), name="countersign-exchange", daemon=True).start()
        return flight

    def _late(self, flight: _Flight) -> NoReturn:
        if flight.last_error:
            raise copy.copy(flight.last_error) from None
        raise CountersignError("UNAVAILABLE", "the server did not answer in time") from None

    def _leave(self, flight: _Flight) -> None:
        with self._lock:
            flight.waiters -= 1
            self._changed.notify_all()

    def _run(self, key: _Key, entry: _Entry, flight: _Flight) -> None:
        """The exchange, until it succeeds, fails for good, or nothing needs it any more."""
        outcome: AccessToken | CountersignError
        try:
            outcome = self._until_done(key, entry, flight)
        except BaseException as error:  # a fault of ours must not leave callers waiting
            log.exception("exchange failed by a fault of the client library")
            outcome = CountersignError("INTERNAL", f"{type(error).__name__} in the client library")
        with self._lock:
            entry.flight = None
            self._changed.notify_all()
        if isinstance(outcome, AccessToken):
            flight.future.set_result(outcome)
        else:
            flight.future.set_exception(outcome)

    def _until_done(self, key: _Key, entry: _Entry, flight: _Flight) -> AccessToken | CountersignError:
        while True:
            if stop := self._wait_for_turn(entry, flight):
                return stop
            error = self._try(key, entry)
            if isinstance(error, AccessToken):
                return error
            flight.last_error = error
            if error.retryable:
                with self._lock:
                    self._last_error = error
                    wait = self._backoff.next(error)
                    self._not_before = max(self._not_before, self._clock.monotonic() + wait)
                log.warning("exchange failed: %s; asking again in %.1f s", error.reason or error.code, wait)
                continue
            with self._lock:
                if entry.token is not None:
                    # What is kept serves on; not asked for at once again.
                    entry.refresh_at = self._clock.monotonic() + self._backoff.next(error)
            return error

    def _wait_for_turn(self, entry: _Entry, flight: _Flight) -> CountersignError | None:
        """Waits out the backoff; an error where the exchange is not to be made any more."""
        with self._lock:
            while True:
                if self._closed:
                    return CountersignError("UNAVAILABLE", "the token source was closed")
                if self._ended and not flight.probe:
                    return self._ended.error
                now = self._clock.monotonic()
                if flight.waiters == 0 and now >= entry.expires_at and flight.last_error:
                    return flight.last_error
                if now >= self._not_before:
                    return None
                self._changed.wait(min(self._not_before - now, 1.0))

    def _try(self, key: _Key, entry: _Entry) -> AccessToken | CountersignError:
        """One request."""
        version: object = None
        try:
            version = self._credential.version()
            subject = self._credential.subject()
            began = self._clock.monotonic()
            with self._lock:
                self.exchanges += 1
            exchange = self._over_http if self._http else self._over_grpc
            token, life = exchange(subject, key)
        except CountersignError as error:
            if error.reason in FINAL and not error.retryable:
                return self._end(error, version)
            return error
        now = self._clock.monotonic()
        if now >= began + life:
            return CountersignError("UNAVAILABLE", "the answer took longer than the JWT lives", retryable=True)
        with self._lock:
            self._ended = None
            self._backoff.reset()
            self._not_before = 0.0
            entry.token, entry.fetched_at = token, now
            entry.expires_at = began + life
            entry.refresh_at = began + life * (2 / 3) * random.uniform(0.9, 1.1)
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="countersign-tokens", daemon=True)
                self._keeper.start()
            self._changed.notify_all()
        return token

    def _end(self, error: CountersignError, version: object) -> CountersignError:
        with self._lock:
            if self._credential.version() != version:
                # It was changed meanwhile: the new one is asked about.
                return CountersignError(error.reason, error.message, code=error.code, retryable=True)
            now = self._clock.monotonic()
            wait = self._ended.wait if self._ended else 1.0
            self._ended = _Ended(error, version, now + wait, wait)
            for key, entry in list(self._entries.items()):
                entry.token = None
                if entry.flight is None:
                    del self._entries[key]
            self._changed.notify_all()
        log.error("exchange refused for good: %s", error.reason)
        return error

    def _keep(self) -> None:
        """Refreshes what is used, forgets what has expired, and sees that a file has changed."""
        version = self._credential.version()
        look_at = self._clock.monotonic() + FILE_INTERVAL
        with self._lock:
            while not self._closed:
                now = self._clock.monotonic()
                if now >= look_at:
                    look_at = now + FILE_INTERVAL
                    if (found := self._credential.version()) != version:
                        version = found
                        log.info("credential changed: refreshing")
                        for entry in self._entries.values():
                            entry.refresh_at = min(entry.refresh_at, now + random.uniform(0, FILE_INTERVAL))
                wake_at = look_at
                for key, entry in list(self._entries.items()):
                    if entry.flight is not None or entry.token is None:
                        continue
                    if now >= entry.expires_at:
                        del self._entries[key]
                    elif now >= entry.refresh_at:
                        # What nothing has used since it came is left to expire.
                        if entry.used_at > entry.fetched_at and not self._ended:
                            self._fly(key, entry)
                        else:
                            wake_at = min(wake_at, entry.expires_at)
                            # Used again before it expires: then it is refreshed.
                            wake_at = min(wake_at, now + 1.0)
                    else:
                        wake_at = min(wake_at, entry.refresh_at)
                self._changed.wait(max(wake_at - self._clock.monotonic(), 0.01))

    def _over_grpc(self, subject: Subject, key: _Key) -> tuple[AccessToken, float]:
        audiences, scopes, ttl = key
        request = token_service_pb2.ExchangeTokenRequest(
            subject_token=subject.token,
            subject_token_type=subject.token_type,
            federation_rule_id=subject.rule_id,
            audiences=audiences,
            scopes=scopes,
        )
        if ttl is not None:
            request.requested_ttl.FromNanoseconds(int(ttl * 1e9))
        with self._lock:
            if self._closed:
                raise CountersignError("UNAVAILABLE", "the token source was closed")
            if self._channel is None:
                self._channel = self._endpoint.channel()
            channel = self._channel
        method = channel.unary_unary(
            EXCHANGE,
            request_serializer=token_service_pb2.ExchangeTokenRequest.SerializeToString,
            response_deserializer=token_service_pb2.ExchangeTokenResponse.FromString,
        )
        try:
            answer = method(request, timeout=REQUEST_TIMEOUT)
        except grpc.RpcError as error:
            raise CountersignError.from_rpc(error) from None
        except ValueError:  # of a channel that was closed
            raise CountersignError("UNAVAILABLE", "the token source was closed") from None
        if not answer.access_token:
            raise CountersignError("INTERNAL", "the answer has no token", retryable=True)
        expires = answer.expire_time.seconds
        life = _life(answer.access_token)
        if life is None:
            life = expires - self._clock.wall()
        return AccessToken(answer.access_token, expires, tuple(answer.scopes)), life

    def _over_http(self, subject: Subject, key: _Key) -> tuple[AccessToken, float]:
        audiences, scopes, ttl = key
        if subject.rule_id:
            form = [("grant_type", JWT_BEARER), ("assertion", subject.token), ("federation_rule_id", subject.rule_id)]
        else:
            form = [
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", subject.token),
                ("subject_token_type", subject.token_type),
            ]
        form += [("audience", audience) for audience in audiences]
        if scopes:
            form.append(("scope", " ".join(scopes)))
        if ttl is not None:
            form.append(("requested_ttl", str(int(ttl))))
        body = urllib.parse.urlencode(form)
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        status, found, answer = _http.request(
            self._endpoint, "POST", "/oauth2/token", headers, body, REQUEST_TIMEOUT, LARGEST_ANSWER
        )
        if status != 200:
            raise CountersignError.from_http(status, found, answer)
        try:
            parsed = json.loads(answer)
            text, life = parsed["access_token"], parsed["expires_in"]
            good = isinstance(text, str) and text and parsed["token_type"].lower() == "bearer"
            good = good and isinstance(life, int | float) and not isinstance(life, bool) and life > 0
        except (ValueError, KeyError, TypeError, AttributeError):
            good = False
        if not good:
            raise CountersignError("INTERNAL", "the answer is none of a token endpoint", retryable=True)
        granted = parsed.get("scope")
        scopes = tuple(granted.split()) if isinstance(granted, str) else ()
        return AccessToken(text, self._clock.wall() + life, scopes), float(life)


def _life(text: str) -> float | None:
    """How long a JWT lives in all, which needs no clock of ours."""
    try:
        payload = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"] - claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return None


def _names(given: Names) -> tuple[str, ...]:
    """As a set: in one order, each once."""
    return (given,) if isinstance(given, str) else tuple(sorted(set(given)))


class _Plugin(grpc.AuthMetadataPlugin):
    def __init__(self, source: TokenSource, audiences: tuple[str, ...], scopes: tuple[str, ...]) -> None:
        self._source, self._wanted = source, (audiences, scopes)

    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        try:
            found = self._source._find(*self._wanted, None)
        except (CountersignError, RuntimeError) as error:
            callback((), error)
            return
        if isinstance(found, AccessToken):
            callback((("authorization", f"Bearer {found.text}"),), None)
            return

        def done(future: Future[AccessToken]) -> None:
            self._source._leave(found)
            if error := future.exception():
                callback((), error)  # type: ignore[arg-type]
            else:
                callback((("authorization", f"Bearer {future.result().text}"),), None)

        found.future.add_done_callback(done)


class _Details(
    grpc.ClientCallDetails,
):
    def __init__(self, details: grpc.ClientCallDetails, bearer: str) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = (*(details.metadata or ()), ("authorization", f"Bearer {bearer}"))
        self.credentials = details.credentials
        self.wait_for_ready = getattr(details, "wait_for_ready", None)
        self.compression = getattr(details, "compression", None)


class Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends a JWT of a token source with each call."""

    def __init__(self, source: TokenSource, audiences: tuple[str, ...], scopes: tuple[str, ...]) -> None:
        self._source, self._wanted = source, (audiences, scopes)

    def _call(self, continuation: Any, details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(_Details(details, self._source.get(*self._wanted)), request)

    intercept_unary_unary = _call  # type: ignore[assignment]
    intercept_unary_stream = _call  # type: ignore[assignment]
    intercept_stream_unary = _call  # type: ignore[assignment]
    intercept_stream_stream = _call  # type: ignore[assignment]


class _Aio:
    def __init__(self, source: TokenSource, audiences: tuple[str, ...], scopes: tuple[str, ...]) -> None:
        self._source, self._wanted = source, (audiences, scopes)

    async def _details(self, details: Any) -> Any:
        metadata = details.metadata or grpc.aio.Metadata()
        metadata.add("authorization", f"Bearer {await self._source.get_async(*self._wanted)}")
        return grpc.aio.ClientCallDetails(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
        )


class _AioUnaryUnary(_Aio, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(await self._details(client_call_details), request)


class _AioUnaryStream(_Aio, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(await self._details(client_call_details), request)
