//! What the credential of a federation rule has beside that of a token.

use std::sync::Arc;
use std::time::Duration;

use super::fetching::StoredKeys;
use super::issuer::Issuer;
use super::rule::{ClaimValue, RuleMatch};

/// A rule as it is checked on each use, with its issuer.
#[derive(Clone, Debug)]
pub struct Federated {
    pub issuer: Arc<Issuer>,
    /// Raised by each change of what is believed of the issuer.
    pub issuer_version: i64,
    /// What is stored of its keys; none where they were not fetched.
    pub stored_keys: Option<Arc<StoredKeys>>,
    pub matches: RuleMatch,
    /// Raised by each change of the rule or of its issuer: `rule_ver` of its JWTs.
    pub version: i64,
    pub disabled: bool,
    /// Whether the seals of the rule and of its issuer are ours: what others wrote opens nothing.
    pub is_sealed: bool,
    /// Whether the deployment admits the issuer.
    pub is_admitted: bool,
    /// The longest life of a JWT that it gives, where that is less than the policy's.
    pub access_token_lifetime: Option<Duration>,
}

impl Federated {
    /// Whether it may be exchanged for at all. One that may not is refused as one that does not exist.
    pub fn is_usable(&self) -> bool {
        !self.disabled && self.is_sealed
    }

    /// Whether a JWT with this `rule_ver` is still good: neither the rule nor its issuer has changed since.
    pub fn vouches_for(&self, rule_ver: Option<i64>) -> bool {
        self.is_usable() && rule_ver.is_some_and(|rule_ver| rule_ver >= self.version)
    }

    /// The bytes that it takes in a cache, without the issuer, which all rules for it share.
    pub(crate) fn weight(&self) -> usize {
        let value = |value: &ClaimValue| match value {
            ClaimValue::Bool(_) => 0,
            ClaimValue::Text(text) => text.len(),
        };
        let claims = self.matches.claims().iter().map(|claim| {
            let path: usize = claim.path().iter().map(|name| size_of::<String>() + name.len()).sum();
            let values: usize = claim.values().iter().map(|each| size_of::<ClaimValue>() + value(each)).sum();
            80 + path + values
        });
        let subject = self.matches.subject();
        let subject = subject.exact().or(subject.prefix()).map_or(0, str::len);
        let audiences = self.matches.audiences().iter().map(|audience| 24 + audience.as_str().len());
        size_of::<Self>()
            + self.stored_keys.as_ref().map_or(0, |stored| stored.weight())
            + subject
            + claims.sum::<usize>()
            + audiences.sum::<usize>()
    }
}
