"""What a verifier has heard: keys, revocations, and when it last heard that this is all."""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from countersign import _jws
from countersign._clock import Clock
from countersign.errors import CODE_OF_REASON, CountersignError, VerificationError
from countersign.v1 import error_reason_pb2, streams_pb2, token_service_pb2

# Beyond the last moment at which a JWT can live, by two clocks: they differ.
MARGIN = 60.0
MOST_OPEN = 3600.0
# What a revocation may end up to a version.
VERSIONED = ("account_id", "org", "rule_id")


@dataclass
class _Heard:
    """One revocation. `until` is infinite where it never ends."""

    until: float
    reason: str
    min_version: int = 0


class State:
    """Written by the thread that reads the stream, read by all that verify."""

    def __init__(self, clock: Clock, staleness: float, open_for: float | None, max_revocations: int) -> None:
        if open_for is not None and not staleness <= open_for <= MOST_OPEN:
            raise ValueError("open_for is at least the staleness, and at most an hour")
        self._clock = clock
        self._staleness = staleness if open_for is None else open_for
        self._strict = staleness
        self._max = max_revocations
        self._lock = threading.Lock()
        self.keys: dict[str, _jws.Key] = {}
        self._revoked_keys: set[str] = set()
        # By kind and what it names.
        self._heard: dict[tuple[str, ...], _Heard] = {}
        self._ends: list[tuple[float, tuple[str, ...]]] = []
        # When the last checkpoint was received, its lag, and its time by the server's clock.
        self._checkpoint: tuple[float, float] | None = None
        self._server_time = 0.0
        self.cursor = ""
        # A revocation that this version does not understand, or more than it keeps: what has ended is not known.
        self._blind = ""

    # Freshness.

    @property
    def age(self) -> float | None:
        """Seconds since all changes were known; None before the first checkpoint."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return None
        received, lag = checkpoint
        return self._clock.monotonic() - received + lag

    @property
    def fresh(self) -> bool:
        age = self.age
        return age is not None and age <= self._strict and not self._blind

    def require_fresh(self) -> None:
        age = self.age
        if self._blind:
            raise stale(self._blind)
        if age is None:
            raise stale("nothing was heard from the server yet")
        if age > self._staleness:
            raise stale(f"nothing was heard from the server for {age:.0f} s")

    # The stream.

    def take(self, item: token_service_pb2.WatchRevocationsResponse) -> str:
        """Applies an item; says which kind it was."""
        kind = item.WhichOneof("item")
        if kind == "key_set":
            self.set_keys(_jwk(key) for key in item.key_set.keys)
        elif kind == "revocation":
            self._revoke(item.revocation)
        elif kind == "checkpoint":
            point = item.checkpoint
            lag = max(point.lag.seconds + point.lag.nanos / 1e9, 0.0)
            self.checkpoint(point.cursor, point.time.seconds + point.time.nanos / 1e9, lag)
        return kind or ""

    def set_keys(self, jwks: Iterable[Mapping[str, Any]]) -> None:
        keys = _jws.keys_of(jwks)
        with self._lock:
            self.keys = {kid: key for kid, key in keys.items() if kid not in self._revoked_keys}

    def checkpoint(self, cursor: str, time: float, lag: float) -> None:
        with self._lock:
            self.cursor = cursor
            self._server_time = time
            self._checkpoint = (self._clock.monotonic(), lag)
            self._forget()

    def cut(self, error: CountersignError | None) -> None:
        """The stream ended: what was heard stays."""
        if error is not None and error.reason == "CURSOR_EXPIRED":
            self.cursor = ""

    def _revoke(self, revocation: streams_pb2.Revocation) -> None:
        subject = revocation.WhichOneof("subject")
        until = math.inf
        if revocation.HasField("expire_time"):
            until = revocation.expire_time.seconds + revocation.expire_time.nanos / 1e9
        reason = _reason(revocation.reason)
        org = revocation.org_id
        with self._lock:
            match subject:
                case "key_id":
                    self._revoked_keys.add(revocation.key_id)
                    self.keys = {kid: key for kid, key in self.keys.items() if kid != revocation.key_id}
                case "token_id" | "session_id":
                    self._hear((subject, getattr(revocation, subject)), until, reason)
                case "rule_id":
                    self._hear(("rule_id", revocation.rule_id), until, reason, revocation.min_version)
                case "secret":
                    name = ("secret", revocation.secret.token_id, str(revocation.secret.number))
                    self._hear(name, until, reason)
                case "account_id":
                    self._hear(("account_id", org, revocation.account_id), until, reason, revocation.min_version)
                case "org":
                    self._hear(("org", org), until, reason, revocation.min_version)
                case _:
                    self._blind = "the server revoked something that this version of the library does not know"

    def _hear(self, name: tuple[str, ...], until: float, reason: str, min_version: int = 0) -> None:
        # Without a version: all of them.
        version = min_version if min_version > 0 or name[0] not in VERSIONED else -1
        before = self._heard.get(name)
        if before is None:
            if len(self._heard) >= self._max:
                self._blind = "more was revoked than is kept"
                return
            self._heard[name] = _Heard(until, reason, version)
            if until != math.inf:
                heapq.heappush(self._ends, (until, name))
            return
        before.until = max(before.until, until)
        if before.min_version != -1 and (version == -1 or version >= before.min_version):
            before.min_version, before.reason = version, reason
        elif version == before.min_version:
            before.reason = reason

    def _forget(self) -> None:
        now = min(self._clock.wall(), self._server_time) - MARGIN
        while self._ends and self._ends[0][0] < now:
            _, name = heapq.heappop(self._ends)
            heard = self._heard.get(name)
            if heard is None or heard.until == math.inf:
                continue
            if heard.until < now:
                del self._heard[name]
            else:
                heapq.heappush(self._ends, (heard.until, name))

    # Verification.

    @property
    def revocations(self) -> int:
        return len(self._heard) + len(self._revoked_keys)

    def is_revoked_key(self, kid: str) -> bool:
        return kid in self._revoked_keys

    def check(self, claims: Mapping[str, Any]) -> None:
        """Refuses what was revoked."""
        heard, org, client = self._heard, claims["org"], claims["client_id"]
        if not heard:
            return
        for kind, check in (("token_id", "token"), ("session_id", "session")):
            if found := heard.get((kind, client)):
                raise refused(found.reason or "TOKEN_REVOKED", check, "what it was made from has ended")
        if found := heard.get(("rule_id", client)):
            if found.min_version == -1:
                raise refused(found.reason or "TOKEN_REVOKED", "rule", "its federation rule has ended")
            if claims["rule_ver"] < found.min_version:
                raise refused(found.reason or "ACCESS_TOKEN_STALE", "rule_version", "its rule was changed since")
        secret = claims.get("secret")
        if secret is not None and (found := heard.get(("secret", client, str(secret)))):
            raise refused(found.reason or "ACCESS_TOKEN_STALE", "secret", "its secret has ended")
        if found := heard.get(("account_id", org, claims["sub"])):
            if found.min_version == -1:
                raise refused(found.reason or "ACCOUNT_DEACTIVATED", "account", "its account has ended")
            if claims["acct_ver"] < found.min_version:
                raise refused(found.reason or "ACCESS_TOKEN_STALE", "account_version", "the account was changed since")
        if found := heard.get(("org", org)):
            if found.min_version == -1:
                raise refused(found.reason or "ORG_SUSPENDED", "org_state", "its org has ended")
            if claims["org_ver"] < found.min_version:
                raise refused(found.reason or "ACCESS_TOKEN_STALE", "org_version", "the org was changed since")


def _jwk(key: token_service_pb2.JsonWebKey) -> dict[str, str]:
    return {field.name: value for field, value in key.ListFields()}


def _reason(number: int) -> str:
    """The name of a reason that a refusal may have; empty for none, and for one that is not known here."""
    try:
        name = error_reason_pb2.ErrorReason.Name(number).removeprefix("ERROR_REASON_")
    except ValueError:
        return ""
    return name if name in CODE_OF_REASON else ""


def refused(reason: str, check: str, message: str) -> VerificationError:
    return VerificationError(reason, check, message)


def stale(message: str) -> VerificationError:
    return VerificationError("VERIFIER_STALE", "fresh", message)
