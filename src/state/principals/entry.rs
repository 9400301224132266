//! What the cache holds: a credential, or an account without one, under its key.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::domain::access::credential::Credential;
use crate::domain::access::member::Member;
use crate::domain::federation::issuer::Issuer;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, RuleId, SessionId, TokenId};
use crate::domain::values::subject::Subject;

/// The key of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A token, with the account behind it.
    Token(TokenId),
    /// A session, with the account behind it in its home org.
    Session(SessionId),
    /// A rule of federation, with the account behind it.
    Rule(RuleId),
    /// An account in an org, without a token.
    Member(OrgId, AccountId),
}

impl From<CredentialId> for Key {
    fn from(id: CredentialId) -> Self {
        match id {
            CredentialId::Token(id) => Self::Token(id),
            CredentialId::Session(id) => Self::Session(id),
            CredentialId::Rule(id) => Self::Rule(id),
        }
    }
}

/// The value of an entry.
#[derive(Clone)]
pub enum Known {
    Credential(Arc<Credential>),
    Member(Arc<Member>),
}

impl Known {
    /// The key that it is cached under.
    pub(super) fn key(&self) -> Key {
        match self {
            Self::Credential(credential) => credential.credential_id.into(),
            Self::Member(member) => Key::Member(member.org_id, member.account_id),
        }
    }

    /// The account.
    pub fn member(&self) -> &Member {
        match self {
            Self::Credential(credential) => &credential.account,
            Self::Member(member) => member,
        }
    }

    /// The issuer whose JWTs it is for, if it is a rule.
    pub fn issuer(&self) -> Option<&Arc<Issuer>> {
        let Self::Credential(credential) = self else { return None };
        credential.federated.as_ref().map(|federated| &federated.issuer)
    }

    /// The bytes that it takes, without what entries share.
    pub fn weight(&self) -> usize {
        match self {
            Self::Credential(credential) => credential.weight(),
            Self::Member(member) => member.weight(),
        }
    }
}

/// A cached value, and when it was loaded.
#[derive(Clone)]
pub struct Loaded {
    pub known: Known,
    /// When its load began, or a little before.
    pub at: Instant,
}

/// An entry of the cache, found by the key of what it has.
///
/// There may be a million, with one allocation each: every field is as small as it can be.
pub(super) struct CacheEntry {
    pub known: Known,
    /// When its load began.
    pub at: Tenths,
    /// The bytes that it takes, with those of the set and the index that name it; 4 GiB if it is more.
    pub weight: u32,
    /// Its number in the index.
    pub slot: u32,
    /// Whether the hand that evicts passes it over once more.
    pub used: AtomicBool,
}

impl PartialEq for CacheEntry {
    fn eq(&self, other: &Self) -> bool {
        self.known.key() == other.known.key()
    }
}

impl Eq for CacheEntry {}

/// As its key, by which it is found.
impl Hash for CacheEntry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.known.key().hash(state);
    }
}

impl papaya::Equivalent<CacheEntry> for Key {
    fn equivalent(&self, entry: &CacheEntry) -> bool {
        *self == entry.known.key()
    }
}

/// A moment after the start of the cache, in tenths of a second; an `Instant` takes four times the bytes.
///
/// It is rounded down: what was loaded then may seem up to a tenth of a second older than it is, and
/// never younger.
#[derive(Clone, Copy)]
pub(super) struct Tenths(u32);

impl Tenths {
    const LENGTH: u128 = 100;

    pub(super) fn between(start: Instant, at: Instant) -> Self {
        let tenths = at.saturating_duration_since(start).as_millis() / Self::LENGTH;
        // After 13 years, everything is older than any limit.
        Self(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    pub(super) fn after(self, start: Instant) -> Instant {
        start + Duration::from_millis(u64::from(self.0) * Self::LENGTH as u64)
    }
}

/// Whether the change may create something under this key.
pub(super) fn names(subject: Subject, key: Key) -> bool {
    match (subject, key) {
        (Subject::Credential(id), key) => key == id.into(),
        (Subject::Account(id), Key::Member(_, account)) => id == account,
        (Subject::Org(id), Key::Member(org, _)) => id == org,
        _ => false,
    }
}

/// The changes of an account or an org that affect what is cached of this member: those that
/// [`concerns`] names.
pub(super) fn concerning(member: &Member) -> impl Iterator<Item = Subject> {
    let owners = member.held.owns_something().then_some(Subject::Owners(member.org_id));
    let orgs = [member.org_id, member.home_org_id].map(Subject::Org);
    [Subject::Account(member.account_id)].into_iter().chain(orgs).chain(owners)
}

/// Whether the change affects what is cached under this key.
pub(super) fn concerns(subject: Subject, key: Key, member: &Member) -> bool {
    match subject {
        Subject::Credential(id) => key == id.into(),
        Subject::Account(id) => id == member.account_id,
        Subject::Org(id) => id == member.org_id || id == member.home_org_id,
        Subject::Owners(id) => id == member.org_id && member.held.owns_something(),
        Subject::Secret(..) | Subject::Invitation(_) | Subject::Issuer(_) | Subject::Keys => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert_eq!((size_of::<CacheEntry>(), size_of::<Option<Known>>()), (32, 16));
    }

    #[test]
    fn what_is_cached_never_seems_younger_than_it_is() {
        let start = Instant::now();
        for (millis, kept) in [(0, 0), (99, 0), (100, 100), (12_345, 12_300)] {
            let at = start + Duration::from_millis(millis);
            let again = Tenths::between(start, at).after(start);
            assert_eq!(again, start + Duration::from_millis(kept));
        }
        let years = Duration::from_secs(20 * 365 * 86_400);
        assert!(Tenths::between(start, start + years).after(start) < start + years);
        assert_eq!(Tenths::between(start + years, start).after(start), start, "a load from before the cache");
    }
}
