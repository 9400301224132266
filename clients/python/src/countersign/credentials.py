"""What a workload has to prove who it is: a secret, a file with a secret, or a private key."""

from __future__ import annotations

import copy
import os
import re
import threading
import uuid
import zlib
from dataclasses import dataclass
from typing import Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from countersign._clock import Clock, SystemClock
from countersign.errors import CountersignError

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
_TOKEN = re.compile(r"(csign_(?:sat|pub|ses)_[0-9A-Za-z]{22}_[0-9A-Za-z]{43})_([0-9A-Za-z]{6})")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Of a file; a token has 83 bytes.
_LONGEST = 16 * 1024


@dataclass(frozen=True, repr=False)
class Subject:
    """What an exchange presents."""

    token: str
    token_type: str
    #: Of an assertion of another issuer: the rule that it is for.
    rule_id: str = ""


class Credential(Protocol):
    """What a token source exchanges."""

    def subject(self) -> Subject:
        """What to present now; a `CountersignError` where there is nothing to present."""

    def bearer(self) -> str | None:
        """What authenticates a call by itself; None for a credential that has to be exchanged first."""

    def version(self) -> object:
        """Changes when the credential has changed."""


class Secret:
    """The token string of a service account: `csign_sat_…`."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        if not is_token(self._text):
            raise ValueError("this is no token: csign_…, 83 characters with its checksum")

    def __repr__(self) -> str:
        return "Secret(…)"

    def subject(self) -> Subject:
        return Subject(self._text, ACCESS_TOKEN)

    def bearer(self) -> str | None:
        return self._text

    def version(self) -> object:
        return self._text


class _File:
    """A file that is read again when it changes. What is not of the right form, such as an empty file that is being
    written, keeps what was read before."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._text: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    def _is_good(self, text: str) -> bool:
        raise NotImplementedError

    def _read(self) -> str | None:
        with self._lock:
            try:
                found = os.stat(self._path)
                seen = (found.st_mtime_ns, found.st_ino, found.st_size, found.st_dev)
                if seen == self._seen:
                    return self._text
                with open(self._path, "rb") as file:
                    text = file.read(_LONGEST + 1).decode("ascii", "replace").strip()
            except OSError:
                return self._text
            if self._is_good(text):
                # A file that is not good yet is read each time until it is.
                self._text, self._seen = text, seen
            return self._text

    def _needed(self) -> str:
        text = self._read()
        if text is None:
            raise CountersignError("CREDENTIAL_MISSING", f"{self._path} holds no credential", retryable=True)
        return text

    def version(self) -> object:
        return self._read()


class TokenFile(_File):
    """A file that holds a token string, and is read again when it changes.

    What is no token, such as an empty file that is being written, keeps the token that was read before.
    """

    def _is_good(self, text: str) -> bool:
        return is_token(text)

    def subject(self) -> Subject:
        return Subject(self._needed(), ACCESS_TOKEN)

    def bearer(self) -> str | None:
        return self._needed()

    def write(self, text: str) -> None:
        """Replaces the token, whole or not at all; for the owner alone to read."""
        if not is_token(text):
            raise ValueError("this is no token")
        beside = f"{self._path}.{uuid.uuid4().hex}"
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self._path)


class AssertionFile(_File):
    """A file with the JWT of another issuer, as a platform gives it to a workload, and the federation rule that it is
    for (`fed_…`). It is read again when it changes; what is no JWT keeps the one before."""

    def __init__(self, path: str | os.PathLike[str], rule_id: str) -> None:
        super().__init__(path)
        self._rule_id = rule_id

    def _is_good(self, text: str) -> bool:
        return len(text) <= _LONGEST and _JWT.fullmatch(text) is not None

    def subject(self) -> Subject:
        return Subject(self._needed(), JWT, self._rule_id)

    def bearer(self) -> str | None:
        return None


class Key:
    """The private key of a token of kind `KEY`: signs an assertion for each exchange (RFC 7523).

    `issuer` is the server's, exactly, which the assertion is for: default the endpoint of the token source.
    """

    def __init__(
        self,
        token_id: str,
        key: bytes | str | os.PathLike[str],
        *,
        issuer: str | None = None,
        algorithm: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`key`: PEM as bytes, or the path of a file with it."""
        if not isinstance(key, bytes):
            with open(key, "rb") as file:
                key = file.read()
        self._token_id = token_id
        self.issuer = issuer
        self._key = load_pem_private_key(key, password=None)
        self._algorithm = algorithm or _algorithm(self._key)
        self._clock = clock or SystemClock()

    def __repr__(self) -> str:
        return f"Key({self._token_id!r}, …)"

    def for_issuer(self, issuer: str) -> Key:
        """The same key, for the issuer that it was made for, or else for this one."""
        made = copy.copy(self)
        made.issuer = self.issuer or issuer
        return made

    def subject(self) -> Subject:
        if self.issuer is None:
            raise ValueError("the key's assertions need the issuer")
        now = int(self._clock.wall())
        claims = {
            "iss": self._token_id,
            "sub": self._token_id,
            # One string: the server refuses an array.
            "aud": self.issuer,
            "iat": now,
            "exp": now + 120,
            "jti": str(uuid.uuid4()),
        }
        return Subject(jwt.encode(claims, self._key, algorithm=self._algorithm), JWT)  # type: ignore[arg-type]

    def bearer(self) -> str | None:
        return None

    def version(self) -> object:
        return self._token_id


def _algorithm(key: object) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256"
    if isinstance(key, rsa.RSAPrivateKey) and 2048 <= key.key_size <= 4096:
        return "RS256"
    raise ValueError("a key is Ed25519, P-256, or RSA of 2048 to 4096 bits")


def is_token(text: str) -> bool:
    """Whether it has the form of a token string, and its checksum."""
    found = _TOKEN.fullmatch(text)
    if not found:
        return False
    checksum = 0
    for digit in found[2]:
        checksum = checksum * 62 + _DIGITS.index(digit)
    return checksum == zlib.crc32(found[1].encode())


def from_environment(environment: os._Environ[str] | dict[str, str] | None = None) -> Credential:
    """`COUNTERSIGN_TOKEN_FILE`, or `COUNTERSIGN_TOKEN`."""
    environment = os.environ if environment is None else environment
    if path := environment.get("COUNTERSIGN_TOKEN_FILE"):
        return TokenFile(path)
    if text := environment.get("COUNTERSIGN_TOKEN"):
        return Secret(text)
    raise ValueError("neither COUNTERSIGN_TOKEN_FILE nor COUNTERSIGN_TOKEN is set")


def credential_of(given: Credential | str) -> Credential:
    """A credential, also from the text of a token."""
    return Secret(given) if isinstance(given, str) else given
