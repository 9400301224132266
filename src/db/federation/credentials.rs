//! Everything that a federation rule authenticates with: the rule, its issuer, the account and its rights.

use std::sync::Arc;

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::issuers::{self, StoredIssuer};
use super::rules::{self, StoredRule};
use crate::crypto::seal::MasterKeys;
use crate::db::accounts::members;
use crate::db::tokens::principals::LoadedWith;
use crate::domain::access::credential::Credential;
use crate::domain::access::member::Member;
use crate::domain::federation::ceiling::Ceiling;
use crate::domain::federation::federated::Federated;
use crate::domain::values::ids::{AccountId, IssuerId, OrgId, RuleId};
use crate::domain::values::kinds::TokenKind;
use crate::error::Result;

/// Finds the credential of a rule, revoked or not.
///
/// If there is no such rule, the same queries are made without a result, so that they take as long.
pub async fn find(
    db: &mut PgConnection,
    rule_id: RuleId,
    with: LoadedWith<'_>,
    ceiling: &Ceiling,
) -> Result<Option<Credential>> {
    let narrow =
        sqlx::query_scalar!("select org_id from credentials where credential_id = $1", rule_id.uuid());
    let org_id = narrow.fetch_optional(&mut *db).await?.map_or(OrgId::from_u128(0), OrgId::from);
    let rule = rules::find(&mut *db, org_id, rule_id).await?;
    let issuer_id = rule.as_ref().map_or(IssuerId::from_u128(0), StoredRule::issuer);
    let issuer = issuers::find(&mut *db, org_id, issuer_id).await?;
    let account_id = rule.as_ref().map_or(AccountId::from_u128(0), StoredRule::account);
    let account = members::find(db, org_id, account_id, with.ceilings).await?;
    let Some(((rule, issuer), account)) = rule.zip(issuer).zip(account) else { return Ok(None) };
    match credential(&rule, &issuer, account, with.master, ceiling) {
        Ok(credential) => Ok(Some(credential)),
        Err(error) => {
            tracing::error!(?error, %org_id, %rule_id, "federation rule left out");
            Ok(None)
        }
    }
}

fn credential(
    stored: &StoredRule,
    stored_issuer: &StoredIssuer,
    account: Member,
    master: &MasterKeys,
    ceiling: &Ceiling,
) -> Result<Credential> {
    // Its keys are read once they are needed, and then kept: a seal that is ours says that they are in order.
    let (rule, issuer) = (stored.rule()?, stored_issuer.issuer()?);
    let is_sealed = stored.is_ours(master, &rule) && stored_issuer.is_ours(master, &issuer);
    if !is_sealed {
        let (org_id, rule_id) = (account.org_id, stored.id());
        tracing::error!(%org_id, %rule_id, "federation rule left out: it, or its issuer, is not as we stored it");
    }
    let is_admitted = ceiling.admits(issuer.name()).is_some();
    Ok(Credential {
        credential_id: stored.id().into(),
        account,
        kind: TokenKind::Federated,
        secrets: Box::default(),
        restrictions: rule.restrictions.into(),
        may_manage_tokens: false,
        create_time: stored.create_time.to_utc(),
        renew_time: None,
        expire_time: stored.expire_time.map(OffsetDateTime::to_utc),
        last_use: stored.last_use().to_utc(),
        revoked: stored.revoke_time.is_some(),
        tied_to: None,
        federated: Some(Box::new(Federated {
            issuer: Arc::new(issuer),
            issuer_version: stored_issuer.version,
            stored_keys: stored_issuer.stored_keys().map(Arc::new),
            matches: rule.matches,
            version: stored.version,
            disabled: stored.disabled,
            is_sealed,
            is_admitted,
            access_token_lifetime: rule.access_token_lifetime,
        })),
    })
}

/// The version of a rule that is neither revoked nor disabled, which the transaction of its caller holds.
pub async fn find_version(tx: &mut PgConnection, org_id: OrgId, rule_id: RuleId) -> Result<Option<i64>> {
    let query = sqlx::query_scalar!(
        "select version from federation_rules
         where org_id = $1 and rule_id = $2 and revoke_time is null and not disabled",
        org_id.uuid(),
        rule_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?)
}
