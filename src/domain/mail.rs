//! The emails that are sent: their templates, their recipients, and how often delivery is retried.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::accounts::{AccountState, Details};
use super::values::names::Email;
use crate::domain::values::kinds::AccountKind;

/// The pause before the first retry of a message; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::seconds(10);
/// The longest pause between retries.
const LONGEST_PAUSE: Duration = Duration::minutes(10);
/// The number of tries, over about a day, after which a message is given up.
pub const MAX_TRIES: i32 = 150;

/// An email message: its template, and all parameters of its text except the code in its link.
///
/// Stored in the outbox by template name and parameters, so that a name or a field that was
/// released must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", content = "parameters", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mail {
    /// An invitation to join an org. The link carries an invitation code.
    Invitation { org: String, inviter: Option<String> },
    /// A new user sets the first password. The link carries a password code.
    SetPassword { org: String },
    /// A password reset was requested. The link carries a password code.
    ResetPassword { org: String },
    /// A token expires soon.
    TokenExpiring { org: String, account: String, token: String, expire_time: i64 },
    /// A token got another lifetime.
    TokenRenewed { org: String, account: String, token: String, expire_time: i64 },
    /// Tokens were reported as leaked by a person or service that found them, and are revoked.
    TokenLeaked { org: String, account: String, tokens: Vec<String> },
    /// After many wrong passwords, sign-in is delayed.
    SignInThrottled { org: String, account: String, address: Option<String> },
}

impl Mail {
    /// The invitation of a user to an org, with the inviter's display name.
    pub fn invitation(org: impl Into<String>, inviter: Option<String>) -> Self {
        Self::Invitation { org: org.into(), inviter }
    }

    /// The reminder that a token of an account, both by their display names, expires at this time.
    pub fn token_expiring(
        org: impl Into<String>,
        account: impl Into<String>,
        token: impl Into<String>,
        expire_time: OffsetDateTime,
    ) -> Self {
        let (org, account, token) = (org.into(), account.into(), token.into());
        Self::TokenExpiring { org, account, token, expire_time: expire_time.unix_timestamp() }
    }

    /// The notice that a token of an account, both by their display names, expires at this time only.
    pub fn token_renewed(org: String, account: String, token: String, expire_time: OffsetDateTime) -> Self {
        Self::TokenRenewed { org, account, token, expire_time: expire_time.unix_timestamp() }
    }

    /// The notice that tokens of an account were leaked and are revoked; all by display names.
    pub fn tokens_leaked(org: impl Into<String>, account: impl Into<String>, tokens: Vec<String>) -> Self {
        Self::TokenLeaked { org: org.into(), account: account.into(), tokens }
    }

    /// The notice that sign-in to an account is delayed; the last failure came from this address.
    pub fn sign_in_throttled(
        org: impl Into<String>,
        account: impl Into<String>,
        address: Option<String>,
    ) -> Self {
        Self::SignInThrottled { org: org.into(), account: account.into(), address }
    }
}

/// The address to which notices about an account are sent, if any.
///
/// A user gets them in its own mailbox unless they are disabled; for a service account they go to
/// the contact address if they are enabled. An account that is not active gets none, nor does a
/// user whose mailbox is not `proved`: it may belong to another person.
pub fn recipient(details: &Details, state: AccountState, proved: bool) -> Option<&Email> {
    if state != AccountState::Active || !details.settings.notifies(details.kind()) {
        return None;
    }
    match details.kind() {
        AccountKind::User => Some(&details.username).filter(|_| proved),
        AccountKind::ServiceAccount => details.contact_email.as_ref(),
    }
}

/// How long to wait after this many failed tries; none means that the message is given up.
pub fn pause_after(tries: i32) -> Option<Duration> {
    if tries >= MAX_TRIES {
        return None;
    }
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or_default().min(16);
    Some((FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::accounts::Settings;
    use crate::domain::values::names::AccountName;

    #[test]
    fn notices_go_where_the_settings_allow() {
        use AccountState::{Active, Deactivated, Deleted, Invited};
        let email = |text: &str| Email::parse(text).unwrap();
        let (own, contact) = (email("ana@example.org"), email("list@example.org"));
        for said in [None, Some(false), Some(true)] {
            for contact_email in [None, Some(contact.clone())] {
                let settings = Settings { email_notifications: said, ..Settings::default() };
                let person = Details {
                    settings: settings.clone(),
                    contact_email: contact_email.clone(),
                    ..Details::new(None, own.clone())
                };
                let name = AccountName::parse("bot").unwrap();
                let bot = Details {
                    settings,
                    contact_email: contact_email.clone(),
                    ..Details::new(Some(name), own.clone())
                };
                let expected = (said != Some(false)).then_some(&own);
                assert_eq!(recipient(&person, Active, true), expected);
                assert_eq!(
                    (recipient(&person, Active, false), recipient(&person, Invited, true)),
                    (None, None)
                );
                let expected = contact_email.as_ref().filter(|_| said == Some(true));
                assert_eq!(
                    recipient(&bot, Active, false),
                    expected,
                    "never the username, which is no mailbox"
                );
                for stopped in [Deactivated, Deleted] {
                    let told = (recipient(&person, stopped, true), recipient(&bot, stopped, true));
                    assert_eq!(told, (None, None));
                }
            }
        }
    }

    #[test]
    fn pauses_double_up_to_ten_minutes_for_about_a_day() {
        let pauses: Vec<_> = (1..).map_while(pause_after).collect();
        assert_eq!(pauses[..3], [10, 20, 40].map(Duration::seconds));
        assert!(pauses.is_sorted() && pauses[10..].iter().all(|pause| *pause == LONGEST_PAUSE));
        let all: Duration = pauses.iter().fold(Duration::ZERO, |sum, pause| sum + *pause);
        assert!((Duration::hours(20)..Duration::hours(30)).contains(&all), "{all}");
        assert_eq!((pause_after(MAX_TRIES), pause_after(i32::MAX)), (None, None));
    }

    #[test]
    fn stored_messages_are_read_again() {
        let expiring = Mail::token_expiring("Acme", "bot", "nightly", OffsetDateTime::UNIX_EPOCH);
        let kept = serde_json::to_value(&expiring).unwrap();
        assert_eq!(kept["template"], "TOKEN_EXPIRING");
        assert_eq!(serde_json::from_value::<Mail>(kept).unwrap(), expiring);
    }
}
