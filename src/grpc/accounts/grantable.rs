//! `ListGrantableAccess`: what the caller could grant, and what the account already holds.

use std::collections::HashSet;

use sqlx::PgConnection;

use crate::db;
use crate::db::references;
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::{HeldGrant, HeldGrants};
use crate::domain::access::roles::CustomRole;
use crate::domain::limits::Limit;
use crate::domain::values::ids::{AccountId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

/// The maximum number of application permissions in one response.
const MAX_PERMISSIONS: usize = 1_000;

/// The account that could receive grants.
struct Recipient {
    /// The kinds that it may have; an existing account has exactly one.
    kinds: Vec<AccountKind>,
    /// None for an account that is not created yet.
    account_id: Option<AccountId>,
    grants: HeldGrants,
}

impl Recipient {
    async fn find(
        db: &mut PgConnection,
        acting: &Acting<'_>,
        account: Option<AccountRef>,
        kind: Option<AccountKind>,
    ) -> Result<Self> {
        let Some(named) = account else {
            let kinds = kind.map_or_else(|| AccountKind::ALL.to_vec(), |kind| vec![kind]);
            return Ok(Self { kinds, account_id: None, grants: HeldGrants::default() });
        };
        let id = references::account(&mut *db, acting, &named).await?;
        let member = db::orgs::memberships::find(&mut *db, acting.org_id, id).await?;
        let member = member.ok_or_else(|| Error::not_found("account", &named))?;
        let grants = db::accounts::grants::find_held(db, acting.org_id, id).await?;
        Ok(Self { kinds: vec![member.kind()?], account_id: Some(id), grants })
    }

    /// The rights that are granted there or above; `member` comes with every membership.
    fn granted_on(&self, node: &Node) -> HashSet<Right> {
        let covering = self.grants.iter().filter(|grant| grant.node.covers(node));
        let member = self.account_id.map(|_| Right::System(SystemRole::Member));
        covering.map(|grant| grant.right.clone()).chain(member).collect()
    }

    /// The nodes on which anything is granted: none for the whole org, else paths.
    fn nodes(&self) -> HashSet<Option<&str>> {
        self.grants.iter().map(|grant| grant.node.path().map(ResourcePath::as_str)).collect()
    }
}

pub async fn list_grantable_access(
    state: &State,
    call: &Call,
    request: pb::ListGrantableAccessRequest,
) -> Result<pb::ListGrantableAccessResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let node = convert::optional(&request.resource, Node::parse).map(|node| node.unwrap_or(Node::Org));
    acting.require(&Permission::ACCOUNTS_READ, node.as_ref().unwrap_or(&Node::Org))?;

    let mut violations = Violations::default();
    let node = violations.check("resource", node);
    let account_id =
        violations.check("account_id", convert::optional(&request.account_id, AccountRef::parse));
    let kind = violations.check("account_kind", kind(&request));
    let (node, account_id, kind) = violations.all((node, account_id, kind))?;
    let filter = pb::ListGrantableAccessRequest {
        org_id: String::new(),
        page_size: 0,
        page_token: String::new(),
        ..request.clone()
    };
    let (size, token) = (request.page_size, request.page_token.as_str());
    let paging = Paging::read(state, &acting, "ListGrantableAccess", &filter, size, token)?;

    let mut db = call.read(state).await?;
    let recipient = Recipient::find(&mut db, &acting, account_id, kind).await?;
    if let Some(path) = node.path()
        && db::orgs::resources::find(&mut *db, acting.org_id, path).await?.is_none()
    {
        return Err(Error::invalid("resource", "no such resource in the org: create it first"));
    }
    let mut response = pb::ListGrantableAccessResponse::default();
    if paging.after.is_none() {
        response.roles = roles(&mut db, &acting, &recipient, &node).await?;
        (response.permissions, response.more_permissions) =
            permissions(&mut db, &acting, &recipient, &node).await?;
    }
    let after = paging.after(ResourcePath::parse);
    let page =
        db::orgs::resources::page(&mut db, acting.org_id, node.path(), after.as_ref(), paging.size).await?;
    let nodes = recipient.nodes();
    let page = paging.answer(state, page, |row| resource(&acting, &nodes, row))?;
    response.resources = page.items;
    response.next_page_token = page.next_page_token;
    response.total_size = page.total_size;
    Ok(response)
}

/// The kind of an account that is not created yet; none if it is left open.
fn kind(request: &pb::ListGrantableAccessRequest) -> Result<Option<AccountKind>, &'static str> {
    if request.account_kind == pb::AccountKind::Unspecified as i32 {
        Ok(None)
    } else if request.account_id.is_empty() {
        convert::parse_account_kind(request.account_kind).map(Some)
    } else {
        Err("must be absent beside an account_id: the account has its kind")
    }
}

async fn roles(
    db: &mut PgConnection,
    acting: &Acting<'_>,
    recipient: &Recipient,
    node: &Node,
) -> Result<Vec<pb::GrantableRole>> {
    let granted = recipient.granted_on(node);
    let judge = |right: Right, terms: CustomRole, name: String, display_name: Option<String>| {
        let is_for = recipient.kinds.iter().any(|kind| terms.is_for(*kind));
        let grant = HeldGrant { right, node: node.clone(), role_permissions: terms.permissions };
        pb::GrantableRole {
            role_id: grant.right.to_string(),
            name,
            display_name: display_name.unwrap_or_default(),
            held: granted.contains(&grant.right),
            grantable: is_for && acting.could_give(&grant),
        }
    };
    let system = SystemRole::ALL
        .map(|role| judge(Right::System(role), CustomRole::default(), role.id().to_owned(), None));
    let mut all = Vec::from(system);
    for role in db::orgs::roles::find_after(db, acting.org_id, None, Limit::ROLES_OF_ORG.most).await? {
        all.push(judge(Right::Custom(role.id()), role.fields()?.terms, role.name, role.display_name));
    }
    Ok(all)
}

async fn permissions(
    db: &mut PgConnection,
    acting: &Acting<'_>,
    recipient: &Recipient,
    node: &Node,
) -> Result<(Vec<pb::GrantablePermission>, bool)> {
    let mut named =
        db::accounts::grants::find_named_permissions(db, acting.org_id, MAX_PERMISSIONS + 1).await?;
    let more = named.len() > MAX_PERMISSIONS;
    named.truncate(MAX_PERMISSIONS);
    let own = Permission::OWN.iter().filter(|own| acting.org_id == SYSTEM_ORG || !own.is_platform());
    named.extend(own.cloned());
    named.sort();
    let held = recipient.grants.rights();
    let judge = |permission: Permission| {
        let held = held.cover(&permission, node);
        let text = permission.to_string();
        let right = Right::Permission(permission);
        let grant = HeldGrant { right, node: node.clone(), role_permissions: PermissionSet::default() };
        pb::GrantablePermission { permission: text, held, grantable: acting.could_give(&grant) }
    };
    Ok((named.into_iter().map(judge).collect(), more))
}

fn resource(
    acting: &Acting<'_>,
    nodes: &HashSet<Option<&str>>,
    row: db::orgs::resources::Resource,
) -> Result<pb::GrantableResource> {
    let node = row.node()?;
    Ok(pb::GrantableResource {
        held: node.lineage().any(|above| nodes.contains(&above)),
        grantable: acting.could_give_on(&node),
        path: row.path,
        display_name: row.display_name.unwrap_or_default(),
    })
}
