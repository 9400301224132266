//! What a change of a rule would stop and start, of what was presented to it.

use super::assertion::{RuleCheck, passes_rule};
use super::claims::Recorded;
use super::presentation::Outcome;
use super::rule::RuleMatch;

/// What a change of a rule makes of a presentation that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It passed, and would not.
    Stops,
    /// It did not, and would pass.
    Starts,
    None,
}

/// The first check of a rule that what was recorded fails: the checks of an exchange that depend on the rule.
pub fn first_failure(recorded: &Recorded, rule: &RuleMatch) -> Option<RuleCheck> {
    let claims = recorded.as_claims();
    let of_rule =
        |check: &RuleCheck| matches!(check, RuleCheck::Audience | RuleCheck::Subject | RuleCheck::Claim(_));
    RuleCheck::of_claims(rule).filter(of_rule).find(|check| !passes_rule(*check, &claims, rule))
}

/// What the changed rule makes of a presentation with this outcome.
///
/// One that failed before its subject was recorded, or for a `jti` that was missing or used, says nothing.
pub fn effect(recorded: &Recorded, outcome: Outcome, failed_check: &str, changed: &RuleMatch) -> Effect {
    let passes = first_failure(recorded, changed).is_none();
    match outcome {
        Outcome::Passed if !passes && !recorded.subject.is_empty() => Effect::Stops,
        Outcome::Refused
            if passes && !recorded.subject.is_empty() && failed_check != RuleCheck::Replay.name(None) =>
        {
            Effect::Starts
        }
        Outcome::Passed | Outcome::Refused => Effect::None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
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
        let recorded = |subject: &str, claims: Value| Recorded {
            subject: subject.to_owned(),
            audiences: vec!["a".to_owned()],
            claims: claims.as_object().unwrap().clone(),
        };
        let exact = |subject: &str| rule(&["a".to_owned()], SubjectMatch::Exact(subject.to_owned()), vec![]);
        let passed =
            |recorded: &Recorded, changed: &RuleMatch| effect(recorded, Outcome::Passed, "", changed);
        let one = recorded("one", json!({"ref": "main"}));
        assert_eq!(passed(&one, &exact("one")), Effect::None);
        assert_eq!(passed(&one, &exact("two")), Effect::Stops);
        assert_eq!(effect(&one, Outcome::Refused, "subject", &exact("one")), Effect::Starts);
        assert_eq!(effect(&one, Outcome::Refused, "replay", &exact("one")), Effect::None);
        let other_audience = rule(&["b".to_owned()], SubjectMatch::Exact("one".to_owned()), vec![]);
        assert_eq!(passed(&one, &other_audience), Effect::Stops);
        let by_claim = rule(&["a".to_owned()], SubjectMatch::Any, vec![claim("ref", "main", false)]);
        assert_eq!(effect(&one, Outcome::Refused, "subject", &by_claim), Effect::Starts);
        // Of what failed before its subject was recorded nothing is known.
        assert_eq!(effect(&Recorded::default(), Outcome::Refused, "signature", &by_claim), Effect::None);
    }

    proptest! {
        /// What was recorded passes a rule exactly where the assertion would have.
        #[test]
        fn what_was_recorded_is_evaluated_as_the_assertion_is_exchanged(
            subject in "[ab](:[ab]){0,3}",
            audiences in proptest::collection::vec("[ab]", 1..3),
            values in proptest::collection::vec("[ab]", 1..3),
            allowed in proptest::collection::vec("[ab]", 1..3),
            wanted in "[ab](:[ab]){0,3}",
            how in 0..3_u8,
            with_claim: bool,
            contains: bool,
            of_list: bool,
        ) {
            let mut claims = Map::new();
            claims.insert("sub".to_owned(), json!(subject));
            claims.insert("aud".to_owned(), json!(audiences));
            claims.insert("ref".to_owned(), if of_list { json!(values) } else { json!(values[0]) });
            claims.insert("iat".to_owned(), json!(5));
            let subject = match how {
                0 => SubjectMatch::Exact(wanted),
                1 => SubjectMatch::Prefix("a:b:".to_owned()),
                _ => SubjectMatch::Any,
            };
            let claim = (with_claim || subject == SubjectMatch::Any).then(|| claim("ref", "a", contains));
            let changed = rule(&allowed, subject, claim.into_iter().collect());
            let direct = RuleCheck::of_claims(&changed).find(|check| !passes_rule(*check, &claims, &changed));
            prop_assert_eq!(first_failure(&Recorded::of(&claims), &changed), direct);
        }
    }
}
