//! Accounts as members of an org, with what they hold there.
//!
//! One takes one read, or two if it is a guest. An owner takes one more: what its org names.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::PgConnection;
use sqlx::types::Json;

use super::grants::find_named_permissions;
use crate::db::damaged;
use crate::db::orgs::policies::Stored;
use crate::domain::access::held::{Held, owns_something};
use crate::domain::access::member::Member;
use crate::domain::access::rights::HeldGrant;
use crate::domain::tokens::policy::{Ceilings, Rules};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, PermissionSet, Right};
use crate::domain::values::resources::Node;
use crate::error::{Error, Result};

/// The most application permissions that are listed for an owner: the first ones in order.
///
/// An access token with this many permissions is larger than allowed.
const MAX_NAMED: usize = 1_000;

/// The application permissions that orgs name, once they were read.
pub type NamedByOrg = HashMap<OrgId, BTreeSet<Permission>>;

/// What the grants give, each with the list of its role, which all grants of the role share.
///
/// A grant is its right, its path or `*`, and its custom role if it has one; a role is its id and its
/// permissions. Only an owner's list needs the application permissions that the org names.
pub async fn held(
    db: &mut PgConnection,
    (org_id, named): (OrgId, &mut NamedByOrg),
    grants: &[String],
    roles: &[String],
) -> Result<Arc<Held>> {
    let role = |text: &'_ String| {
        let mut words = text.split_ascii_whitespace();
        let id = words.next().unwrap_or_default().to_owned();
        let permission = |text| Permission::parse(text).map_err(damaged("permission"));
        Ok((id, words.map(permission).collect::<Result<_>>()?))
    };
    let roles: HashMap<String, PermissionSet> = roles.iter().map(role).collect::<Result<_>>()?;
    let grant = |text: &String| {
        let mut words = text.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (right, node, role) = (next(), next(), next());
        Ok(HeldGrant {
            right: Right::parse(right).map_err(damaged("right"))?,
            node: Node::parse(node).map_err(damaged("resource path"))?,
            role_permissions: roles.get(role).cloned().unwrap_or_default(),
        })
    };
    let grants: Vec<HeldGrant> = grants.iter().map(grant).collect::<Result<_>>()?;
    let named_by_org = match (owns_something(&grants), named.get(&org_id)) {
        (false, _) => BTreeSet::new(),
        (true, Some(known)) => known.clone(),
        (true, None) => {
            let found: BTreeSet<_> =
                find_named_permissions(db, org_id, MAX_NAMED).await?.into_iter().collect();
            named.insert(org_id, found.clone());
            found
        }
    };
    Ok(Held::new(grants, named_by_org).into())
}

/// The rules of an org with this policy, limited by the ceilings.
pub fn rules(policy: Option<&Stored>, ceilings: &Ceilings) -> Result<Arc<Rules>> {
    Ok(Arc::new(Stored::policy(policy)?.within(ceilings)))
}

/// The kind that is stored by this name.
pub fn account_kind(name: &str) -> Result<AccountKind> {
    AccountKind::parse(name).ok_or_else(|| Error::internal("a stored account kind is unknown"))
}

/// Finds an account as a member of an org; none if it is not a member and never was.
pub async fn find(
    db: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    ceilings: &Ceilings,
) -> Result<Option<Member>> {
    let query = sqlx::query!(
        r#"select m.home_org_id, m.version as account_version, o.version as org_version, a.kind as "kind?",
                  a.username as "username?",
                  (a.deactivate_time is not null or a.delete_time is not null or m.remove_time is not null)
                      as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!",
                  o.token_policy as "token_policy: Json<Stored>",
                  array(select g.right_id || ' ' || coalesce(g.resource, '*') || ' ' || coalesce(g.role_id::text, '')
                        from grants g where g.org_id = $1 and g.account_id = $2) as "grants!",
                  array(select r.role_id::text || ' ' || array_to_string(r.permissions, ' ') from roles r
                        where r.org_id = $1 and r.role_id = any(array(
                            select g.role_id from grants g
                            where g.org_id = $1 and g.account_id = $2 and g.role_id is not null
                        ))) as "roles!"
           from memberships m
           join orgs o on o.org_id = $1
           left join accounts a on a.org_id = $1 and a.account_id = m.account_id
           where m.org_id = $1 and m.account_id = $2"#,
        org_id.uuid(),
        account_id.uuid()
    );
    let Some(row) = query.fetch_optional(&mut *db).await? else {
        return Ok(None);
    };
    let home_org_id = row.home_org_id.into();
    let home = match row.kind.zip(row.username) {
        Some((kind, username)) => Some(Home { kind, username, account_stopped: false, org_stopped: false }),
        None => find_home(&mut *db, home_org_id, account_id).await?,
    };
    // A guest whose account was purged does not exist any more.
    let Some(home) = home else {
        return Ok(None);
    };
    Ok(Some(Member {
        org_id,
        account_id,
        home_org_id,
        account_kind: account_kind(&home.kind)?,
        username: home.username.into(),
        account_stopped: row.account_stopped || home.account_stopped,
        org_stopped: row.org_stopped || home.org_stopped,
        org_version: row.org_version,
        account_version: row.account_version,
        held: held(db, (org_id, &mut NamedByOrg::default()), &row.grants, &row.roles).await?,
        rules: rules(row.token_policy.as_deref(), ceilings)?,
    }))
}

/// What the home org of an account says of it.
struct Home {
    kind: String,
    username: String,
    account_stopped: bool,
    org_stopped: bool,
}

/// Finds what the home org of a guest says of it.
///
/// A separate query, because the home org may be on another shard, which a join does not reach.
async fn find_home(db: &mut PgConnection, home: OrgId, account_id: AccountId) -> Result<Option<Home>> {
    let query = sqlx::query_as!(
        Home,
        r#"select a.kind, a.username,
                  (a.deactivate_time is not null or a.delete_time is not null) as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!"
           from accounts a join orgs o on o.org_id = $1
           where a.org_id = $1 and a.account_id = $2"#,
        home.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}
