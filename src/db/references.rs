//! From the names in a request to ids: in the transaction or on the connection that acts, after the right
//! was checked.
//!
//! A name that is not there becomes an id that no row has, so that what follows answers as for an id that
//! is not there, with the same statements.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::domain::access::acting::Acting;
use crate::domain::values::ids::{AccountId, OrgId, RoleId};
use crate::domain::values::names::AccountName;
use crate::domain::values::permissions::Right;
use crate::domain::values::references::{AccountRef, OrgRef, RightRef, RoleRef};
use crate::domain::values::resources::Node;
use crate::error::Result;

/// The org of this id, or of this slug, which it keeps when it is deleted.
pub async fn org(db: impl PgExecutor<'_>, named: &OrgRef) -> Result<OrgId> {
    let slug = match named {
        OrgRef::Id(id) => return Ok(*id),
        OrgRef::Slug(slug) => slug.as_str(),
    };
    let found = sqlx::query_scalar!("select org_id from slugs where slug = $1", slug);
    Ok(found.fetch_optional(db).await?.unwrap_or(Uuid::nil()).into())
}

/// The account of this name among those of the org, deleted ones included, and its guests.
pub async fn account(db: &mut PgConnection, acting: &Acting<'_>, named: &AccountRef) -> Result<AccountId> {
    let username = match named {
        AccountRef::Id(id) => return Ok(*id),
        AccountRef::Username(username) => username.as_str(),
    };
    let found = sqlx::query_scalar!("select account_id from usernames where username = $1", username);
    let account_id = found.fetch_optional(&mut *db).await?.unwrap_or(Uuid::nil());
    // The username of an account that is not in the org says nothing here.
    let is_here = sqlx::query_scalar!(
        r#"select exists (
               select 1 from memberships
               where org_id = $1 and account_id = $2 and (remove_time is null or home_org_id = $1)) as "is!""#,
        acting.org_id.uuid(),
        account_id
    );
    let is_here = is_here.fetch_one(db).await?;
    Ok(if is_here { account_id } else { Uuid::nil() }.into())
}

/// The right that a role of this name gives.
pub async fn role(db: &mut PgConnection, org_id: OrgId, named: &RoleRef) -> Result<Right> {
    let one = [(RightRef::Role(named.clone()), Node::Org)];
    let found = rights(db, org_id, &one).await?.into_iter().next();
    Ok(found.map_or(Right::Custom(Uuid::nil().into()), |(right, _)| right))
}

/// The rights of grants, in their order. One statement for all names.
pub async fn rights(
    db: &mut PgConnection,
    org_id: OrgId,
    named: &[(RightRef, Node)],
) -> Result<Vec<(Right, Node)>> {
    let names: BTreeSet<String> = named
        .iter()
        .filter_map(|(right, _)| match right {
            RightRef::Role(RoleRef::Name(name)) => Some(name.key()),
            _ => None,
        })
        .collect();
    let mut ids: HashMap<String, Uuid> = HashMap::new();
    if !names.is_empty() {
        let names: Vec<_> = names.into_iter().collect();
        let rows = sqlx::query!(
            "select role_id, name_key from roles where org_id = $1 and name_key = any($2)",
            org_id.uuid(),
            &names
        );
        ids.extend(rows.fetch_all(db).await?.into_iter().map(|row| (row.name_key, row.role_id)));
    }
    let id = |name: &AccountName| RoleId::from(ids.get(&name.key()).copied().unwrap_or(Uuid::nil()));
    let right = |(right, node): &(RightRef, Node)| {
        let right = match right {
            RightRef::Permission(permission) => Right::Permission(permission.clone()),
            RightRef::Role(RoleRef::System(role)) => Right::System(*role),
            RightRef::Role(RoleRef::Id(id)) => Right::Custom(*id),
            RightRef::Role(RoleRef::Name(name)) => Right::Custom(id(name)),
        };
        (right, node.clone())
    };
    Ok(named.iter().map(right).collect())
}
