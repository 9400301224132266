//! `GrantAccess`, `RevokeAccess` and `ListGrants`.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::messages;
use super::owners::{keep_one, keep_one_without_guest};
use crate::db;
use crate::db::accounts::grants::{Grant, GrantFilter, described, held, subjects, touched};
use crate::db::events::{Change, FieldChange};
use crate::db::orgs::memberships::MemberRow;
use crate::db::{named_permissions, references};
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::{HeldGrant, owning_right};
use crate::domain::access::roles::may_hold;
use crate::domain::tokens::limits::MAX_LIST;
use crate::domain::values::ids::{AccountId, GrantId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::references::{AccountRef, RightRef, RoleRef};
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::list_grants_request::Filter as PbFilter;
use crate::grpc::wire::convert;
use crate::grpc::wire::page_token::Paging;
use crate::state::State;

pub async fn grant_access(
    state: &State,
    call: &Call,
    request: pb::GrantAccessRequest,
) -> Result<pb::GrantAccessResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", AccountRef::parse(&request.account_id));
    let grants = convert::grants(&mut violations, &request.grants);
    if request.grants.is_empty() {
        violations.add("grants", "is required");
    }
    // Checks the right that is certainly needed before reporting other violations.
    for node in nodes(grants.iter().map(|(_, node)| node), request.grants.len()) {
        acting.require(&Permission::ACCOUNTS_WRITE, node)?;
    }
    let (named,) = violations.all((named,))?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account_id = references::account(&mut tx, &acting, &named).await?;
        let asked = references::rights(&mut tx, acting.org_id, &grants).await?;
        tx.lock_org().await?;
        let member = db::orgs::memberships::lock(&mut tx, acting.org_id, account_id).await?;
        let kind = member.as_ref().map(MemberRow::kind).transpose()?;
        let grants = givable(&mut tx, &acting, kind, &asked).await?;
        member.ok_or_else(|| Error::not_found("account", &named))?;
        let numbered: Vec<_> = grants.iter().map(|grant| (state.clock.new_id::<GrantId>(), grant)).collect();
        let given = db::accounts::grants::insert(&mut tx, acting.org_id, account_id, &numbered, now).await?;
        let first_seen_permissions = named_permissions::note_grants(&mut tx, acting.org_id, &asked).await?;
        if !given.is_empty() {
            let change = Change::of("access.granted", touched(account_id, &given))
                .fields(given.iter().map(|grant| FieldChange::set("grants", described(grant))))
                .subjects(subjects(acting.org_id, account_id, &given));
            tx.record(change).await?;
        }
        let all = db::accounts::grants::find_of(&mut *tx, acting.org_id, account_id).await?;
        tx.commit().await?;
        let (rights, pairs): (Vec<_>, Vec<_>) = grants
            .into_iter()
            .map(|grant| (Some(grant.right.clone()), NamedGrant::Pair(grant.right.into(), grant.node)))
            .unzip();
        let (named, _) = split(account_id, all, &pairs, &rights)?;
        Ok(pb::GrantAccessResponse {
            account_grants: named.iter().map(messages::grant).collect::<Result<_>>()?,
            first_seen_permissions,
        })
    })
}

/// A grant of an account, as named by a request.
pub enum NamedGrant {
    Id(GrantId),
    Pair(RightRef, Node),
}

impl NamedGrant {
    /// What it was found to be, as text that tells it from any other.
    pub fn bound(&self, right: Option<&Right>) -> String {
        match (self, right) {
            (Self::Id(id), _) => id.to_string(),
            (Self::Pair(_, node), Some(right)) => format!("{right} on {node}"),
            (Self::Pair(right, node), None) => format!("{right} on {node}"),
        }
    }
}

/// The rights of those that are named by right and resource, in their order; none for the others.
pub async fn rights_of(
    tx: &mut PgConnection,
    org_id: OrgId,
    named: &[NamedGrant],
) -> Result<Vec<Option<Right>>> {
    let pair = |name: &NamedGrant| match name {
        NamedGrant::Id(_) => None,
        NamedGrant::Pair(right, node) => Some((right.clone(), node.clone())),
    };
    let pairs: Vec<_> = named.iter().filter_map(pair).collect();
    let mut rights = references::rights(tx, org_id, &pairs).await?.into_iter().map(|(right, _)| right);
    Ok(named.iter().map(|name| if let NamedGrant::Pair(..) = name { rights.next() } else { None }).collect())
}

