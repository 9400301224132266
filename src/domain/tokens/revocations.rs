//! What verifiers of JWTs are told: which JWTs are refused before they expire.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;

use super::limits::MAX_ACCESS_TOKEN_LIFETIME;
use crate::domain::values::ids::{AccountId, OrgId, RuleId, SessionId, TokenId};
use crate::error::Reason;

/// How long after an end there may be JWTs that it concerns: the longest life of one, and the time for which a
/// node that has not heard of the change may go on exchanging.
pub const IN_FORCE: Duration = Duration::from_secs(MAX_ACCESS_TOKEN_LIFETIME.as_secs() + 5 * 60);

const ORG: &str = "org";
/// Before a `kid`.
const KEY: &str = "key/";
/// Between a token's id and the number of its secret.
const SECRET: char = '/';

/// Which JWTs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    Token(TokenId),
    /// Those of one secret of a token, by its number.
    Secret(TokenId, i32),
    Session(SessionId),
    /// Those of a federation rule, below a version; all of them where it is gone.
    Rule(RuleId),
    /// Those of an account in an org, below a version.
    Account(AccountId),
    /// Those of an org, below a version.
    Org,
    /// Those that this key signed.
    Key(String),
}

impl Revoked {
    /// Reads what the feed stores. None for what another version of the server has written.
    pub fn parse(text: &str) -> Option<Self> {
        if text == ORG {
            return Some(Self::Org);
        }
        if let Some(kid) = text.strip_prefix(KEY) {
            return Some(Self::Key(kid.to_owned()));
        }
        if let Some((token, number)) = text.split_once(SECRET) {
            return Some(Self::Secret(TokenId::parse(token).ok()?, number.parse().ok()?));
        }
        let token = TokenId::parse(text).map(Self::Token).ok();
        token
            .or_else(|| SessionId::parse(text).map(Self::Session).ok())
            .or_else(|| RuleId::parse(text).map(Self::Rule).ok())
            .or_else(|| AccountId::parse(text).map(Self::Account).ok())
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => id.fmt(f),
            Self::Secret(id, number) => write!(f, "{id}{SECRET}{number}"),
            Self::Session(id) => id.fmt(f),
            Self::Rule(id) => id.fmt(f),
            Self::Account(id) => id.fmt(f),
            Self::Org => f.write_str(ORG),
            Self::Key(kid) => write!(f, "{KEY}{kid}"),
        }
    }
}

/// JWTs that are refused before they expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The org in which it happened, where a version counts.
    pub org_id: OrgId,
    pub subject: Revoked,
    /// The lowest version that is still good; 0 where no version counts.
    pub min_version: i64,
    /// Why this API refuses such a JWT.
    pub reason: Reason,
    /// From when on.
    pub from: OffsetDateTime,
    /// Whether that was later than the change which decided it: then it counts only if it came about.
    pub scheduled: bool,
}

impl Revocation {
    /// When no JWT that it concerns is valid any more. None of a key: what that signs may claim any time.
    pub fn expire_time(&self) -> Option<OffsetDateTime> {
        (!matches!(self.subject, Revoked::Key(_))).then(|| self.from + IN_FORCE)
    }

    /// Whether there may still be JWTs that it concerns.
    pub fn is_in_force(&self, now: OffsetDateTime) -> bool {
        self.expire_time().is_none_or(|end| end > now)
    }

    /// Whether it is told in the other orgs in which a session may have JWTs, too.
    pub fn is_of_session(&self) -> bool {
        matches!(self.subject, Revoked::Session(_))
    }
}

/// The reason for which JWTs of an account or an org are refused after a change of this type.
pub fn reason_of_version(kind: &str) -> Reason {
    match kind {
        "account.deactivated" | "account.deleted" | "member.removed" => Reason::AccountDeactivated,
        "org.suspended" | "org.deleted" => Reason::OrgSuspended,
        _ => Reason::AccessTokenStale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event_types::EVENT_TYPES;

    #[test]
    fn a_subject_is_read_as_it_was_written() {
        let token = TokenId::from_u128(7);
        for subject in [
            Revoked::Token(token),
            Revoked::Secret(token, 2),
            Revoked::Session(SessionId::from_u128(7)),
            Revoked::Rule(RuleId::from_u128(7)),
            Revoked::Account(AccountId::from_u128(7)),
            Revoked::Org,
            Revoked::Key("kid_-".to_owned()),
        ] {
            assert_eq!(Revoked::parse(&subject.to_string()), Some(subject));
        }
        for other in ["", "orgs", "tok_0/1", "/1", "inv_00000000000000000000000007"] {
            assert_eq!(Revoked::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_end_of_a_key_is_never_forgotten() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let of = |subject| Revocation {
            org_id: OrgId::from_u128(1),
            subject,
            min_version: 0,
            reason: Reason::AccessTokenStale,
            from: now,
            scheduled: false,
        };
        let (org, key) = (of(Revoked::Org), of(Revoked::Key("k".to_owned())));
        assert!(org.is_in_force(now + IN_FORCE - Duration::from_secs(1)));
        assert!(!org.is_in_force(now + IN_FORCE));
        assert!(key.is_in_force(now + 100 * IN_FORCE));
    }

    #[test]
    fn the_types_that_have_a_reason_of_their_own_exist() {
        for kind in
            ["account.deactivated", "account.deleted", "member.removed", "org.suspended", "org.deleted"]
        {
            assert!(EVENT_TYPES.contains(&kind), "{kind}");
            assert_ne!(reason_of_version(kind), Reason::AccessTokenStale);
        }
    }
}
