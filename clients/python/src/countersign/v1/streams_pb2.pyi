import datetime

from countersign.v1 import error_reason_pb2 as _error_reason_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Revocation(_message.Message):
    __slots__ = ("org_id", "token_id", "secret", "session_id", "rule_id", "account_id", "org", "key_id", "min_version", "reason", "expire_time")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ORG_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    token_id: str
    secret: RevokedSecret
    session_id: str
    rule_id: str
    account_id: str
    org: bool
    key_id: str
    min_version: int
    reason: _error_reason_pb2.ErrorReason
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, org_id: _Optional[str] = ..., token_id: _Optional[str] = ..., secret: _Optional[_Union[RevokedSecret, _Mapping]] = ..., session_id: _Optional[str] = ..., rule_id: _Optional[str] = ..., account_id: _Optional[str] = ..., org: bool = ..., key_id: _Optional[str] = ..., min_version: _Optional[int] = ..., reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RevokedSecret(_message.Message):
    __slots__ = ("token_id", "number")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    number: int
    def __init__(self, token_id: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("cursor", "time", "lag")
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    LAG_FIELD_NUMBER: _ClassVar[int]
    cursor: str
    time: _timestamp_pb2.Timestamp
    lag: _duration_pb2.Duration
    def __init__(self, cursor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Verifier(_message.Message):
    __slots__ = ("account_id", "verifier_name", "cursor_lag", "held_key_ids", "last_seen_time", "credential_id")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_NAME_FIELD_NUMBER: _ClassVar[int]
    CURSOR_LAG_FIELD_NUMBER: _ClassVar[int]
    HELD_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    verifier_name: str
    cursor_lag: _duration_pb2.Duration
    held_key_ids: _containers.RepeatedScalarFieldContainer[str]
    last_seen_time: _timestamp_pb2.Timestamp
    credential_id: str
    def __init__(self, account_id: _Optional[str] = ..., verifier_name: _Optional[str] = ..., cursor_lag: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., held_key_ids: _Optional[_Iterable[str]] = ..., last_seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., credential_id: _Optional[str] = ...) -> None: ...
