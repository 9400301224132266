"""The services of Countersign. Generated from proto/ by make_services.py: do not edit."""

from __future__ import annotations

from typing import Any

from countersign._call import Caller, Pages, Stream
from countersign.v1 import account_service_pb2, accounts_pb2, events_pb2, federation_rules_pb2, issuers_pb2, org_service_pb2, orgs_pb2, signing_keys_pb2, streams_pb2, token_service_pb2, tokens_pb2


class AccountService:
    """`countersign.v1.AccountService`. Fields are given by name, or as a request."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_service_account(self, request: account_service_pb2.CreateServiceAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.CreateServiceAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/CreateServiceAccount", account_service_pb2.CreateServiceAccountRequest, account_service_pb2.CreateServiceAccountResponse, request, fields, timeout, False)

    def create_user(self, request: account_service_pb2.CreateUserRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.CreateUserResponse:
        return self._caller.unary("/countersign.v1.AccountService/CreateUser", account_service_pb2.CreateUserRequest, account_service_pb2.CreateUserResponse, request, fields, timeout, False)

    def clone_account(self, request: account_service_pb2.CloneAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.CloneAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/CloneAccount", account_service_pb2.CloneAccountRequest, account_service_pb2.CloneAccountResponse, request, fields, timeout, False)

    def get_account(self, request: account_service_pb2.GetAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.GetAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/GetAccount", account_service_pb2.GetAccountRequest, account_service_pb2.GetAccountResponse, request, fields, timeout, True)

    def check_access(self, request: account_service_pb2.CheckAccessRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.CheckAccessResponse:
        return self._caller.unary("/countersign.v1.AccountService/CheckAccess", account_service_pb2.CheckAccessRequest, account_service_pb2.CheckAccessResponse, request, fields, timeout, True)

    def list_accounts(self, request: account_service_pb2.ListAccountsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[accounts_pb2.Account, account_service_pb2.ListAccountsResponse]:
        return self._caller.pages("/countersign.v1.AccountService/ListAccounts", account_service_pb2.ListAccountsRequest, account_service_pb2.ListAccountsResponse, request, fields, timeout, "accounts")

    def update_account(self, request: account_service_pb2.UpdateAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.UpdateAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/UpdateAccount", account_service_pb2.UpdateAccountRequest, account_service_pb2.UpdateAccountResponse, request, fields, timeout, False)

    def activate_account(self, request: account_service_pb2.ActivateAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ActivateAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/ActivateAccount", account_service_pb2.ActivateAccountRequest, account_service_pb2.ActivateAccountResponse, request, fields, timeout, False)

    def deactivate_account(self, request: account_service_pb2.DeactivateAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.DeactivateAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/DeactivateAccount", account_service_pb2.DeactivateAccountRequest, account_service_pb2.DeactivateAccountResponse, request, fields, timeout, False)

    def delete_account(self, request: account_service_pb2.DeleteAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.DeleteAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/DeleteAccount", account_service_pb2.DeleteAccountRequest, account_service_pb2.DeleteAccountResponse, request, fields, timeout, False)

    def undelete_account(self, request: account_service_pb2.UndeleteAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.UndeleteAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/UndeleteAccount", account_service_pb2.UndeleteAccountRequest, account_service_pb2.UndeleteAccountResponse, request, fields, timeout, False)

    def convert_account(self, request: account_service_pb2.ConvertAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ConvertAccountResponse:
        return self._caller.unary("/countersign.v1.AccountService/ConvertAccount", account_service_pb2.ConvertAccountRequest, account_service_pb2.ConvertAccountResponse, request, fields, timeout, False)

    def change_password(self, request: account_service_pb2.ChangePasswordRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ChangePasswordResponse:
        return self._caller.unary("/countersign.v1.AccountService/ChangePassword", account_service_pb2.ChangePasswordRequest, account_service_pb2.ChangePasswordResponse, request, fields, timeout, False)

    def set_password(self, request: account_service_pb2.SetPasswordRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.SetPasswordResponse:
        return self._caller.unary("/countersign.v1.AccountService/SetPassword", account_service_pb2.SetPasswordRequest, account_service_pb2.SetPasswordResponse, request, fields, timeout, False)

    def grant_access(self, request: account_service_pb2.GrantAccessRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.GrantAccessResponse:
        return self._caller.unary("/countersign.v1.AccountService/GrantAccess", account_service_pb2.GrantAccessRequest, account_service_pb2.GrantAccessResponse, request, fields, timeout, False)

    def revoke_access(self, request: account_service_pb2.RevokeAccessRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.RevokeAccessResponse:
        return self._caller.unary("/countersign.v1.AccountService/RevokeAccess", account_service_pb2.RevokeAccessRequest, account_service_pb2.RevokeAccessResponse, request, fields, timeout, False)

    def list_grants(self, request: account_service_pb2.ListGrantsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[accounts_pb2.Grant, account_service_pb2.ListGrantsResponse]:
        return self._caller.pages("/countersign.v1.AccountService/ListGrants", account_service_pb2.ListGrantsRequest, account_service_pb2.ListGrantsResponse, request, fields, timeout, "grants")

    def list_grantable_access(self, request: account_service_pb2.ListGrantableAccessRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ListGrantableAccessResponse:
        return self._caller.unary("/countersign.v1.AccountService/ListGrantableAccess", account_service_pb2.ListGrantableAccessRequest, account_service_pb2.ListGrantableAccessResponse, request, fields, timeout, True)

    def resolve_link(self, request: account_service_pb2.ResolveLinkRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ResolveLinkResponse:
        return self._caller.unary("/countersign.v1.AccountService/ResolveLink", account_service_pb2.ResolveLinkRequest, account_service_pb2.ResolveLinkResponse, request, fields, timeout, True)

    def request_password_reset(self, request: account_service_pb2.RequestPasswordResetRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.RequestPasswordResetResponse:
        return self._caller.unary("/countersign.v1.AccountService/RequestPasswordReset", account_service_pb2.RequestPasswordResetRequest, account_service_pb2.RequestPasswordResetResponse, request, fields, timeout, False)

    def reset_password(self, request: account_service_pb2.ResetPasswordRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.ResetPasswordResponse:
        return self._caller.unary("/countersign.v1.AccountService/ResetPassword", account_service_pb2.ResetPasswordRequest, account_service_pb2.ResetPasswordResponse, request, fields, timeout, False)

    def get_caller(self, request: account_service_pb2.GetCallerRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> account_service_pb2.GetCallerResponse:
        return self._caller.unary("/countersign.v1.AccountService/GetCaller", account_service_pb2.GetCallerRequest, account_service_pb2.GetCallerResponse, request, fields, timeout, True)


class OrgService:
    """`countersign.v1.OrgService`. Fields are given by name, or as a request."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def create_org(self, request: org_service_pb2.CreateOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateOrg", org_service_pb2.CreateOrgRequest, org_service_pb2.CreateOrgResponse, request, fields, timeout, False)

    def get_org(self, request: org_service_pb2.GetOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.GetOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/GetOrg", org_service_pb2.GetOrgRequest, org_service_pb2.GetOrgResponse, request, fields, timeout, True)

    def list_orgs(self, request: org_service_pb2.ListOrgsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[orgs_pb2.Org, org_service_pb2.ListOrgsResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListOrgs", org_service_pb2.ListOrgsRequest, org_service_pb2.ListOrgsResponse, request, fields, timeout, "orgs")

    def update_org(self, request: org_service_pb2.UpdateOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateOrg", org_service_pb2.UpdateOrgRequest, org_service_pb2.UpdateOrgResponse, request, fields, timeout, False)

    def update_token_policy(self, request: org_service_pb2.UpdateTokenPolicyRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateTokenPolicyResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateTokenPolicy", org_service_pb2.UpdateTokenPolicyRequest, org_service_pb2.UpdateTokenPolicyResponse, request, fields, timeout, False)

    def suspend_org(self, request: org_service_pb2.SuspendOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.SuspendOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/SuspendOrg", org_service_pb2.SuspendOrgRequest, org_service_pb2.SuspendOrgResponse, request, fields, timeout, False)

    def resume_org(self, request: org_service_pb2.ResumeOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.ResumeOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/ResumeOrg", org_service_pb2.ResumeOrgRequest, org_service_pb2.ResumeOrgResponse, request, fields, timeout, False)

    def delete_org(self, request: org_service_pb2.DeleteOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.DeleteOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/DeleteOrg", org_service_pb2.DeleteOrgRequest, org_service_pb2.DeleteOrgResponse, request, fields, timeout, False)

    def undelete_org(self, request: org_service_pb2.UndeleteOrgRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UndeleteOrgResponse:
        return self._caller.unary("/countersign.v1.OrgService/UndeleteOrg", org_service_pb2.UndeleteOrgRequest, org_service_pb2.UndeleteOrgResponse, request, fields, timeout, False)

    def create_role(self, request: org_service_pb2.CreateRoleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateRoleResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateRole", org_service_pb2.CreateRoleRequest, org_service_pb2.CreateRoleResponse, request, fields, timeout, False)

    def get_role(self, request: org_service_pb2.GetRoleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.GetRoleResponse:
        return self._caller.unary("/countersign.v1.OrgService/GetRole", org_service_pb2.GetRoleRequest, org_service_pb2.GetRoleResponse, request, fields, timeout, True)

    def list_roles(self, request: org_service_pb2.ListRolesRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.ListRolesResponse:
        return self._caller.unary("/countersign.v1.OrgService/ListRoles", org_service_pb2.ListRolesRequest, org_service_pb2.ListRolesResponse, request, fields, timeout, True)

    def update_role(self, request: org_service_pb2.UpdateRoleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateRoleResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateRole", org_service_pb2.UpdateRoleRequest, org_service_pb2.UpdateRoleResponse, request, fields, timeout, False)

    def delete_role(self, request: org_service_pb2.DeleteRoleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.DeleteRoleResponse:
        return self._caller.unary("/countersign.v1.OrgService/DeleteRole", org_service_pb2.DeleteRoleRequest, org_service_pb2.DeleteRoleResponse, request, fields, timeout, False)

    def create_resource(self, request: org_service_pb2.CreateResourceRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateResourceResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateResource", org_service_pb2.CreateResourceRequest, org_service_pb2.CreateResourceResponse, request, fields, timeout, False)

    def list_resources(self, request: org_service_pb2.ListResourcesRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[orgs_pb2.Resource, org_service_pb2.ListResourcesResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListResources", org_service_pb2.ListResourcesRequest, org_service_pb2.ListResourcesResponse, request, fields, timeout, "resources")

    def update_resource(self, request: org_service_pb2.UpdateResourceRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateResourceResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateResource", org_service_pb2.UpdateResourceRequest, org_service_pb2.UpdateResourceResponse, request, fields, timeout, False)

    def delete_resource(self, request: org_service_pb2.DeleteResourceRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.DeleteResourceResponse:
        return self._caller.unary("/countersign.v1.OrgService/DeleteResource", org_service_pb2.DeleteResourceRequest, org_service_pb2.DeleteResourceResponse, request, fields, timeout, False)

    def list_members(self, request: org_service_pb2.ListMembersRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[orgs_pb2.Member, org_service_pb2.ListMembersResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListMembers", org_service_pb2.ListMembersRequest, org_service_pb2.ListMembersResponse, request, fields, timeout, "members")

    def remove_member(self, request: org_service_pb2.RemoveMemberRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.RemoveMemberResponse:
        return self._caller.unary("/countersign.v1.OrgService/RemoveMember", org_service_pb2.RemoveMemberRequest, org_service_pb2.RemoveMemberResponse, request, fields, timeout, False)

    def create_invitation(self, request: org_service_pb2.CreateInvitationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateInvitationResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateInvitation", org_service_pb2.CreateInvitationRequest, org_service_pb2.CreateInvitationResponse, request, fields, timeout, False)

    def list_invitations(self, request: org_service_pb2.ListInvitationsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[orgs_pb2.Invitation, org_service_pb2.ListInvitationsResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListInvitations", org_service_pb2.ListInvitationsRequest, org_service_pb2.ListInvitationsResponse, request, fields, timeout, "invitations")

    def resend_invitation(self, request: org_service_pb2.ResendInvitationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.ResendInvitationResponse:
        return self._caller.unary("/countersign.v1.OrgService/ResendInvitation", org_service_pb2.ResendInvitationRequest, org_service_pb2.ResendInvitationResponse, request, fields, timeout, False)

    def revoke_invitation(self, request: org_service_pb2.RevokeInvitationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.RevokeInvitationResponse:
        return self._caller.unary("/countersign.v1.OrgService/RevokeInvitation", org_service_pb2.RevokeInvitationRequest, org_service_pb2.RevokeInvitationResponse, request, fields, timeout, False)

    def get_invitation(self, request: org_service_pb2.GetInvitationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.GetInvitationResponse:
        return self._caller.unary("/countersign.v1.OrgService/GetInvitation", org_service_pb2.GetInvitationRequest, org_service_pb2.GetInvitationResponse, request, fields, timeout, True)

    def accept_invitation(self, request: org_service_pb2.AcceptInvitationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.AcceptInvitationResponse:
        return self._caller.unary("/countersign.v1.OrgService/AcceptInvitation", org_service_pb2.AcceptInvitationRequest, org_service_pb2.AcceptInvitationResponse, request, fields, timeout, False)

    def list_events(self, request: org_service_pb2.ListEventsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[events_pb2.Event, org_service_pb2.ListEventsResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListEvents", org_service_pb2.ListEventsRequest, org_service_pb2.ListEventsResponse, request, fields, timeout, "events")

    def watch_events(self, request: org_service_pb2.WatchEventsRequest | None = None, /, *, timeout: float | None = None, **fields: Any) -> Stream[org_service_pb2.WatchEventsResponse]:
        return self._caller.stream("/countersign.v1.OrgService/WatchEvents", org_service_pb2.WatchEventsRequest, org_service_pb2.WatchEventsResponse, request, fields, timeout)

    def create_issuer(self, request: org_service_pb2.CreateIssuerRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateIssuerResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateIssuer", org_service_pb2.CreateIssuerRequest, org_service_pb2.CreateIssuerResponse, request, fields, timeout, False)

    def get_issuer(self, request: org_service_pb2.GetIssuerRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.GetIssuerResponse:
        return self._caller.unary("/countersign.v1.OrgService/GetIssuer", org_service_pb2.GetIssuerRequest, org_service_pb2.GetIssuerResponse, request, fields, timeout, True)

    def list_issuers(self, request: org_service_pb2.ListIssuersRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[issuers_pb2.Issuer, org_service_pb2.ListIssuersResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListIssuers", org_service_pb2.ListIssuersRequest, org_service_pb2.ListIssuersResponse, request, fields, timeout, "issuers")

    def update_issuer(self, request: org_service_pb2.UpdateIssuerRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateIssuerResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateIssuer", org_service_pb2.UpdateIssuerRequest, org_service_pb2.UpdateIssuerResponse, request, fields, timeout, False)

    def delete_issuer(self, request: org_service_pb2.DeleteIssuerRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.DeleteIssuerResponse:
        return self._caller.unary("/countersign.v1.OrgService/DeleteIssuer", org_service_pb2.DeleteIssuerRequest, org_service_pb2.DeleteIssuerResponse, request, fields, timeout, False)

    def create_federation_rule(self, request: org_service_pb2.CreateFederationRuleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.CreateFederationRuleResponse:
        return self._caller.unary("/countersign.v1.OrgService/CreateFederationRule", org_service_pb2.CreateFederationRuleRequest, org_service_pb2.CreateFederationRuleResponse, request, fields, timeout, False)

    def get_federation_rule(self, request: org_service_pb2.GetFederationRuleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.GetFederationRuleResponse:
        return self._caller.unary("/countersign.v1.OrgService/GetFederationRule", org_service_pb2.GetFederationRuleRequest, org_service_pb2.GetFederationRuleResponse, request, fields, timeout, True)

    def list_federation_rules(self, request: org_service_pb2.ListFederationRulesRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[federation_rules_pb2.FederationRule, org_service_pb2.ListFederationRulesResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListFederationRules", org_service_pb2.ListFederationRulesRequest, org_service_pb2.ListFederationRulesResponse, request, fields, timeout, "rules")

    def update_federation_rule(self, request: org_service_pb2.UpdateFederationRuleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.UpdateFederationRuleResponse:
        return self._caller.unary("/countersign.v1.OrgService/UpdateFederationRule", org_service_pb2.UpdateFederationRuleRequest, org_service_pb2.UpdateFederationRuleResponse, request, fields, timeout, False)

    def delete_federation_rule(self, request: org_service_pb2.DeleteFederationRuleRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> org_service_pb2.DeleteFederationRuleResponse:
        return self._caller.unary("/countersign.v1.OrgService/DeleteFederationRule", org_service_pb2.DeleteFederationRuleRequest, org_service_pb2.DeleteFederationRuleResponse, request, fields, timeout, False)

    def list_presentations(self, request: org_service_pb2.ListPresentationsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[federation_rules_pb2.Presentation, org_service_pb2.ListPresentationsResponse]:
        return self._caller.pages("/countersign.v1.OrgService/ListPresentations", org_service_pb2.ListPresentationsRequest, org_service_pb2.ListPresentationsResponse, request, fields, timeout, "presentations")


class TokenService:
    """`countersign.v1.TokenService`. Fields are given by name, or as a request."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def login(self, request: token_service_pb2.LoginRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.LoginResponse:
        return self._caller.unary("/countersign.v1.TokenService/Login", token_service_pb2.LoginRequest, token_service_pb2.LoginResponse, request, fields, timeout, False)

    def logout(self, request: token_service_pb2.LogoutRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.LogoutResponse:
        return self._caller.unary("/countersign.v1.TokenService/Logout", token_service_pb2.LogoutRequest, token_service_pb2.LogoutResponse, request, fields, timeout, False)

    def revoke_account_sessions(self, request: token_service_pb2.RevokeAccountSessionsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RevokeAccountSessionsResponse:
        return self._caller.unary("/countersign.v1.TokenService/RevokeAccountSessions", token_service_pb2.RevokeAccountSessionsRequest, token_service_pb2.RevokeAccountSessionsResponse, request, fields, timeout, False)

    def create_token(self, request: token_service_pb2.CreateTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.CreateTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/CreateToken", token_service_pb2.CreateTokenRequest, token_service_pb2.CreateTokenResponse, request, fields, timeout, False)

    def get_token(self, request: token_service_pb2.GetTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.GetTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/GetToken", token_service_pb2.GetTokenRequest, token_service_pb2.GetTokenResponse, request, fields, timeout, True)

    def list_tokens(self, request: token_service_pb2.ListTokensRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[tokens_pb2.Token, token_service_pb2.ListTokensResponse]:
        return self._caller.pages("/countersign.v1.TokenService/ListTokens", token_service_pb2.ListTokensRequest, token_service_pb2.ListTokensResponse, request, fields, timeout, "tokens")

    def rotate_token(self, request: token_service_pb2.RotateTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RotateTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/RotateToken", token_service_pb2.RotateTokenRequest, token_service_pb2.RotateTokenResponse, request, fields, timeout, False)

    def finish_rotation(self, request: token_service_pb2.FinishRotationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.FinishRotationResponse:
        return self._caller.unary("/countersign.v1.TokenService/FinishRotation", token_service_pb2.FinishRotationRequest, token_service_pb2.FinishRotationResponse, request, fields, timeout, False)

    def cancel_rotation(self, request: token_service_pb2.CancelRotationRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.CancelRotationResponse:
        return self._caller.unary("/countersign.v1.TokenService/CancelRotation", token_service_pb2.CancelRotationRequest, token_service_pb2.CancelRotationResponse, request, fields, timeout, False)

    def update_token(self, request: token_service_pb2.UpdateTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.UpdateTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/UpdateToken", token_service_pb2.UpdateTokenRequest, token_service_pb2.UpdateTokenResponse, request, fields, timeout, False)

    def revoke_token(self, request: token_service_pb2.RevokeTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RevokeTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/RevokeToken", token_service_pb2.RevokeTokenRequest, token_service_pb2.RevokeTokenResponse, request, fields, timeout, False)

    def revoke_account_tokens(self, request: token_service_pb2.RevokeAccountTokensRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RevokeAccountTokensResponse:
        return self._caller.unary("/countersign.v1.TokenService/RevokeAccountTokens", token_service_pb2.RevokeAccountTokensRequest, token_service_pb2.RevokeAccountTokensResponse, request, fields, timeout, False)

    def reassign_token(self, request: token_service_pb2.ReassignTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ReassignTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/ReassignToken", token_service_pb2.ReassignTokenRequest, token_service_pb2.ReassignTokenResponse, request, fields, timeout, False)

    def reassign_account_tokens(self, request: token_service_pb2.ReassignAccountTokensRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ReassignAccountTokensResponse:
        return self._caller.unary("/countersign.v1.TokenService/ReassignAccountTokens", token_service_pb2.ReassignAccountTokensRequest, token_service_pb2.ReassignAccountTokensResponse, request, fields, timeout, False)

    def exchange_token(self, request: token_service_pb2.ExchangeTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ExchangeTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/ExchangeToken", token_service_pb2.ExchangeTokenRequest, token_service_pb2.ExchangeTokenResponse, request, fields, timeout, False)

    def explain_token(self, request: token_service_pb2.ExplainTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ExplainTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/ExplainToken", token_service_pb2.ExplainTokenRequest, token_service_pb2.ExplainTokenResponse, request, fields, timeout, True)

    def impersonate_account(self, request: token_service_pb2.ImpersonateAccountRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ImpersonateAccountResponse:
        return self._caller.unary("/countersign.v1.TokenService/ImpersonateAccount", token_service_pb2.ImpersonateAccountRequest, token_service_pb2.ImpersonateAccountResponse, request, fields, timeout, False)

    def introspect_token(self, request: token_service_pb2.IntrospectTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.IntrospectTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/IntrospectToken", token_service_pb2.IntrospectTokenRequest, token_service_pb2.IntrospectTokenResponse, request, fields, timeout, True)

    def batch_introspect_tokens(self, request: token_service_pb2.BatchIntrospectTokensRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.BatchIntrospectTokensResponse:
        return self._caller.unary("/countersign.v1.TokenService/BatchIntrospectTokens", token_service_pb2.BatchIntrospectTokensRequest, token_service_pb2.BatchIntrospectTokensResponse, request, fields, timeout, True)

    def report_leaked_token(self, request: token_service_pb2.ReportLeakedTokenRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.ReportLeakedTokenResponse:
        return self._caller.unary("/countersign.v1.TokenService/ReportLeakedToken", token_service_pb2.ReportLeakedTokenRequest, token_service_pb2.ReportLeakedTokenResponse, request, fields, timeout, False)

    def get_json_web_key_set(self, request: token_service_pb2.GetJsonWebKeySetRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.GetJsonWebKeySetResponse:
        return self._caller.unary("/countersign.v1.TokenService/GetJsonWebKeySet", token_service_pb2.GetJsonWebKeySetRequest, token_service_pb2.GetJsonWebKeySetResponse, request, fields, timeout, True)

    def list_signing_keys(self, request: token_service_pb2.ListSigningKeysRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[signing_keys_pb2.SigningKey, token_service_pb2.ListSigningKeysResponse]:
        return self._caller.pages("/countersign.v1.TokenService/ListSigningKeys", token_service_pb2.ListSigningKeysRequest, token_service_pb2.ListSigningKeysResponse, request, fields, timeout, "signing_keys")

    def rotate_signing_key(self, request: token_service_pb2.RotateSigningKeyRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RotateSigningKeyResponse:
        return self._caller.unary("/countersign.v1.TokenService/RotateSigningKey", token_service_pb2.RotateSigningKeyRequest, token_service_pb2.RotateSigningKeyResponse, request, fields, timeout, False)

    def revoke_signing_key(self, request: token_service_pb2.RevokeSigningKeyRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.RevokeSigningKeyResponse:
        return self._caller.unary("/countersign.v1.TokenService/RevokeSigningKey", token_service_pb2.RevokeSigningKeyRequest, token_service_pb2.RevokeSigningKeyResponse, request, fields, timeout, False)

    def watch_revocations(self, request: token_service_pb2.WatchRevocationsRequest | None = None, /, *, timeout: float | None = None, **fields: Any) -> Stream[token_service_pb2.WatchRevocationsResponse]:
        return self._caller.stream("/countersign.v1.TokenService/WatchRevocations", token_service_pb2.WatchRevocationsRequest, token_service_pb2.WatchRevocationsResponse, request, fields, timeout)

    def acknowledge_revocations(self, request: token_service_pb2.AcknowledgeRevocationsRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> token_service_pb2.AcknowledgeRevocationsResponse:
        return self._caller.unary("/countersign.v1.TokenService/AcknowledgeRevocations", token_service_pb2.AcknowledgeRevocationsRequest, token_service_pb2.AcknowledgeRevocationsResponse, request, fields, timeout, False)

    def list_verifiers(self, request: token_service_pb2.ListVerifiersRequest | None = None, /, *, timeout: float = 10, **fields: Any) -> Pages[streams_pb2.Verifier, token_service_pb2.ListVerifiersResponse]:
        return self._caller.pages("/countersign.v1.TokenService/ListVerifiers", token_service_pb2.ListVerifiersRequest, token_service_pb2.ListVerifiersResponse, request, fields, timeout, "verifiers")
