//! The token policy of an org: what its tokens may be, when they are made and at each use.
//!
//! One function says whether the policy blocks a token; everything that checks, displays, lists or
//! warns uses it.

use std::time::Duration;

use time::OffsetDateTime;

use super::limits::{
    DEFAULT_ACCESS_TOKEN_LIFETIME, DEFAULT_MAX_RENEWED_LIFETIME, DEFAULT_TOKEN_LIFETIME,
    MAX_ACCESS_TOKEN_LIFETIME, MAX_TOKEN_LIFETIME, format_lifetime,
};
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::Audience;

/// The shortest lifetime of tokens that a policy may set.
pub const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// The shortest lifetime of access tokens that a policy may set.
pub const MIN_ACCESS_TOKEN_LIFETIME: Duration = Duration::from_secs(10);
/// The shortest idle time after which a policy may block tokens.
///
/// It is much longer than the delay with which the last use becomes known.
pub const MIN_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// How late a use may become known.
///
/// It is written within a minute, and a cached token that seems idle is loaded again. A token
/// counts as idle only when it is over the limit by this much, so that none is blocked that is used
/// within the limit each time.
const USE_KNOWN_AFTER: Duration = Duration::from_secs(5 * 60);

/// The most that a deployment lets the policies of its orgs allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    pub token_lifetime: Duration,
    pub access_token_lifetime: Duration,
    pub endless: bool,
    pub user_tokens: bool,
    /// None: no limit to how long tokens may be idle.
    pub idle: Option<Duration>,
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            token_lifetime: MAX_TOKEN_LIFETIME,
            access_token_lifetime: MAX_ACCESS_TOKEN_LIFETIME,
            endless: true,
            user_tokens: true,
            idle: None,
        }
    }
}

/// The settings of an org. None means that the org has not set a value, and the default applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPolicy {
    pub max_secret_lifetime: Option<Duration>,
    pub max_publishable_lifetime: Option<Duration>,
    pub default_lifetime: Option<Duration>,
    pub allow_endless: bool,
    pub allow_user_tokens: bool,
    pub access_token_lifetime: Option<Duration>,
    /// Empty means any.
    pub allowed_audiences: Vec<Audience>,
    pub idle_limit: Option<Duration>,
    /// Whether a token may renew itself.
    pub allow_self_renewal: bool,
    /// How long after its creation it may.
    pub max_renewed_lifetime: Option<Duration>,
    /// Whether federation rules work.
    pub allow_federation: bool,
    /// The issuers that they may be for. Empty means any.
    pub allowed_issuers: Vec<IssuerName>,
}

impl TokenPolicy {
    /// The rules in effect: the policy within the ceilings.
    ///
    /// The ceilings apply even to a policy that was stored when they were higher.
    pub fn within(&self, ceilings: &Ceilings) -> Rules {
        let lifetime =
            |asked: Option<Duration>, default| asked.unwrap_or(default).min(ceilings.token_lifetime);
        let idle = [self.idle_limit, ceilings.idle];
        Rules {
            max_secret_lifetime: lifetime(self.max_secret_lifetime, MAX_TOKEN_LIFETIME),
            max_publishable_lifetime: lifetime(self.max_publishable_lifetime, MAX_TOKEN_LIFETIME),
            default_lifetime: lifetime(self.default_lifetime, DEFAULT_TOKEN_LIFETIME),
            endless: self.allow_endless && ceilings.endless,
            user_tokens: self.allow_user_tokens && ceilings.user_tokens,
            access_token_default: self.access_token_lifetime.unwrap_or(DEFAULT_ACCESS_TOKEN_LIFETIME),
            access_token_max: self
                .access_token_lifetime
                .unwrap_or(MAX_ACCESS_TOKEN_LIFETIME)
                .min(ceilings.access_token_lifetime),
            audiences: self.allowed_audiences.clone(),
            idle: idle.into_iter().flatten().min(),
            self_renewal: self.allow_self_renewal,
            max_renewed_lifetime: self.max_renewed_lifetime.unwrap_or(DEFAULT_MAX_RENEWED_LIFETIME),
            federation: self.allow_federation,
            issuers: self.allowed_issuers.clone(),
        }
    }
}

