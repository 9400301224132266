//! The life of a signing key: published as `NEXT` before it signs, `ACTIVE` while it
//! signs, `RETIRING` while what it signed may be under way, and then gone; or `REVOKED`.
//! Every node asks the same question of the same rows, so that none needs to lead.

use time::{Duration, OffsetDateTime};

use super::tokens::limits::MAX_ACCESS_TOKEN_LIFE;

/// How long a published key set may be kept, in seconds.
pub const JWKS_MAX_AGE: u32 = 300;
/// How long a key is published before it signs: twice what a key set may be kept, so that
/// whoever refreshes on time has it when it is first needed.
pub const PUBLISHED_BEFORE: Duration = Duration::seconds(2 * JWKS_MAX_AGE as i64);
/// How long a key stays published after it has stopped to sign: the longest life of what
/// it signed, and what a node may sign that has not yet heard.
pub const RETIRING_FOR: Duration =
    Duration::seconds(MAX_ACCESS_TOKEN_LIFE.as_secs() as i64 + JWKS_MAX_AGE as i64);

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Published, and soon to sign.
    Next,
    /// Signs.
    Active,
    /// Signs no more; what it signed may still be under way.
    Retiring,
    /// Not to be trusted, and not published.
    Revoked,
}

impl KeyState {
    const ALL: [Self; 4] = [Self::Next, Self::Active, Self::Retiring, Self::Revoked];

    /// Its name in the database and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Next => "NEXT",
            Self::Active => "ACTIVE",
            Self::Retiring => "RETIRING",
            Self::Revoked => "REVOKED",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Whether the text may be a key's id: a SHA-256 thumbprint, base64url.
pub fn is_kid(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// What the schedule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    pub kid: String,
    pub state: KeyState,
    pub create_time: OffsetDateTime,
    /// When it began to sign.
    pub activate_time: Option<OffsetDateTime>,
    /// When it stopped.
    pub retire_time: Option<OffsetDateTime>,
}

/// What is to be done with the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// Make a key and publish it as the next one.
    Publish,
    /// The next key has been published for long enough: from now on it signs.
    Activate { kid: String },
    /// What the key signed has expired: publish it no more.
    Unpublish { kid: String },
}

