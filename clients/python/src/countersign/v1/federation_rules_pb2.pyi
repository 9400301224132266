import datetime

from countersign.v1 import options_pb2 as _options_pb2
from countersign.v1 import tokens_pb2 as _tokens_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PresentationOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRESENTATION_OUTCOME_UNSPECIFIED: _ClassVar[PresentationOutcome]
    PRESENTATION_OUTCOME_PASSED: _ClassVar[PresentationOutcome]
    PRESENTATION_OUTCOME_REFUSED: _ClassVar[PresentationOutcome]
PRESENTATION_OUTCOME_UNSPECIFIED: PresentationOutcome
PRESENTATION_OUTCOME_PASSED: PresentationOutcome
PRESENTATION_OUTCOME_REFUSED: PresentationOutcome

class ClaimMatch(_message.Message):
    __slots__ = ("path", "values", "contains", "flag")
    PATH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CONTAINS_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[str]
    contains: bool
    flag: bool
    def __init__(self, path: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[str]] = ..., contains: bool = ..., flag: bool = ...) -> None: ...

class FederationRuleUse(_message.Message):
    __slots__ = ("last_use_time", "last_use_address", "count")
    LAST_USE_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_USE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    last_use_time: _timestamp_pb2.Timestamp
    last_use_address: str
    count: int
    def __init__(self, last_use_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_use_address: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class FederationRule(_message.Message):
    __slots__ = ("id", "org_id", "issuer_id", "account_id", "audiences", "subject", "subject_prefix", "claims", "scopes", "resources", "allowed_audiences", "allowed_cidrs", "expire_time", "access_token_lifetime", "disabled", "display_name", "use", "state", "create_time", "update_time", "revoke_time", "revoke_reason", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_PREFIX_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_CIDRS_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCESS_TOKEN_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    DISABLED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REVOKE_REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    org_id: str
    issuer_id: str
    account_id: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    subject: str
    subject_prefix: str
    claims: _containers.RepeatedCompositeFieldContainer[ClaimMatch]
    scopes: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.RepeatedScalarFieldContainer[str]
    allowed_audiences: _containers.RepeatedScalarFieldContainer[str]
    allowed_cidrs: _containers.RepeatedScalarFieldContainer[str]
    expire_time: _timestamp_pb2.Timestamp
    access_token_lifetime: _duration_pb2.Duration
    disabled: bool
    display_name: str
    use: FederationRuleUse
    state: _tokens_pb2.TokenState
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    revoke_time: _timestamp_pb2.Timestamp
    revoke_reason: _tokens_pb2.RevokeReason
    etag: str
    def __init__(self, id: _Optional[str] = ..., org_id: _Optional[str] = ..., issuer_id: _Optional[str] = ..., account_id: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., subject: _Optional[str] = ..., subject_prefix: _Optional[str] = ..., claims: _Optional[_Iterable[_Union[ClaimMatch, _Mapping]]] = ..., scopes: _Optional[_Iterable[str]] = ..., resources: _Optional[_Iterable[str]] = ..., allowed_audiences: _Optional[_Iterable[str]] = ..., allowed_cidrs: _Optional[_Iterable[str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., access_token_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., disabled: bool = ..., display_name: _Optional[str] = ..., use: _Optional[_Union[FederationRuleUse, _Mapping]] = ..., state: _Optional[_Union[_tokens_pb2.TokenState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoke_reason: _Optional[_Union[_tokens_pb2.RevokeReason, str]] = ..., etag: _Optional[str] = ...) -> None: ...

class Presentation(_message.Message):
    __slots__ = ("subject", "claims", "outcome", "failed_check", "count", "last_time")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FAILED_CHECK_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_TIME_FIELD_NUMBER: _ClassVar[int]
    subject: str
    claims: str
    outcome: PresentationOutcome
    failed_check: str
    count: int
    last_time: _timestamp_pb2.Timestamp
    def __init__(self, subject: _Optional[str] = ..., claims: _Optional[str] = ..., outcome: _Optional[_Union[PresentationOutcome, str]] = ..., failed_check: _Optional[str] = ..., count: _Optional[int] = ..., last_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
