//! `orgs` and `slugs`.

pub mod invitations;
pub mod memberships;
mod operators;
pub mod policies;
pub mod resources;
pub mod roles;

use std::collections::BTreeSet;

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use self::policies::Stored;
use super::{constraint, one_row};
use crate::domain::orgs::OrgLifecycle;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::tokens::policy::TokenPolicy;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names::{DisplayName, Slug};
use crate::error::{Error, Result};

/// A tenant, as it is stored.
#[derive(Clone, Debug)]
pub struct Org {
    pub org_id: Uuid,
    pub slug: String,
    pub display_name: String,
    pub revision: i64,
    pub token_policy: Option<Json<Stored>>,
    pub suspend_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
}

impl Org {
    /// The id of the org.
    pub fn id(&self) -> OrgId {
        self.org_id.into()
    }

    /// When the org was suspended and deleted.
    pub fn lifecycle(&self) -> OrgLifecycle {
        OrgLifecycle { suspend_time: self.suspend_time, delete_time: self.delete_time }
    }

    /// The token policy of the org.
    pub fn policy(&self) -> Result<TokenPolicy> {
        Stored::policy(self.token_policy.as_deref())
    }
}

/// Finds the org, deleted or not.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId) -> Result<Option<Org>> {
    let query = sqlx::query_as!(
        Org,
        r#"select org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time
         from orgs where org_id = $1"#,
        org_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// A page of all orgs, oldest first.
///
/// Ids hold their time of creation, so that a new org comes after all that were listed.
pub async fn page(db: &mut PgConnection, after: Option<OrgId>, size: i64) -> Result<Page<Org>> {
    let rows = sqlx::query_as!(
        Org,
        r#"select org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time
         from orgs where $1::uuid is null or org_id > $1 order by org_id limit $2"#,
        after.map(OrgId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted =
        sqlx::query_scalar!(r#"select count(*) as "n!" from (select 1 from orgs limit $1) few"#, COUNTED + 1);
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |org| org.id().to_string()))
}

/// A page of the orgs in which an account may act, oldest first.
pub async fn page_of_member(
    db: &mut PgConnection,
    account_id: AccountId,
    after: Option<OrgId>,
    size: i64,
) -> Result<Page<Org>> {
    let member_of = orgs_of(&mut *db, account_id).await?;
    let rows = sqlx::query_as!(
        Org,
        r#"select org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time
         from orgs
         where org_id = any($1) and suspend_time is null and delete_time is null
           and ($2::uuid is null or org_id > $2)
         order by org_id limit $3"#,
        &member_of,
        after.map(OrgId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from orgs
               where org_id = any($1) and suspend_time is null and delete_time is null limit $2) few"#,
        &member_of,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |org| org.id().to_string()))
}

/// The orgs that an account is a member of, its home included, in order; at most 10 001.
///
/// A query of its own: the account and its orgs may be on different shards, which a join does not reach.
pub(crate) async fn orgs_of(db: &mut PgConnection, account_id: AccountId) -> Result<Vec<Uuid>> {
    let query = sqlx::query_scalar!(
        "select org_id from account_orgs where account_id = $1 order by org_id limit $2",
        account_id.uuid(),
        COUNTED + 1
    );
    Ok(query.fetch_all(db).await?)
}

/// Locks the row of the org.
///
/// Every change of grants, memberships or account states does this first, so that two transactions
/// that count owners at once take turns. A transaction that only inserts an event of the org, which
/// refers to its row, does not have to wait.
///
/// # Errors
/// `RESOURCE_NOT_FOUND` when there is no such org.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId) -> Result<Org> {
    lock_existing(tx, org_id).await?.ok_or_else(|| Error::not_found("org", org_id))
}

/// Locks the org as [`lock`] does, if there is one.
pub async fn lock_existing(tx: &mut PgConnection, org_id: OrgId) -> Result<Option<Org>> {
    let row = sqlx::query_as!(
        Org,
        r#"select org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time
         from orgs where org_id = $1 for no key update"#,
        org_id.uuid()
    );
    Ok(row.fetch_optional(tx).await?)
}

