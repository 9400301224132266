//! `OrgService`: where to find each RPC.

use super::orgs::{create, get, resources, roles};
use super::service;

service! {
    /// Tenants and what they own beside accounts and tokens.
    Orgs: super::pb::org_service_server::OrgService {
        create_org(CreateOrgRequest) -> CreateOrgResponse = create::org;
        get_org(GetOrgRequest) -> GetOrgResponse = get::org;
        list_orgs(ListOrgsRequest) -> ListOrgsResponse = get::orgs;
        create_role(CreateRoleRequest) -> CreateRoleResponse = roles::create;
        get_role(GetRoleRequest) -> GetRoleResponse = roles::get;
        list_roles(ListRolesRequest) -> ListRolesResponse = roles::list;
        update_role(UpdateRoleRequest) -> UpdateRoleResponse = roles::update;
        delete_role(DeleteRoleRequest) -> DeleteRoleResponse = roles::delete;
        create_resource(CreateResourceRequest) -> CreateResourceResponse = resources::create;
        list_resources(ListResourcesRequest) -> ListResourcesResponse = resources::list;
        update_resource(UpdateResourceRequest) -> UpdateResourceResponse = resources::update;
        delete_resource(DeleteResourceRequest) -> DeleteResourceResponse = resources::delete;
    }
}
