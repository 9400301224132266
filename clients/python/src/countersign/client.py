"""The API, with one credential."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Self

import grpc
from countersign._call import Caller
from countersign._channel import Endpoint
from countersign.credentials import Credential, credential_of, from_environment
from countersign.services import AccountService, OrgService, TokenService
from countersign.token_source import TokenSource


class Client:
    """The three services of Countersign.

    A token authenticates its calls itself; a key is exchanged for JWTs first. `org_id` goes into the requests that
    name no org: an operator's must name one.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Credential | TokenSource | str | None,
        *,
        org_id: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        place = Endpoint.parse(endpoint, ca_file=ca_file, allow_plaintext=allow_plaintext)
        self._channel: grpc.Channel = place.channel()
        self._source: TokenSource | None = None
        bearer: Any = None
        if isinstance(credential, TokenSource):
            bearer = credential.bearer
        elif credential is not None:
            self._source = TokenSource(
                endpoint, credential_of(credential), ca_file=ca_file, allow_plaintext=allow_plaintext
            )
            bearer = self._source.bearer
        caller = Caller(self._channel, bearer, org_id)
        self.accounts = AccountService(caller)
        self.orgs = OrgService(caller)
        self.tokens = TokenService(caller)

    @classmethod
    def from_env(cls, *, org_id: str | None = None) -> Self:
        """By `COUNTERSIGN_ENDPOINT`, `COUNTERSIGN_TOKEN_FILE` or `COUNTERSIGN_TOKEN`, `COUNTERSIGN_ORG_ID` and
        `COUNTERSIGN_CA_FILE`."""
        return cls(
            os.environ["COUNTERSIGN_ENDPOINT"],
            from_environment(),
            org_id=org_id or os.environ.get("COUNTERSIGN_ORG_ID"),
            ca_file=os.environ.get("COUNTERSIGN_CA_FILE"),
        )

    def close(self) -> None:
        if self._source:
            self._source.close()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
