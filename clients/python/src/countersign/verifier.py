"""A verifier: checks JWTs without a network call, and hears when they end."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import random
import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import grpc
from countersign import _http, _jws
from countersign._call import Backoff
from countersign._channel import Endpoint, OwnProcess
from countersign._clock import Clock, SystemClock
from countersign._jws import invalid
from countersign._state import State
from countersign.claims import Claims
from countersign.credentials import Credential, Key, credential_of, from_environment
from countersign.errors import CountersignError, VerificationError
from countersign.token_source import TokenSource
from countersign.v1 import token_service_pb2

log = logging.getLogger("countersign")

SERVICE = "/countersign.v1.TokenService/"
LEEWAY = 60
REQUIRED = ("iss", "sub", "jti", "client_id", "org")
LARGEST_SET = 1024 * 1024
# At an unknown kid the set is fetched at most this often.
FETCH_INTERVAL = 30.0
FETCH_TIMEOUT = 5.0
ACKNOWLEDGE_INTERVAL = 25.0
# Checkpoints come each 5 s: a stream that is this silent is dead, whatever TCP says.
SILENCE = 12.0
# The first verification waits at most this long for the first checkpoint.
FIRST_WAIT = 5.0
# Of a key set without a stream: max-age of the server's.
KEY_SET_LIFE = 300.0


class Verifier:
    """Verifies JWTs of one issuer.

    With `revocation="stream"`, the default, it keeps the key set and the revocations by `WatchRevocations`, and
    refuses everything (`VERIFIER_STALE`) while it has not heard from the server for `staleness` seconds.
    `open_for` goes on for that long instead, at most an hour, and never with a revoked key. `revocation="none"` keeps
    the key set alone: a JWT is then good until it expires.

    Made for all threads of one process; it starts at its first use. A process that forks afterwards makes one in each
    child.
    """

    def __init__(
        self,
        endpoint: str | None,
        credential: Credential | TokenSource | str | None,
        issuer: str,
        *,
        revocation: str = "stream",
        staleness: float | None = None,
        open_for: float | None = None,
        org_ids: Iterable[str] = (),
        verifier_name: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        allow_plaintext: bool = False,
        max_revocations: int = 1_000_000,
        clock: Clock | None = None,
    ) -> None:
        if revocation not in ("stream", "none"):
            raise ValueError('revocation is "stream" or "none"')
        if endpoint is not None and revocation == "stream" and credential is None:
            raise ValueError('the stream needs a credential with tokens.introspect; revocation="none" needs none')
        self._issuer = issuer
        self._streams = revocation == "stream"
        self._clock = clock or SystemClock()
        if staleness is None:
            staleness = 30.0 if self._streams else KEY_SET_LIFE
        self._state = State(self._clock, staleness, open_for, max_revocations)
        self._endpoint = (
            Endpoint.parse(endpoint, ca_file=ca_file, allow_plaintext=allow_plaintext) if endpoint else None
        )
        self._own_source: TokenSource | None = None
        self._source: TokenSource | None = None
        if endpoint is not None and self._streams and credential is not None:
            if isinstance(credential, TokenSource):
                self._source = credential
            else:
                credential = credential_of(credential)
                if isinstance(credential, Key):
                    credential = credential.for_issuer(issuer)
                self._source = self._own_source = TokenSource(
                    endpoint, credential, ca_file=ca_file, allow_plaintext=allow_plaintext
                )
        self._org_ids = tuple(org_ids)
        self._name = (verifier_name or f"{socket.gethostname()}-{os.getpid()}")[:100]
        self._process = OwnProcess("verifier")
        self._lock = threading.Lock()
        self._started = False
        self._closed = threading.Event()
        self._ready = threading.Event()
        self._acknowledge = threading.Event()
        self._wait_until = 0.0
        self._fetching = threading.Lock()
        self._fetched_at: float | None = None
        self._call: Any = None
        self._heard_at = 0.0
        self._channel: grpc.Channel | None = None
        #: How often the key set was fetched beside the stream.
        self.key_set_fetches = 0
        #: Why the stream is not there; None while it is.
        self.last_error: CountersignError | None = None

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """By `COUNTERSIGN_ENDPOINT`, `COUNTERSIGN_TOKEN_FILE` or `COUNTERSIGN_TOKEN`, `COUNTERSIGN_ISSUER` (default:
        the endpoint) and `COUNTERSIGN_CA_FILE`."""
        endpoint = os.environ["COUNTERSIGN_ENDPOINT"]
        options.setdefault("ca_file", os.environ.get("COUNTERSIGN_CA_FILE"))
        credential = None if options.get("revocation") == "none" else from_environment()
        return cls(endpoint, credential, os.environ.get("COUNTERSIGN_ISSUER", endpoint), **options)

    @classmethod
    def offline(cls, issuer: str, **options: Any) -> Self:
        """Without a server, for tests: `feed` gives it what the stream would bring."""
        return cls(None, None, issuer, **options)

    # What services use.

    def verify(
        self,
        token: str,
        audience: str,
        orgs: str | Iterable[str] | None = None,
        *,
        certificate_thumbprint: str | None = None,
    ) -> Claims:
        """The claims of a good JWT; a `VerificationError` for any other.

        `orgs`: the tenants that the request may be about; None = any. `certificate_thumbprint`: the `x5t#S256` of the
        client certificate of the connection on which the JWT came.
        """
        self._begin()
        if self._wait_needed():
            self._ready.wait(max(self._wait_until - self._clock.monotonic(), 0.0))
        parsed = self._parse(token)
        key = self._state.keys.get(parsed.kid)
        if key is None and self._may_fetch(parsed.kid):
            self._fetch(unknown=True)
            key = self._state.keys.get(parsed.kid)
        return self._check(parsed, key, audience, orgs, certificate_thumbprint)

    async def verify_async(
        self,
        token: str,
        audience: str,
        orgs: str | Iterable[str] | None = None,
        *,
        certificate_thumbprint: str | None = None,
    ) -> Claims:
        """As `verify`, without blocking the event loop where it has to wait."""
        self._begin()
        if self._wait_needed():
            await asyncio.to_thread(self._ready.wait, max(self._wait_until - self._clock.monotonic(), 0.0))
        parsed = self._parse(token)
        key = self._state.keys.get(parsed.kid)
        if key is None and self._may_fetch(parsed.kid):
            await asyncio.to_thread(self._fetch, unknown=True)
            key = self._state.keys.get(parsed.kid)
        return self._check(parsed, key, audience, orgs, certificate_thumbprint)

    def wait_until_ready(self, timeout: float = 10.0) -> bool:
        """Starts, and waits for the first checkpoint; false where it did not come."""
        self._begin()
        return self._ready.wait(timeout)

    @property
    def issuer(self) -> str:
        return self._issuer

    @property
    def fresh(self) -> bool:
        """Whether it knows what has ended: for a readiness probe."""
        return self._state.fresh

    @property
    def state(self) -> State:
        """What it has heard, for metrics and tests."""
        return self._state

    def feed(self, item: token_service_pb2.WatchRevocationsResponse) -> None:
        """What the stream brings. Of tests, and of the thread that reads it."""
        kind = self._state.take(item)
        if kind == "key_set":
            self._acknowledge.set()
        elif kind == "checkpoint":
            self._ready.set()

    def close(self) -> None:
        self._closed.set()
        self._acknowledge.set()
        self._ready.set()
        with self._lock:
            call, channel = self._call, self._channel
        if call is not None:
            call.cancel()
        if channel is not None:
            channel.close()
        if self._own_source is not None:
            self._own_source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # The checks.

    def _parse(self, token: str) -> _jws.Parsed:
        parsed = _jws.parse(token)
        if self._streams or self._state.age is not None:
            self._state.require_fresh()
        return parsed

    def _check(
        self,
        parsed: _jws.Parsed,
        key: _jws.Key | None,
        audience: str,
        orgs: str | Iterable[str] | None,
        thumbprint: str | None,
    ) -> Claims:
        if key is None or self._state.is_revoked_key(parsed.kid):
            if not self._streams and self._state.age is None:
                raise VerificationError("VERIFIER_STALE", "fresh", "the key set could not be fetched")
            raise invalid("kid", "no key of the issuer")
        if parsed.alg != key.alg:
            raise invalid("alg", "not the algorithm of the key")
        if not key.verify(parsed.message, parsed.signature):
            raise invalid("signature", "the signature does not match")
        claims = parsed.claims
        self._check_types(claims)
        if claims["iss"] != self._issuer:
            raise invalid("iss", "another issuer")
        meant = claims["aud"]
        if audience not in ([meant] if isinstance(meant, str) else meant):
            raise invalid("aud", "another audience")
        now = self._clock.wall()
        if claims["exp"] <= now:
            raise invalid("exp", "expired")
        for name in ("nbf", "iat"):
            if claims[name] > now + LEEWAY:
                raise invalid(name, "not good yet")
        if "act" in claims:
            raise invalid("act", "made by impersonation, for the issuer alone")
        if "cnf" in claims:
            check_confirmation(claims["cnf"], thumbprint)
        if orgs is not None and claims["org"] not in ([orgs] if isinstance(orgs, str) else orgs):
            raise invalid("org", "another org")
        if self._streams:
            self._state.check(claims)
        return Claims(claims)

    def _check_types(self, claims: dict[str, Any]) -> None:
        for name in REQUIRED:
            value = claims.get(name)
            if not isinstance(value, str) or not value:
                raise invalid("claims", f"{name} is missing or no string")
        meant = claims.get("aud")
        if not (isinstance(meant, str) or isinstance(meant, list) and all(isinstance(each, str) for each in meant)):
            raise invalid("claims", "aud is missing or no string or strings")
        numbers = ["exp", "iat", "nbf"]
        if self._streams:
            numbers += ["org_ver", "acct_ver"]
            # What is none of these could not be heard to end.
            if not claims["client_id"].startswith(("tok_", "ses_", "fed_")):
                raise invalid("claims", "client_id is neither a token nor a session nor a federation rule")
        for name, prefix in (("secret", "tok_"), ("rule_ver", "fed_")):
            is_its = claims["client_id"].startswith(prefix)
            if name in claims and not is_its:
                raise invalid("claims", f"{name} is of another kind of credential")
            # Without it, its end could not be heard.
            if name in claims or self._streams and is_its:
                numbers.append(name)
        for name in numbers:
            value = claims.get(name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise invalid("claims", f"{name} is missing or no integer")
        if claims.get("rule_ver", 1) < 1:
            raise invalid("claims", "rule_ver is no version")
        if not isinstance(claims.get("scope", ""), str):
            raise invalid("claims", "scope is no string")
        details = claims.get("authorization_details", [])
        if not isinstance(details, list) or not all(isinstance(detail, dict) for detail in details):
            raise invalid("claims", "authorization_details is no list of objects")

    # In the background.

    def _begin(self) -> None:
        self._process.check()
        if self._started:
            return
        with self._lock:
            if self._started:
                return
            if self._closed.is_set():
                raise RuntimeError("the verifier is closed")
            self._started = True
            if self._endpoint is None:
                return
            self._wait_until = self._clock.monotonic() + FIRST_WAIT
            self._channel = self._connect()
            jobs = (self._watch, self._report) if self._streams else (self._refresh,)
            for job in jobs:
                name = f"countersign-{job.__name__.strip('_')}"
                threading.Thread(target=job, name=name, daemon=True).start()

    def _connect(self) -> grpc.Channel:
        assert self._endpoint is not None
        return self._endpoint.channel([("grpc.max_receive_message_length", LARGEST_SET)])

    def _wait_needed(self) -> bool:
        return not self._ready.is_set() and self._endpoint is not None and self._clock.monotonic() < self._wait_until

    def _may_fetch(self, kid: str) -> bool:
        if self._endpoint is None or self._state.is_revoked_key(kid):
            return False
        fetched_at = self._fetched_at
        # A fetch that is going on is waited for.
        recent = fetched_at is not None and self._clock.monotonic() - fetched_at < FETCH_INTERVAL
        return not recent or self._fetching.locked()

    def _method(self, name: str, kind: str, answer: Any) -> Any:
        assert self._channel is not None
        return getattr(self._channel, kind)(
            SERVICE + name,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def _bearer(self) -> list[tuple[str, str]]:
        assert self._source is not None
        return [("authorization", f"Bearer {self._source.bearer()}")]

    def _watch(self) -> None:
        """Reads the stream, and begins again when it ends."""
        backoff = Backoff(longest=5.0)
        while not self._closed.is_set():
            error: CountersignError | None = None
            try:
                self._read(backoff)
            except grpc.RpcError as failed:
                error = CountersignError.from_rpc(failed)
            except CountersignError as failed:
                error = failed
            except Exception as failed:
                log.exception("watching failed by a fault of the client library")
                error = CountersignError("INTERNAL", type(failed).__name__)
            if self._closed.is_set():
                return
            self._state.cut(error)
            self.last_error = error
            # In good order: the connection was old, or the server goes.
            wait = random.uniform(0.0, 0.5) if error is None else backoff.next(error)
            if error is not None and error.reason == "CURSOR_EXPIRED":
                wait = min(wait, 0.5)
            if error is not None:
                log.warning("stream of revocations ended: %s; again in %.1f s", error.reason or error.code, wait)
            self._closed.wait(wait)

    def _read(self, backoff: Backoff) -> None:
        request = token_service_pb2.WatchRevocationsRequest(
            cursor=self._state.cursor, org_ids=self._org_ids, verifier_name=self._name
        )
        method = self._method("WatchRevocations", "unary_stream", token_service_pb2.WatchRevocationsResponse)
        bearer = self._bearer()
        with self._lock:
            if self._closed.is_set():
                return
            self._heard_at = self._clock.monotonic()
            try:
                call = self._call = method(request, metadata=bearer)
            except ValueError:  # of a channel that was replaced meanwhile
                raise CountersignError("UNAVAILABLE", "the connection was replaced") from None
        for item in call:
            self._heard_at = self._clock.monotonic()
            self.feed(item)
            if item.HasField("checkpoint"):
                self.last_error = None
                backoff.reset()

    def _report(self) -> None:
        """Acknowledges what is held, and ends a stream that is silent."""
        acknowledged_at = -1e9
        while not self._closed.is_set():
            due = self._acknowledge.wait(1.0)
            if self._closed.is_set():
                return
            now = self._clock.monotonic()
            if now - self._heard_at > SILENCE and self._call is not None:
                self._heard_at = now
                self._reconnect()
            if not due and now - acknowledged_at < ACKNOWLEDGE_INTERVAL:
                continue
            self._acknowledge.clear()
            if self._state.age is None and not self._state.keys:
                continue
            acknowledged_at = now
            request = token_service_pb2.AcknowledgeRevocationsRequest(
                verifier_name=self._name, cursor=self._state.cursor, held_key_ids=sorted(self._state.keys)[:20]
            )
            answer = token_service_pb2.AcknowledgeRevocationsResponse
            try:
                method = self._method("AcknowledgeRevocations", "unary_unary", answer)
                method(request, metadata=self._bearer(), timeout=FETCH_TIMEOUT)
            except (grpc.RpcError, CountersignError, ValueError) as failed:
                error = CountersignError.from_rpc(failed) if isinstance(failed, grpc.RpcError) else failed
                log.debug("acknowledgement failed: %s", error)

    def _reconnect(self) -> None:
        """Another connection: the one of before may lead nowhere, and not say so."""
        log.warning("stream of revocations is silent: connecting anew")
        with self._lock:
            if self._closed.is_set():
                return
            before, self._channel = self._channel, self._connect()
        # Ends the stream, too.
        if before is not None:
            before.close()

    def _refresh(self) -> None:
        """Without a stream: keeps the key set."""
        backoff = Backoff()
        while not self._closed.is_set():
            if self._fetch(unknown=False):
                backoff.reset()
                wait = KEY_SET_LIFE / 2
            else:
                wait = backoff.next()
            self._closed.wait(wait)

    def _fetch(self, unknown: bool) -> bool:
        """Fetches the key set, one at a time; who waited for another's does not fetch again."""
        asked_at = self._clock.monotonic()
        with self._fetching:
            now = self._clock.monotonic()
            if unknown:
                if self._fetched_at is not None and now - self._fetched_at < FETCH_INTERVAL:
                    return False
                self._fetched_at = now
            elif self._fetched_at is not None and self._fetched_at > asked_at:
                return True
            self.key_set_fetches += 1
            try:
                keys = self._fetch_keys()
            except (CountersignError, grpc.RpcError, ValueError, RecursionError) as error:
                log.warning("key set could not be fetched: %s", type(error).__name__)
                return False
            self._state.set_keys(keys)
            if not self._streams:
                self._state.checkpoint("", self._clock.wall(), 0.0)
                self._ready.set()
            return True

    def _fetch_keys(self) -> list[dict[str, Any]]:
        if self._streams:
            method = self._method("GetJsonWebKeySet", "unary_unary", token_service_pb2.GetJsonWebKeySetResponse)
            answer = method(token_service_pb2.GetJsonWebKeySetRequest(), timeout=FETCH_TIMEOUT)
            return [{field.name: value for field, value in key.ListFields()} for key in answer.keys]
        assert self._endpoint is not None
        headers = {"accept": "application/json"}
        status, _, body = _http.request(
            self._endpoint, "GET", "/.well-known/jwks.json", headers, None, FETCH_TIMEOUT, LARGEST_SET
        )
        if status != 200:
            raise ValueError("no key set")
        parsed = json.loads(body)
        if not isinstance(parsed, dict) or not isinstance(parsed.get("keys"), list):
            raise ValueError("no key set")
        return parsed["keys"]  # type: ignore[no-any-return]


def check_confirmation(confirmation: Any, thumbprint: str | None) -> None:
    """A JWT that is bound to a certificate is good with that one alone, and refused where it cannot be compared."""
    named = confirmation.get("x5t#S256") if isinstance(confirmation, dict) and len(confirmation) == 1 else None
    if not isinstance(named, str) or thumbprint is None:
        raise VerificationError("CLIENT_CERTIFICATE_NOT_ALLOWED", "cnf", "bound to a certificate that is not compared")
    if not hmac.compare_digest(named.encode(), thumbprint.encode()):
        raise VerificationError("CLIENT_CERTIFICATE_NOT_ALLOWED", "cnf", "bound to another certificate")
