import datetime

from countersign.v1 import accounts_pb2 as _accounts_pb2
from countersign.v1 import federation_rules_pb2 as _federation_rules_pb2
from countersign.v1 import options_pb2 as _options_pb2
from countersign.v1 import signing_keys_pb2 as _signing_keys_pb2
from countersign.v1 import streams_pb2 as _streams_pb2
from countersign.v1 import tokens_pb2 as _tokens_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoginRequest(_message.Message):
    __slots__ = ("username", "password", "org_id")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    username: str
    password: str
    org_id: str
    def __init__(self, username: _Optional[str] = ..., password: _Optional[str] = ..., org_id: _Optional[str] = ...) -> None: ...

class LoginResponse(_message.Message):
    __slots__ = ("session_token", "session_expire_time", "access_token", "expire_time", "account", "orgs")
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ORGS_FIELD_NUMBER: _ClassVar[int]
    session_token: str
    session_expire_time: _timestamp_pb2.Timestamp
    access_token: str
    expire_time: _timestamp_pb2.Timestamp
    account: _accounts_pb2.Account
    orgs: _containers.RepeatedCompositeFieldContainer[LoginOrg]
    def __init__(self, session_token: _Optional[str] = ..., session_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., access_token: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., orgs: _Optional[_Iterable[_Union[LoginOrg, _Mapping]]] = ...) -> None: ...

