//! What a change touches: the cache keys that its feed row names.

use std::fmt;

use super::ids::{AccountId, CredentialId, InvitationId, IssuerId, OrgId, RuleId, SessionId, TokenId};

/// Before an org's id: the owners of it.
const OWNERS: &str = "owners/";
const KEYS: &str = "keys";
/// Between a token's id and the number of its secret.
const SECRET: char = '/';

/// A cache key that a change touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A token, a session or a rule of federation.
    Credential(CredentialId),
    /// The secret of a token with this number, where it ended before the token. What verifiers of JWTs
    /// need: those that name it are stale.
    Secret(TokenId, i32),
    Account(AccountId),
    Org(OrgId),
    /// The owners of an org, or of nodes of it: what they hold depends on what the org names.
    Owners(OrgId),
    Invitation(InvitationId),
    /// A foreign issuer.
    Issuer(IssuerId),
    /// Signing keys and peppers.
    Keys,
}

impl Subject {
    /// Reads what the feed stores. None for what another version of the server has written:
    /// it concerns nothing here.
    pub fn parse(text: &str) -> Option<Self> {
        if text == KEYS {
            return Some(Self::Keys);
        }
        if let Some(org) = text.strip_prefix(OWNERS) {
            return OrgId::parse(org).ok().map(Self::Owners);
        }
        if let Some((token, number)) = text.split_once(SECRET) {
            return Some(Self::Secret(TokenId::parse(token).ok()?, number.parse().ok()?));
        }
        let credential = CredentialId::parse(text).map(Self::Credential).ok();
        let account = || AccountId::parse(text).map(Self::Account).ok();
        let org = || OrgId::parse(text).map(Self::Org).ok();
        credential
            .or_else(account)
            .or_else(org)
            .or_else(|| InvitationId::parse(text).map(Self::Invitation).ok())
            .or_else(|| IssuerId::parse(text).map(Self::Issuer).ok())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(id) => id.fmt(f),
            Self::Secret(id, number) => write!(f, "{id}{SECRET}{number}"),
            Self::Account(id) => id.fmt(f),
            Self::Org(id) => id.fmt(f),
            Self::Owners(id) => write!(f, "{OWNERS}{id}"),
            Self::Invitation(id) => id.fmt(f),
            Self::Issuer(id) => id.fmt(f),
            Self::Keys => f.write_str(KEYS),
        }
    }
}

macro_rules! from_ids {
    ($($variant:ident $id:ident;)*) => {$(
        impl From<$id> for Subject {
            fn from(id: $id) -> Self {
                Self::$variant(id.into())
            }
        }
    )*};
}

from_ids! {
    Credential CredentialId;
    Credential TokenId;
    Credential SessionId;
    Credential RuleId;
    Account AccountId;
    Org OrgId;
    Invitation InvitationId;
    Issuer IssuerId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        let org = OrgId::from_u128(7);
        for (subject, text) in [
            (TokenId::from_u128(7).into(), TokenId::from_u128(7).to_string()),
            (Subject::Secret(TokenId::from_u128(7), 2), format!("{}/2", TokenId::from_u128(7))),
            (SessionId::from_u128(7).into(), SessionId::from_u128(7).to_string()),
            (AccountId::from_u128(7).into(), AccountId::from_u128(7).to_string()),
            (InvitationId::from_u128(7).into(), InvitationId::from_u128(7).to_string()),
            (RuleId::from_u128(7).into(), RuleId::from_u128(7).to_string()),
            (IssuerId::from_u128(7).into(), IssuerId::from_u128(7).to_string()),
            (org.into(), org.to_string()),
            (Subject::Owners(org), format!("owners/{org}")),
            (Subject::Keys, "keys".to_owned()),
        ] {
            assert_eq!(subject.to_string(), text);
            assert_eq!(Subject::parse(&text), Some(subject));
        }
        for other in ["", "key", "tok_0/1", "/1", "owners/", "owners/acct_0", "customers/acme"] {
            assert_eq!(Subject::parse(other), None, "{other:?}");
        }
    }
}
