import datetime

from countersign.v1 import options_pb2 as _options_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IssuerKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ISSUER_KIND_UNSPECIFIED: _ClassVar[IssuerKind]
    ISSUER_KIND_OIDC: _ClassVar[IssuerKind]
    ISSUER_KIND_JWKS: _ClassVar[IssuerKind]
    ISSUER_KIND_SPIFFE: _ClassVar[IssuerKind]
ISSUER_KIND_UNSPECIFIED: IssuerKind
ISSUER_KIND_OIDC: IssuerKind
ISSUER_KIND_JWKS: IssuerKind
ISSUER_KIND_SPIFFE: IssuerKind

class Issuer(_message.Message):
    __slots__ = ("id", "org_id", "kind", "issuer", "jwks", "bundle_uri", "algorithms", "max_assertion_lifetime", "single_use_jti", "shared", "display_name", "jwks_uri", "key_ids", "fetch_time", "fetch_error", "create_time", "update_time", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    JWKS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_URI_FIELD_NUMBER: _ClassVar[int]
    ALGORITHMS_FIELD_NUMBER: _ClassVar[int]
    MAX_ASSERTION_LIFETIME_FIELD_NUMBER: _ClassVar[int]
    SINGLE_USE_JTI_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    JWKS_URI_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    FETCH_TIME_FIELD_NUMBER: _ClassVar[int]
    FETCH_ERROR_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    org_id: str
    kind: IssuerKind
    issuer: str
    jwks: str
    bundle_uri: str
    algorithms: _containers.RepeatedScalarFieldContainer[str]
    max_assertion_lifetime: _duration_pb2.Duration
    single_use_jti: bool
    shared: bool
    display_name: str
    jwks_uri: str
    key_ids: _containers.RepeatedScalarFieldContainer[str]
    fetch_time: _timestamp_pb2.Timestamp
    fetch_error: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, id: _Optional[str] = ..., org_id: _Optional[str] = ..., kind: _Optional[_Union[IssuerKind, str]] = ..., issuer: _Optional[str] = ..., jwks: _Optional[str] = ..., bundle_uri: _Optional[str] = ..., algorithms: _Optional[_Iterable[str]] = ..., max_assertion_lifetime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., single_use_jti: bool = ..., shared: bool = ..., display_name: _Optional[str] = ..., jwks_uri: _Optional[str] = ..., key_ids: _Optional[_Iterable[str]] = ..., fetch_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., fetch_error: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class FederationWarning(_message.Message):
    __slots__ = ("field", "description")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    field: str
    description: str
    def __init__(self, field: _Optional[str] = ..., description: _Optional[str] = ...) -> None: ...
