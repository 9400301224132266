//! `OrgService`: where to find each RPC.

use super::orgs::{create, get, resources};
use super::service;

service! {
    /// Tenants and what they own beside accounts and tokens.
    Orgs: super::pb::org_service_server::OrgService {
        create_org(CreateOrgRequest) -> CreateOrgResponse = create::org;
        get_org(GetOrgRequest) -> GetOrgResponse = get::org;
        list_orgs(ListOrgsRequest) -> ListOrgsResponse = get::orgs;
        create_resource(CreateResourceRequest) -> CreateResourceResponse = resources::create;
        list_resources(ListResourcesRequest) -> ListResourcesResponse = resources::list;
    }
}