pub async fn revoke_access(
    state: &State,
    call: &Call,
    request: pb::RevokeAccessRequest,
) -> Result<pb::RevokeAccessResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let mut violations = Violations::default();
    let account = violations.check("account_id", AccountRef::parse(&request.account_id));
    let named = named(&mut violations, "grants", &request.grants);
    if request.grants.is_empty() {
        violations.add("grants", "is required");
    }
    let pairs =
        named.iter().filter_map(|name| if let NamedGrant::Pair(_, node) = name { Some(node) } else { None });
    let id = |name: &NamedGrant| if let NamedGrant::Id(id) = name { Some(*id) } else { None };
    let ids: Vec<_> = named.iter().filter_map(id).collect();
    if !ids.is_empty() {
        acting.require_somewhere(&Permission::ACCOUNTS_WRITE)?;
    }
    for node in nodes(pairs, if ids.is_empty() { request.grants.len() } else { 0 }) {
        acting.require(&Permission::ACCOUNTS_WRITE, node)?;
    }
    let (account,) = violations.all((account,))?;
    // Before the org is locked: a caller without the right makes no other call wait.
    let found = match ids.as_slice() {
        [] => Vec::new(),
        ids => {
            let mut db = call.read(state).await?;
            let account_id = references::account(&mut db, &acting, &account).await?;
            db::accounts::grants::find_by_ids(&mut *db, acting.org_id, account_id, ids).await?
        }
    };
    for id in &ids {
        let named = found.iter().find(|grant| grant.id() == *id);
        may_revoke(&acting, named.ok_or_else(|| Error::not_found("grant", id))?, true)?;
    }

    transact!(state, &acting, |mut tx| {
        let account_id = references::account(&mut tx, &acting, &account).await?;
        let rights = rights_of(&mut tx, acting.org_id, &named).await?;
        tx.lock_org().await?;
        let member = db::orgs::memberships::lock(&mut tx, acting.org_id, account_id).await?.is_some();
        // Deleted accounts as well: their grants would prevent the deletion of a role or a
        // resource.
        let there = member || db::accounts::lock_any(&mut tx, acting.org_id, account_id).await?.is_some();
        let grants = match there {
            true => db::accounts::grants::find_of(&mut *tx, acting.org_id, account_id).await?,
            false => Vec::new(),
        };
        let (taken, kept) = split(account_id, grants, &named, &rights)?;
        for grant in &taken {
            may_revoke(&acting, grant, ids.contains(&grant.id()))?;
        }
        let held_before = db::accounts::grants::find_held(&mut tx, acting.org_id, account_id).await?;
        acting.may_stop(&held_before)?;
        let owning = owning_right(acting.org_id);
        let still = kept.iter().any(|grant| grant.right_id == owning && grant.resource.is_none());
        match db::accounts::find_any(&mut *tx, acting.org_id, account_id).await? {
            Some(account) => {
                let becomes = if still { Some(account.state()?) } else { None };
                keep_one(&mut tx, acting.org_id, &account, &held_before, becomes).await?;
            }
            None if still => {}
            None => keep_one_without_guest(&mut tx, acting.org_id, account_id, &held_before).await?,
        }
        let gone: Vec<_> = taken.iter().map(Grant::id).collect();
        db::accounts::grants::delete(&mut tx, acting.org_id, &gone).await?;
        db::accounts::raise_version(&mut tx, acting.org_id, account_id).await?;
        let change = Change::of("access.revoked", touched(account_id, &taken))
            .fields(taken.iter().map(|grant| FieldChange::cleared("grants", described(grant))))
            .subjects(subjects(acting.org_id, account_id, &taken));
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::RevokeAccessResponse {
            account_grants: taken.iter().map(messages::grant).collect::<Result<_>>()?,
        })
    })
}

