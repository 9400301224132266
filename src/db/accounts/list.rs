//! Lists of accounts by kind, state, role and text, in an org of any size.
//!
//! A planner that has to estimate how many rows a filter leaves can be wrong in two ways: it scans a
//! million rows in order to find three, or sorts a million to return fifty. Here it does not have to
//! estimate. A first statement returns the ids of the matching accounts, and stops at 10 001. Up to
//! 10 000, these are all, and the page is among them. Above that, so many rows match that a scan in order
//! soon finds the page. The holders of a role are found in the same way, before.

use serde_json::{Map, Value};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::account::{Account, select_accounts};
use crate::db::connections::Connection;
use crate::domain::accounts::AccountState;
use crate::domain::accounts::search::{Needle, Searchable};
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::ExternalId;
use crate::domain::values::permissions::{Right, SystemRole};
use crate::error::Result;

/// The most holders of a role that are read when there is another condition, which may leave fewer.
const MAX_FEW_HOLDERS: i64 = 1_000;

/// Which accounts to list; deleted ones only if that is the state of the filter.
#[derive(Debug, Default)]
pub struct AccountFilter {
    pub kind: Option<AccountKind>,
    pub state: Option<AccountState>,
    /// The role is held on any node.
    pub role: Option<Right>,
    pub query: Option<Needle>,
    pub external_id: Option<ExternalId>,
}

impl AccountFilter {
    fn is_empty(&self) -> bool {
        !self.narrows_without_role() && self.role().is_none()
    }

    fn narrows_without_role(&self) -> bool {
        self.kind.is_some() || self.state.is_some() || self.query.is_some() || self.external_id.is_some()
    }

    pub(super) fn kind(&self) -> Option<&'static str> {
        self.kind.map(AccountKind::name)
    }

    /// The state as it is named in the statements: `LIVE` is any but deleted.
    pub(super) fn state(&self) -> &'static str {
        match self.state {
            None => "LIVE",
            Some(AccountState::Invited) => "INVITED",
            Some(AccountState::Active) => "ACTIVE",
            Some(AccountState::Deactivated) => "DEACTIVATED",
            Some(AccountState::Deleted) => "DELETED",
        }
    }

    /// The right that accounts must hold; none for `member`, which every account is without a grant.
    pub(super) fn role(&self) -> Option<String> {
        self.role.as_ref().filter(|role| **role != Right::System(SystemRole::Member)).map(Right::to_string)
    }
}

/// A page of the org's accounts, oldest first.
pub async fn page(
    db: &mut Connection,
    org_id: OrgId,
    filter: &AccountFilter,
    after: Option<AccountId>,
    size: i64,
) -> Result<Page<Account>> {
    let after = after.map_or(Uuid::nil(), AccountId::uuid);
    let (rows, counted) = if filter.is_empty() {
        (all(&mut *db, org_id, after, size + 1).await?, count(db, org_id).await?)
    } else {
        let mut tx = db.begin().await?;
        // The statements are planned for their actual arguments: an argument that is null removes its
        // condition, and the others let the planner choose an index.
        sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', true)")
            .fetch_one(&mut *tx)
            .await?;
        let holders = holders(&mut tx, org_id, filter).await?;
        let mut ids = matching(&mut tx, org_id, filter, &holders).await?;
        let counted = ids.len() as i64;
        let rows = if counted <= COUNTED {
            ids.sort_unstable();
            let next = ids.into_iter().filter(|id| *id > after).take(size as usize + 1);
            find_by_ids(&mut tx, org_id, &next.collect::<Vec<_>>()).await?
        } else {
            in_order(&mut tx, org_id, filter, &holders, after, size + 1).await?
        };
        tx.commit().await?;
        (rows, counted)
    };
    Ok(Page::of(rows, size, counted, |account| account.id().to_string()))
}

async fn all(db: &mut PgConnection, org_id: OrgId, after: Uuid, limit: i64) -> Result<Vec<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and delete_time is null and account_id > $2 order by account_id limit $3",
        org_id.uuid(),
        after,
        limit
    );
    Ok(query.fetch_all(db).await?)
}

async fn count(db: &mut PgConnection, org_id: OrgId) -> Result<i64> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from accounts where org_id = $1 and delete_time is null limit $2
           ) few"#,
        org_id.uuid(),
        COUNTED + 1
    );
    Ok(query.fetch_one(db).await?)
}

