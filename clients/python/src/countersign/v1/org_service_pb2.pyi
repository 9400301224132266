import datetime

from countersign.v1 import accounts_pb2 as _accounts_pb2
from countersign.v1 import events_pb2 as _events_pb2
from countersign.v1 import federation_rules_pb2 as _federation_rules_pb2
from countersign.v1 import issuers_pb2 as _issuers_pb2
from countersign.v1 import options_pb2 as _options_pb2
from countersign.v1 import orgs_pb2 as _orgs_pb2
from countersign.v1 import streams_pb2 as _streams_pb2
from countersign.v1 import tokens_pb2 as _tokens_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateOrgRequest(_message.Message):
    __slots__ = ("request_id", "slug", "display_name", "owner_email", "owner_service_account_name")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    OWNER_EMAIL_FIELD_NUMBER: _ClassVar[int]
    OWNER_SERVICE_ACCOUNT_NAME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    slug: str
    display_name: str
    owner_email: str
    owner_service_account_name: str
    def __init__(self, request_id: _Optional[str] = ..., slug: _Optional[str] = ..., display_name: _Optional[str] = ..., owner_email: _Optional[str] = ..., owner_service_account_name: _Optional[str] = ...) -> None: ...

class CreateOrgResponse(_message.Message):
    __slots__ = ("org", "owner")
    ORG_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    owner: _accounts_pb2.Account
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ..., owner: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ...) -> None: ...

class GetOrgRequest(_message.Message):
    __slots__ = ("org_id",)
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    def __init__(self, org_id: _Optional[str] = ...) -> None: ...

class GetOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class ListOrgsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOrgsResponse(_message.Message):
    __slots__ = ("orgs", "next_page_token", "total_size")
    ORGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    orgs: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.Org]
    next_page_token: str
    total_size: int
    def __init__(self, orgs: _Optional[_Iterable[_Union[_orgs_pb2.Org, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateOrgRequest(_message.Message):
    __slots__ = ("org", "update_mask")
    ORG_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class UpdateTokenPolicyRequest(_message.Message):
    __slots__ = ("org_id", "policy", "update_mask", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    policy: _orgs_pb2.TokenPolicy
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., policy: _Optional[_Union[_orgs_pb2.TokenPolicy, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class UpdateTokenPolicyResponse(_message.Message):
    __slots__ = ("policy", "affected_tokens", "affected_count", "affected_rules", "affected_rule_count")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_RULES_FIELD_NUMBER: _ClassVar[int]
    AFFECTED_RULE_COUNT_FIELD_NUMBER: _ClassVar[int]
    policy: _orgs_pb2.TokenPolicy
    affected_tokens: _containers.RepeatedCompositeFieldContainer[_tokens_pb2.Token]
    affected_count: int
    affected_rules: _containers.RepeatedCompositeFieldContainer[_federation_rules_pb2.FederationRule]
    affected_rule_count: int
    def __init__(self, policy: _Optional[_Union[_orgs_pb2.TokenPolicy, _Mapping]] = ..., affected_tokens: _Optional[_Iterable[_Union[_tokens_pb2.Token, _Mapping]]] = ..., affected_count: _Optional[int] = ..., affected_rules: _Optional[_Iterable[_Union[_federation_rules_pb2.FederationRule, _Mapping]]] = ..., affected_rule_count: _Optional[int] = ...) -> None: ...

class SuspendOrgRequest(_message.Message):
    __slots__ = ("org_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    reason: str
    def __init__(self, org_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SuspendOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class ResumeOrgRequest(_message.Message):
    __slots__ = ("org_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    reason: str
    def __init__(self, org_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ResumeOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class DeleteOrgRequest(_message.Message):
    __slots__ = ("org_id", "reason", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    reason: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., reason: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class UndeleteOrgRequest(_message.Message):
    __slots__ = ("org_id", "reason")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    reason: str
    def __init__(self, org_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class UndeleteOrgResponse(_message.Message):
    __slots__ = ("org",)
    ORG_FIELD_NUMBER: _ClassVar[int]
    org: _orgs_pb2.Org
    def __init__(self, org: _Optional[_Union[_orgs_pb2.Org, _Mapping]] = ...) -> None: ...

class CreateRoleRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "role")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    role: _orgs_pb2.Role
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., role: _Optional[_Union[_orgs_pb2.Role, _Mapping]] = ...) -> None: ...

class CreateRoleResponse(_message.Message):
    __slots__ = ("role", "first_seen_permissions")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    role: _orgs_pb2.Role
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, role: _Optional[_Union[_orgs_pb2.Role, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRoleRequest(_message.Message):
    __slots__ = ("org_id", "role_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    role_id: str
    def __init__(self, org_id: _Optional[str] = ..., role_id: _Optional[str] = ...) -> None: ...

class GetRoleResponse(_message.Message):
    __slots__ = ("role",)
    ROLE_FIELD_NUMBER: _ClassVar[int]
    role: _orgs_pb2.Role
    def __init__(self, role: _Optional[_Union[_orgs_pb2.Role, _Mapping]] = ...) -> None: ...

class ListRolesRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListRolesResponse(_message.Message):
    __slots__ = ("roles", "next_page_token", "total_size", "own_permissions")
    ROLES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    OWN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    roles: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.Role]
    next_page_token: str
    total_size: int
    own_permissions: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.PermissionDescription]
    def __init__(self, roles: _Optional[_Iterable[_Union[_orgs_pb2.Role, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ..., own_permissions: _Optional[_Iterable[_Union[_orgs_pb2.PermissionDescription, _Mapping]]] = ...) -> None: ...

class UpdateRoleRequest(_message.Message):
    __slots__ = ("org_id", "role", "update_mask")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    role: _orgs_pb2.Role
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, org_id: _Optional[str] = ..., role: _Optional[_Union[_orgs_pb2.Role, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateRoleResponse(_message.Message):
    __slots__ = ("role", "first_seen_permissions")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    role: _orgs_pb2.Role
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, role: _Optional[_Union[_orgs_pb2.Role, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteRoleRequest(_message.Message):
    __slots__ = ("org_id", "role_id", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    role_id: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., role_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteRoleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateResourceRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "path", "display_name")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    path: str
    display_name: str
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., path: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class CreateResourceResponse(_message.Message):
    __slots__ = ("resource",)
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    resource: _orgs_pb2.Resource
    def __init__(self, resource: _Optional[_Union[_orgs_pb2.Resource, _Mapping]] = ...) -> None: ...

class ListResourcesRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "parent")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    parent: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., parent: _Optional[str] = ...) -> None: ...

class ListResourcesResponse(_message.Message):
    __slots__ = ("resources", "next_page_token", "total_size")
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    resources: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.Resource]
    next_page_token: str
    total_size: int
    def __init__(self, resources: _Optional[_Iterable[_Union[_orgs_pb2.Resource, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateResourceRequest(_message.Message):
    __slots__ = ("org_id", "resource", "update_mask")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    resource: _orgs_pb2.Resource
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, org_id: _Optional[str] = ..., resource: _Optional[_Union[_orgs_pb2.Resource, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateResourceResponse(_message.Message):
    __slots__ = ("resource",)
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    resource: _orgs_pb2.Resource
    def __init__(self, resource: _Optional[_Union[_orgs_pb2.Resource, _Mapping]] = ...) -> None: ...

class DeleteResourceRequest(_message.Message):
    __slots__ = ("org_id", "path", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    path: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., path: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteResourceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMembersRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMembersResponse(_message.Message):
    __slots__ = ("members", "next_page_token", "total_size")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.Member]
    next_page_token: str
    total_size: int
    def __init__(self, members: _Optional[_Iterable[_Union[_orgs_pb2.Member, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class RemoveMemberRequest(_message.Message):
    __slots__ = ("org_id", "account_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    account_id: str
    def __init__(self, org_id: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class RemoveMemberResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateInvitationRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "email", "grants")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    email: str
    grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., email: _Optional[str] = ..., grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class CreateInvitationResponse(_message.Message):
    __slots__ = ("invitation", "first_seen_permissions")
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    invitation: _orgs_pb2.Invitation
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, invitation: _Optional[_Union[_orgs_pb2.Invitation, _Mapping]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class ListInvitationsRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "state")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    state: _orgs_pb2.InvitationState
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., state: _Optional[_Union[_orgs_pb2.InvitationState, str]] = ...) -> None: ...

class ListInvitationsResponse(_message.Message):
    __slots__ = ("invitations", "next_page_token", "total_size")
    INVITATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    invitations: _containers.RepeatedCompositeFieldContainer[_orgs_pb2.Invitation]
    next_page_token: str
    total_size: int
    def __init__(self, invitations: _Optional[_Iterable[_Union[_orgs_pb2.Invitation, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class ResendInvitationRequest(_message.Message):
    __slots__ = ("org_id", "invitation_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    INVITATION_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    invitation_id: str
    def __init__(self, org_id: _Optional[str] = ..., invitation_id: _Optional[str] = ...) -> None: ...

class ResendInvitationResponse(_message.Message):
    __slots__ = ("invitation",)
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    invitation: _orgs_pb2.Invitation
    def __init__(self, invitation: _Optional[_Union[_orgs_pb2.Invitation, _Mapping]] = ...) -> None: ...

class RevokeInvitationRequest(_message.Message):
    __slots__ = ("org_id", "invitation_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    INVITATION_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    invitation_id: str
    def __init__(self, org_id: _Optional[str] = ..., invitation_id: _Optional[str] = ...) -> None: ...

class RevokeInvitationResponse(_message.Message):
    __slots__ = ("invitation",)
    INVITATION_FIELD_NUMBER: _ClassVar[int]
    invitation: _orgs_pb2.Invitation
    def __init__(self, invitation: _Optional[_Union[_orgs_pb2.Invitation, _Mapping]] = ...) -> None: ...

class GetInvitationRequest(_message.Message):
    __slots__ = ("code",)
    CODE_FIELD_NUMBER: _ClassVar[int]
    code: str
    def __init__(self, code: _Optional[str] = ...) -> None: ...

class GetInvitationResponse(_message.Message):
    __slots__ = ("org_display_name", "email", "needs_sign_up")
    ORG_DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    NEEDS_SIGN_UP_FIELD_NUMBER: _ClassVar[int]
    org_display_name: str
    email: str
    needs_sign_up: bool
    def __init__(self, org_display_name: _Optional[str] = ..., email: _Optional[str] = ..., needs_sign_up: bool = ...) -> None: ...

class AcceptInvitationRequest(_message.Message):
    __slots__ = ("code", "given_name", "family_name", "password")
    CODE_FIELD_NUMBER: _ClassVar[int]
    GIVEN_NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_NAME_FIELD_NUMBER: _ClassVar[int]
    PASSWORD_FIELD_NUMBER: _ClassVar[int]
    code: str
    given_name: str
    family_name: str
    password: str
    def __init__(self, code: _Optional[str] = ..., given_name: _Optional[str] = ..., family_name: _Optional[str] = ..., password: _Optional[str] = ...) -> None: ...

class AcceptInvitationResponse(_message.Message):
    __slots__ = ("account", "dropped_grants")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_GRANTS_FIELD_NUMBER: _ClassVar[int]
    account: _accounts_pb2.Account
    dropped_grants: _containers.RepeatedCompositeFieldContainer[_accounts_pb2.Grant]
    def __init__(self, account: _Optional[_Union[_accounts_pb2.Account, _Mapping]] = ..., dropped_grants: _Optional[_Iterable[_Union[_accounts_pb2.Grant, _Mapping]]] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "actor_id", "resource_id", "type", "start_time", "end_time")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    actor_id: str
    resource_id: str
    type: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., actor_id: _Optional[str] = ..., resource_id: _Optional[str] = ..., type: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token", "total_size")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_events_pb2.Event]
    next_page_token: str
    total_size: int
    def __init__(self, events: _Optional[_Iterable[_Union[_events_pb2.Event, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("org_id", "cursor", "types")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    cursor: str
    types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, org_id: _Optional[str] = ..., cursor: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("event", "checkpoint")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    event: _events_pb2.Event
    checkpoint: _streams_pb2.Checkpoint
    def __init__(self, event: _Optional[_Union[_events_pb2.Event, _Mapping]] = ..., checkpoint: _Optional[_Union[_streams_pb2.Checkpoint, _Mapping]] = ...) -> None: ...

class CreateIssuerRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "issuer", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    issuer: _issuers_pb2.Issuer
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., issuer: _Optional[_Union[_issuers_pb2.Issuer, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class CreateIssuerResponse(_message.Message):
    __slots__ = ("issuer", "warnings")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    issuer: _issuers_pb2.Issuer
    warnings: _containers.RepeatedCompositeFieldContainer[_issuers_pb2.FederationWarning]
    def __init__(self, issuer: _Optional[_Union[_issuers_pb2.Issuer, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[_issuers_pb2.FederationWarning, _Mapping]]] = ...) -> None: ...

class GetIssuerRequest(_message.Message):
    __slots__ = ("org_id", "issuer_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    issuer_id: str
    def __init__(self, org_id: _Optional[str] = ..., issuer_id: _Optional[str] = ...) -> None: ...

class GetIssuerResponse(_message.Message):
    __slots__ = ("issuer",)
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    issuer: _issuers_pb2.Issuer
    def __init__(self, issuer: _Optional[_Union[_issuers_pb2.Issuer, _Mapping]] = ...) -> None: ...

class ListIssuersRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListIssuersResponse(_message.Message):
    __slots__ = ("issuers", "next_page_token", "total_size")
    ISSUERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    issuers: _containers.RepeatedCompositeFieldContainer[_issuers_pb2.Issuer]
    next_page_token: str
    total_size: int
    def __init__(self, issuers: _Optional[_Iterable[_Union[_issuers_pb2.Issuer, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateIssuerRequest(_message.Message):
    __slots__ = ("org_id", "issuer", "update_mask", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    issuer: _issuers_pb2.Issuer
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., issuer: _Optional[_Union[_issuers_pb2.Issuer, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class UpdateIssuerResponse(_message.Message):
    __slots__ = ("issuer", "warnings")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    issuer: _issuers_pb2.Issuer
    warnings: _containers.RepeatedCompositeFieldContainer[_issuers_pb2.FederationWarning]
    def __init__(self, issuer: _Optional[_Union[_issuers_pb2.Issuer, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[_issuers_pb2.FederationWarning, _Mapping]]] = ...) -> None: ...

class DeleteIssuerRequest(_message.Message):
    __slots__ = ("org_id", "issuer_id", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    issuer_id: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., issuer_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteIssuerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateFederationRuleRequest(_message.Message):
    __slots__ = ("org_id", "request_id", "rule", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    request_id: str
    rule: _federation_rules_pb2.FederationRule
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., request_id: _Optional[str] = ..., rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class CreateFederationRuleResponse(_message.Message):
    __slots__ = ("rule", "warnings", "first_seen_permissions")
    RULE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    rule: _federation_rules_pb2.FederationRule
    warnings: _containers.RepeatedCompositeFieldContainer[_issuers_pb2.FederationWarning]
    first_seen_permissions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[_issuers_pb2.FederationWarning, _Mapping]]] = ..., first_seen_permissions: _Optional[_Iterable[str]] = ...) -> None: ...

class GetFederationRuleRequest(_message.Message):
    __slots__ = ("org_id", "rule_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    rule_id: str
    def __init__(self, org_id: _Optional[str] = ..., rule_id: _Optional[str] = ...) -> None: ...

class GetFederationRuleResponse(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: _federation_rules_pb2.FederationRule
    def __init__(self, rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ...) -> None: ...

class ListFederationRulesRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "account_id", "issuer_id")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    ISSUER_ID_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    account_id: str
    issuer_id: str
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account_id: _Optional[str] = ..., issuer_id: _Optional[str] = ...) -> None: ...

class ListFederationRulesResponse(_message.Message):
    __slots__ = ("rules", "next_page_token", "total_size")
    RULES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[_federation_rules_pb2.FederationRule]
    next_page_token: str
    total_size: int
    def __init__(self, rules: _Optional[_Iterable[_Union[_federation_rules_pb2.FederationRule, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class UpdateFederationRuleRequest(_message.Message):
    __slots__ = ("org_id", "rule", "update_mask", "validate_only")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    rule: _federation_rules_pb2.FederationRule
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, org_id: _Optional[str] = ..., rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: bool = ...) -> None: ...

class UpdateFederationRuleResponse(_message.Message):
    __slots__ = ("rule", "warnings", "would_stop", "would_start")
    RULE_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    WOULD_STOP_FIELD_NUMBER: _ClassVar[int]
    WOULD_START_FIELD_NUMBER: _ClassVar[int]
    rule: _federation_rules_pb2.FederationRule
    warnings: _containers.RepeatedCompositeFieldContainer[_issuers_pb2.FederationWarning]
    would_stop: _containers.RepeatedCompositeFieldContainer[_federation_rules_pb2.Presentation]
    would_start: _containers.RepeatedCompositeFieldContainer[_federation_rules_pb2.Presentation]
    def __init__(self, rule: _Optional[_Union[_federation_rules_pb2.FederationRule, _Mapping]] = ..., warnings: _Optional[_Iterable[_Union[_issuers_pb2.FederationWarning, _Mapping]]] = ..., would_stop: _Optional[_Iterable[_Union[_federation_rules_pb2.Presentation, _Mapping]]] = ..., would_start: _Optional[_Iterable[_Union[_federation_rules_pb2.Presentation, _Mapping]]] = ...) -> None: ...

class DeleteFederationRuleRequest(_message.Message):
    __slots__ = ("org_id", "rule_id", "etag")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    RULE_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    rule_id: str
    etag: str
    def __init__(self, org_id: _Optional[str] = ..., rule_id: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class DeleteFederationRuleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPresentationsRequest(_message.Message):
    __slots__ = ("org_id", "page_size", "page_token", "rule_id", "outcome")
    ORG_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RULE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    org_id: str
    page_size: int
    page_token: str
    rule_id: str
    outcome: _federation_rules_pb2.PresentationOutcome
    def __init__(self, org_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., rule_id: _Optional[str] = ..., outcome: _Optional[_Union[_federation_rules_pb2.PresentationOutcome, str]] = ...) -> None: ...

class ListPresentationsResponse(_message.Message):
    __slots__ = ("presentations", "next_page_token", "total_size")
    PRESENTATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    presentations: _containers.RepeatedCompositeFieldContainer[_federation_rules_pb2.Presentation]
    next_page_token: str
    total_size: int
    def __init__(self, presentations: _Optional[_Iterable[_Union[_federation_rules_pb2.Presentation, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...