/// Refuses to revoke a grant on a node where the caller may not write. To that caller, one that was
/// named by its id does not exist.
fn may_revoke(acting: &Acting<'_>, grant: &Grant, by_id: bool) -> Result<()> {
    let may = acting.require(&Permission::ACCOUNTS_WRITE, &grant.node()?);
    may.map_err(|error| if by_id { Error::not_found("grant", grant.id()) } else { error })
}

pub async fn list_grants(
    state: &State,
    call: &Call,
    request: pb::ListGrantsRequest,
) -> Result<pb::ListGrantsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let mut violations = Violations::default();
    let filter = match &request.filter {
        None => violations.check("filter", Err("is required: account_id, role_id, resource or permission")),
        Some(PbFilter::AccountId(id)) => {
            violations.check("account_id", AccountRef::parse(id)).map(AskedFilter::Account)
        }
        Some(PbFilter::RoleId(id)) => violations.check("role_id", RoleRef::parse(id)).map(AskedFilter::Role),
        Some(PbFilter::Resource(node)) => {
            violations.check("resource", Node::parse(node)).map(AskedFilter::Node)
        }
        Some(PbFilter::Permission(permission)) => {
            violations.check("permission", Permission::parse(permission)).map(AskedFilter::Permission)
        }
    };
    match &filter {
        Some(AskedFilter::Account(named))
            if acting.may_read_self(acting.before_look_up(named), &Permission::ACCOUNTS_READ) => {}
        Some(AskedFilter::Node(node)) => acting.require(&Permission::ACCOUNTS_READ, node)?,
        _ => acting.require(&Permission::ACCOUNTS_READ, &Node::Org)?,
    }
    let (filter,) = violations.all((filter,))?;

    let same = pb::ListGrantsRequest { filter: request.filter, ..Default::default() };
    let paging = Paging::read(state, &acting, "ListGrants", &same, request.page_size, &request.page_token)?;
    let mut db = call.read(state).await?;
    let filter = match filter {
        AskedFilter::Account(named) => {
            let id = references::account(&mut db, &acting, &named).await?;
            let there = db::orgs::memberships::find(&mut *db, acting.org_id, id).await?.is_some()
                || db::accounts::find_any(&mut *db, acting.org_id, id).await?.is_some();
            there.then_some(()).ok_or_else(|| Error::not_found("account", &named))?;
            GrantFilter::Account(id)
        }
        AskedFilter::Role(role) => {
            GrantFilter::Rights(vec![references::role(&mut db, acting.org_id, &role).await?])
        }
        AskedFilter::Node(node) => GrantFilter::Node(node),
        AskedFilter::Permission(permission) => {
            let custom = db::orgs::roles::find_with(&mut *db, acting.org_id, &permission).await?;
            let system = SystemRole::ALL.into_iter().filter(|role| role.carries(&permission));
            let mut rights: Vec<_> = system.map(Right::System).collect();
            rights.extend(custom.into_iter().map(Right::Custom));
            rights.push(Right::Permission(permission));
            GrantFilter::Rights(rights)
        }
    };
    let after = paging.after(GrantId::parse);
    let page = db::accounts::grants::page(&mut db, acting.org_id, &filter, after, paging.size).await?;
    let page = paging.answer(state, page, |grant| messages::grant(&grant))?;
    Ok(pb::ListGrantsResponse {
        grants: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

/// How many grants are listed for one check of what an account may do.
pub const MAX_LISTED: usize = 100;

/// The filter of a list, before its names are looked up.
enum AskedFilter {
    Account(AccountRef),
    Role(RoleRef),
    Node(Node),
    /// Every grant that gives it: by name, or through a role.
    Permission(Permission),
}

/// The nodes to require a right on: those that were read. The whole org if some of the `asked`
/// could not be read, since it is unknown what they would have been.
fn nodes<'a>(read: impl Iterator<Item = &'a Node>, asked: usize) -> Vec<&'a Node> {
    let mut nodes: Vec<_> = read.collect();
    if nodes.is_empty() && asked > 0 {
        nodes.push(&Node::Org);
    }
    nodes
}

