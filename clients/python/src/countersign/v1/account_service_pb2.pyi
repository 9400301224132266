import datetime

from countersign.v1 import accounts_pb2 as _accounts_pb2
from countersign.v1 import options_pb2 as _options_pb2
from countersign.v1 import orgs_pb2 as _orgs_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateServiceAccountRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "name", "profile", "contact_email", "description", "username", "password", "grants", "deactivated", "settings")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CONTACT_EMAIL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    DEACTIVATED_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    name: str
    profile: _accounts_pb2.Profile
    contact_email: str
    description: str
    username: str
    password: str
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    deactivated: bool
    settings: _accounts_pb2.AccountSettings
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., name: _Optional[str] = ..., profile: _Optional[_Union[_accounts_pb2.Profile, _Mapping]] = ..., contact_email: _Optional[str] = ..., description: _Optional[str] = ..., username: _Optional[str] = ..., password: _Optional[str] = ..., grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ..., deactivated: bool = ..., settings: _Optional[_Union[_accounts_pb2.AccountSettings, _Mapping]] = ...) -> None: ...

class CreateServiceAccountResponse(_message.Message):
    __slots__ = ("account", "first_seen_permissions")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateUserRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "email", "profile", "grants", "deactivated", "description", "contact_email", "settings", "external_id", "suppress_email")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    DEACTIVATED_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CONTACT_EMAIL_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    SUPPRESS_EMAIL_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    email: str
    profile: _accounts_pb2.Profile
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    deactivated: bool
    description: str
    contact_email: str
    settings: _accounts_pb2.AccountSettings
    external_id: str
    suppress_email: bool
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., email: _Optional[str] = ..., profile: _Optional[_Union[_accounts_pb2.Profile, _Mapping]] = ..., grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ..., deactivated: bool = ..., description: _Optional[str] = ..., contact_email: _Optional[str] = ..., settings: _Optional[_Union[_accounts_pb2.AccountSettings, _Mapping]] = ..., external_id: _Optional[str] = ..., suppress_email: bool = ...) -> None: ...

class CreateUserResponse(_message.Message):
    __slots__ = ("account", "first_seen_permissions")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class CloneAccountRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "account_id", "name", "email", "profile", "deactivated", "excluded_grants", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DEACTIVATED_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_GRANTS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    account_id: str
    name: str
    email: str
    profile: _accounts_pb2.Profile
    deactivated: bool
    excluded_grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., account_id: _Optional[str] = ..., name: _Optional[str] = ..., email: _Optional[str] = ..., profile: _Optional[_Union[_accounts_pb2.Profile, _Mapping]] = ..., deactivated: bool = ..., excluded_grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ..., validate_only: bool = ...) -> None: ...

class CloneAccountResponse(_message.Message):
    __slots__ = ("account", "dropped_grants")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_GRANTS_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    dropped_grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., dropped_grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class GetAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class CheckAccessRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "checks")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    checks: _containers.RepeatedCompositeFieldContainer[AccessCheck]
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., checks: _Optional[_Iterable[_Union[AccessCheck, _Mapping]]] = ...) -> None: ...

class AccessCheck(_message.Message):
    __slots__ = ("permission", "resource")
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    permission: str
    resource: str
    def __init__(self, permission: _Optional[str] = ..., resource: _Optional[str] = ...) -> None: ...

class CheckAccessResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[AccessResult]
    def __init__(self, results: _Optional[_Iterable[_Union[AccessResult, _Mapping]]] = ...) -> None: ...

