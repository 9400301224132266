//! `OrgService`: where to find each RPC.

use super::{
    accept_invitation, create, events, get, invitations, lifecycle, members, resources, roles, token_policy,
    update,
};
use crate::grpc::wire::service::service;

service! {
    /// Tenants and what they own beside accounts and tokens.
    Orgs: crate::grpc::pb::org_service_server::OrgService {
        create_org(CreateOrgRequest) -> CreateOrgResponse = create::org;
        get_org(GetOrgRequest) -> GetOrgResponse = get::org;
        list_orgs(ListOrgsRequest) -> ListOrgsResponse = get::orgs;
        update_org(UpdateOrgRequest) -> UpdateOrgResponse = update::org;
        update_token_policy(UpdateTokenPolicyRequest) -> UpdateTokenPolicyResponse = token_policy::update;
        suspend_org(SuspendOrgRequest) -> SuspendOrgResponse = lifecycle::suspend;
        resume_org(ResumeOrgRequest) -> ResumeOrgResponse = lifecycle::resume;
        delete_org(DeleteOrgRequest) -> DeleteOrgResponse = lifecycle::delete;
        undelete_org(UndeleteOrgRequest) -> UndeleteOrgResponse = lifecycle::undelete;
        create_role(CreateRoleRequest) -> CreateRoleResponse = roles::create;
        get_role(GetRoleRequest) -> GetRoleResponse = roles::get;
        list_roles(ListRolesRequest) -> ListRolesResponse = roles::list;
        update_role(UpdateRoleRequest) -> UpdateRoleResponse = roles::update;
        delete_role(DeleteRoleRequest) -> DeleteRoleResponse = roles::delete;
        create_resource(CreateResourceRequest) -> CreateResourceResponse = resources::create;
        list_resources(ListResourcesRequest) -> ListResourcesResponse = resources::list;
        update_resource(UpdateResourceRequest) -> UpdateResourceResponse = resources::update;
        delete_resource(DeleteResourceRequest) -> DeleteResourceResponse = resources::delete;
        list_members(ListMembersRequest) -> ListMembersResponse = members::list;
        remove_member(RemoveMemberRequest) -> RemoveMemberResponse = members::remove;
        create_invitation(CreateInvitationRequest) -> CreateInvitationResponse = invitations::create;
        list_invitations(ListInvitationsRequest) -> ListInvitationsResponse = invitations::list;
        resend_invitation(ResendInvitationRequest) -> ResendInvitationResponse = invitations::resend;
        revoke_invitation(RevokeInvitationRequest) -> RevokeInvitationResponse = invitations::revoke;
        get_invitation(GetInvitationRequest) -> GetInvitationResponse = accept_invitation::get;
        accept_invitation(AcceptInvitationRequest) -> AcceptInvitationResponse = accept_invitation::accept;
        list_events(ListEventsRequest) -> ListEventsResponse = events::list;
    }
}
