//! Keys that are stored with issuers, read once for all that is asked about them.

use std::sync::Arc;

use super::issuer::Trust;
use super::jwk_set::KeySet;

/// The keys that are stored with an issuer, or why they cannot be read; none where its keys are fetched.
type InlineKeys = Result<Option<Arc<KeySet>>, String>;

/// The keys of issuers that were read before the org is locked.
///
/// To read a set takes as long as it has keys, and every change of the org waits for its lock. What was read is used
/// under the lock, where the issuer is still the same.
pub struct ReadKeys(Vec<(Trust, InlineKeys)>);

impl ReadKeys {
    /// Reads the keys of these issuers, which may take a while; the same keys once.
    pub fn of(issuers: impl IntoIterator<Item = Trust>) -> Self {
        let mut read = Self(Vec::new());
        for issuer in issuers {
            if read.find(&issuer).is_none() {
                let keys = keys(&issuer);
                read.0.push((issuer, keys));
            }
        }
        read
    }

    /// The keys of an issuer, which are read again where it is none of those.
    ///
    /// # Errors
    /// As [`Trust::inline_keys`].
    pub fn keys(&self, issuer: &Trust) -> InlineKeys {
        self.find(issuer).cloned().unwrap_or_else(|| keys(issuer))
    }

    fn find(&self, issuer: &Trust) -> Option<&InlineKeys> {
        self.0.iter().find(|(known, _)| known.has_keys_of(issuer)).map(|(_, keys)| keys)
    }
}

fn keys(issuer: &Trust) -> InlineKeys {
    Ok(issuer.inline_keys()?.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::federation::issuer::{IssuerKind, TrustFields};
    use crate::error::Violations;

    #[test]
    fn the_same_keys_are_read_once() {
        let jwks =
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let fields = TrustFields { jwks, ..TrustFields::of(IssuerKind::Jwks, "https://a.example") };
        let (one, other) = (fields.trust(), TrustFields { shared: true, ..fields.clone() }.trust());
        let damaged = TrustFields { jwks: "{", ..fields.clone() };
        let damaged = Trust::restore(&mut Violations::default(), &damaged).unwrap();
        let fetched = TrustFields::of(IssuerKind::Oidc, "https://a.example").trust();
        let read = ReadKeys::of([&one, &other, &damaged].map(Trust::clone));
        assert_eq!(read.0.len(), 2);
        let keys = |issuer: &Trust| read.keys(issuer).unwrap().unwrap();
        assert!(Arc::ptr_eq(&keys(&one), &keys(&other)));
        assert!(read.keys(&damaged).is_err());
        // One that was not read before.
        assert!(read.keys(&fetched).unwrap().is_none());
        let later = TrustFields { issuer: "https://b.example", ..fields }.trust();
        assert_eq!(keys(&later).keys().len(), 1);
    }
}
