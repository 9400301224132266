//! What a change of a rule would stop and start, of what was presented to it.

use serde_json::{Map, Value};

use super::assertion::{RuleCheck, passes_rule};
use super::presentation::Outcome;
use super::rule::RuleMatch;

/// What a change of a rule makes of a presentation that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It would pass now, and would not after the change: by this check, or since the rule is disabled then.
    Stops(Option<RuleCheck>),
    /// It would not pass now, and would after the change.
    Starts,
    None,
}

/// The first check of a rule that recorded claims fail: the checks of an exchange that depend on the rule.
fn first_failure(claims: &Map<String, Value>, rule: &RuleMatch) -> Option<RuleCheck> {
    let of_rule =
        |check: &RuleCheck| matches!(check, RuleCheck::Audience | RuleCheck::Subject | RuleCheck::Claim(_));
    RuleCheck::of_claims(rule).filter(of_rule).find(|check| !passes_rule(*check, claims, rule))
}

/// What a change of a rule makes of presentations.
pub struct RuleChange<'a> {
    pub before: &'a RuleMatch,
    /// Whether nothing is exchanged by it now.
    pub was_disabled: bool,
    pub after: &'a RuleMatch,
    /// Whether nothing is exchanged by it after the change.
    pub is_disabled: bool,
}

