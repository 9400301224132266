//! Lists of an org's tokens, by what they are.

use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Labels, Token};
use crate::domain::ids::{AccountId, OrgId, TokenId};
use crate::domain::names::Purpose;
use crate::domain::pages::{COUNTED, Page};
use crate::domain::principal::TokenKind;
use crate::error::Result;

/// Which tokens to list: those to which all of it applies.
pub struct Filter {
    pub now: OffsetDateTime,
    pub account_id: Option<AccountId>,
    pub kind: Option<TokenKind>,
    pub purpose: Option<Purpose>,
    /// `ACTIVE`, `EXPIRED` or `REVOKED`, now.
    pub state: Option<&'static str>,
    /// Neither made nor used since.
    pub idle_since: Option<OffsetDateTime>,
    pub expires_before: Option<OffsetDateTime>,
    pub labels: Labels,
}

/// A page of the org's tokens, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &Filter,
    after: Option<TokenId>,
    size: i64,
) -> Result<Page<Token>> {
    let account_id = filter.account_id.map(AccountId::uuid);
    let kind = filter.kind.map(TokenKind::name);
    let purpose = filter.purpose.as_ref().map(Purpose::as_str);
    let labels = (!filter.labels.is_empty()).then_some(Json(&filter.labels));
    let rows = select_tokens!(
        "where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::text is null or kind = $3)
           and ($4::text is null or purpose = $4) and ($5::jsonb is null or labels @> $5)
           and ($6::timestamptz is null or t.expire_time < $6)
           and ($7::timestamptz is null or t.create_time < $7 and not exists (
               select 1 from token_secrets used where used.org_id = $1 and used.token_id = t.token_id
                 and used.last_use_time >= $7))
           and ($8::text is null or $8 = case when revoke_time is not null then 'REVOKED'
                                              when t.expire_time <= $9 then 'EXPIRED' else 'ACTIVE' end)
           and ($10::uuid is null or token_id > $10)
         order by token_id limit $11",
        org_id.uuid(),
        account_id,
        kind,
        purpose,
        labels as _,
        filter.expires_before,
        filter.idle_since,
        filter.state,
        filter.now,
        after.map(TokenId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let labels = (!filter.labels.is_empty()).then_some(Json(&filter.labels));
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from tokens t
               where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::text is null or kind = $3)
                 and ($4::text is null or purpose = $4) and ($5::jsonb is null or labels @> $5)
                 and ($6::timestamptz is null or t.expire_time < $6)
                 and ($7::timestamptz is null or t.create_time < $7 and not exists (
                     select 1 from token_secrets used where used.org_id = $1 and used.token_id = t.token_id
                       and used.last_use_time >= $7))
                 and ($8::text is null or $8 = case when revoke_time is not null then 'REVOKED'
                                                    when t.expire_time <= $9 then 'EXPIRED' else 'ACTIVE' end)
               limit $10
           ) few"#,
        org_id.uuid(),
        account_id,
        kind,
        purpose,
        labels as _,
        filter.expires_before,
        filter.idle_since,
        filter.state,
        filter.now,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |token| token.id().to_string()))
}
