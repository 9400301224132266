//! Lists of accounts: by kind, state, role and text, in an org of whatever size.
//!
//! A planner that has to guess how many rows a filter leaves guesses wrong in one of two
//! ways: it walks a million rows in order to find three, or sorts a million to show
//! fifty. So it does not guess. A first statement gives the ids of what matches, and
//! stops at 10 001. Up to 10 000, those are all, and the page is among them; above, so
//! many rows match that the page is soon found by walking in order. Who holds a role is
//! found in the same way, before.

use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{Acquire as _, PgConnection};
use uuid::Uuid;

use super::account::{Account, select_accounts};
use crate::domain::accounts::AccountState;
use crate::domain::accounts::search::{Needle, Searchable};
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Right, SystemRole};
use crate::error::Result;

/// How many holders of a role are read beside another filter, which may leave fewer.
const FEW_HOLDERS: i64 = 1_000;

/// Which accounts to list; deleted ones only where that state is asked for.
#[derive(Debug, Default)]
pub struct AccountFilter {
    pub kind: Option<AccountKind>,
    pub state: Option<AccountState>,
    /// Held on whatever node.
    pub role: Option<Right>,
    pub query: Option<Needle>,
}

impl AccountFilter {
    fn is_empty(&self) -> bool {
        !self.narrows_without_role() && self.role().is_none()
    }

    fn narrows_without_role(&self) -> bool {
        self.kind.is_some() || self.state.is_some() || self.query.is_some()
    }

    fn kind(&self) -> Option<&'static str> {
        self.kind.map(AccountKind::name)
    }

    /// The state as the statements know it: `LIVE` is any but deleted.
    fn state(&self) -> &'static str {
        match self.state {
            None => "LIVE",
            Some(AccountState::Invited) => "INVITED",
            Some(AccountState::Active) => "ACTIVE",
            Some(AccountState::Deactivated) => "DEACTIVATED",
            Some(AccountState::Deleted) => "DELETED",
        }
    }

    /// The right to hold. Every account is a member, without a grant.
    fn role(&self) -> Option<String> {
        self.role.as_ref().filter(|role| **role != Right::System(SystemRole::Member)).map(Right::to_string)
    }
}

/// A page of the org's accounts, oldest first.
pub async fn page(
    db: &mut PgConnection,
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
        // The statements are planned for the values that they come with: those that
        // are null drop their conditions, and the others choose an index.
        sqlx::query!("select set_config('plan_cache_mode', 'force_custom_plan', true)")
            .fetch_one(&mut *tx)
            .await?;
        let holders = holders(&mut tx, org_id, filter).await?;
        let mut ids = matching(&mut tx, org_id, filter, &holders).await?;
        let counted = ids.len() as i64;
        let rows = if counted <= COUNTED {
            ids.sort_unstable();
            let next = ids.into_iter().filter(|id| *id > after).take(size as usize + 1);
            these(&mut tx, org_id, &next.collect::<Vec<_>>()).await?
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

/// Who holds the role of the filter.
enum Holders {
    /// No role is asked for.
    Any,
    /// These, sorted.
    These(Vec<Uuid>),
    /// More than are worth reading; this is the first of them.
    Many { role: String, first: Uuid },
}

impl Holders {
    fn these(&self) -> Option<&[Uuid]> {
        if let Self::These(ids) = self { Some(ids) } else { None }
    }

    fn many(&self) -> Option<&str> {
        if let Self::Many { role, .. } = self { Some(role) } else { None }
    }

    /// Where a walk through the holders begins, that would begin after `after`.
    fn begin(&self, after: Uuid) -> Uuid {
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
    // Where there are many, what the rest of the filter leaves is asked first, which may be few.
    let few = if filter.narrows_without_role() { FEW_HOLDERS } else { COUNTED };
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

/// The ids of accounts that match, in no order, at most one more than are counted. Rows of
/// a binary that did not write what they are found by are compared one by one, until
/// [`fill_searchable`] has found them.
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
            $holders
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
    // Where the rest of the filter leaves few, those who hold the role are among them.
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
    // The limit inside keeps this from being planned as any other join than one look at
    // the account of each holder.
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

/// What matches the filter, its role aside, among these accounts, or among all.
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

async fn these(tx: &mut PgConnection, org_id: OrgId, ids: &[Uuid]) -> Result<Vec<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = any($2) order by account_id",
        org_id.uuid(),
        ids
    );
    Ok(query.fetch_all(tx).await?)
}

/// What matches, in order. Nothing here chooses an index but the order: a query is
/// compared with the text, and a role asked for row by row.
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
         order by account_id limit $8",
        org_id.uuid(),
        holders.begin(after),
        filter.state(),
        filter.kind(),
        filter.query.as_ref().map(|query| query.text.as_str()),
        holders.these(),
        holders.many(),
        limit
    );
    Ok(query.fetch_all(tx).await?)
}

/// Writes what accounts are found by where an older binary did not, for at most `limit`
/// accounts of one org. Returns how many there were. Any number of nodes may do it at once.
pub async fn fill_searchable(db: &mut PgConnection, limit: i64) -> Result<u64> {
    let org = sqlx::query_scalar!("select org_id from accounts where search_pieces is null limit 1");
    let Some(org_id) = org.fetch_optional(&mut *db).await? else {
        return Ok(0);
    };
    let rows = sqlx::query!(
        "select account_id, name, username, display_name from accounts
         where org_id = $1 and search_pieces is null order by account_id limit $2",
        org_id,
        limit
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let (mut ids, mut texts, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for row in &rows {
        let (name, display_name) = (row.name.as_deref(), row.display_name.as_deref());
        let found_by = Searchable::of(org_id.into(), name, &row.username, display_name);
        ids.push(row.account_id);
        texts.push(found_by.text);
        first.push(pieces.len() as i32 + 1);
        pieces.extend(found_by.pieces);
        last.push(pieces.len() as i32);
    }
    // The lists of all accounts in one array, with where each begins and ends.
    let query = sqlx::query!(
        "update accounts a set search_text = found.by_text, search_pieces = ($6::bigint[])[found.first:found.last]
         from unnest($2::uuid[], $3::text[], $4::integer[], $5::integer[])
              as found (account_id, by_text, first, last)
         where a.org_id = $1 and a.account_id = found.account_id and a.search_pieces is null",
        org_id,
        &ids,
        &texts,
        &first,
        &last,
        &pieces
    );
    query.execute(db).await?;
    Ok(rows.len() as u64)
}