impl RuleChange<'_> {
    /// What it makes of a presentation with these claims ([`Recorded::into_claims`]) and this outcome.
    ///
    /// Both rules are asked about the same recording, whatever the rule was when it was made: what could not be
    /// recorded stops nothing. One that failed before its claims were recorded, or for a `jti` that was missing or used,
    /// says nothing.
    ///
    /// [`Recorded::into_claims`]: super::claims::Recorded::into_claims
    pub fn effect(&self, claims: &Map<String, Value>, outcome: Outcome, failed_check: &str) -> Effect {
        if outcome == Outcome::Refused && !RuleCheck::is_name_of_rule(failed_check) {
            return Effect::None;
        }
        let passes_now = !self.was_disabled && first_failure(claims, self.before).is_none();
        let failure = first_failure(claims, self.after);
        let would_pass = !self.is_disabled && failure.is_none();
        match (passes_now, would_pass) {
            (true, false) => Effect::Stops(failure),
            (false, true) => Effect::Starts,
            (true, true) | (false, false) => Effect::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::federation::assertion::ForeignAssertion;
    use crate::domain::federation::claims::Recorded;
    use crate::domain::federation::issuer::{IssuerKind, Trust, TrustFields};
    use crate::domain::federation::rule::{ClaimMatch, ClaimValue, SubjectMatch};
    use crate::error::Violations;

    fn rule(audiences: &[String], subject: SubjectMatch, claims: Vec<ClaimMatch>) -> RuleMatch {
        RuleMatch::read(&mut Violations::default(), audiences, subject, claims).unwrap()
    }

    fn claim(path: &str, value: &str, contains: bool) -> ClaimMatch {
        let values = vec![ClaimValue::Text(value.to_owned())];
        ClaimMatch::read(&mut Violations::default(), &[path.to_owned()], values, contains).unwrap()
    }

    #[test]
    fn a_change_stops_and_starts() {
        let recorded = |subject: &str, claims: Value| {
            let claims = claims.as_object().unwrap().clone();
            Recorded { subject: subject.to_owned(), audiences: vec!["a".to_owned()], claims }.into_claims()
        };
        let exact = |subject: &str| rule(&["a".to_owned()], SubjectMatch::Exact(subject.to_owned()), vec![]);
        let effect = |recorded: &Map<String, Value>, before: &RuleMatch, after: &RuleMatch, failed: &str| {
            let outcome = if failed.is_empty() { Outcome::Passed } else { Outcome::Refused };
            let change = RuleChange { before, was_disabled: false, after, is_disabled: false };
            change.effect(recorded, outcome, failed)
        };
        let one = recorded("one", json!({"ref": "main"}));
        assert_eq!(effect(&one, &exact("one"), &exact("one"), ""), Effect::None);
        let stops_by = |check| Effect::Stops(Some(check));
        assert_eq!(effect(&one, &exact("one"), &exact("two"), ""), stops_by(RuleCheck::Subject));
        assert_eq!(effect(&one, &exact("two"), &exact("one"), "subject"), Effect::Starts);
        assert_eq!(effect(&one, &exact("two"), &exact("one"), "replay"), Effect::None);
        let other_audience = rule(&["b".to_owned()], SubjectMatch::Exact("one".to_owned()), vec![]);
        assert_eq!(effect(&one, &exact("one"), &other_audience, ""), stops_by(RuleCheck::Audience));
        let by_claim =
            |value: &str| rule(&["a".to_owned()], SubjectMatch::Any, vec![claim("ref", value, false)]);
        assert_eq!(effect(&one, &exact("two"), &by_claim("main"), "subject"), Effect::Starts);
        assert_eq!(effect(&one, &exact("two"), &by_claim("main"), "claims/other"), Effect::Starts);
        // What it was when it came says nothing of what the rule is now.
        assert_eq!(effect(&one, &exact("two"), &exact("three"), ""), Effect::None);
        assert_eq!(effect(&one, &exact("one"), &by_claim("main"), "subject"), Effect::None);
        // Without a subject the claims count alike.
        let nameless = recorded("", json!({"ref": "main"}));
        let stopped = effect(&nameless, &by_claim("main"), &by_claim("release"), "");
        assert_eq!(stopped, stops_by(RuleCheck::Claim(0)));
        assert_eq!(effect(&nameless, &by_claim("release"), &by_claim("main"), "claims/ref"), Effect::Starts);
        // Of what failed before it was recorded nothing is known.
        for failed in ["signature", "issuer", "aud", "time", "key", "algorithm", "shape"] {
            assert_eq!(effect(&one, &exact("two"), &by_claim("main"), failed), Effect::None, "{failed}");
        }
        // Nothing passes a rule that is disabled.
        for (was_disabled, is_disabled, expected) in
            [(false, true, Effect::Stops(None)), (true, false, Effect::Starts), (true, true, Effect::None)]
        {
            let exact = exact("one");
            let change = RuleChange { before: &exact, was_disabled, after: &exact, is_disabled };
            assert_eq!(change.effect(&one, Outcome::Passed, ""), expected);
        }
    }

    fn trust() -> Trust {
        TrustFields::of(IssuerKind::Oidc, "https://issuer.example").trust()
    }

    /// A text that a rule can name, one that nothing shows, or one that is too long.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[ab]{1,2}", 1 => Just("a\u{200b}".to_owned()), 1 => Just("a".repeat(256))]
    }

    fn rule_of() -> impl Strategy<Value = RuleMatch> {
        let subject = prop_oneof![
            "[ab](:[ab]){0,2}".prop_map(SubjectMatch::Exact),
            Just(SubjectMatch::Prefix("a:b:".to_owned())),
            Just(SubjectMatch::Any)
        ];
        let claims = proptest::collection::vec(("(ref|groups)", "[ab]{1,2}", any::<bool>()), 0..3);
        (proptest::collection::vec("[ab]", 1..3), subject, claims).prop_map(|(audiences, subject, claims)| {
            let mut claims: Vec<_> =
                claims.into_iter().map(|(name, value, contains)| claim(&name, &value, contains)).collect();
            if subject == SubjectMatch::Any && claims.is_empty() {
                claims.push(claim("ref", "a", false));
            }
            rule(&audiences, subject, claims)
        })
    }

    proptest! {
        /// What a change would stop and start is what the exchange would, of the same assertion: it is recorded by the
        /// rule as it is, and then evaluated by it and by the changed one.
        #[test]
        fn a_change_stops_and_starts_what_the_exchange_would(
            subject in prop_oneof![4 => "[ab](:[ab]){0,3}".prop_map(Some), 1 => Just(None)],
            audiences in proptest::collection::vec("[ab]", 1..3),
            reference in value(),
            groups in proptest::collection::vec(value(), 0..50),
            others in 0..70_usize,
            before in rule_of(),
            after in rule_of(),
        ) {
            let at = crate::domain::access::credential::tests::now();
            let mut claims = json!({
                "iss": "https://issuer.example", "aud": audiences, "ref": reference, "groups": groups,
                "iat": at.unix_timestamp(), "exp": at.unix_timestamp() + 60,
            });
            if let Some(subject) = subject {
                claims["sub"] = json!(subject);
            }
            for n in 0..others {
                claims[format!("a{n}")] = json!("v");
            }
            let part = |json: &Value| BASE64URL.encode(json.to_string());
            let text = format!("{}.{}.AAAA", part(&json!({"alg": "RS256"})), part(&claims));
            let assertion = ForeignAssertion::read(&text).ok().unwrap();
            let exchanged = |rule: &RuleMatch| assertion.first_failure(&trust(), rule, at);
            // What the audience is not for is not recorded.
            prop_assume!(exchanged(&before) != Some(RuleCheck::Audience));
            let recorded = Recorded::of(assertion.claims(), &before).into_claims();
            // By the rule as it is, the recording says exactly what the exchange said.
            prop_assert_eq!(first_failure(&recorded, &before), exchanged(&before));
            let failed = exchanged(&before).map(|check| check.name(Some(&before))).unwrap_or_default();
            let outcome = if failed.is_empty() { Outcome::Passed } else { Outcome::Refused };
            let change = RuleChange { before: &before, was_disabled: false, after: &after, is_disabled: false };
            let effect = change.effect(&recorded, outcome, &failed);
            let by_exchange = match (exchanged(&before), exchanged(&after)) {
                (None, Some(_)) => Effect::Stops(first_failure(&recorded, &after)),
                (Some(_), None) => Effect::Starts,
                _ => Effect::None,
            };
            if others + groups.len() < 60 {
                prop_assert_eq!(effect, by_exchange);
            } else {
                // Where something had to be left out, nothing is said to pass that would not.
                prop_assert!(effect == by_exchange || first_failure(&recorded, &after).is_some());
            }
        }
    }
}
