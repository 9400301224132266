//! Credentials: exchanges, logins, throttles, and the cache that they are loaded into.

use super::counter::Counter;
use crate::domain::values::kinds::TokenKind;

/// What became of credentials that clients presented.
#[derive(Debug, Default)]
pub struct Credentials {
    /// JWTs that were issued, by the kind of the credential.
    exchanges: [Counter; TokenKind::ALL.len()],
    /// Those among them that were issued while the database did not answer.
    pub exchanged_in_outage: Counter,
    /// Passwords that were right.
    pub passwords_right: Counter,
    /// Passwords that were wrong, or whose account may not sign in or does not exist.
    pub passwords_wrong: Counter,
    /// Logins that were refused unchecked, after too many failures.
    pub throttled_logins: Counter,
    /// Requests for password resets that were refused, after too many.
    pub throttled_resets: Counter,
}

impl Credentials {
    /// A credential of this kind was exchanged for a JWT.
    pub fn exchanged(&self, kind: TokenKind, in_outage: bool) {
        self.exchanges[kind as usize].one();
        if in_outage {
            self.exchanged_in_outage.one();
        }
    }

    /// How many were exchanged of each kind.
    pub fn exchanges(&self) -> impl Iterator<Item = (TokenKind, u64)> {
        TokenKind::ALL.into_iter().zip(&self.exchanges).map(|(kind, counter)| (kind, counter.get()))
    }
}

/// How credentials were found.
#[derive(Debug, Default)]
pub struct Cache {
    /// In memory.
    pub hits: Counter,
    /// In memory, to be missing.
    pub negative: Counter,
    /// By a load from the database that found it.
    pub loads_found: Counter,
    /// By a load that found nothing.
    pub loads_missing: Counter,
    /// Not at all: the load failed.
    pub loads_failed: Counter,
    /// Not at all: too many loads were in progress.
    pub loads_shed: Counter,
    /// In a batch of ids that are likely not to exist.
    pub batched: Counter,
    /// Credentials that did not match, from where too many did not: their clients are told to wait.
    pub throttled: Counter,
}
