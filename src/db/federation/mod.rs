//! Issuers, federation rules, and what was presented to them.

pub mod credentials;
pub mod fetches;
pub mod issuers;
pub mod makers;
pub mod presentations;
pub mod rules;
pub mod uses;

pub use issuers::StoredIssuer;
pub use rules::StoredRule;

use uuid::Uuid;

use crate::domain::values::ids::CredentialId;

/// The most makers that are remembered of one row.
const MOST_MAKERS: usize = 1_000;

/// The makers of a row, once this credential has changed it: the last one last.
///
/// All of them are kept, since what one of them did may outlast what others did later. Of too many the oldest are
/// forgotten, but never the first one.
fn made_by(mut makers: Vec<Uuid>, maker: CredentialId) -> Vec<Uuid> {
    let first = makers.first().copied();
    makers.retain(|id| *id != maker.uuid() || Some(*id) == first);
    if first != Some(maker.uuid()) || makers.len() > 1 {
        makers.push(maker.uuid());
    }
    while makers.len() > MOST_MAKERS {
        makers.remove(1);
    }
    makers
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
