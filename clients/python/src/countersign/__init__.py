"""Client of Countersign: token sources, offline verification of JWTs, interceptors, and its API."""

from countersign._call import Pages
from countersign._clock import Clock, SystemClock
from countersign.asgi import Middleware, Route
from countersign.claims import Claims, allows
from countersign.client import Client
from countersign.credentials import AssertionFile, Credential, Key, Secret, TokenFile
from countersign.errors import CountersignError, ForkedError, VerificationError, Violation
from countersign.interceptor import AioInterceptor, Interceptor, Rule, current_claims
from countersign.token_source import AccessToken, TokenSource
from countersign.verifier import Verifier

__version__ = "0.1.0"
__all__ = [
    "AccessToken",
    "AioInterceptor",
    "AssertionFile",
    "Claims",
    "Client",
    "Clock",
    "CountersignError",
    "Credential",
    "ForkedError",
    "Interceptor",
    "Key",
    "Middleware",
    "Pages",
    "Route",
    "Rule",
    "Secret",
    "SystemClock",
    "TokenFile",
    "TokenSource",
    "VerificationError",
    "Verifier",
    "Violation",
    "allows",
    "current_claims",
]
