//! Codes that are sent by email: what each is for, its lifetime, and why it is no longer valid.

use time::{Duration, OffsetDateTime};

use crate::domain::values::token_string::TokenStringKind;
use crate::error::{Error, Reason, Result};

/// How many codes may be requested for one mailbox within [`REQUEST_WINDOW`].
pub const MAX_REQUESTS: i64 = 3;
/// The period over which requests for codes are counted.
pub const REQUEST_WINDOW: Duration = Duration::hours(1);

/// What a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodePurpose {
    /// Joins an org.
    Invitation,
    /// Sets the first password of a new user.
    FirstPassword,
    /// Sets another password.
    Reset,
}

impl CodePurpose {
    /// The purposes that set a password.
    pub const OF_PASSWORDS: [Self; 2] = [Self::FirstPassword, Self::Reset];
    const ALL: [Self; 3] = [Self::Invitation, Self::FirstPassword, Self::Reset];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invitation => "INVITATION",
            Self::FirstPassword => "FIRST_PASSWORD",
            Self::Reset => "RESET",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    /// The kind of token string that the code is.
    pub const fn kind(self) -> TokenStringKind {
        match self {
            Self::Invitation => TokenStringKind::Invitation,
            Self::FirstPassword | Self::Reset => TokenStringKind::PasswordCode,
        }
    }

    /// The page that its link leads to, relative to the URL of the pages.
    pub const fn page(self) -> &'static str {
        match self {
            Self::Invitation => "accept-invitation",
            Self::FirstPassword | Self::Reset => "set-password",
        }
    }

    /// How long a code is valid.
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Invitation | Self::FirstPassword => Duration::days(7),
            Self::Reset => Duration::hours(1),
        }
    }
}

/// Why a code ended before it expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Used,
    /// A newer code replaced it, or made it unnecessary.
    Replaced,
    Revoked,
}

impl End {
    const ALL: [Self; 3] = [Self::Used, Self::Replaced, Self::Revoked];

    /// Its name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Used => "USED",
            Self::Replaced => "REPLACED",
            Self::Revoked => "REVOKED",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.name() == name)
    }
}

/// Refuses a code that is no longer valid.
///
/// The reason is returned only to a caller that presented the whole code.
///
/// # Errors
/// `TOKEN_REVOKED`, whatever ended it; `TOKEN_EXPIRED`.
pub fn check(end: Option<End>, expire_time: OffsetDateTime, now: OffsetDateTime) -> Result<()> {
    let message = match end {
        Some(End::Used) => "the code was used before",
        Some(End::Replaced) => "the code was replaced by a newer one",
        Some(End::Revoked) => "the code was revoked",
        None if expire_time <= now => {
            return Err(Error::with_message(Reason::TokenExpired, "the code has expired"));
        }
        None => return Ok(()),
    };
    Err(Error::with_message(Reason::TokenRevoked, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_valid_until_it_ends() {
        let at = |second| OffsetDateTime::from_unix_timestamp(second).unwrap();
        let reason = |end, now| check(end, at(10), at(now)).map_err(|error| error.reason());
        assert_eq!(reason(None, 9), Ok(()));
        assert_eq!(reason(None, 10), Err(Reason::TokenExpired));
        for end in End::ALL {
            assert_eq!(
                (reason(Some(end), 9), reason(Some(end), 11)),
                (Err(Reason::TokenRevoked), Err(Reason::TokenRevoked))
            );
            assert_eq!(End::parse(end.name()), Some(end));
        }
    }

    #[test]
    fn purposes() {
        for (purpose, kind, days) in [
            (CodePurpose::Invitation, TokenStringKind::Invitation, 7.0),
            (CodePurpose::FirstPassword, TokenStringKind::PasswordCode, 7.0),
            (CodePurpose::Reset, TokenStringKind::PasswordCode, 1.0 / 24.0),
        ] {
            assert_eq!((purpose.kind(), purpose.lifetime()), (kind, Duration::seconds_f64(days * 86_400.0)));
            assert_eq!(CodePurpose::parse(purpose.name()), Some(purpose));
        }
    }
}
