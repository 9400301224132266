//! `named_permissions`: the permissions of applications that an org has ever named, so that one that is
//! misspelt is noticed when it is first granted.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::domain::values::ids::OrgId;
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::Result;

/// Records the permissions that something of the org names now. Returns those that nothing named before,
/// sorted.
pub async fn note<'a>(
    tx: &mut PgConnection,
    org_id: OrgId,
    permissions: impl IntoIterator<Item = &'a Permission>,
) -> Result<Vec<String>> {
    // Sorted: two transactions that name the same ones wait for each other in the same order.
    let named = permissions.into_iter().filter(|permission| permission.is_application());
    let named: BTreeSet<&str> = named.map(Permission::as_str).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
    let query = sqlx::query_scalar!(
        "insert into named_permissions (org_id, permission) select $1, permission from unnest($2::text[]) as new (permission)
         on conflict on constraint named_permissions_pk do nothing returning permission",
        org_id.uuid(),
        &named
    );
    let mut first_seen = query.fetch_all(tx).await?;
    first_seen.sort();
    Ok(first_seen)
}

/// As [`note`], for the permissions that are granted by name.
pub async fn note_grants(
    tx: &mut PgConnection,
    org_id: OrgId,
    grants: &[(Right, Node)],
) -> Result<Vec<String>> {
    let named = grants.iter().filter_map(|(right, _)| match right {
        Right::Permission(permission) => Some(permission),
        Right::System(_) | Right::Custom(_) => None,
    });
    note(tx, org_id, named).await
}