/// The rules in effect for the tokens of an org.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    pub max_secret_lifetime: Duration,
    pub max_publishable_lifetime: Duration,
    pub default_lifetime: Duration,
    pub endless: bool,
    pub user_tokens: bool,
    access_token_default: Duration,
    access_token_max: Duration,
    /// Empty means any.
    pub audiences: Vec<Audience>,
    /// None: no limit to how long tokens may be idle.
    pub idle: Option<Duration>,
    /// Whether a token may renew itself.
    pub self_renewal: bool,
    /// How long after its creation a token that renews itself may last.
    pub max_renewed_lifetime: Duration,
    /// Whether federation rules work.
    pub federation: bool,
    /// The issuers that they may be for. Empty means any.
    pub issuers: Vec<IssuerName>,
}

/// The facts about a token that a policy checks.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub kind: TokenKind,
    /// The kind of the account that owns it.
    pub owner: AccountKind,
    /// Since when its present lifetime counts: when it was created, or last renewed.
    pub create_time: OffsetDateTime,
    /// None: it never expires.
    pub expire_time: Option<OffsetDateTime>,
    /// The last time that it was used, or that it or a secret of it was made.
    pub last_use: OffsetDateTime,
}

/// The state of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Active,
    Expired,
    Revoked,
    /// It is neither expired nor revoked, but the policy blocks it.
    Blocked,
}

impl TokenState {
    /// Its name in queries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
            Self::Blocked => "BLOCKED",
        }
    }
}

impl Rules {
    /// The bytes that they take in a cache.
    pub(crate) fn weight(&self) -> usize {
        let audiences = self.audiences.iter().map(|audience| audience.as_str().len());
        let issuers = self.issuers.iter().map(|issuer| issuer.as_str().len());
        size_of::<Self>()
            + size_of_val(&*self.audiences)
            + size_of_val(&*self.issuers)
            + audiences.chain(issuers).sum::<usize>()
    }

    /// Whether the policy allows the token to be used now.
    ///
    /// A blocked token is valid again when the policy allows it again.
    pub fn allow(&self, token: &Facts, now: OffsetDateTime) -> bool {
        let within_lifetime = match token.expire_time {
            None => self.endless,
            Some(end) => end <= token.create_time + self.max_lifetime(token.kind),
        };
        let idle = self.idle_before(now).is_some_and(|limit| token.last_use < limit);
        within_lifetime && !idle && self.allow_owner(token.owner)
    }

    /// The state of the token; the reasons apply in the order in which authentication returns them.
    pub fn state(&self, token: &Facts, revoked: bool, now: OffsetDateTime) -> TokenState {
        if revoked {
            TokenState::Revoked
        } else if token.expire_time.is_some_and(|end| end <= now) {
            TokenState::Expired
        } else if self.allow(token, now) {
            TokenState::Active
        } else {
            TokenState::Blocked
        }
    }

    /// The time before which the last use of a token blocks it; none without a limit.
    pub fn idle_before(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.idle.map(|limit| now - limit - USE_KNOWN_AFTER)
    }

    /// Whether an account of this kind may own tokens.
    pub fn allow_owner(&self, owner: AccountKind) -> bool {
        owner == AccountKind::ServiceAccount || self.user_tokens
    }

    /// Whether an access token may be made for this audience.
    pub fn allow_audience(&self, audience: &Audience) -> bool {
        self.audiences.is_empty() || self.audiences.contains(audience)
    }

    /// Whether a federation rule may be for this issuer.
    pub fn allow_issuer(&self, issuer: &IssuerName) -> bool {
        self.federation && (self.issuers.is_empty() || self.issuers.contains(issuer))
    }

    /// Whether every issuer that the other rules allow is allowed by these too.
    fn allow_all_issuers_of(&self, other: &Rules) -> bool {
        let some = self.issuers.is_empty()
            || (!other.issuers.is_empty()
                && other.issuers.iter().all(|issuer| self.issuers.contains(issuer)));
        !other.federation || (self.federation && some)
    }

    /// Whether every federation rule that the other rules allow is allowed by these too, at any time.
    pub fn allow_all_rules_that(&self, other: &Rules) -> bool {
        self.allow_all_that(other) && self.allow_all_issuers_of(other)
    }

