"""Reads a JWT and checks its signature, with keys that say themselves what they are for."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from countersign.errors import VerificationError

LONGEST = 16 * 1024
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]+")
_ALGORITHMS = get_default_algorithms()
_TYPES = {"EdDSA": "OKP", "ES256": "EC", "RS256": "RSA"}


@dataclass(frozen=True)
class Key:
    """A key of the set, with the one algorithm that it verifies."""

    kid: str
    alg: str
    algorithm: Algorithm
    public: Any

    def verify(self, message: bytes, signature: bytes) -> bool:
        return self.algorithm.verify(message, self.public, signature)


def keys_of(given: Iterable[Mapping[str, Any]]) -> dict[str, Key]:
    """The keys by id; those of a kind that is not known are left out."""
    found = {}
    for jwk in given:
        if key := key_of(jwk):
            found[key.kid] = key
    return found


def key_of(jwk: Any) -> Key | None:
    if not isinstance(jwk, Mapping):
        return None
    kid, alg = jwk.get("kid"), jwk.get("alg")
    if not isinstance(kid, str) or not kid or not isinstance(alg, str) or jwk.get("use", "sig") != "sig":
        return None
    if _TYPES.get(alg) is None or jwk.get("kty") != _TYPES[alg] or "d" in jwk:
        return None
    try:
        public = _ALGORITHMS[alg].from_jwk(dict(jwk))
    except (PyJWTError, ValueError, KeyError, TypeError):
        return None
    good = {
        "EdDSA": isinstance(public, ed25519.Ed25519PublicKey),
        "ES256": isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1),
        "RS256": isinstance(public, rsa.RSAPublicKey) and public.key_size >= 2048,
    }
    return Key(kid, alg, _ALGORITHMS[alg], public) if good[alg] else None


@dataclass(frozen=True)
class Parsed:
    """A JWT of the right form, of which nothing is verified yet."""

    kid: str
    alg: Any
    claims: dict[str, Any]
    message: bytes
    signature: bytes


def parse(token: str) -> Parsed:
    """The parts of a JWT, or what is wrong with its form or header."""
    if len(token) > LONGEST:
        raise invalid("format", "longer than 16 KiB")
    try:
        message, _, last = token.encode("ascii").rpartition(b".")
        first, dot, second = message.partition(b".")
        if not dot:
            raise ValueError("not three parts")
        header, claims = _object(first), _object(second)
        signature = _decode(last) if last else b""
    except (ValueError, RecursionError):
        raise invalid("format", "this is no JWT") from None
    if header.get("typ") != "at+jwt":
        raise invalid("typ", "not an access token")
    if "crit" in header:
        raise invalid("crit", "the header has crit")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise invalid("kid", "no key is named")
    return Parsed(kid, header.get("alg"), claims, message, signature)


def _object(part: bytes) -> dict[str, Any]:
    parsed = json.loads(_decode(part))
    if not isinstance(parsed, dict):
        raise ValueError("no object")
    return parsed


def _decode(part: bytes) -> bytes:
    if not _BASE64URL.fullmatch(part):
        raise ValueError("no base64url")
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError("no base64url") from error


def invalid(check: str, message: str) -> VerificationError:
    return VerificationError("ACCESS_TOKEN_INVALID", check, message)
