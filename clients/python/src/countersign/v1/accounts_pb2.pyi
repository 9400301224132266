import datetime

from countersign.v1 import options_pb2 as _options_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccountKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCOUNT_KIND_UNSPECIFIED: _ClassVar[AccountKind]
    ACCOUNT_KIND_USER: _ClassVar[AccountKind]
    ACCOUNT_KIND_SERVICE_ACCOUNT: _ClassVar[AccountKind]

class AccountState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCOUNT_STATE_UNSPECIFIED: _ClassVar[AccountState]
    ACCOUNT_STATE_INVITED: _ClassVar[AccountState]
    ACCOUNT_STATE_ACTIVE: _ClassVar[AccountState]
    ACCOUNT_STATE_DEACTIVATED: _ClassVar[AccountState]
    ACCOUNT_STATE_DELETED: _ClassVar[AccountState]
ACCOUNT_KIND_UNSPECIFIED: AccountKind
ACCOUNT_KIND_USER: AccountKind
ACCOUNT_KIND_SERVICE_ACCOUNT: AccountKind
ACCOUNT_STATE_UNSPECIFIED: AccountState
ACCOUNT_STATE_INVITED: AccountState
ACCOUNT_STATE_ACTIVE: AccountState
ACCOUNT_STATE_DEACTIVATED: AccountState
ACCOUNT_STATE_DELETED: AccountState

class Account(_message.Message):
    __slots__ = ("id", "org_id", "kind", "state", "name", "username", "title", "profile", "contact_email", "description", "settings", "login_enabled", "create_time", "update_time", "delete_time", "etag", "external_id")
    ID_FIELD_NUMBER: _ClassVar[int]
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    CONTACT_EMAIL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    LOGIN_ENABLED_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    org_id: str
    kind: AccountKind
    state: AccountState
    name: str
    username: str
    title: str
    profile: Profile
    contact_email: str
    description: str
    settings: AccountSettings
    login_enabled: bool
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    delete_time: _timestamp_pb2.Timestamp
    etag: str
    external_id: str
    def __init__(self, id: _Optional[str] = ..., org_id: _Optional[str] = ..., kind: _Optional[_Union[AccountKind, str]] = ..., state: _Optional[_Union[AccountState, str]] = ..., name: _Optional[str] = ..., username: _Optional[str] = ..., title: _Optional[str] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ..., contact_email: _Optional[str] = ..., description: _Optional[str] = ..., settings: _Optional[_Union[AccountSettings, _Mapping]] = ..., login_enabled: bool = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., external_id: _Optional[str] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("display_name", "given_name", "family_name", "phone_number", "locale", "zoneinfo")
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    GIVEN_NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_NAME_FIELD_NUMBER: _ClassVar[int]
    PHONE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    ZONEINFO_FIELD_NUMBER: _ClassVar[int]
    display_name: str
    given_name: str
    family_name: str
    phone_number: str
    locale: str
    zoneinfo: str
    def __init__(self, display_name: _Optional[str] = ..., given_name: _Optional[str] = ..., family_name: _Optional[str] = ..., phone_number: _Optional[str] = ..., locale: _Optional[str] = ..., zoneinfo: _Optional[str] = ...) -> None: ...

class AccountSettings(_message.Message):
    __slots__ = ("email_notifications", "links", "attributes")
    class LinksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AccountLink
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AccountLink, _Mapping]] = ...) -> None: ...
    EMAIL_NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    email_notifications: bool
    links: _containers.MessageMap[str, AccountLink]
    attributes: _struct_pb2.Struct
    def __init__(self, email_notifications: bool = ..., links: _Optional[_Mapping[str, AccountLink]] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class AccountLink(_message.Message):
    __slots__ = ("enabled", "slug")
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    enabled: bool
    slug: str
    def __init__(self, enabled: bool = ..., slug: _Optional[str] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("grant_id", "role_id", "permission", "resource", "account_id", "create_time")
    GRANT_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    grant_id: str
    role_id: str
    permission: str
    resource: str
    account_id: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, grant_id: _Optional[str] = ..., role_id: _Optional[str] = ..., permission: _Optional[str] = ..., resource: _Optional[str] = ..., account_id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GrantableRole(_message.Message):
    __slots__ = ("role_id", "name", "display_name", "held", "grantable")
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    GRANTABLE_FIELD_NUMBER: _ClassVar[int]
    role_id: str
    name: str
    display_name: str
    held: bool
    grantable: bool
    def __init__(self, role_id: _Optional[str] = ..., name: _Optional[str] = ..., display_name: _Optional[str] = ..., held: bool = ..., grantable: bool = ...) -> None: ...

class GrantablePermission(_message.Message):
    __slots__ = ("permission", "held", "grantable")
    PERMISSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    GRANTABLE_FIELD_NUMBER: _ClassVar[int]
    permission: str
    held: bool
    grantable: bool
    def __init__(self, permission: _Optional[str] = ..., held: bool = ..., grantable: bool = ...) -> None: ...

class GrantableResource(_message.Message):
    __slots__ = ("path", "display_name", "held", "grantable")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    GRANTABLE_FIELD_NUMBER: _ClassVar[int]
    path: str
    display_name: str
    held: bool
    grantable: bool
    def __init__(self, path: _Optional[str] = ..., display_name: _Optional[str] = ..., held: bool = ..., grantable: bool = ...) -> None: ...