    /// The longest lifetime of a token of this kind, from when it is made.
    pub fn max_lifetime(&self, kind: TokenKind) -> Duration {
        match kind {
            // A policy does not cover sessions, and is not asked about them.
            TokenKind::Secret | TokenKind::Session | TokenKind::Key | TokenKind::Federated => {
                self.max_secret_lifetime
            }
            TokenKind::Publishable => self.max_publishable_lifetime,
        }
    }

    /// Refuses an expiry that the policy would block.
    ///
    /// # Errors
    /// The sentence that follows the field's name.
    pub fn check_expiry(
        &self,
        kind: TokenKind,
        create_time: OffsetDateTime,
        end: OffsetDateTime,
    ) -> Result<(), String> {
        let longest = self.max_lifetime(kind);
        if end <= create_time + longest {
            return Ok(());
        }
        let kind = match kind {
            TokenKind::Secret | TokenKind::Session | TokenKind::Key | TokenKind::Federated => "secret",
            TokenKind::Publishable => "publishable",
        };
        Err(format!(
            "must give a lifetime of at most {}, the org's maximum for a {kind} token",
            format_lifetime(longest)
        ))
    }

    /// The lifetime of an access token for which this much was requested.
    pub fn access_token_lifetime(&self, asked: Option<Duration>) -> Duration {
        asked.unwrap_or(self.access_token_default).min(self.access_token_max)
    }

    /// Whether every token that the other rules allow is allowed by these too, at any time.
    pub fn allow_all_that(&self, other: &Rules) -> bool {
        self.max_secret_lifetime >= other.max_secret_lifetime
            && self.max_publishable_lifetime >= other.max_publishable_lifetime
            && (self.endless || !other.endless)
            && (self.user_tokens || !other.user_tokens)
            && self.idle.is_none_or(|idle| other.idle.is_some_and(|other| idle >= other))
    }

