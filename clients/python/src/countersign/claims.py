"""What a verified JWT says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GRANT = "countersign_grant"


class Claims:
    """The claims of a JWT that was verified. `raw` has all of them, as they stand in it."""

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return f"Claims(account_id={self.account_id!r}, org_id={self.org_id!r}, client_id={self.client_id!r})"

    @property
    def account_id(self) -> str:
        """The account that the JWT stands for: `sub`."""
        return self.raw["sub"]  # type: ignore[no-any-return]

    @property
    def org_id(self) -> str:
        return self.raw["org"]  # type: ignore[no-any-return]

    @property
    def client_id(self) -> str:
        """The token, session or federation rule that it came from."""
        return self.raw["client_id"]  # type: ignore[no-any-return]

    @property
    def expire_time(self) -> int:
        return self.raw["exp"]  # type: ignore[no-any-return]

    @property
    def scopes(self) -> tuple[str, ...]:
        """The permissions that it carries in the whole org."""
        return tuple(self.raw.get("scope", "").split())

    def allows(self, permission: str, resource: str | None = None) -> bool:
        """Whether it carries the permission on the resource or above it; without one, in the whole org."""
        return allows(self.raw, permission, resource)


def allows(claims: Mapping[str, Any], permission: str, resource: str | None = None) -> bool:
    """As `Claims.allows`, of claims that were verified elsewhere."""
    scope = claims.get("scope", "")
    if isinstance(scope, str) and permission in scope.split(" ") and permission:
        return True
    # A path that says one thing and means another is on no resource.
    if resource is None or any(segment in ("", ".", "..") for segment in resource.split("/")):
        return False
    details = claims.get("authorization_details")
    return isinstance(details, list) and any(_carries(detail, permission, resource) for detail in details)


def _carries(detail: Any, permission: str, resource: str) -> bool:
    if not isinstance(detail, dict) or detail.get("type") != GRANT:
        return False
    path, actions = detail.get("identifier"), detail.get("actions")
    if not isinstance(path, str) or not path or not isinstance(actions, list) or permission not in actions:
        return False
    return resource == path or resource.startswith(path + "/")