class LoginOrg(_message.Message):
    __slots__ = ("org_id", "display_name")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    display_name: str
    def __init__(self, org_id: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class LogoutRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LogoutResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RevokeAccountSessionsRequest(_message.Message):
    __slots__ = ("org_id", "account_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class RevokeAccountSessionsResponse(_message.Message):
    __slots__ = ("revoked_count",)
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    revoked_count: int
    def __init__(self, revoked_count: _Optional[int] = ...) -> None: ...

class CreateTokenRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "account_id", "display_name", "kind", "purpose", "labels", "scopes", "resources", "allowed_audiences", "allowed_cidrs", "allowed_origins", "ttl", "expire_time", "never_expires", "may_manage_tokens", "validate_only", "allowed_client_certs", "public_jwk")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_CIDRS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_ORIGINS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    NEVER_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    MAY_MANAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_CLIENT_CERTS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_JWK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    account_id: str
    display_name: str
    kind: _tokens_pb2.TokenKind
    purpose: str
    labels: _containers.ScalarMap[str, str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.RepeatedScalarFieldContainer[str]
    allowed_audiences: _containers.RepeatedScalarFieldContainer[str]
    allowed_cidrs: _containers.RepeatedScalarFieldContainer[str]
    allowed_origins: _containers.RepeatedScalarFieldContainer[str]
    ttl: _duration_pb2.Duration
    expire_time: _timestamp_pb2.Timestamp
    never_expires: bool
    may_manage_tokens: bool
    validate_only: bool
    allowed_client_certs: _containers.RepeatedScalarFieldContainer[str]
    public_jwk: str
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., account_id: _Optional[str] = ..., display_name: _Optional[str] = ..., kind: _Optional[_Union[_tokens_pb2.TokenKind, str]] = ..., purpose: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., scopes: _Optional[_Iterable[str]] = ..., resources: _Optional[_Iterable[str]] = ..., allowed_audiences: _Optional[_Iterable[str]] = ..., allowed_cidrs: _Optional[_Iterable[str]] = ..., allowed_origins: _Optional[_Iterable[str]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., never_expires: bool = ..., may_manage_tokens: bool = ..., validate_only: bool = ..., allowed_client_certs: _Optional[_Iterable[str]] = ..., public_jwk: _Optional[str] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("token", "secret", "first_seen_permissions")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    secret: str
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., secret: _Optional[str] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class GetTokenRequest(_message.Message):
    __slots__ = ("org_id", "token_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ...) -> None: ...

class GetTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "page_size", "page_token", "kind", "purpose", "state", "idle_since", "expires_before", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IDLE_SINCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    page_size: int
    page_token: str
    kind: _tokens_pb2.TokenKind
    purpose: str
    state: _tokens_pb2.TokenState
    idle_since: _timestamp_pb2.Timestamp
    expires_before: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., kind: _Optional[_Union[_tokens_pb2.TokenKind, str]] = ..., purpose: _Optional[str] = ..., state: _Optional[_Union[_tokens_pb2.TokenState, str]] = ..., idle_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListTokensResponse(_message.Message):
    __slots__ = ("tokens", "next_page_token", "total_size")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_tokens_pb2.Token]
    next_page_token: str
    total_size: int
    def __init__(self, tokens: _Optional[_Iterable[_Union[_tokens_pb2.Token, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class RotateTokenRequest(_message.Message):
    __slots__ = ("org_id", "token_id", "overlap", "ttl", "public_jwk")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_JWK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    overlap: _duration_pb2.Duration
    ttl: _duration_pb2.Duration
    public_jwk: str
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ..., overlap: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., public_jwk: _Optional[str] = ...) -> None: ...

class RotateTokenResponse(_message.Message):
    __slots__ = ("token", "secret")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    secret: str
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., secret: _Optional[str] = ...) -> None: ...

class FinishRotationRequest(_message.Message):
    __slots__ = ("org_id", "token_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ...) -> None: ...

class FinishRotationResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ...) -> None: ...

class CancelRotationRequest(_message.Message):
    __slots__ = ("org_id", "token_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ...) -> None: ...

class CancelRotationResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ...) -> None: ...

class UpdateTokenRequest(_message.Message):
    __slots__ = ("org_id", "token", "update_mask")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token: _tokens_pb2.Token
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, org_id: _Optional[str] = ..., token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateTokenResponse(_message.Message):
    __slots__ = ("token", "first_seen_permissions")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class RevokeTokenRequest(_message.Message):
    __slots__ = ("org_id", "token_id", "token_text", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TEXT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    token_text: str
    reason: _tokens_pb2.RevokeReason
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ..., token_text: _Optional[str] = ..., reason: _Optional[_Union[_tokens_pb2.RevokeReason, str]] = ...) -> None: ...

class RevokeTokenResponse(_message.Message):
    __slots__ = ("token", "rule")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    rule: _federation_rules_pb2.FederationRule
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ...) -> None: ...

class RevokeAccountTokensRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    reason: _tokens_pb2.RevokeReason
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., reason: _Optional[_Union[_tokens_pb2.RevokeReason, str]] = ...) -> None: ...

class RevokeAccountTokensResponse(_message.Message):
    __slots__ = ("revoked_count",)
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    revoked_count: int
    def __init__(self, revoked_count: _Optional[int] = ...) -> None: ...

class ReportLeakedTokenRequest(_message.Message):
    __slots__ = ("token_texts",)
    TOKEN_TEXTS_FIELD_NUMBER: _ClassVar[int]
    token_texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token_texts: _Optional[_Iterable[str]] = ...) -> None: ...

class ReportLeakedTokenResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReassignTokenRequest(_message.Message):
    __slots__ = ("org_id", "token_id", "account_id", "allow_narrowing", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOW_NARROWING_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    account_id: str
    allow_narrowing: bool
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ..., account_id: _Optional[str] = ..., allow_narrowing: bool = ..., validate_only: bool = ...) -> None: ...

class ReassignTokenResponse(_message.Message):
    __slots__ = ("token", "lost_scopes")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOST_SCOPES_FIELD_NUMBER: _ClassVar[int]
    token: _tokens_pb2.Token
    lost_scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[_Union[_tokens_pb2.Token, _Mapping]] = ..., lost_scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class ReassignAccountTokensRequest(_message.Message):
    __slots__ = ("org_id", "from_account_id", "account_id", "allow_narrowing", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOW_NARROWING_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    from_account_id: str
    account_id: str
    allow_narrowing: bool
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., from_account_id: _Optional[str] = ..., account_id: _Optional[str] = ..., allow_narrowing: bool = ..., validate_only: bool = ...) -> None: ...

class ReassignAccountTokensResponse(_message.Message):
    __slots__ = ("tokens", "lost_scopes")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOST_SCOPES_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_tokens_pb2.Token]
    lost_scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, tokens: _Optional[_Iterable[_Union[_tokens_pb2.Token, _Mapping]]] = ..., lost_scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class ExchangeTokenRequest(_message.Message):
    __slots__ = ("subject_token", "audiences", "scopes", "requested_ttl", "org_id", "purpose", "origin", "client_address", "certificate_bound", "subject_token_type", "federation_rule_id")
    SUBJECT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_TTL_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_BOUND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_RULE_ID_FIELD_NUMBER: _ClassVar[int]
    subject_token: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    requested_ttl: _duration_pb2.Duration
    org_id: str
    purpose: str
    origin: str
    client_address: str
    certificate_bound: bool
    subject_token_type: str
    federation_rule_id: str
    def __init__(self, subject_token: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[str]] = ..., requested_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., org_id: _Optional[str] = ..., purpose: _Optional[str] = ..., origin: _Optional[str] = ..., client_address: _Optional[str] = ..., certificate_bound: bool = ..., subject_token_type: _Optional[str] = ..., federation_rule_id: _Optional[str] = ...) -> None: ...

