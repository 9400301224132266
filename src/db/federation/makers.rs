//! The rules that compromised credentials stand behind, in whichever orgs.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::values::ids::{OrgId, RuleId};
use crate::error::Result;

/// Finds the rules that these credentials have created or changed, and every rule of an issuer that they have
/// created or changed; whatever their state.
pub async fn find_made_by(tx: &mut PgConnection, makers: &[Uuid]) -> Result<Vec<(OrgId, RuleId)>> {
    let rules = sqlx::query!("select org_id, rule_id from federation_rules where makers && $1", makers);
    let mut found: Vec<(OrgId, RuleId)> = rules
        .fetch_all(&mut *tx)
        .await?
        .into_iter()
        .map(|row| (row.org_id.into(), row.rule_id.into()))
        .collect();
    let issuers = sqlx::query!("select org_id, issuer_id from issuers where makers && $1", makers);
    let issuers = issuers.fetch_all(&mut *tx).await?;
    let mut orgs: Vec<Uuid> = issuers.iter().map(|row| row.org_id).collect();
    orgs.sort_unstable();
    orgs.dedup();
    for org_id in orgs {
        let of_org = issuers.iter().filter(|row| row.org_id == org_id);
        let of_org: Vec<Uuid> = of_org.map(|row| row.issuer_id).collect();
        let rules = sqlx::query_scalar!(
            "select rule_id from federation_rules where org_id = $1 and issuer_id = any($2)",
            org_id,
            &of_org
        );
        let rules = rules.fetch_all(&mut *tx).await?;
        found.extend(rules.into_iter().map(|rule| (OrgId::from(org_id), RuleId::from(rule))));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
