//! `account_links`.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::{constraint, one_row};
use crate::domain::accounts::Link;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names::{LinkKind, LinkSlug};
use crate::error::{Error, Reason, Result};

/// Replaces the links of an account.
///
/// # Errors
/// `RESOURCE_EXISTS` for a slug that another account of the org has for that kind.
pub async fn replace(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    links: &BTreeMap<LinkKind, Link>,
) -> Result<()> {
    let (org_id, account_id): (Uuid, Uuid) = (org_id.uuid(), account_id.uuid());
    let deleted =
        sqlx::query!("delete from account_links where org_id = $1 and account_id = $2", org_id, account_id);
    deleted.execute(&mut *tx).await?;
    if links.is_empty() {
        return Ok(());
    }
    let kinds: Vec<String> = links.keys().map(LinkKind::to_string).collect();
    let slugs: Vec<String> = links.values().map(|link| LinkSlug::to_string(&link.slug)).collect();
    let taken = sqlx::query!(
        r#"select l.kind, l.slug
           from unnest($2::text[], $3::text[]) as wanted (kind, slug)
           join account_links l on l.org_id = $1 and l.kind = wanted.kind and l.slug = wanted.slug
           order by l.kind limit 1"#,
        org_id,
        &kinds,
        &slugs
    );
    if let Some(taken) = taken.fetch_optional(&mut *tx).await? {
        return Err(Error::exists("link", format!("{}/{}", taken.kind, taken.slug)));
    }
    // One statement for each of the few links: a sharded engine answers a failed `insert … select`
    // without its SQLSTATE.
    for (kind, link) in links {
        let new = sqlx::query!(
            "insert into account_links (org_id, account_id, kind, enabled, slug) values ($1, $2, $3, $4, $5)",
            org_id,
            account_id,
            kind.to_string(),
            link.enabled,
            link.slug.to_string()
        );
        let new = new.execute(&mut *tx).await.map_err(|error| match constraint(&error) {
            // Another transaction has inserted the slug since the check: the retry finds and names it.
            Some("account_links_slug_unique") => Error::new(Reason::Conflict).because(error),
            _ => error.into(),
        })?;
        one_row(&new, "inserting a link")?;
    }
    Ok(())
}