/// The accounts that hold the role of the filter.
enum Holders {
    /// The filter has no role.
    Any,
    /// These accounts, sorted.
    These(Vec<Uuid>),
    /// More than are worth reading; `first` is the first of them.
    Many { role: String, first: Uuid },
}

impl Holders {
    fn these(&self) -> Option<&[Uuid]> {
        if let Self::These(ids) = self { Some(ids) } else { None }
    }

    fn many(&self) -> Option<&str> {
        if let Self::Many { role, .. } = self { Some(role) } else { None }
    }

    /// Where a scan in order can start, which would otherwise start after `after`.
    fn start_after(&self, after: Uuid) -> Uuid {
        match self {
            Self::Many { first, .. } => after.max(Uuid::from_u128(first.as_u128().saturating_sub(1))),
            _ => after,
        }
    }
}

async fn holders(tx: &mut PgConnection, org_id: OrgId, filter: &AccountFilter) -> Result<Holders> {
    let Some(role) = filter.role() else {
        return Ok(Holders::Any);
    };
    // If there are many, the rest of the filter is applied first, which may leave few.
    let few = if filter.narrows_without_role() { MAX_FEW_HOLDERS } else { COUNTED };
    let query = sqlx::query_scalar!(
        "select distinct account_id from grants where org_id = $1 and right_id = $2 order by account_id limit $3",
        org_id.uuid(),
        role,
        few + 1
    );
    let ids = query.fetch_all(tx).await?;
    Ok(match ids.first() {
        Some(first) if ids.len() as i64 > few => Holders::Many { role, first: *first },
        _ => Holders::These(ids),
    })
}

/// A query for the ids of matching accounts, in no order, at most one more than are counted.
///
/// Rows of an older binary, which did not write the search columns, are compared one by one, until
/// [`fill_searchable`] has filled them.
macro_rules! select_matching {
    ($head:tt, $tail:tt, $org_id:expr, $filter:expr, $holders:expr) => {
        sqlx::query_scalar!(
            $head + r#"
                 org_id = $1
                 and ($2 <> 'LIVE' or delete_time is null)
                 and ($2 <> 'DELETED' or delete_time is not null)
                 and ($2 <> 'DEACTIVATED' or (delete_time is null and deactivate_time is not null))
                 and ($2 <> 'INVITED' or (delete_time is null and deactivate_time is null
                                          and kind = 'USER' and password_time is null))
                 and ($2 <> 'ACTIVE' or (delete_time is null and deactivate_time is null
                                         and (kind = 'SERVICE_ACCOUNT' or password_time is not null)))
                 and ($3::text is null or kind = $3)
                 and ($8::text is null or external_id = $8)
                 and ($4::bigint[] is null
                      or (search_pieces @> $4 and strpos(search_text, $5) > 0)
                      or (search_pieces is null
                          and strpos(E'\n' || lower(concat_ws(E'\n', name, username, display_name)), $5) > 0))
            "# + $tail,
            $org_id.uuid(),
            $filter.state(),
            $filter.kind(),
            $filter.query.as_ref().map(|query| query.pieces.as_slice()),
            $filter.query.as_ref().map(|query| query.text.as_str()),
            COUNTED + 1,
            $holders,
            $filter.external_id.as_ref().map(ExternalId::as_str)
        )
    };
}

