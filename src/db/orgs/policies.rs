//! The token policy of an org, in one column of `orgs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use super::operators;
use crate::db::{damaged, one_row};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::tokens::policy::{Ceilings, Rules, TokenPolicy};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::Audience;
use crate::domain::values::text::texts;
use crate::error::{Error, Result};

/// A policy as it is stored: only what the org has decided, with durations in seconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_secret_lifetime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_publishable_lifetime: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_lifetime: Option<u64>,
    allow_endless: bool,
    allow_user_tokens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_lifetime: Option<u64>,
    allowed_audiences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_limit: Option<u64>,
    allow_self_renewal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_renewed_lifetime: Option<u64>,
    allow_federation: bool,
    allowed_issuers: Vec<String>,
}

impl From<&TokenPolicy> for Stored {
    fn from(policy: &TokenPolicy) -> Self {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        Self {
            max_secret_lifetime: seconds(policy.max_secret_lifetime),
            max_publishable_lifetime: seconds(policy.max_publishable_lifetime),
            default_lifetime: seconds(policy.default_lifetime),
            allow_endless: policy.allow_endless,
            allow_user_tokens: policy.allow_user_tokens,
            access_token_lifetime: seconds(policy.access_token_lifetime),
            allowed_audiences: texts(&policy.allowed_audiences),
            idle_limit: seconds(policy.idle_limit),
            allow_self_renewal: policy.allow_self_renewal,
            max_renewed_lifetime: seconds(policy.max_renewed_lifetime),
            allow_federation: policy.allow_federation,
            allowed_issuers: texts(&policy.allowed_issuers),
        }
    }
}

impl Stored {
    /// Returns the stored policy, or the default if there is none.
    pub fn policy(stored: Option<&Self>) -> Result<TokenPolicy> {
        let Some(stored) = stored else { return Ok(TokenPolicy::default()) };
        let time = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let audience = |text: &String| Audience::parse(text).map_err(damaged("audience"));
        let issuer = |text: &String| IssuerName::parse(text).map_err(damaged("issuer"));
        Ok(TokenPolicy {
            max_secret_lifetime: time(stored.max_secret_lifetime),
            max_publishable_lifetime: time(stored.max_publishable_lifetime),
            default_lifetime: time(stored.default_lifetime),
            allow_endless: stored.allow_endless,
            allow_user_tokens: stored.allow_user_tokens,
            access_token_lifetime: time(stored.access_token_lifetime),
            allowed_audiences: stored.allowed_audiences.iter().map(audience).collect::<Result<_>>()?,
            idle_limit: time(stored.idle_limit),
            allow_self_renewal: stored.allow_self_renewal,
            max_renewed_lifetime: time(stored.max_renewed_lifetime),
            allow_federation: stored.allow_federation,
            allowed_issuers: stored.allowed_issuers.iter().map(issuer).collect::<Result<_>>()?,
        })
    }
}

/// Finds the rules for the tokens of an org: its policy, limited by the ceilings.
pub async fn find_rules(db: impl PgExecutor<'_>, org_id: OrgId, ceilings: &Ceilings) -> Result<Rules> {
    let query = sqlx::query_scalar!(
        r#"select token_policy as "token_policy: Json<Stored>" from orgs where org_id = $1"#,
        org_id.uuid()
    );
    let stored = query.fetch_optional(db).await?;
    let stored = stored.ok_or_else(|| Error::internal("the org of a call is missing"))?;
    Ok(Stored::policy(stored.as_deref())?.within(ceilings))
}

/// Sets the policy of an org, whose row is locked. `stale` makes earlier access tokens stale.
pub async fn set(
    tx: &mut PgConnection,
    org_id: OrgId,
    policy: &TokenPolicy,
    stale: bool,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update orgs set token_policy = $2, version = version + case when $3 then 1 else 0 end,
                revision = revision + 1, update_time = $4
         where org_id = $1",
        org_id.uuid(),
        Json(Stored::from(policy)) as _,
        stale,
        now
    );
    one_row(&query.execute(&mut *tx).await?, "setting a token policy")?;
    if stale { operators::raise(tx, org_id).await } else { Ok(()) }
}
