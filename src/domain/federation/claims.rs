//! Claims of an assertion: whether they are those of a rule, and what is recorded of them.

use serde_json::{Map, Value};

use super::rule::{ClaimMatch, ClaimValue, MAX_PATH, MAX_TEXT};
use crate::domain::values::text::is_deceptive;

/// The most values that are recorded of one assertion.
const MAX_RECORDED: usize = 64;
/// The most items of an array that are recorded.
const MAX_ITEMS: usize = 32;
/// Claims that a rule cannot match by a path.
const REGISTERED: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "jti", "sub"];

/// Whether the claim at its path is one of its values, of the same type: nothing is converted.
pub(super) fn claim_passes(claim: &ClaimMatch, claims: &Map<String, Value>) -> bool {
    let Some((last, objects)) = claim.path().split_last() else { return false };
    let mut members = claims;
    for name in objects {
        match members.get(name) {
            Some(Value::Object(below)) => members = below,
            _ => return false,
        }
    }
    let is_text = |text: &str| {
        claim.values().iter().any(|value| matches!(value, ClaimValue::Text(known) if known == text))
    };
    match members.get(last) {
        Some(Value::Array(items)) if claim.contains() => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            texts.is_some_and(|texts| texts.into_iter().any(is_text))
        }
        Some(Value::String(text)) if !claim.contains() => is_text(text),
        Some(Value::Bool(flag)) if !claim.contains() => claim.values().contains(&ClaimValue::Bool(*flag)),
        _ => false,
    }
}

/// `sub`.
pub(super) fn subject(claims: &Map<String, Value>) -> Option<&str> {
    claims.get("sub")?.as_str()
}

/// `aud`: a string, or an array of strings; none where it is something else.
pub(super) fn audiences(claims: &Map<String, Value>) -> Option<Vec<&str>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) => many.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// What is recorded of an assertion whose signature, issuer, audience and times are good: the values that a rule
/// may match, never the JWT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// `sub`; empty where it is missing, or cannot be recorded.
    pub subject: String,
    pub audiences: Vec<String>,
    /// Texts, flags, and arrays of texts, by the path of objects that leads to them.
    pub claims: Map<String, Value>,
}

impl Recorded {
    /// Records an assertion's claims: texts of at most 255 bytes without control or invisible characters, 64 values
    /// at most. What does not fit is left out.
    pub fn of(claims: &Map<String, Value>) -> Self {
        let texts = audiences(claims).unwrap_or_default().into_iter().filter(|text| is_recordable(text));
        let mut left = MAX_RECORDED;
        Self {
            subject: Self::subject_of(claims).to_owned(),
            audiences: texts.map(str::to_owned).take(MAX_ITEMS).collect(),
            claims: members(claims, 1, &mut left),
        }
    }

    /// `sub` as it is recorded; empty where it is missing, or cannot be.
    pub fn subject_of(claims: &Map<String, Value>) -> &str {
        subject(claims).filter(|subject| is_recordable(subject)).unwrap_or_default()
    }

    /// The claims that an assertion had of which this was recorded.
    pub fn as_claims(&self) -> Map<String, Value> {
        let mut claims = self.claims.clone();
        claims.insert("aud".to_owned(), self.audiences.clone().into());
        if !self.subject.is_empty() {
            claims.insert("sub".to_owned(), self.subject.clone().into());
        }
        claims
    }
}

/// The members that are recorded of an object at this depth.
fn members(of: &Map<String, Value>, depth: usize, left: &mut usize) -> Map<String, Value> {
    let mut kept = Map::new();
    for (name, value) in of {
        if !is_recordable(name) || (depth == 1 && REGISTERED.contains(&name.as_str())) || *left == 0 {
            continue;
        }
        let value = match value {
            Value::String(text) if is_recordable(text) => value.clone(),
            Value::Bool(_) => value.clone(),
            Value::Array(items) if items.len() <= MAX_ITEMS => {
                let is_text = |item: &Value| item.as_str().is_some_and(is_recordable);
                if !items.iter().all(is_text) {
                    continue;
                }
                value.clone()
            }
            Value::Object(below) if depth < MAX_PATH => {
                let below = members(below, depth + 1, left);
                if below.is_empty() {
                    continue;
                }
                kept.insert(name.clone(), Value::Object(below));
                continue;
            }
            _ => continue,
        };
        *left -= 1;
        kept.insert(name.clone(), value);
    }
    kept
}

