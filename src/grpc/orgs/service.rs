//! `OrgService`: the handler of each RPC.

use super::{
    accept_invitation, create, events, get, invitations, lifecycle, members, resources, roles, token_policy,
    update,
};
use crate::grpc::service::service;

service! {
    /// Tenants and what they own besides accounts and tokens.
    Orgs: crate::grpc::pb::org_service_server::OrgService {
        create_org(CreateOrgRequest) -> CreateOrgResponse = create::create_org;
        get_org(GetOrgRequest) -> GetOrgResponse = get::get_org;
        list_orgs(ListOrgsRequest) -> ListOrgsResponse = get::list_orgs;
        update_org(UpdateOrgRequest) -> UpdateOrgResponse = update::update_org;
        update_token_policy(UpdateTokenPolicyRequest) -> UpdateTokenPolicyResponse = token_policy::update_token_policy;
        suspend_org(SuspendOrgRequest) -> SuspendOrgResponse = lifecycle::suspend_org;
        resume_org(ResumeOrgRequest) -> ResumeOrgResponse = lifecycle::resume_org;
        delete_org(DeleteOrgRequest) -> DeleteOrgResponse = lifecycle::delete_org;
        undelete_org(UndeleteOrgRequest) -> UndeleteOrgResponse = lifecycle::undelete_org;
        create_role(CreateRoleRequest) -> CreateRoleResponse = roles::create_role;
        get_role(GetRoleRequest) -> GetRoleResponse = roles::get_role;
        list_roles(ListRolesRequest) -> ListRolesResponse = roles::list_roles;
        update_role(UpdateRoleRequest) -> UpdateRoleResponse = roles::update_role;
        delete_role(DeleteRoleRequest) -> DeleteRoleResponse = roles::delete_role;
        create_resource(CreateResourceRequest) -> CreateResourceResponse = resources::create_resource;
        list_resources(ListResourcesRequest) -> ListResourcesResponse = resources::list_resources;
        update_resource(UpdateResourceRequest) -> UpdateResourceResponse = resources::update_resource;
        delete_resource(DeleteResourceRequest) -> DeleteResourceResponse = resources::delete_resource;
        list_members(ListMembersRequest) -> ListMembersResponse = members::list_members;
        remove_member(RemoveMemberRequest) -> RemoveMemberResponse = members::remove_member;
        create_invitation(CreateInvitationRequest) -> CreateInvitationResponse = invitations::create_invitation;
        list_invitations(ListInvitationsRequest) -> ListInvitationsResponse = invitations::list_invitations;
        resend_invitation(ResendInvitationRequest) -> ResendInvitationResponse = invitations::resend_invitation;
        revoke_invitation(RevokeInvitationRequest) -> RevokeInvitationResponse = invitations::revoke_invitation;
        get_invitation(GetInvitationRequest) -> GetInvitationResponse = accept_invitation::get_invitation;
        accept_invitation(AcceptInvitationRequest) -> AcceptInvitationResponse = accept_invitation::accept_invitation;
        list_events(ListEventsRequest) -> ListEventsResponse = events::list_events;
    }
}
