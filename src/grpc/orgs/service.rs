//! `OrgService`: the handler of each RPC.

use super::{
    accept_invitation, create, events, get, invitations, lifecycle, members, resources, roles, token_policy,
    update, watch_events,
};
use crate::grpc::federation::{issuers, presentations, rules};
use crate::grpc::service::{service, streams};

service! {
    /// Tenants and what they own besides accounts and tokens.
    "countersign.v1.OrgService" {
        CreateOrg(CreateOrgRequest) -> CreateOrgResponse = create::create_org;
        GetOrg(GetOrgRequest) -> GetOrgResponse = get::get_org;
        ListOrgs(ListOrgsRequest) -> ListOrgsResponse = get::list_orgs;
        UpdateOrg(UpdateOrgRequest) -> UpdateOrgResponse = update::update_org;
        UpdateTokenPolicy(UpdateTokenPolicyRequest) -> UpdateTokenPolicyResponse = token_policy::update_token_policy;
        SuspendOrg(SuspendOrgRequest) -> SuspendOrgResponse = lifecycle::suspend_org;
        ResumeOrg(ResumeOrgRequest) -> ResumeOrgResponse = lifecycle::resume_org;
        DeleteOrg(DeleteOrgRequest) -> DeleteOrgResponse = lifecycle::delete_org;
        UndeleteOrg(UndeleteOrgRequest) -> UndeleteOrgResponse = lifecycle::undelete_org;
        CreateRole(CreateRoleRequest) -> CreateRoleResponse = roles::create_role;
        GetRole(GetRoleRequest) -> GetRoleResponse = roles::get_role;
        ListRoles(ListRolesRequest) -> ListRolesResponse = roles::list_roles;
        UpdateRole(UpdateRoleRequest) -> UpdateRoleResponse = roles::update_role;
        DeleteRole(DeleteRoleRequest) -> DeleteRoleResponse = roles::delete_role;
        CreateResource(CreateResourceRequest) -> CreateResourceResponse = resources::create_resource;
        ListResources(ListResourcesRequest) -> ListResourcesResponse = resources::list_resources;
        UpdateResource(UpdateResourceRequest) -> UpdateResourceResponse = resources::update_resource;
        DeleteResource(DeleteResourceRequest) -> DeleteResourceResponse = resources::delete_resource;
        ListMembers(ListMembersRequest) -> ListMembersResponse = members::list_members;
        RemoveMember(RemoveMemberRequest) -> RemoveMemberResponse = members::remove_member;
        CreateInvitation(CreateInvitationRequest) -> CreateInvitationResponse = invitations::create_invitation;
        ListInvitations(ListInvitationsRequest) -> ListInvitationsResponse = invitations::list_invitations;
        ResendInvitation(ResendInvitationRequest) -> ResendInvitationResponse = invitations::resend_invitation;
        RevokeInvitation(RevokeInvitationRequest) -> RevokeInvitationResponse = invitations::revoke_invitation;
        GetInvitation(GetInvitationRequest) -> GetInvitationResponse = accept_invitation::get_invitation;
        AcceptInvitation(AcceptInvitationRequest) -> AcceptInvitationResponse = accept_invitation::accept_invitation;
        ListEvents(ListEventsRequest) -> ListEventsResponse = events::list_events;
        CreateIssuer(CreateIssuerRequest) -> CreateIssuerResponse = issuers::create_issuer;
        GetIssuer(GetIssuerRequest) -> GetIssuerResponse = issuers::get_issuer;
        ListIssuers(ListIssuersRequest) -> ListIssuersResponse = issuers::list_issuers;
        UpdateIssuer(UpdateIssuerRequest) -> UpdateIssuerResponse = issuers::update_issuer;
        DeleteIssuer(DeleteIssuerRequest) -> DeleteIssuerResponse = issuers::delete_issuer;
        CreateFederationRule(CreateFederationRuleRequest) -> CreateFederationRuleResponse = rules::create_federation_rule;
        GetFederationRule(GetFederationRuleRequest) -> GetFederationRuleResponse = rules::get_federation_rule;
        ListFederationRules(ListFederationRulesRequest) -> ListFederationRulesResponse = rules::list_federation_rules;
        UpdateFederationRule(UpdateFederationRuleRequest) -> UpdateFederationRuleResponse = rules::update_federation_rule;
        DeleteFederationRule(DeleteFederationRuleRequest) -> DeleteFederationRuleResponse = rules::delete_federation_rule;
        ListPresentations(ListPresentationsRequest) -> ListPresentationsResponse = presentations::list_presentations;
    }
}

streams! {
    "countersign.v1.OrgService" {
        WatchEvents(WatchEventsRequest) = watch_events::watch_events;
    }
}
