//! When each verifier was last written down: what it acknowledges each few seconds is not written as often.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::domain::values::ids::{CredentialId, OrgId};
use crate::state::locks::lock;

/// How often a verifier is written that holds what it held.
const PERIOD: Duration = Duration::from_secs(30);
/// The most that are remembered. The others are written each time.
const MOST: usize = 20_000;

/// A verifier: its org, its credential and its name.
pub type VerifierKey = (OrgId, CredentialId, String);

/// When the verifiers that acknowledged on this node were written, and what they held.
#[derive(Default)]
pub struct Verifiers(Mutex<HashMap<VerifierKey, (Instant, Vec<String>)>>);

impl Verifiers {
    /// Whether what a verifier says now is to be written.
    pub fn is_due(&self, key: &VerifierKey, held: &[String]) -> bool {
        let written = lock(&self.0);
        written.get(key).is_none_or(|(at, before)| at.elapsed() >= PERIOD || before != held)
    }

    /// Notes that it was written.
    pub fn written(&self, key: VerifierKey, held: Vec<String>) {
        let mut written = lock(&self.0);
        if written.len() >= MOST {
            written.retain(|_, (at, _)| at.elapsed() < PERIOD);
        }
        if written.len() < MOST {
            written.insert(key, (Instant::now(), held));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::ids::TokenId;

    #[test]
    fn what_is_held_is_not_written_again_at_once() {
        let verifiers = Verifiers::default();
        let key = |name: &str| (OrgId::from_u128(1), TokenId::from_u128(2).into(), name.to_owned());
        let held = vec!["one".to_owned()];
        assert!(verifiers.is_due(&key("a"), &held));
        verifiers.written(key("a"), held.clone());
        assert!(!verifiers.is_due(&key("a"), &held));
        assert!(verifiers.is_due(&key("a"), &[]), "where it holds something else, at once");
        assert!(verifiers.is_due(&key("b"), &held));
    }
}