class AccessResult(_message.Message):
    __slots__ = ("allowed", "grant_ids")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    GRANT_IDS_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    grant_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, allowed: bool = ..., grant_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAccountsRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "kind", "state", "query", "role_id", "external_id", "updated_since")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATED_SINCE_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    kind: _accounts_pb2.AccountKind
    state: _accounts_pb2.AccountState
    query: str
    role_id: str
    external_id: str
    updated_since: _timestamp_pb2.Timestamp
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., kind: _Optional[_Union[_accounts_pb2.AccountKind, str]] = ..., state: _Optional[_Union[_accounts_pb2.AccountState, str]] = ..., query: _Optional[str] = ..., role_id: _Optional[str] = ..., external_id: _Optional[str] = ..., updated_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListAccountsResponse(_message.Message):
    __slots__ = ("accounts", "next_page_token", "total_size")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    accounts: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Account]
    next_page_token: str
    total_size: int
    def __init__(self, accounts: _Optional[_Iterable[_Union[_accounts_pb2.Account, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateAccountRequest(_message.Message):
    __slots__ = ("org_id", "account", "update_mask")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account: _accounts_pb2.Account
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, org_id: _Optional[str] = ..., account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class ActivateAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    reason: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ActivateAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class DeactivateAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    reason: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeactivateAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class DeleteAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class UndeleteAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class UndeleteAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class ConvertAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "kind", "reason", "name", "email")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    kind: _accounts_pb2.AccountKind
    reason: str
    name: str
    email: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., kind: _Optional[_Union[_accounts_pb2.AccountKind, str]] = ..., reason: _Optional[str] = ..., name: _Optional[str] = ..., email: _Optional[str] = ...) -> None: ...

class ConvertAccountResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class ChangePasswordRequest(_message.Message):
    __slots__ = ("current_password", "new_password")
    CURRENT_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    NEW_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    current_password: str
    new_password: str
    def __init__(self, current_password: _Optional[str] = ..., new_password: _Optional[str] = ...) -> None: ...

class ChangePasswordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetPasswordRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "password")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    password: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class SetPasswordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GrantAccessRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "grants")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class GrantAccessResponse(_message.Message):
    __slots__ = ("account_grants", "first_seen_permissions")
    ACCOUNT_GRANTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    account_grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, account_grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class RevokeAccessRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "grants")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class RevokeAccessResponse(_message.Message):
    __slots__ = ("account_grants",)
    ACCOUNT_GRANTS_FIELD_NUMBER: _ClassVar[int]
    account_grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, account_grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class ListGrantsRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "role_id", "resource", "permission", "page_size", "page_token")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    role_id: str
    resource: str
    permission: str
    page_size: int
    page_token: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., role_id: _Optional[str] = ..., resource: _Optional[str] = ..., permission: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListGrantsResponse(_message.Message):
    __slots__ = ("grants", "next_page_token", "total_size")
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    next_page_token: str
    total_size: int
    def __init__(self, grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class ListGrantableAccessRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "account_id", "account_kind", "resource")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_KIND_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    account_id: str
    account_kind: _accounts_pb2.AccountKind
    resource: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account_id: _Optional[str] = ..., account_kind: _Optional[_Union[_accounts_pb2.AccountKind, str]] = ..., resource: _Optional[str] = ...) -> None: ...

class ListGrantableAccessResponse(_message.Message):
    __slots__ = ("roles", "permissions", "resources", "next_page_token", "total_size", "more_permissions")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    MORE_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.GrantableRole]
    permissions: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.GrantablePermission]
    resources: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.GrantableResource]
    next_page_token: str
    total_size: int
    more_permissions: bool
    def __init__(self, roles: _Optional[_Iterable[_Union[_accounts_pb2.GrantableRole, _Mapping]]] = ..., permissions: _Optional[_Iterable[_Union[_accounts_pb2.GrantablePermission, _Mapping]]] = ..., resources: _Optional[_Iterable[_Union[_accounts_pb2.GrantableResource, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., more_permissions: bool = ...) -> None: ...

class ResolveLinkRequest(_message.Message):
    __slots__ = ("org_id", "kind", "slug")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    kind: str
    slug: str
    def __init__(self, org_id: _Optional[str] = ..., kind: _Optional[str] = ..., slug: _Optional[str] = ...) -> None: ...

class ResolveLinkResponse(_message.Message):
    __slots__ = ("account_id", "account_kind", "display_name")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_KIND_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    account_kind: _accounts_pb2.AccountKind
    display_name: str
    def __init__(self, account_id: _Optional[str] = ..., account_kind: _Optional[_Union[_accounts_pb2.AccountKind, str]] = ..., display_name: _Optional[str] = ...) -> None: ...

class RequestPasswordResetRequest(_message.Message):
    __slots__ = ("email",)
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    email: str
    def __init__(self, email: _Optional[str] = ...) -> None: ...

class RequestPasswordResetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetPasswordRequest(_message.Message):
    __slots__ = ("code", "new_password")
    CODE_FIELD_NUMBER: _ClassVar[int]
    NEW_PASSWORD_FIELD_NUMBER: _ClassVar[int]
    code: str
    new_password: str
    def __init__(self, code: _Optional[str] = ..., new_password: _Optional[str] = ...) -> None: ...

class ResetPasswordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCallerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCallerResponse(_message.Message):
    __slots__ = ("account", "org", "permissions", "impersonator_id", "credential_id", "secret_obfuscated", "credential_expire_time", "renewable_from")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ORG_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    IMPERSONATOR_ID_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_OBFUSCATED_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    RENEWABLE_FROM_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    org: _orgs_pb2.Org
    permissions: _containers.RepeatedScalarFieldContainer[str]
    impersonator_id: str
    credential_id: str
    secret_obfuscated: str
    credential_expire_time: _timestamp_pb2.Timestamp
    renewable_from: _timestamp_pb2.Timestamp
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ..., permissions: _Optional[_Iterable[str]] = ..., impersonator_id: _Optional[str] = ..., credential_id: _Optional[str] = ..., secret_obfuscated: _Optional[str] = ..., credential_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., renewable_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