class ExchangeTokenResponse(_message.Message):
    __slots__ = ("access_token", "issued_token_type", "token_type", "expire_time", "scopes")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ISSUED_TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    issued_token_type: str
    token_type: str
    expire_time: _timestamp_pb2.Timestamp
    scopes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, access_token: _Optional[str] = ..., issued_token_type: _Optional[str] = ..., token_type: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., scopes: _Optional[_Iterable[str]] = ...) -> None: ...

class ExplainTokenRequest(_message.Message):
    __slots__ = ("org_id", "token_text", "token_id", "assertion", "audience", "purpose", "origin", "client_address", "scopes", "resource", "client_certificate_thumbprint", "federation_rule_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    ASSERTION_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CERTIFICATE_THUMBPRINT_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_RULE_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_text: str
    token_id: str
    assertion: str
    audience: str
    purpose: str
    origin: str
    client_address: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    resource: str
    client_certificate_thumbprint: str
    federation_rule_id: str
    def __init__(self, org_id: _Optional[str] = ..., token_text: _Optional[str] = ..., token_id: _Optional[str] = ..., assertion: _Optional[str] = ..., audience: _Optional[str] = ..., purpose: _Optional[str] = ..., origin: _Optional[str] = ..., client_address: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., resource: _Optional[str] = ..., client_certificate_thumbprint: _Optional[str] = ..., federation_rule_id: _Optional[str] = ...) -> None: ...

class ExplainTokenResponse(_message.Message):
    __slots__ = ("checks",)
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[TokenCheck]
    def __init__(self, checks: _Optional[_Iterable[_Union[TokenCheck, _Mapping]]] = ...) -> None: ...

class TokenCheck(_message.Message):
    __slots__ = ("name", "passed", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    passed: bool
    reason: str
    def __init__(self, name: _Optional[str] = ..., passed: bool = ..., reason: _Optional[str] = ...) -> None: ...

class ImpersonateAccountRequest(_message.Message):
    __slots__ = ("org_id", "account_id", "reason", "ttl")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    reason: str
    ttl: _duration_pb2.Duration
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., reason: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ImpersonateAccountResponse(_message.Message):
    __slots__ = ("access_token", "expire_time")
    ACCESS_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    access_token: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, access_token: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class IntrospectTokenRequest(_message.Message):
    __slots__ = ("token_text", "audience", "purpose", "origin", "client_address", "required_scopes", "resource", "client_certificate_thumbprint")
    TOKEN_TEXT_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_CERTIFICATE_THUMBPRINT_FIELD_NUMBER: _ClassVar[int]
    token_text: str
    audience: str
    purpose: str
    origin: str
    client_address: str
    required_scopes: _containers.RepeatedScalarFieldContainer[str]
    resource: str
    client_certificate_thumbprint: str
    def __init__(self, token_text: _Optional[str] = ..., audience: _Optional[str] = ..., purpose: _Optional[str] = ..., origin: _Optional[str] = ..., client_address: _Optional[str] = ..., required_scopes: _Optional[_Iterable[str]] = ..., resource: _Optional[str] = ..., client_certificate_thumbprint: _Optional[str] = ...) -> None: ...

class IntrospectTokenResponse(_message.Message):
    __slots__ = ("active", "scope", "client_id", "username", "token_type", "exp", "iat", "nbf", "sub", "aud", "iss", "jti", "org_id", "account_kind", "act", "max_cache_ttl", "authorization_details", "cnf")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_TYPE_FIELD_NUMBER: _ClassVar[int]
    EXP_FIELD_NUMBER: _ClassVar[int]
    IAT_FIELD_NUMBER: _ClassVar[int]
    NBF_FIELD_NUMBER: _ClassVar[int]
    SUB_FIELD_NUMBER: _ClassVar[int]
    AUD_FIELD_NUMBER: _ClassVar[int]
    ISS_FIELD_NUMBER: _ClassVar[int]
    JTI_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_KIND_FIELD_NUMBER: _ClassVar[int]
    ACT_FIELD_NUMBER: _ClassVar[int]
    MAX_CACHE_TTL_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_DETAILS_FIELD_NUMBER: _ClassVar[int]
    CNF_FIELD_NUMBER: _ClassVar[int]
    active: bool
    scope: str
    client_id: str
    username: str
    token_type: str
    exp: int
    iat: int
    nbf: int
    sub: str
    aud: _containers.RepeatedScalarFieldContainer[str]
    iss: str
    jti: str
    org_id: str
    account_kind: _accounts_pb2.AccountKind
    act: Act
    max_cache_ttl: _duration_pb2.Duration
    authorization_details: _containers.RepeatedCompositeFieldContainer[AuthorizationDetail]
    cnf: Confirmation
    def __init__(self, active: bool = ..., scope: _Optional[str] = ..., client_id: _Optional[str] = ..., username: _Optional[str] = ..., token_type: _Optional[str] = ..., exp: _Optional[int] = ..., iat: _Optional[int] = ..., nbf: _Optional[int] = ..., sub: _Optional[str] = ..., aud: _Optional[_Iterable[str]] = ..., iss: _Optional[str] = ..., jti: _Optional[str] = ..., org_id: _Optional[str] = ..., account_kind: _Optional[_Union[_accounts_pb2.AccountKind, str]] = ..., act: _Optional[_Union[Act, _Mapping]] = ..., max_cache_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., authorization_details: _Optional[_Iterable[_Union[AuthorizationDetail, _Mapping]]] = ..., cnf: _Optional[_Union[Confirmation, _Mapping]] = ...) -> None: ...

class Confirmation(_message.Message):
    __slots__ = ("x5t_s256",)
    X5T_S256_FIELD_NUMBER: _ClassVar[int]
    x5t_s256: str
    def __init__(self, x5t_s256: _Optional[str] = ...) -> None: ...

class Act(_message.Message):
    __slots__ = ("sub",)
    SUB_FIELD_NUMBER: _ClassVar[int]
    sub: str
    def __init__(self, sub: _Optional[str] = ...) -> None: ...

class AuthorizationDetail(_message.Message):
    __slots__ = ("type", "identifier", "actions")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    type: str
    identifier: str
    actions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type: _Optional[str] = ..., identifier: _Optional[str] = ..., actions: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchIntrospectTokensRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[IntrospectTokenRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[IntrospectTokenRequest, _Mapping]]] = ...) -> None: ...

class BatchIntrospectTokensResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[IntrospectTokenResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[IntrospectTokenResponse, _Mapping]]] = ...) -> None: ...

class GetJsonWebKeySetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetJsonWebKeySetResponse(_message.Message):
    __slots__ = ("keys", "max_age")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[JsonWebKey]
    max_age: _duration_pb2.Duration
    def __init__(self, keys: _Optional[_Iterable[_Union[JsonWebKey, _Mapping]]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class JsonWebKey(_message.Message):
    __slots__ = ("kty", "kid", "use", "alg", "crv", "x", "y", "n", "e")
    KTY_FIELD_NUMBER: _ClassVar[int]
    KID_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    ALG_FIELD_NUMBER: _ClassVar[int]
    CRV_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    E_FIELD_NUMBER: _ClassVar[int]
    kty: str
    kid: str
    use: str
    alg: str
    crv: str
    x: str
    y: str
    n: str
    e: str
    def __init__(self, kty: _Optional[str] = ..., kid: _Optional[str] = ..., use: _Optional[str] = ..., alg: _Optional[str] = ..., crv: _Optional[str] = ..., x: _Optional[str] = ..., y: _Optional[str] = ..., n: _Optional[str] = ..., e: _Optional[str] = ...) -> None: ...

class ListSigningKeysRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSigningKeysResponse(_message.Message):
    __slots__ = ("signing_keys", "next_page_token", "total_size")
    SIGNING_KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    signing_keys: _containers.RepeatedCompositeFieldContainer[_signing_keys_pb2.SigningKey]
    next_page_token: str
    total_size: int
    def __init__(self, signing_keys: _Optional[_Iterable[_Union[_signing_keys_pb2.SigningKey, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class RotateSigningKeyRequest(_message.Message):
    __slots__ = ("activate_now",)
    ACTIVATE_NOW_FIELD_NUMBER: _ClassVar[int]
    activate_now: bool
    def __init__(self, activate_now: bool = ...) -> None: ...

class RotateSigningKeyResponse(_message.Message):
    __slots__ = ("signing_key",)
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    signing_key: _signing_keys_pb2.SigningKey
    def __init__(self, signing_key: _Optional[_Union[_signing_keys_pb2.SigningKey, _Mapping]] = ...) -> None: ...

class RevokeSigningKeyRequest(_message.Message):
    __slots__ = ("kid", "reason", "validate_only")
    KID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    kid: str
    reason: _tokens_pb2.RevokeReason
    validate_only: bool
    def __init__(self, kid: _Optional[str] = ..., reason: _Optional[_Union[_tokens_pb2.RevokeReason, str]] = ..., validate_only: bool = ...) -> None: ...

class RevokeSigningKeyResponse(_message.Message):
    __slots__ = ("signing_key", "verifiers_pending", "pending_count")
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_PENDING_FIELD_NUMBER: _ClassVar[int]
    PENDING_COUNT_FIELD_NUMBER: _ClassVar[int]
    signing_key: _signing_keys_pb2.SigningKey
    verifiers_pending: _containers.RepeatedCompositeFieldContainer[_streams_pb2.Verifier]
    pending_count: int
    def __init__(self, signing_key: _Optional[_Union[_signing_keys_pb2.SigningKey, _Mapping]] = ..., verifiers_pending: _Optional[_Iterable[_Union[_streams_pb2.Verifier, _Mapping]]] = ..., pending_count: _Optional[int] = ...) -> None: ...

class WatchRevocationsRequest(_message.Message):
    __slots__ = ("cursor", "org_ids", "verifier_name")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    ORG_IDS_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_NAME_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    org_ids: _containers.RepeatedScalarFieldContainer[str]
    verifier_name: str
    def __init__(self, cursor: _Optional[str] = ..., org_ids: _Optional[_Iterable[str]] = ..., verifier_name: _Optional[str] = ...) -> None: ...

class WatchRevocationsResponse(_message.Message):
    __slots__ = ("revocation", "key_set", "checkpoint")
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    KEY_SET_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    revocation: _streams_pb2.Revocation
    key_set: KeySet
    checkpoint: _streams_pb2.Checkpoint
    def __init__(self, revocation: _Optional[_Union[_streams_pb2.Revocation, _Mapping]] = ..., key_set: _Optional[_Union[KeySet, _Mapping]] = ..., checkpoint: _Optional[_Union[_streams_pb2.Checkpoint, _Mapping]] = ...) -> None: ...

class KeySet(_message.Message):
    __slots__ = ("keys", "max_age")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[JsonWebKey]
    max_age: _duration_pb2.Duration
    def __init__(self, keys: _Optional[_Iterable[_Union[JsonWebKey, _Mapping]]] = ..., max_age: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class AcknowledgeRevocationsRequest(_message.Message):
    __slots__ = ("verifier_name", "cursor", "held_key_ids")
    VERIFIER_NAME_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    HELD_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    verifier_name: str
    cursor: str
    held_key_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, verifier_name: _Optional[str] = ..., cursor: _Optional[str] = ..., held_key_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AcknowledgeRevocationsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVerifiersRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListVerifiersResponse(_message.Message):
    __slots__ = ("verifiers", "next_page_token", "total_size")
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    verifiers: _containers.RepeatedCompositeFieldContainer[_streams_pb2.Verifier]
    next_page_token: str
    total_size: int
    def __init__(self, verifiers: _Optional[_Iterable[_Union[_streams_pb2.Verifier, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...
