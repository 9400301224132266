//! TypeIDs: a prefix and a UUID in 26 characters of Crockford's base32.
//!
//! As in version 0.3 of the TypeID specification.

use std::fmt;

use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 26 digits hold 130 bits.
const DIGITS: usize = 26;

fn encode(uuid: Uuid) -> [u8; DIGITS] {
    let mut value = uuid.as_u128();
    let mut text = [0; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    text
}

fn decode(text: &str) -> Option<Uuid> {
    // A first digit above 7 would overflow.
    if text.len() != DIGITS || text.as_bytes()[0] > b'7' {
        return None;
    }
    let digits = text.bytes().map(|byte| ALPHABET.iter().position(|&digit| digit == byte));
    let value = digits.into_iter().try_fold(0u128, |value, digit| Some(value << 5 | digit? as u128))?;
    Some(Uuid::from_u128(value))
}

/// The error for a string that is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongId(&'static str);

impl fmt::Display for WrongId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "must be an id of the form {}_ and 26 characters", self.0)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix before the underscore.
            pub const PREFIX: &str = $prefix;

            /// Parses the text form of an id, lower case only.
            pub fn parse(text: &str) -> Result<Self, WrongId> {
                let digits = text.strip_prefix(concat!($prefix, "_"));
                digits.and_then(decode).map(Self).ok_or(WrongId($prefix))
            }

            /// The UUID inside, as the database stores it.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// From a constant.
            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const PREFIX: &[u8] = concat!($prefix, "_").as_bytes();
                // Written at once: a string that grows is allocated twice.
                let mut text = [0; PREFIX.len() + DIGITS];
                text[..PREFIX.len()].copy_from_slice(PREFIX);
                text[PREFIX.len()..].copy_from_slice(&encode(self.0));
                f.write_str(std::str::from_utf8(&text).expect("prefix and base32 are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// A tenant.
    OrgId "org";
    /// An identity.
    AccountId "acct";
    /// A custom role.
    RoleId "role";
    /// One right of one account on one node.
    GrantId "grant";
    /// A long-lived credential.
    TokenId "tok";
    /// A session, made by a login.
    SessionId "ses";
    /// A foreign issuer, whose JWTs an org takes.
    IssuerId "iss";
    /// A rule of federation: which JWTs of an issuer act as which account.
    RuleId "fed";
    /// An invitation to an org.
    InvitationId "inv";
    /// An event in an org's log.
    EventId "evt";
}

/// The id of what authenticates: a token, a session, or a rule of federation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialId {
    Token(TokenId),
    Session(SessionId),
    /// What JWTs of a foreign issuer authenticate as.
    Rule(RuleId),
}

impl CredentialId {
    /// Parses the text form of an id: `tok_…`, `ses_…` or `fed_…`.
    pub fn parse(text: &str) -> Result<Self, WrongId> {
        let token = TokenId::parse(text).map(Self::Token);
        let session = || SessionId::parse(text).map(Self::Session).ok();
        let rule = || RuleId::parse(text).map(Self::Rule).ok();
        token.or_else(|wrong| session().or_else(rule).ok_or(wrong))
    }

    /// The UUID inside, as the database stores it.
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::Token(id) => id.uuid(),
            Self::Session(id) => id.uuid(),
            Self::Rule(id) => id.uuid(),
        }
    }
}

impl From<TokenId> for CredentialId {
    fn from(id: TokenId) -> Self {
        Self::Token(id)
    }
}

impl From<SessionId> for CredentialId {
    fn from(id: SessionId) -> Self {
        Self::Session(id)
    }
}

impl From<RuleId> for CredentialId {
    fn from(id: RuleId) -> Self {
        Self::Rule(id)
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(id) => id.fmt(f),
            Self::Session(id) => id.fmt(f),
            Self::Rule(id) => id.fmt(f),
        }
    }
}

/// The built-in org of the operators. It cannot be suspended or deleted.
pub const SYSTEM_ORG: OrgId = OrgId::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_specification() {
        // From the TypeID specification's table of valid ids.
        let uuid: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(encode(uuid), *b"01h455vb4pex5vsknk084sn02q");
        assert_eq!(decode("01h455vb4pex5vsknk084sn02q"), Some(uuid));
        assert_eq!(decode("00000000000000000000000000"), Some(Uuid::nil()));
        assert_eq!(decode("7zzzzzzzzzzzzzzzzzzzzzzzzz"), Some(Uuid::max()));
    }

    #[test]
    fn a_credential_is_a_token_a_session_or_a_rule() {
        let (token, session, rule) = (TokenId::from_u128(7), SessionId::from_u128(7), RuleId::from_u128(7));
        for id in [CredentialId::from(token), session.into(), rule.into()] {
            assert_eq!(CredentialId::parse(&id.to_string()), Ok(id));
        }
        assert!(CredentialId::parse(&OrgId::from_u128(7).to_string()).is_err());
    }

    #[test]
    fn refuses_what_is_no_id_of_the_kind() {
        let good = OrgId::from_u128(7).to_string();
        assert_eq!(OrgId::parse(&good), Ok(OrgId::from_u128(7)));
        let digits = &good["org_".len()..];
        for bad in [
            "",
            "org",
            "org_",
            digits,
            &format!("acct_{digits}"),
            &good.to_uppercase(),
            &format!("{good}0"),
            &good[..good.len() - 1],
            "org_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "org_0000000000000000000000000l",
            "org_0000000000000000000000000é",
            "org_ééééééééééééé",
        ] {
            assert!(OrgId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
