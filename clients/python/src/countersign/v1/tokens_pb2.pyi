import datetime

from countersign.v1 import options_pb2 as _options_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TokenKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_KIND_UNSPECIFIED: _ClassVar[TokenKind]
    TOKEN_KIND_SECRET: _ClassVar[TokenKind]
    TOKEN_KIND_PUBLISHABLE: _ClassVar[TokenKind]
    TOKEN_KIND_KEY: _ClassVar[TokenKind]

class TokenState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_STATE_UNSPECIFIED: _ClassVar[TokenState]
    TOKEN_STATE_ACTIVE: _ClassVar[TokenState]
    TOKEN_STATE_EXPIRED: _ClassVar[TokenState]
    TOKEN_STATE_REVOKED: _ClassVar[TokenState]
    TOKEN_STATE_BLOCKED: _ClassVar[TokenState]

class RevokeReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVOKE_REASON_UNSPECIFIED: _ClassVar[RevokeReason]
    REVOKE_REASON_KEY_COMPROMISE: _ClassVar[RevokeReason]
    REVOKE_REASON_AFFILIATION_CHANGED: _ClassVar[RevokeReason]
    REVOKE_REASON_SUPERSEDED: _ClassVar[RevokeReason]
    REVOKE_REASON_CESSATION_OF_OPERATION: _ClassVar[RevokeReason]
    REVOKE_REASON_PRIVILEGE_WITHDRAWN: _ClassVar[RevokeReason]

class TokenSecretState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_SECRET_STATE_UNSPECIFIED: _ClassVar[TokenSecretState]
    TOKEN_SECRET_STATE_ACTIVE: _ClassVar[TokenSecretState]
    TOKEN_SECRET_STATE_RETIRING: _ClassVar[TokenSecretState]
    TOKEN_SECRET_STATE_EXPIRED: _ClassVar[TokenSecretState]
TOKEN_KIND_UNSPECIFIED: TokenKind
TOKEN_KIND_SECRET: TokenKind
TOKEN_KIND_PUBLISHABLE: TokenKind
TOKEN_KIND_KEY: TokenKind
TOKEN_STATE_UNSPECIFIED: TokenState
TOKEN_STATE_ACTIVE: TokenState
TOKEN_STATE_EXPIRED: TokenState
TOKEN_STATE_REVOKED: TokenState
TOKEN_STATE_BLOCKED: TokenState
REVOKE_REASON_UNSPECIFIED: RevokeReason
REVOKE_REASON_KEY_COMPROMISE: RevokeReason
REVOKE_REASON_AFFILIATION_CHANGED: RevokeReason
REVOKE_REASON_SUPERSEDED: RevokeReason
REVOKE_REASON_CESSATION_OF_OPERATION: RevokeReason
REVOKE_REASON_PRIVILEGE_WITHDRAWN: RevokeReason
TOKEN_SECRET_STATE_UNSPECIFIED: TokenSecretState
TOKEN_SECRET_STATE_ACTIVE: TokenSecretState
TOKEN_SECRET_STATE_RETIRING: TokenSecretState
TOKEN_SECRET_STATE_EXPIRED: TokenSecretState

class TokenSecret(_message.Message):
    __slots__ = ("obfuscated", "state", "create_time", "expire_time", "last_use_time", "last_use_address", "use_count")
    OBFUSCATED_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    USE_COUNT_FIELD_NUMBER: _ClassVar[int]
    obfuscated: str
    state: TokenSecretState
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    last_use_time: _timestamp_pb2.Timestamp
    last_use_address: str
    use_count: int
    def __init__(self, obfuscated: _Optional[str] = ..., state: _Optional[_Union[TokenSecretState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_use_address: _Optional[str] = ..., use_count: _Optional[int] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("id", "org_id", "account_id", "kind", "state", "display_name", "purpose", "labels", "scopes", "resources", "allowed_origins", "allowed_cidrs", "allowed_audiences", "may_manage_tokens", "secrets", "create_time", "expire_time", "revoke_time", "revoke_reason", "etag", "allowed_client_certs", "public_jwk")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_ORIGINS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_CIDRS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    MAY_MANAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_CLIENT_CERTS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_JWK_FIELD_NUMBER: _ClassVar[int]
    id: str
    org_id: str
    account_id: str
    kind: TokenKind
    state: TokenState
    display_name: str
    purpose: str
    labels: _containers.ScalarMap[str, str]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.RepeatedScalarFieldContainer[str]
    allowed_origins: _containers.RepeatedScalarFieldContainer[str]
    allowed_cidrs: _containers.RepeatedScalarFieldContainer[str]
    allowed_audiences: _containers.RepeatedScalarFieldContainer[str]
    may_manage_tokens: bool
    secrets: _containers.RepeatedCompositeFieldContainer[TokenSecret]
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    revoke_reason: RevokeReason
    etag: str
    allowed_client_certs: _containers.RepeatedScalarFieldContainer[str]
    public_jwk: str
    def __init__(self, id: _Optional[str] = ..., org_id: _Optional[str] = ..., account_id: _Optional[str] = ..., kind: _Optional[_Union[TokenKind, str]] = ..., state: _Optional[_Union[TokenState, str]] = ..., display_name: _Optional[str] = ..., purpose: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., scopes: _Optional[_Iterable[str]] = ..., resources: _Optional[_Iterable[str]] = ..., allowed_origins: _Optional[_Iterable[str]] = ..., allowed_cidrs: _Optional[_Iterable[str]] = ..., allowed_audiences: _Optional[_Iterable[str]] = ..., may_manage_tokens: bool = ..., secrets: _Optional[_Iterable[_Union[TokenSecret, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_reason: _Optional[_Union[RevokeReason, str]] = ..., etag: _Optional[str] = ..., allowed_client_certs: _Optional[_Iterable[str]] = ..., public_jwk: _Optional[str] = ...) -> None: ...
