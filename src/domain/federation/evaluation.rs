//! What a change of a rule would stop and start, of what was presented to it.

use serde_json::{Map, Value};

use super::assertion::{RuleCheck, passes_rule};
use super::claims::is_subject_left_out;
use super::presentation::Outcome;
use super::rule::{RuleMatch, SubjectMatch};

/// What a change of a rule makes of a presentation that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It would pass now, and would not after the change: by this check, or since the rule is disabled then.
    Stops(Option<RuleCheck>),
    /// It would not pass now, and would after the change.
    Starts,
    None,
}

/// The first check of a rule that recorded claims fail: the checks of an exchange that depend on the rule. Of the
/// subject this is what is known.
fn first_failure(claims: &Map<String, Value>, rule: &RuleMatch, passes_subject: bool) -> Option<RuleCheck> {
    RuleCheck::of_claims(rule).find(|check| match check {
        RuleCheck::Subject => !passes_subject,
        RuleCheck::Audience | RuleCheck::Claim(_) => !passes_rule(*check, claims, rule),
        _ => false,
    })
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
    /// Both rules are asked about the same recording, whatever the rule was when it was made. What was left out counts as
    /// missing; but for a subject, which counts as the outcome says ([`subject`](Self::subject)). One that failed before
    /// its claims were recorded, or for a `jti` that was missing or used, says nothing.
    ///
    /// [`Recorded::into_claims`]: super::claims::Recorded::into_claims
    pub fn effect(&self, claims: &Map<String, Value>, outcome: Outcome, failed_check: &str) -> Effect {
        if outcome == Outcome::Refused && !RuleCheck::is_name_of_rule(failed_check) {
            return Effect::None;
        }
        let passed_subject = failed_check != RuleCheck::Subject.name(None);
        let (subject_now, subject_then) = self.subject(claims, passed_subject);
        let passes_now = !self.was_disabled && first_failure(claims, self.before, subject_now).is_none();
        let failure = first_failure(claims, self.after, subject_then);
        let would_pass = !self.is_disabled && failure.is_none();
        match (passes_now, would_pass) {
            (true, false) => Effect::Stops(failure),
            (false, true) => Effect::Starts,
            (true, true) | (false, false) => Effect::None,
        }
    }

    /// Whether the subject passes now, and would after the change.
    ///
    /// One that was left out is longer than a rule can name, or cannot be shown. Whether it has the prefix of the rule
    /// says the outcome alone; and whether it has another one is known where that is a part of the former. Else it is
    /// taken for one that has not: what the change would not stop may be said to stop.
    fn subject(&self, claims: &Map<String, Value>, passed: bool) -> (bool, bool) {
        let (before, after) = (self.before.subject(), self.after.subject());
        if !is_subject_left_out(claims) {
            let passes = |rule| passes_rule(RuleCheck::Subject, claims, rule);
            return (passes(self.before), passes(self.after));
        }
        let now = match before {
            SubjectMatch::Any => true,
            SubjectMatch::Exact(_) => false,
            SubjectMatch::Prefix(_) => passed,
        };
        let then = match (before, after) {
            (_, SubjectMatch::Any) => true,
            (SubjectMatch::Prefix(before), SubjectMatch::Prefix(after)) => now && before.starts_with(after),
            (_, SubjectMatch::Exact(_) | SubjectMatch::Prefix(_)) => false,
        };
        (now, then)
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
    use crate::domain::federation::rule::{ClaimMatch, ClaimValue};
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
        // Nor with one that was left out, of which the outcome says whether it has the rule's prefix.
        let by_prefix =
            |prefix: &str| rule(&["a".to_owned()], SubjectMatch::Prefix(prefix.to_owned()), vec![]);
        let long = format!("a:b:{}", "x".repeat(256));
        let long = json!({"sub": long, "aud": "a", "ref": "main"});
        let long = Recorded::of(long.as_object().unwrap(), &by_prefix("a:b:")).into_claims();
        for (before, after, failed, expected) in [
            (by_prefix("a:b:"), by_prefix("a:b:"), "", Effect::None),
            (by_prefix("a:b:"), by_prefix("a:b/"), "", stops_by(RuleCheck::Subject)),
            (by_prefix("a:b:c:"), by_prefix("a:b:"), "", Effect::None),
            (by_prefix("a:b:"), by_prefix("a:b:c:"), "", stops_by(RuleCheck::Subject)),
            (by_prefix("a:b:"), exact("one"), "", stops_by(RuleCheck::Subject)),
            (by_prefix("a:b:"), by_claim("main"), "", Effect::None),
            (by_prefix("a:b:"), by_claim("release"), "", stops_by(RuleCheck::Claim(0))),
            (by_prefix("a:b:"), by_claim("main"), "subject", Effect::Starts),
            (by_prefix("b:a:"), by_prefix("a:b:"), "subject", Effect::None),
        ] {
            assert_eq!(effect(&long, &before, &after, failed), expected, "{before:?} {after:?}");
        }
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
            "a:b:(a:)?".prop_map(SubjectMatch::Prefix),
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
            subject in prop_oneof![
                4 => "[ab](:[ab]){0,3}".prop_map(Some),
                1 => "[ab]:[ab]:[ab]:\u{200b}".prop_map(Some),
                1 => "[ab]:[ab]:[ab]:".prop_map(|start| Some(start + &"a".repeat(256))),
                1 => Just(None)
            ],
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
            let failed = exchanged(&before).map(|check| check.name(Some(&before))).unwrap_or_default();
            let outcome = if failed.is_empty() { Outcome::Passed } else { Outcome::Refused };
            let change = RuleChange { before: &before, was_disabled: false, after: &after, is_disabled: false };
            let (subject_now, subject_then) = change.subject(&recorded, exchanged(&before) != Some(RuleCheck::Subject));
            // By the rule as it is, the recording says exactly what the exchange said.
            prop_assert_eq!(first_failure(&recorded, &before, subject_now), exchanged(&before));
            let effect = change.effect(&recorded, outcome, &failed);
            let failure = first_failure(&recorded, &after, subject_then);
            let by_exchange = match (exchanged(&before), exchanged(&after)) {
                (None, Some(_)) => Effect::Stops(failure),
                (Some(_), None) => Effect::Starts,
                _ => Effect::None,
            };
            let is_known = !is_subject_left_out(&recorded) || before.subject() == after.subject();
            if others + groups.len() < 60 && is_known {
                prop_assert_eq!(effect, by_exchange);
            } else {
                // Where something had to be left out, nothing is said to pass that would not.
                prop_assert!(effect == by_exchange || failure.is_some());
                prop_assert!(failure.is_some() || exchanged(&after).is_none());
            }
        }
    }
}