async fn matching(
    tx: &mut PgConnection,
    org_id: OrgId,
    filter: &AccountFilter,
    holders: &Holders,
) -> Result<Vec<Uuid>> {
    let Holders::Many { role, .. } = holders else {
        return matching_among(tx, org_id, filter, holders.these()).await;
    };
    // If the rest of the filter leaves few, the holders of the role are searched among them.
    if filter.narrows_without_role() {
        let ids = matching_among(&mut *tx, org_id, filter, None).await?;
        if ids.len() as i64 <= COUNTED {
            let query = sqlx::query_scalar!(
                "select distinct account_id from grants
                 where org_id = $1 and right_id = $2 and account_id = any($3)",
                org_id.uuid(),
                role,
                &ids
            );
            return Ok(query.fetch_all(tx).await?);
        }
    }
    // The inner limit keeps the planner from choosing any other join than one lookup of the account of
    // each holder.
    let query = select_matching!(
        "select h.account_id
         from (select distinct account_id from grants
               where org_id = $1 and right_id = $7 order by account_id) h
         cross join lateral (select from accounts where accounts.account_id = h.account_id and",
        "limit 1) a limit $6",
        org_id,
        filter,
        role
    );
    Ok(query.fetch_all(tx).await?)
}

/// Finds the ids that match the filter without its role, among these accounts or among all.
async fn matching_among(
    tx: &mut PgConnection,
    org_id: OrgId,
    filter: &AccountFilter,
    among: Option<&[Uuid]>,
) -> Result<Vec<Uuid>> {
    let query = select_matching!(
        "select account_id from accounts where",
        "and ($7::uuid[] is null or account_id = any($7)) limit $6",
        org_id,
        filter,
        among
    );
    Ok(query.fetch_all(tx).await?)
}

async fn find_by_ids(tx: &mut PgConnection, org_id: OrgId, ids: &[Uuid]) -> Result<Vec<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = any($2) order by account_id",
        org_id.uuid(),
        ids
    );
    Ok(query.fetch_all(tx).await?)
}

/// Finds the matching accounts, in order.
///
/// Only the order determines the index: the query is compared with the text, and the role is looked up,
/// row by row.
async fn in_order(
    tx: &mut PgConnection,
    org_id: OrgId,
    filter: &AccountFilter,
    holders: &Holders,
    after: Uuid,
    limit: i64,
) -> Result<Vec<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id > $2
           and ($3 <> 'LIVE' or delete_time is null)
           and ($3 <> 'DELETED' or delete_time is not null)
           and ($3 <> 'DEACTIVATED' or (delete_time is null and deactivate_time is not null))
           and ($3 <> 'INVITED' or (delete_time is null and deactivate_time is null
                                    and kind = 'USER' and password_time is null))
           and ($3 <> 'ACTIVE' or (delete_time is null and deactivate_time is null
                                   and (kind = 'SERVICE_ACCOUNT' or password_time is not null)))
           and ($4::text is null or kind = $4)
           and ($5::text is null or strpos(coalesce(search_text,
                    E'\\n' || lower(concat_ws(E'\\n', name, username, display_name))), $5) > 0)
           and ($6::uuid[] is null or account_id = any($6))
           and ($7::text is null or (select true from grants g
                                     where g.org_id = $1 and g.right_id = $7 and g.account_id = a.account_id
                                     limit 1))
           and ($9::text is null or external_id = $9)
         order by account_id limit $8",
        org_id.uuid(),
        holders.start_after(after),
        filter.state(),
        filter.kind(),
        filter.query.as_ref().map(|query| query.text.as_str()),
        holders.these(),
        holders.many(),
        limit,
        filter.external_id.as_ref().map(ExternalId::as_str)
    );
    Ok(query.fetch_all(tx).await?)
}

/// Fills the search columns of at most `limit` accounts of one org, where an older binary has not.
///
/// Returns how many there were. Any number of nodes may do it at once.
pub async fn fill_searchable(db: &mut Connection, limit: i64) -> Result<u64> {
    let org = sqlx::query_scalar!("select org_id from accounts where search_pieces is null limit 1");
    let Some(org_id) = org.fetch_optional(&mut **db).await? else {
        return Ok(0);
    };
    let rows = sqlx::query!(
        "select account_id, name, username, display_name from accounts
         where org_id = $1 and search_pieces is null order by account_id limit $2",
        org_id,
        limit
    );
    let rows = rows.fetch_all(&mut **db).await?;
    let mut tx = db.begin().await?;
    // One plain statement for each account: a slice of an array in an UPDATE ends the coordinator of a
    // sharded engine.
    for row in &rows {
        let (name, display_name) = (row.name.as_deref(), row.display_name.as_deref());
        let searchable = Searchable::of(org_id.into(), name, &row.username, display_name);
        let query = sqlx::query!(
            "update accounts set search_text = $3, search_pieces = $4
             where org_id = $1 and account_id = $2 and search_pieces is null",
            org_id,
            row.account_id,
            searchable.text,
            &searchable.pieces
        );
        query.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(rows.len() as u64)
}
