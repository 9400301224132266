//! Lists of the accounts that changed since a time, deleted ones included, in the order of their changes.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::account::{Account, select_accounts};
use super::list::AccountFilter;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names::ExternalId;
use crate::error::Result;

/// A place in the list: the time of a change, in microseconds since 1970, and the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdatePosition {
    micros: i64,
    account_id: AccountId,
}

impl UpdatePosition {
    fn of(account: &Account) -> Self {
        let micros = account.update_time.unix_timestamp_nanos() / 1_000;
        Self { micros: micros as i64, account_id: account.id() }
    }

    fn time(self) -> OffsetDateTime {
        let nanos = i128::from(self.micros) * 1_000;
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for UpdatePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.micros, self.account_id)
    }
}

impl FromStr for UpdatePosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (micros, account) = text.split_once(' ').ok_or(())?;
        let account_id = AccountId::parse(account).map_err(|_| ())?;
        Ok(Self { micros: micros.parse().map_err(|_| ())?, account_id })
    }
}

/// The conditions of a filter: `$1` is the org, `$2` to `$7` belong to it, and others come after them.
///
/// Only the order determines the index: the query is compared with the text, and the role is looked up,
/// row by row. The state `LIVE` is not asked for, and then is any.
macro_rules! changed {
    ($query:ident, $head:tt, $tail:tt, $org_id:expr, $since:expr, $filter:expr $(, $arg:expr)*) => {
        $query!(
            $head + "where org_id = $1 and update_time >= $2
               and ($3 <> 'DELETED' or delete_time is not null)
               and ($3 <> 'DEACTIVATED' or (delete_time is null and deactivate_time is not null))
               and ($3 <> 'INVITED' or (delete_time is null and deactivate_time is null
                                        and kind = 'USER' and password_time is null))
               and ($3 <> 'ACTIVE' or (delete_time is null and deactivate_time is null
                                       and (kind = 'SERVICE_ACCOUNT' or password_time is not null)))
               and ($4::text is null or kind = $4)
               and ($5::text is null or strpos(coalesce(search_text,
                        E'\\n' || lower(concat_ws(E'\\n', name, username, display_name))), $5) > 0)
               and ($6::text is null or external_id = $6)
               and ($7::text is null or (select true from grants g
                                         where g.org_id = $1 and g.right_id = $7 and g.account_id = a.account_id
                                         limit 1)) " + $tail,
            $org_id.uuid(),
            $since,
            $filter.state(),
            $filter.kind(),
            $filter.query.as_ref().map(|query| query.text.as_str()),
            $filter.external_id.as_ref().map(ExternalId::as_str),
            $filter.role()
            $(, $arg)*
        )
    };
}

macro_rules! changed_accounts {
    ($head:tt + $filter:tt + $tail:tt, $($arg:expr),* $(,)?) => {
        select_accounts!($filter + $tail, $($arg),*)
    };
}

macro_rules! count_changed {
    ($head:tt + $filter:tt + $tail:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_scalar!($head + $filter + $tail, $($arg),*)
    };
}

/// A page of the accounts that changed at this time or later.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &AccountFilter,
    since: OffsetDateTime,
    after: Option<UpdatePosition>,
    size: i64,
) -> Result<Page<Account>> {
    let (after_time, after_id) = match after {
        Some(place) => (place.time(), place.account_id.uuid()),
        None => (since, Uuid::nil()),
    };
    let rows = changed!(
        changed_accounts,
        "",
        "and (update_time, account_id) > ($8, $9) order by update_time, account_id limit $10",
        org_id,
        since,
        filter,
        after_time,
        after_id,
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = changed!(
        count_changed,
        r#"select count(*) as "n!" from (select 1 from accounts a "#,
        "limit $8) few",
        org_id,
        since,
        filter,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |account| UpdatePosition::of(account).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text() {
        let place = UpdatePosition { micros: 1_764_383_999_123_456, account_id: AccountId::from_u128(7) };
        assert_eq!(place.to_string().parse(), Ok(place));
        for wrong in ["", "1", "x acct_00000000000000000000000007", "1 acct"] {
            assert!(wrong.parse::<UpdatePosition>().is_err(), "{wrong:?}");
        }
    }
}