/// The first thing that is due now, if any. A key signs for `lifetime`; its successor is
/// published ahead of the end. A next key that is there signs when it has been published
/// for long enough, however young the active one is: somebody asked for it.
pub fn due(keys: &[KeyTimes], now: OffsetDateTime, lifetime: Duration) -> Option<KeyAction> {
    let over = keys.iter().find(|key| {
        key.state == KeyState::Retiring && key.retire_time.is_some_and(|since| now >= since + RETIRING_FOR)
    });
    if let Some(key) = over {
        return Some(KeyAction::Unpublish { kid: key.kid.clone() });
    }
    let in_state = |state| keys.iter().find(|key| key.state == state);
    let active = in_state(KeyState::Active)?;
    match in_state(KeyState::Next) {
        Some(next) if now >= next.create_time + PUBLISHED_BEFORE => {
            Some(KeyAction::Activate { kid: next.kid.clone() })
        }
        Some(_) => None,
        None => {
            let since = active.activate_time.unwrap_or(active.create_time);
            (now >= since + lifetime - PUBLISHED_BEFORE).then_some(KeyAction::Publish)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyState::{Active, Next, Retiring, Revoked};

    const LIFE: Duration = Duration::days(30);

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
    }

    /// A key that came into its state at this second.
    fn key(kid: &str, state: KeyState, since: i64) -> KeyTimes {
        let when = |states: &[KeyState]| states.contains(&state).then_some(at(since));
        KeyTimes {
            kid: kid.into(),
            state,
            create_time: at(since),
            activate_time: when(&[Active]),
            retire_time: when(&[Retiring]),
        }
    }

    #[test]
    fn what_is_due() {
        let life = LIFE.whole_seconds();
        let activate = |kid: &str| Some(KeyAction::Activate { kid: kid.into() });
        let unpublish = |kid: &str| Some(KeyAction::Unpublish { kid: kid.into() });
        let cases: &[(&str, Vec<KeyTimes>, i64, Option<KeyAction>)] = &[
            ("a young key", vec![key("a", Active, 0)], 1, None),
            ("just before its end", vec![key("a", Active, 0)], life - 601, None),
            ("ahead of its end", vec![key("a", Active, 0)], life - 600, Some(KeyAction::Publish)),
            ("long after, nobody was there", vec![key("a", Active, 0)], 3 * life, Some(KeyAction::Publish)),
            ("the next is young", vec![key("a", Active, 0), key("b", Next, life)], life + 599, None),
            ("the next is known", vec![key("a", Active, 0), key("b", Next, life)], life + 600, activate("b")),
            ("one was asked for", vec![key("a", Active, 0), key("b", Next, 5)], 605, activate("b")),
            ("one retires", vec![key("b", Active, 0), key("a", Retiring, 0)], 3_899, None),
            ("one has retired", vec![key("b", Active, 0), key("a", Retiring, 0)], 3_900, unpublish("a")),
            (
                "one after the other",
                vec![key("a", Retiring, 0), key("b", Active, 0), key("c", Next, 0)],
                3_900,
                unpublish("a"),
            ),
            ("revoked ones are not looked at", vec![key("a", Active, 0), key("r", Revoked, -life)], 1, None),
            ("none signs: nothing to succeed", vec![key("b", Next, 0)], 600, None),
            ("none at all", vec![], 0, None),
        ];
        for (what, keys, now, expected) in cases {
            assert_eq!(due(keys, at(*now), LIFE), *expected, "{what}");
        }
    }

    /// Carries the steps out, second by second, for three lives of a key.
    #[test]
    fn a_key_is_known_before_it_signs_and_until_what_it_signed_is_gone() {
        let lifetime = Duration::hours(2);
        let mut keys = vec![key("0", Active, 0)];
        let mut published: Vec<(String, i64, Option<i64>)> = vec![("0".into(), -600, None)];
        let mut signed: Vec<(String, i64, i64)> = Vec::new();
        for now in 0..3 * lifetime.whole_seconds() {
            let mut steps = 0;
            while let Some(step) = due(&keys, at(now), lifetime) {
                steps += 1;
                assert!(steps < 4, "it comes to rest");
                match step {
                    KeyAction::Publish => {
                        let kid = published.len().to_string();
                        keys.push(key(&kid, Next, now));
                        published.push((kid, now, None));
                    }
                    KeyAction::Activate { kid } => {
                        for key in &mut keys {
                            if key.state == Active {
                                (key.state, key.retire_time) = (Retiring, Some(at(now)));
                            } else if key.kid == kid {
                                (key.state, key.activate_time) = (Active, Some(at(now)));
                            }
                        }
                    }
                    KeyAction::Unpublish { kid } => {
                        keys.retain(|key| key.kid != kid);
                        published.iter_mut().find(|(name, ..)| *name == kid).unwrap().2 = Some(now);
                    }
                }
            }
            let active: Vec<_> = keys.iter().filter(|key| key.state == Active).collect();
            assert_eq!(active.len(), 1, "exactly one signs");
            match signed.last_mut() {
                Some((kid, _, until)) if *kid == active[0].kid => *until = now,
                _ => signed.push((active[0].kid.clone(), now, now)),
            }
        }
        assert_eq!(signed.len(), 3);
        for (kid, from, until) in signed {
            let (_, since, gone) = published.iter().find(|(name, ..)| *name == kid).unwrap();
            assert!(from - since >= 600, "{kid} signs after whoever keeps a key set has refreshed it twice");
            assert!(gone.is_none_or(|gone| gone > until + 3_600), "{kid} outlives what it signed");
            assert!(until - from <= 7_200);
        }
    }

    #[test]
    fn states_have_their_names() {
        for state in KeyState::ALL {
            assert_eq!(KeyState::parse(state.name()), Some(state));
        }
        assert_eq!(KeyState::parse("next"), None);
    }
}
