//! The credentials that made or changed issuers and rules, and the rules of credentials that are compromised, in all
//! orgs.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::values::ids::{CredentialId, OrgId, RuleId};
use crate::error::Result;

/// The most makers that are stored with one row.
const MOST_MAKERS: usize = 1_000;

/// The makers of a row, once this credential has changed it: the last one last.
///
/// All of them are kept, since what one of them did may outlast what others did later. Of too many the oldest are
/// dropped, but never the first one.
pub(super) fn made_by(before: Vec<Uuid>, maker: CredentialId) -> Vec<Uuid> {
    let Some((first, later)) = before.split_first() else { return vec![maker.uuid()] };
    if later.is_empty() && *first == maker.uuid() {
        return before;
    }
    let later = later.iter().copied().filter(|id| *id != maker.uuid()).chain([maker.uuid()]);
    let later: Vec<Uuid> = later.collect();
    let dropped = later.len().saturating_sub(MOST_MAKERS - 1);
    std::iter::once(*first).chain(later.into_iter().skip(dropped)).collect()
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::ids::TokenId;

    #[test]
    fn every_maker_is_kept_once_and_the_first_for_ever() {
        let id = |n: u128| TokenId::from_u128(n);
        let after =
            |makers: &[u128]| makers.iter().fold(Vec::new(), |before, n| made_by(before, id(*n).into()));
        let ids = |numbers: &[u128]| numbers.iter().map(|n| id(*n).uuid()).collect::<Vec<_>>();
        assert_eq!(after(&[1]), ids(&[1]));
        assert_eq!(after(&[1, 1, 1]), ids(&[1]));
        assert_eq!(after(&[1, 2, 3, 2]), ids(&[1, 3, 2]));
        assert_eq!(after(&[1, 2, 1]), ids(&[1, 2, 1]));
        assert_eq!(after(&[1, 2, 1, 1]), ids(&[1, 2, 1]));
        let many: Vec<u128> = (1..=2_000).collect();
        let kept = after(&many);
        assert_eq!((kept.len(), kept[0], kept[1]), (MOST_MAKERS, ids(&[1])[0], ids(&[1_002])[0]));
    }
}