/// Keeps other transactions from locking the org until this one ends, or waits for the one that has.
pub async fn hold(tx: &mut PgConnection, org_id: OrgId) -> Result<()> {
    let row = sqlx::query_scalar!("select org_id from orgs where org_id = $1 for share", org_id.uuid());
    row.fetch_optional(tx).await?;
    Ok(())
}

/// Increments the `org_ver` of the org, because earlier JWTs hold rights that an account has lost.
pub async fn raise_version(tx: &mut PgConnection, org_id: OrgId) -> Result<()> {
    let query = sqlx::query!("update orgs set version = version + 1 where org_id = $1", org_id.uuid());
    one_row(&query.execute(&mut *tx).await?, "raising an org's version")?;
    operators::raise(tx, org_id).await
}

/// Locks several orgs, always in the same order.
///
/// Two transactions that do so wait for each other, and do not deadlock.
pub async fn lock_all(tx: &mut PgConnection, orgs: impl IntoIterator<Item = OrgId>) -> Result<()> {
    // One after the other: a sharded engine locks rows of one shard only.
    for org_id in orgs.into_iter().map(OrgId::uuid).collect::<BTreeSet<_>>() {
        let row = sqlx::query_scalar!("select org_id from orgs where org_id = $1 for no key update", org_id);
        if row.fetch_optional(&mut *tx).await?.is_none() {
            return Err(Error::internal("an org to lock does not exist"));
        }
    }
    Ok(())
}

/// Inserts an org. Its slug is inserted first, because the primary key of slugs is the lock.
///
/// # Errors
/// `RESOURCE_EXISTS` when an org has, or ever had, the slug.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    slug: &Slug,
    display_name: &DisplayName,
    now: OffsetDateTime,
) -> Result<Org> {
    let taken =
        sqlx::query!("insert into slugs (slug, org_id) values ($1, $2)", slug.as_str(), org_id.uuid());
    let taken = taken.execute(&mut *tx).await.map_err(|error| match constraint(&error) {
        Some("slugs_pk") => Error::exists("org", slug),
        _ => error.into(),
    })?;
    one_row(&taken, "taking a slug")?;
    let query = sqlx::query_as!(
        Org,
        r#"insert into orgs (org_id, slug, display_name, version, revision, create_time, update_time)
         values ($1, $2, $3, 1, 1, $4, $4)
         returning org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time"#,
        org_id.uuid(),
        slug.as_str(),
        display_name.as_str(),
        now
    );
    Ok(query.fetch_one(tx).await?)
}

/// Changes the display name of the org.
pub async fn rename(
    tx: &mut PgConnection,
    org_id: OrgId,
    display_name: &DisplayName,
    now: OffsetDateTime,
) -> Result<Org> {
    let query = sqlx::query_as!(
        Org,
        r#"update orgs set display_name = $2, revision = revision + 1, update_time = $3 where org_id = $1
         returning org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time"#,
        org_id.uuid(),
        display_name.as_str(),
        now
    );
    Ok(query.fetch_one(tx).await?)
}

/// Suspends, deletes or restores the org. `stale` makes earlier access tokens stale.
pub async fn set_lifecycle(
    tx: &mut PgConnection,
    org_id: OrgId,
    lifecycle: OrgLifecycle,
    stale: bool,
    now: OffsetDateTime,
) -> Result<Org> {
    let query = sqlx::query_as!(
        Org,
        r#"update orgs set suspend_time = $2, delete_time = $3, version = version + case when $4 then 1 else 0 end,
                revision = revision + 1, update_time = $5
         where org_id = $1
         returning org_id, slug, display_name, revision, token_policy as "token_policy: _", suspend_time,
                delete_time, create_time, update_time"#,
        org_id.uuid(),
        lifecycle.suspend_time,
        lifecycle.delete_time,
        stale,
        now
    );
    Ok(query.fetch_one(tx).await?)
}
