//! What the cache holds: a credential, or an account without one, under its key.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::domain::access::credential::Credential;
use crate::domain::access::member::Member;
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
    /// The account.
    pub fn member(&self) -> &Member {
        match self {
            Self::Credential(credential) => &credential.account,
            Self::Member(member) => member,
        }
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
    /// When its load began.
    pub at: Instant,
}

/// An entry of the cache.
pub(super) struct CacheEntry {
    pub loaded: Loaded,
    pub used: AtomicBool,
    /// The bytes that it takes, with those of the maps and queues that name it.
    pub weight: usize,
}

impl CacheEntry {
    pub(super) fn member(&self) -> &Member {
        self.loaded.known.member()
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
