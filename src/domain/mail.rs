//! The mails that go out: which there are, what each tells, to whom, and how often one is tried.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::accounts::{AccountState, Details};
use super::values::names::Email;
use crate::domain::values::kinds::AccountKind;

/// The first pause before a mail is tried again; each further one is twice as long…
const FIRST_PAUSE: Duration = Duration::seconds(10);
/// …up to this.
const LONGEST_PAUSE: Duration = Duration::minutes(10);
/// After so many tries, about a day, a mail is given up.
pub const MAX_TRIES: i32 = 150;

/// A mail: which one, and everything that its text says but the code in its link. Kept in
/// the outbox by name and parameters, so a name or a field that was released stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", content = "parameters", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mail {
    /// Join an org. The link carries an invitation code.
    Invitation { org: String, inviter: Option<String> },
    /// A new user sets the first password. The link carries a password code.
    SetPassword { org: String },
    /// Somebody asked for another password. The link carries a password code.
    ResetPassword { org: String },
    /// A token ends soon.
    TokenExpiring { org: String, account: String, token: String, expire_time: i64 },
    /// Tokens were reported by somebody who found them, and work no more.
    TokenLeaked { org: String, account: String, tokens: Vec<String> },
    /// So many wrong passwords that sign-in waits.
    SignInThrottled { org: String, account: String, address: Option<String> },
}

impl Mail {
    /// A user is invited to an org, by whoever is called so.
    pub fn invitation(org: impl Into<String>, inviter: Option<String>) -> Self {
        Self::Invitation { org: org.into(), inviter }
    }

    /// A token of an account, each as people call it, ends then.
    pub fn token_expiring(
        org: impl Into<String>,
        account: impl Into<String>,
        token: impl Into<String>,
        expire_time: OffsetDateTime,
    ) -> Self {
        let (org, account, token) = (org.into(), account.into(), token.into());
        Self::TokenExpiring { org, account, token, expire_time: expire_time.unix_timestamp() }
    }

    /// Tokens of an account, each as people call it, were found somewhere and are revoked.
    pub fn tokens_leaked(org: impl Into<String>, account: impl Into<String>, tokens: Vec<String>) -> Self {
        Self::TokenLeaked { org: org.into(), account: account.into(), tokens }
    }

    /// Sign-in to an account waits, because of failures that came last from this address.
    pub fn sign_in_throttled(
        org: impl Into<String>,
        account: impl Into<String>,
        address: Option<String>,
    ) -> Self {
        Self::SignInThrottled { org: org.into(), account: account.into(), address }
    }
}

/// Where notices about an account go, if anywhere: to a person's own mailbox unless they
/// were switched off; to the contact of a service account where they were switched on. An
/// account that is stopped is told nothing, nor a user whose mailbox nobody has `proved`: it may be
/// somebody else's.
pub fn recipient(details: &Details, state: AccountState, proved: bool) -> Option<&Email> {
    if state != AccountState::Active || !details.settings.notifies(details.kind()) {
        return None;
    }
    match details.kind() {
        AccountKind::User => Some(&details.username).filter(|_| proved),
        AccountKind::ServiceAccount => details.contact_email.as_ref(),
    }
}

/// How long to wait after so many tries have failed; none: it is given up.
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
    fn what_is_kept_is_read_again() {
        let expiring = Mail::token_expiring("Acme", "bot", "nightly", OffsetDateTime::UNIX_EPOCH);
        let kept = serde_json::to_value(&expiring).unwrap();
        assert_eq!(kept["template"], "TOKEN_EXPIRING");
        assert_eq!(serde_json::from_value::<Mail>(kept).unwrap(), expiring);
    }
}