/// Grants that the caller may give to an account of this kind (none: the account does not exist),
/// with what their roles carry. The org is locked; the resources are held until the transaction
/// ends.
///
/// # Errors
/// `GRANT_EXCEEDS_CALLER` first; then `INVALID_FIELD` for each whose role or resource does not
/// exist, or whose role is not for accounts of the kind.
pub async fn givable(
    tx: &mut PgConnection,
    acting: &Acting<'_>,
    kind: Option<AccountKind>,
    grants: &[(Right, Node)],
) -> Result<Vec<HeldGrant>> {
    let roles =
        db::orgs::roles::find_named(&mut *tx, acting.org_id, grants.iter().map(|(right, _)| right)).await?;
    let opened: Vec<_> =
        grants.iter().map(|(right, node)| held(right.clone(), node.clone(), &roles)).collect();
    acting.may_pass_on(&opened)?;

    let wanted: Vec<_> = grants.iter().filter_map(|(_, node)| node.path().cloned()).collect();
    let paths = db::orgs::resources::hold(tx, acting.org_id, &wanted).await?;
    let mut violations = Violations::default();
    for (i, (right, node)) in grants.iter().enumerate() {
        if matches!(right, Right::Custom(id) if !roles.contains_key(id)) {
            violations.add(format!("grants[{i}].role_id"), "no such role in the org");
        }
        if kind.is_some_and(|kind| !may_hold(kind, right, &roles)) {
            violations.add(format!("grants[{i}].role_id"), "the role is not for accounts of this kind");
        }
        if node.path().is_some_and(|path| !paths.iter().any(|found| found == path.as_str())) {
            violations.add(format!("grants[{i}].resource"), "no such resource in the org: create it first");
        }
    }
    violations.finish()?;
    Ok(opened)
}

/// Reads the grants that a field names, by id or by right and resource. At most 100.
pub fn named(violations: &mut Violations, field: &str, messages: &[pb::Grant]) -> Vec<NamedGrant> {
    if messages.len() > MAX_LIST {
        let found = messages.len();
        violations.add(field, format!("holds {found} grants; at most {MAX_LIST} are allowed"));
        return Vec::new();
    }
    let each = messages.iter().enumerate();
    each.filter_map(|(i, message)| name(violations, &format!("{field}[{i}]"), message)).collect()
}

fn name(violations: &mut Violations, field: &str, message: &pb::Grant) -> Option<NamedGrant> {
    if !message.grant_id.is_empty() {
        let id = GrantId::parse(&message.grant_id);
        return violations.check(&format!("{field}.grant_id"), id).map(NamedGrant::Id);
    }
    let right = violations.check(&format!("{field}.right"), convert::right(message.right.as_ref()));
    let node = violations.check(&format!("{field}.resource"), Node::parse(&message.resource));
    Some(NamedGrant::Pair(right?, node?))
}

/// Splits the account's grants into those that are named, in the order in which they are, and the
/// others. `rights` are those of [`rights_of`]. A named grant that does not exist refuses the whole call.
pub fn split(
    account_id: AccountId,
    grants: Vec<Grant>,
    named: &[NamedGrant],
    rights: &[Option<Right>],
) -> Result<(Vec<Grant>, Vec<Grant>)> {
    let mut by_id = HashMap::new();
    let mut by_pair = HashMap::new();
    for (place, grant) in grants.iter().enumerate() {
        by_id.insert(grant.id(), place);
        by_pair.insert((grant.right_id.clone(), grant.resource.clone()), place);
    }
    let mut places = Vec::with_capacity(named.len());
    for (name, found) in named.iter().zip(rights) {
        let place = match name {
            NamedGrant::Id(id) => by_id.get(id).ok_or_else(|| Error::not_found("grant", id))?,
            NamedGrant::Pair(right, node) => {
                let found = found.as_ref().map(Right::to_string).unwrap_or_default();
                let found = by_pair.get(&(found, node.path().map(ResourcePath::to_string)));
                found
                    .ok_or_else(|| Error::not_found("grant", format!("{right} on {node} of {account_id}")))?
            }
        };
        if !places.contains(place) {
            places.push(*place);
        }
    }
    let mut grants: Vec<_> = grants.into_iter().map(Some).collect();
    let taken = places.into_iter().filter_map(|place| grants[place].take()).collect();
    Ok((taken, grants.into_iter().flatten().collect()))
}
