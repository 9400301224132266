"""Where the server is, and how to reach it."""

from __future__ import annotations

import ipaddress
import os
import ssl
import threading
import urllib.parse
from dataclasses import dataclass
from typing import Any

import grpc
from countersign.errors import ForkedError

OPTIONS = [
    # A connection that leads nowhere is noticed while a call is on it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A server that is back is found within two seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # The library's own retries know the reasons.
    ("grpc.enable_retries", 0),
    # Each object has connections of its own, which it closes.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True)
class Endpoint:
    """`http://host:port` or `https://host[:port]`, with what TLS needs."""

    scheme: str
    host: str
    port: int
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        ca_file: str | os.PathLike[str] | None = None,
        cert_file: str | os.PathLike[str] | None = None,
        key_file: str | os.PathLike[str] | None = None,
        allow_plaintext: bool = False,
    ) -> Endpoint:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"an endpoint is https://host or http://host:port, and not {url!r}")
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username or parts.password:
            raise ValueError("an endpoint has neither a path nor a user, a query or a fragment")
        if parts.scheme == "http" and not (allow_plaintext or is_loopback(parts.hostname)):
            raise ValueError(
                f"{url} is not encrypted, and tokens would cross the network in the clear: use https://, or "
                "allow_plaintext=True where a mesh encrypts"
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        files = (os.fspath(file) if file else None for file in (ca_file, cert_file, key_file))
        return cls(parts.scheme, parts.hostname, port, *files)

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """As an issuer is written: without the port that is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}" + ("" if self.port == default else f":{self.port}")

    def channel(self, options: list[tuple[str, Any]] | None = None) -> grpc.Channel:
        """A new channel. The port is always in the target, which names no proxy of the environment."""
        options = OPTIONS + (options or [])
        if self.scheme == "http":
            return grpc.insecure_channel(self.authority, options)
        root, key, chain = (_read(file) for file in (self.ca_file, self.key_file, self.cert_file))
        return grpc.secure_channel(self.authority, grpc.ssl_channel_credentials(root, key, chain), options)

    def tls(self) -> ssl.SSLContext | None:
        """For HTTP; None where it is not encrypted."""
        if self.scheme == "http":
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


def _read(file: str | None) -> bytes | None:
    if file is None:
        return None
    with open(file, "rb") as opened:
        return opened.read()


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class OwnProcess:
    """Remembers the process that first used an object, and refuses any other: threads do not survive a fork."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pid: int | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        pid = os.getpid()
        if self._pid != pid:
            if self._pid is None:
                with self._lock:
                    if self._pid is None:
                        self._pid = pid
            if self._pid != pid:
                raise ForkedError(self._what)