    /// Whether these rules no longer allow an audience or a lifetime of access tokens from before.
    pub fn cut_access_tokens_of(&self, before: &Rules) -> bool {
        let audiences = match (before.audiences.is_empty(), self.audiences.is_empty()) {
            (_, true) => false,
            (true, false) => true,
            (false, false) => !before.audiences.iter().all(|audience| self.audiences.contains(audience)),
        };
        audiences || self.access_token_max < before.access_token_max
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    pub(crate) fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    pub(crate) fn default_rules() -> Rules {
        TokenPolicy::default().within(&Ceilings::default())
    }

    /// A secret token of a service account, made a day ago for a year, and used just now.
    fn token() -> Facts {
        Facts {
            kind: TokenKind::Secret,
            owner: AccountKind::ServiceAccount,
            create_time: now() - DAY,
            expire_time: Some(now() + 364 * DAY),
            last_use: now(),
        }
    }

    #[test]
    fn a_policy_blocks_what_violates_it() {
        type Policy = fn(&mut TokenPolicy);
        type Token = fn(&mut Facts);
        let year = 365 * DAY;
        let cases: [(Policy, Token, bool); 18] = [
            (|_| (), |_| (), true),
            // Its whole lifetime counts, from when it was made.
            (|p| p.max_secret_lifetime = Some(365 * DAY), |_| (), true),
            (|p| p.max_secret_lifetime = Some(365 * DAY - Duration::from_secs(1)), |_| (), false),
            (|p| p.max_publishable_lifetime = Some(DAY), |_| (), true),
            (|p| p.max_publishable_lifetime = Some(DAY), |t| t.kind = TokenKind::Publishable, false),
            (|p| p.max_secret_lifetime = Some(DAY), |t| t.kind = TokenKind::Publishable, true),
            (|p| p.max_secret_lifetime = Some(2 * DAY), |t| t.expire_time = Some(now() + DAY), true),
            // The default lifetime applies to new tokens, not to existing ones.
            (|p| p.default_lifetime = Some(DAY), |_| (), true),
            (|_| (), |t| t.expire_time = None, false),
            (|p| p.allow_endless = true, |t| t.expire_time = None, true),
            // An expiring token is limited even where non-expiring ones are allowed.
            (
                |p| (p.allow_endless, p.max_secret_lifetime) = (true, Some(DAY)),
                |t| t.expire_time = None,
                true,
            ),
            (|p| (p.allow_endless, p.max_secret_lifetime) = (true, Some(DAY)), |_| (), false),
            (|_| (), |t| t.owner = AccountKind::User, false),
            (|p| p.allow_user_tokens = true, |t| t.owner = AccountKind::User, true),
            (|p| p.idle_limit = Some(DAY), |_| (), true),
            (|p| p.idle_limit = Some(DAY), |t| t.last_use = now() - DAY - USE_KNOWN_AFTER, true),
            (
                |p| p.idle_limit = Some(DAY),
                |t| t.last_use = now() - DAY - USE_KNOWN_AFTER - Duration::from_micros(1),
                false,
            ),
            (|_| (), |t| t.last_use = now() - 3_000 * DAY, true),
        ];
        for (i, (change, token_is, allowed)) in cases.into_iter().enumerate() {
            let (mut policy, mut facts) = (TokenPolicy::default(), token());
            change(&mut policy);
            token_is(&mut facts);
            assert_eq!(policy.within(&Ceilings::default()).allow(&facts, now()), allowed, "case {i}");
        }
        assert_eq!(default_rules().default_lifetime, year);
    }

    #[test]
    fn the_states_have_an_order() {
        let rules = TokenPolicy { max_secret_lifetime: Some(DAY), ..TokenPolicy::default() };
        let rules = rules.within(&Ceilings::default());
        let over = Facts { expire_time: Some(now()), create_time: now() - 2 * DAY, ..token() };
        assert_eq!(rules.state(&token(), false, now()), TokenState::Blocked);
        assert_eq!(rules.state(&over, false, now()), TokenState::Expired);
        assert_eq!(rules.state(&over, true, now()), TokenState::Revoked);
        assert_eq!(default_rules().state(&token(), false, now()), TokenState::Active);
    }

    #[test]
    fn an_end_beyond_the_maximum_is_refused_by_its_name() {
        let policy = TokenPolicy { max_secret_lifetime: Some(30 * DAY), ..TokenPolicy::default() };
        let rules = policy.within(&Ceilings::default());
        assert_eq!(rules.check_expiry(TokenKind::Secret, now(), now() + 30 * DAY), Ok(()));
        let late = now() + 30 * DAY + Duration::from_secs(1);
        assert!(rules.check_expiry(TokenKind::Secret, now(), late).unwrap_err().contains("30 days"));
        assert_eq!(rules.check_expiry(TokenKind::Publishable, now(), late), Ok(()));
    }

    #[test]
    fn access_tokens_last_as_long_as_requested_and_allowed() {
        let seconds = Duration::from_secs;
        let rules = |lifetime: Option<u64>, ceiling| {
            let policy =
                TokenPolicy { access_token_lifetime: lifetime.map(seconds), ..TokenPolicy::default() };
            policy.within(&Ceilings { access_token_lifetime: seconds(ceiling), ..Ceilings::default() })
        };
        for (lifetime, ceiling, asked, expected) in [
            (None, 3_600, None, 300),
            (None, 3_600, Some(3_600), 3_600),
            (None, 600, Some(3_600), 600),
            (None, 60, None, 60),
            (Some(120), 3_600, None, 120),
            (Some(120), 3_600, Some(300), 120),
            (Some(120), 3_600, Some(30), 30),
            (Some(1_800), 3_600, None, 1_800),
            (Some(1_800), 600, None, 600),
        ] {
            let lifetime = rules(lifetime, ceiling).access_token_lifetime(asked.map(seconds));
            assert_eq!(lifetime, seconds(expected), "{asked:?}");
        }
    }

    fn any_policy() -> impl Strategy<Value = TokenPolicy> {
        let lifetime = || prop::option::of((60..400 * 86_400_u64).prop_map(Duration::from_secs));
        let audiences = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
        let limits = (lifetime(), lifetime(), lifetime(), lifetime(), prop::option::of(10..=3_600_u64));
        (limits, any::<bool>(), any::<bool>(), audiences).prop_map(
            |((secret, publishable, default, idle, access), endless, users, audiences)| TokenPolicy {
                max_secret_lifetime: secret,
                max_publishable_lifetime: publishable,
                default_lifetime: default,
                allow_endless: endless,
                allow_user_tokens: users,
                access_token_lifetime: access.map(Duration::from_secs),
                allowed_audiences: audiences.iter().map(|text| Audience::parse(text).unwrap()).collect(),
                idle_limit: idle,
                // What renews itself is no limit of what there is.
                ..TokenPolicy::default()
            },
        )
    }

    fn any_ceilings() -> impl Strategy<Value = Ceilings> {
        let idle = prop::option::of((86_400..400 * 86_400_u64).prop_map(Duration::from_secs));
        (60..400 * 86_400_u64, 10..=3_600_u64, any::<bool>(), any::<bool>(), idle).prop_map(
            |(lifetime, access, endless, user_tokens, idle)| Ceilings {
                token_lifetime: Duration::from_secs(lifetime),
                access_token_lifetime: Duration::from_secs(access),
                endless,
                user_tokens,
                idle,
            },
        )
    }

    fn any_token() -> impl Strategy<Value = Facts> {
        let day = 86_400_u64;
        (any::<bool>(), any::<bool>(), 0..400 * day, prop::option::of(1..800 * day), 0..400 * day).prop_map(
            |(secret, user, age, lifetime, unused)| {
                let create_time = now() - Duration::from_secs(age);
                Facts {
                    kind: if secret { TokenKind::Secret } else { TokenKind::Publishable },
                    owner: if user { AccountKind::User } else { AccountKind::ServiceAccount },
                    create_time,
                    expire_time: lifetime.map(|lifetime| create_time + Duration::from_secs(lifetime)),
                    last_use: (now() - Duration::from_secs(unused)).max(create_time),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn ceilings_only_narrow(policy in any_policy(), ceilings in any_ceilings(), token in any_token()) {
            let (open, bound) = (policy.within(&Ceilings::default()), policy.within(&ceilings));
            prop_assert!(open.allow_all_that(&bound));
            prop_assert!(open.allow(&token, now()) || !bound.allow(&token, now()));
            for asked in [None, Some(Duration::from_secs(1)), Some(MAX_ACCESS_TOKEN_LIFETIME)] {
                prop_assert!(bound.access_token_lifetime(asked) <= ceilings.access_token_lifetime);
            }
            // What the default gives, the maximum allows.
            let end = now() + bound.default_lifetime.min(bound.max_lifetime(token.kind));
            let made = Facts { create_time: now(), expire_time: Some(end), last_use: now(), ..token };
            prop_assert!(bound.allow(&made, now()) || !bound.allow_owner(token.owner));
        }

        #[test]
        fn a_wider_policy_blocks_nothing_more(one in any_policy(), other in any_policy(), token in any_token()) {
            let (one, other) = (one.within(&Ceilings::default()), other.within(&Ceilings::default()));
            if one.allow_all_that(&other) {
                prop_assert!(one.allow(&token, now()) || !other.allow(&token, now()));
            }
            // An unused token becomes idle and stays so; a use makes it valid again.
            let later = now() + 400 * DAY;
            prop_assert!(one.allow(&token, now()) || !one.allow(&token, later));
            let used = Facts { last_use: later, ..token };
            prop_assert_eq!(one.allow(&used, later), one.allow(&Facts { last_use: now(), ..token }, now()));
        }

        #[test]
        fn access_tokens_are_cut_when_one_from_before_would_not_be_made(one in any_policy(), other in any_policy()) {
            let (before, after) = (one.within(&Ceilings::default()), other.within(&Ceilings::default()));
            let longest = Some(MAX_ACCESS_TOKEN_LIFETIME);
            let shorter = after.access_token_lifetime(longest) < before.access_token_lifetime(longest);
            let lost = ["a", "b", "c", "d"].into_iter().any(|text| {
                let audience = Audience::parse(text).unwrap();
                before.allow_audience(&audience) && !after.allow_audience(&audience)
            });
            prop_assert_eq!(after.cut_access_tokens_of(&before), shorter || lost);
        }
    }
}
