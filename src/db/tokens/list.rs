//! Lists of the tokens of an org, with filters.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::token::{Labels, Token, select_tokens};
use crate::domain::paging::{COUNTED, Page};
use crate::domain::tokens::policy::{Rules, TokenState};
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Purpose;
use crate::error::Result;

/// Which tokens to list: those that match every condition.
#[derive(Default)]
pub struct TokenFilter {
    pub account_id: Option<AccountId>,
    pub kind: Option<TokenKind>,
    pub purpose: Option<Purpose>,
    /// The token is in each of these states now, by the rules beside it.
    pub states: Vec<(TokenState, Rules)>,
    /// The token was neither created nor used since.
    pub idle_since: Option<OffsetDateTime>,
    pub expires_before: Option<OffsetDateTime>,
    pub labels: Labels,
}

/// A `$query` of `$head`, the conditions of a filter on `tokens t`, and `$tail`.
///
/// `$1` is the org, `$2` to `$14` belong to the filter, and the other arguments come after them. The
/// states are those of [`Rules::state`]: tests check that both agree.
macro_rules! filtered {
    ($query:ident, $head:tt, $tail:tt, $org_id:expr, $filter:expr, $now:expr $(, $arg:expr)*) => {{
        let TokenFilter { account_id, kind, purpose, states, idle_since, expires_before, labels } = $filter;
        let seconds = |lifetime: Duration| lifetime.as_secs() as i64;
        $query!(
            $head + r#" where t.org_id = $1 and ($2::uuid is null or account_id = $2)
                and ($3::text is null or t.kind = $3) and ($4::text is null or purpose = $4)
                and ($5::jsonb is null or labels @> $5) and ($6::timestamptz is null or t.expire_time < $6)
                and ($7::timestamptz is null or t.create_time < $7 and not exists (
                    select 1 from token_secrets used where used.org_id = $1 and used.token_id = t.token_id
                      and used.last_use_time >= $7))
                and (cardinality($9::text[]) = 0 or not exists (
                    select 1 from unnest($9, $10::bigint[], $11::bigint[], $12::boolean[], $13::boolean[],
                                         $14::timestamptz[])
                        as r (state, secret_life, publishable_life, endless, user_tokens, idle_before)
                    where r.state <> case
                        when revoke_time is not null then 'REVOKED'
                        when t.expire_time <= $8 then 'EXPIRED'
                        when case when t.expire_time is null then not r.endless
                                  else t.expire_time > coalesce(t.renew_time, t.create_time) + interval '1 second'
                                      * case t.kind when 'SECRET' then r.secret_life else r.publishable_life end
                             end then 'BLOCKED'
                        when not r.user_tokens and not exists (
                            select 1 from accounts a where a.org_id = $1 and a.account_id = t.account_id
                              and a.kind = 'SERVICE_ACCOUNT') then 'BLOCKED'
                        when r.idle_before is not null and t.create_time < r.idle_before and not exists (
                            select 1 from token_secrets used where used.org_id = $1 and used.token_id = t.token_id
                              and greatest(used.create_time, used.last_use_time) >= r.idle_before) then 'BLOCKED'
                        else 'ACTIVE' end)) "# + $tail,
            $org_id.uuid(),
            account_id.map(AccountId::uuid),
            kind.map(TokenKind::name),
            purpose.as_ref().map(Purpose::as_str),
            (!labels.is_empty()).then_some(Json(labels)) as _,
            *expires_before,
            *idle_since,
            $now,
            &states.iter().map(|(state, _)| state.name().to_owned()).collect::<Vec<_>>(),
            &states.iter().map(|(_, rules)| seconds(rules.max_secret_lifetime)).collect::<Vec<_>>(),
            &states.iter().map(|(_, rules)| seconds(rules.max_publishable_lifetime)).collect::<Vec<_>>(),
            &states.iter().map(|(_, rules)| rules.endless).collect::<Vec<_>>(),
            &states.iter().map(|(_, rules)| rules.user_tokens).collect::<Vec<_>>(),
            &states.iter().map(|(_, rules)| rules.idle_before($now)).collect::<Vec<_>>() as &[Option<OffsetDateTime>]
            $(, $arg)*
        )
    }};
}

macro_rules! count_tokens {
    ($head:tt + $filter:tt + $tail:tt, $($arg:expr),*) => {
        sqlx::query_scalar!($head + $filter + $tail, $($arg),*)
    };
}

/// A page of the org's tokens, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &TokenFilter,
    after: Option<TokenId>,
    size: i64,
    now: OffsetDateTime,
) -> Result<Page<Token>> {
    let rows = filtered!(
        select_tokens,
        "",
        "and ($15::uuid is null or t.token_id > $15) order by t.token_id limit $16",
        org_id,
        filter,
        now,
        after.map(TokenId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let token_id = |token: &Token| token.id().to_string();
    if after.is_none() && rows.len() as i64 <= size {
        // The page holds all of them.
        let counted = rows.len() as i64;
        return Ok(Page::of(rows, size, counted, token_id));
    }
    let counted = filtered!(
        count_tokens,
        r#"select count(*) as "n!" from (select 1 from tokens t"#,
        "limit $15) few",
        org_id,
        filter,
        now,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, token_id))
}