/// Whether a text may be recorded, and shown.
fn is_recordable(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len()) && !text.chars().any(|c| c.is_control() || is_deceptive(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::error::Violations;

    fn claim(path: &[&str], values: &[ClaimValue], contains: bool) -> ClaimMatch {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        ClaimMatch::read(&mut Violations::default(), &path, values.to_vec(), contains).unwrap()
    }

    fn text(text: &str) -> ClaimValue {
        ClaimValue::Text(text.to_owned())
    }

    #[test]
    fn a_claim_is_compared_by_its_type() {
        let claims = json!({
            "text": "a", "yes": true, "no": false, "one": 1, "list": ["a", "b"], "mixed": ["a", 1],
            "text.inner": "dotted", "kubernetes.io": {"namespace": "prod", "pod": {"name": "p"}}, "null": null,
            "true": "true", "empty": [],
        });
        let claims = claims.as_object().unwrap();
        for (path, values, contains, expected) in [
            (&["text"][..], &[text("a")][..], false, true),
            (&["text"], &[text("b"), text("a")], false, true),
            (&["text"], &[text("A")], false, false),
            (&["text"], &[text("a")], true, false),
            (&["text"], &[text("a|b")], false, false),
            (&["yes"], &[ClaimValue::Bool(true)], false, true),
            (&["yes"], &[text("true")], false, false),
            (&["true"], &[ClaimValue::Bool(true)], false, false),
            (&["no"], &[ClaimValue::Bool(true)], false, false),
            (&["no"], &[ClaimValue::Bool(false)], false, true),
            (&["one"], &[text("1")], false, false),
            (&["null"], &[text("null")], false, false),
            (&["list"], &[text("b")], true, true),
            (&["list"], &[text("b")], false, false),
            (&["list"], &[text("c")], true, false),
            (&["mixed"], &[text("a")], true, false),
            (&["empty"], &[text("a")], true, false),
            (&["text.inner"], &[text("dotted")], false, true),
            (&["text", "inner"], &[text("dotted")], false, false),
            (&["kubernetes.io", "namespace"], &[text("prod")], false, true),
            (&["kubernetes.io/namespace"], &[text("prod")], false, false),
            (&["kubernetes.io", "pod", "name"], &[text("p")], false, true),
            (&["kubernetes.io", "pod"], &[text("p")], false, false),
            (&["missing"], &[text("a")], false, false),
        ] {
            assert_eq!(claim_passes(&claim(path, values, contains), claims), expected, "{path:?} {values:?}");
        }
    }

    #[test]
    fn what_is_recorded_is_bounded_and_visible() {
        let long = "x".repeat(MAX_TEXT + 1);
        let claims = json!({
            "sub": "s", "aud": ["a", long.clone()], "iss": "i", "exp": 5, "jti": "j", "good": "g", "flag": true,
            "list": ["a"], "long": long, "control": "a\nb", "number": 5, "mixed": ["a", 1], "bad\u{200b}": "x",
            "deep": {"iss": "inner", "empty": {}, "number": 1},
        });
        let recorded = Recorded::of(claims.as_object().unwrap());
        assert_eq!((recorded.subject.as_str(), recorded.audiences.as_slice()), ("s", &["a".to_owned()][..]));
        let expected = json!({"good": "g", "flag": true, "list": ["a"], "deep": {"iss": "inner"}});
        assert_eq!(Value::Object(recorded.claims), expected);
        let many: Map<String, Value> = (0..200).map(|n| (format!("c{n}"), "v".into())).collect();
        assert_eq!(Recorded::of(&many).claims.len(), MAX_RECORDED);
        let hidden = json!({"sub": "a\u{202e}b"});
        assert_eq!(Recorded::of(hidden.as_object().unwrap()).subject, "");
    }

    proptest! {
        /// Of claims that can be recorded each claim of a rule says the same of what was recorded.
        #[test]
        fn what_was_recorded_passes_as_the_assertion_did(
            names in proptest::collection::vec("[a-c]", 1..4),
            values in proptest::collection::vec("[a-c]{1,2}", 1..4),
            flags in proptest::collection::vec(any::<bool>(), 1..4),
            path in proptest::collection::vec("[a-c]", 1..3),
            contains: bool,
            wanted in "[a-c]{1,2}",
            shape in 0..4_u8,
        ) {
            let mut claims = Map::new();
            for (n, name) in names.iter().enumerate() {
                let value = &values[n % values.len()];
                let value = match (shape + n as u8) % 4 {
                    0 => json!(value),
                    1 => json!(flags[n % flags.len()]),
                    2 => json!(values),
                    _ => json!({(name.clone()): value, "b": [value]}),
                };
                claims.insert(name.clone(), value);
            }
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let claim = claim(&path, &[text(&wanted)], contains);
            let recorded = Recorded::of(&claims).as_claims();
            prop_assert_eq!(claim_passes(&claim, &claims), claim_passes(&claim, &recorded));
        }
    }
}
