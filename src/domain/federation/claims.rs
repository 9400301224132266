//! Claims of an assertion: whether they are those of a rule, and what is recorded of them.

use serde_json::{Map, Value};

use super::rule::{ClaimMatch, ClaimValue, MAX_AUDIENCES, MAX_PATH, REGISTERED, RuleMatch, is_nameable};

/// The most values that are recorded of one assertion; each item of an array is one.
const MAX_RECORDED: usize = 64;
/// The most bytes of text that are recorded of one assertion, names among them.
const MAX_BYTES: usize = 2 << 10;

/// Whether the claim at its path is one of its values, of the same type: nothing is converted.
pub(super) fn claim_passes(claim: &ClaimMatch, claims: &Map<String, Value>) -> bool {
    let is_text = |text: &str| {
        claim.values().iter().any(|value| matches!(value, ClaimValue::Text(known) if known == text))
    };
    match at(claims, claim.path()) {
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
    /// Texts, flags, and arrays of texts, by the path of objects that leads to them; and `"sub": null` where a subject
    /// was left out.
    pub claims: Map<String, Value>,
}

impl Recorded {
    /// Records an assertion's claims: texts of at most 255 bytes without control or invisible characters, 64 values
    /// and 2 KiB at most. What does not fit is left out, and what the rule names comes first.
    ///
    /// A text that cannot be recorded is one that no rule can name, so that leaving it out changes nothing. But a subject
    /// may have the prefix of a rule: that it was left out is recorded.
    pub fn of(claims: &Map<String, Value>, rule: &RuleMatch) -> Self {
        let mut room = Room { values: MAX_RECORDED, bytes: MAX_BYTES };
        // Each is one of the rule's, whose number is limited.
        let mut audiences: Vec<String> = Vec::new();
        for audience in self::audiences(claims).unwrap_or_default() {
            let is_new = !audiences.iter().any(|known| known == audience);
            if is_new && is_nameable(audience) && audiences.len() < MAX_AUDIENCES {
                audiences.push(audience.to_owned());
            }
        }
        let mut kept = Map::new();
        for claim in rule.claims() {
            record_named(claim, claims, &mut kept, &mut room);
        }
        // Of the arrays that it names the other items, which it may name after a change.
        for claim in rule.claims() {
            let items = at(claims, claim.path()).and_then(Value::as_array);
            if let (Some(items), Some(Value::Array(known))) = (items, at_mut(&mut kept, claim.path())) {
                record_items(items, known, &mut room);
            }
        }
        record_members(claims, 1, &mut kept, &mut room);
        let recorded = Self::subject_of(claims);
        if subject(claims).is_some_and(|subject| subject != recorded) {
            kept.insert("sub".to_owned(), Value::Null);
        }
        Self { subject: recorded.to_owned(), audiences, claims: kept }
    }

    /// `sub` as it is recorded; empty where it is missing, or cannot be.
    pub fn subject_of(claims: &Map<String, Value>) -> &str {
        subject(claims).filter(|subject| is_nameable(subject)).unwrap_or_default()
    }

    /// The claims that an assertion had of which this was recorded.
    pub fn into_claims(self) -> Map<String, Value> {
        let mut claims = self.claims;
        claims.insert("aud".to_owned(), self.audiences.into());
        if !self.subject.is_empty() {
            claims.insert("sub".to_owned(), self.subject.into());
        }
        claims
    }
}

/// Whether the claims were recorded of an assertion with a subject that was left out.
pub(super) fn is_subject_left_out(recorded: &Map<String, Value>) -> bool {
    recorded.get("sub").is_some_and(Value::is_null)
}

/// What more may be recorded of an assertion.
struct Room {
    values: usize,
    bytes: usize,
}

impl Room {
    /// Takes a value with this many bytes, if there is room for it.
    fn takes(&mut self, bytes: usize) -> bool {
        let fits = self.values > 0 && bytes <= self.bytes;
        if fits {
            self.values -= 1;
            self.bytes -= bytes;
        }
        fits
    }
}

/// The claim at this path through objects.
fn at<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (last, objects) = path.split_last()?;
    let members = objects.iter().try_fold(claims, |within, name| within.get(name)?.as_object())?;
    members.get(last)
}

fn at_mut<'a>(claims: &'a mut Map<String, Value>, path: &[String]) -> Option<&'a mut Value> {
    let (last, objects) = path.split_last()?;
    let members = objects.iter().try_fold(claims, |within, name| within.get_mut(name)?.as_object_mut())?;
    members.get_mut(last)
}

/// Records the claim that a rule names, of an array the item that it names.
fn record_named(
    claim: &ClaimMatch,
    claims: &Map<String, Value>,
    kept: &mut Map<String, Value>,
    room: &mut Room,
) {
    let named = |text: &str| {
        claim.values().iter().any(|value| matches!(value, ClaimValue::Text(known) if known == text))
    };
    let names: usize = claim.path().iter().map(String::len).sum();
    let value = match at(claims, claim.path()) {
        // One with something else than texts matches nothing.
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            let found = items.iter().filter_map(Value::as_str).find(|item| named(item));
            if !room.takes(names + found.map_or(0, str::len)) {
                return;
            }
            found.into_iter().collect()
        }
        Some(value @ Value::String(text)) if is_nameable(text) && room.takes(names + text.len()) => {
            value.clone()
        }
        Some(value @ Value::Bool(_)) if room.takes(names) => value.clone(),
        _ => return,
    };
    match (at_mut(kept, claim.path()), value) {
        // Of one array two claims may name different items.
        (Some(Value::Array(known)), Value::Array(more)) => {
            for item in more {
                if !known.contains(&item) {
                    known.push(item);
                }
            }
        }
        (Some(_), _) => {}
        (None, value) => insert_at(kept, claim.path(), value),
    }
}

/// Inserts a claim at this path, with the objects that lead to it.
fn insert_at(kept: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, below)) = path.split_first() else { return };
    if below.is_empty() {
        kept.insert(first.clone(), value);
    } else if let Value::Object(next) = kept.entry(first).or_insert_with(|| Value::Object(Map::new())) {
        insert_at(next, below, value);
    }
}

/// Records the members of an object at this depth, beside those that are recorded already.
fn record_members(of: &Map<String, Value>, depth: usize, kept: &mut Map<String, Value>, room: &mut Room) {
    for (name, value) in of {
        if !is_nameable(name) || (depth == 1 && REGISTERED.contains(&name.as_str())) {
            continue;
        }
        let known = kept.get_mut(name);
        match (value, known) {
            (Value::Object(below), Some(Value::Object(known))) if depth < MAX_PATH => {
                record_members(below, depth + 1, known, room);
            }
            (Value::Array(items), Some(Value::Array(known))) => record_items(items, known, room),
            (Value::Object(below), None) if depth < MAX_PATH && room.bytes >= name.len() => {
                let mut members = Map::new();
                room.bytes -= name.len();
                record_members(below, depth + 1, &mut members, room);
                if !members.is_empty() {
                    kept.insert(name.clone(), Value::Object(members));
                }
            }
            (Value::Array(items), None) if items.iter().all(Value::is_string) && room.takes(name.len()) => {
                let mut known = Vec::new();
                record_items(items, &mut known, room);
                kept.insert(name.clone(), Value::Array(known));
            }
            (Value::String(text), None) if is_nameable(text) && room.takes(name.len() + text.len()) => {
                kept.insert(name.clone(), value.clone());
            }
            (Value::Bool(_), None) if room.takes(name.len()) => {
                kept.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
}

/// Records items of an array of texts, beside those that are recorded already.
fn record_items(items: &[Value], known: &mut Vec<Value>, room: &mut Room) {
    for item in items {
        let text = item.as_str().unwrap_or_default();
        if is_nameable(text) && !known.contains(item) && room.takes(text.len()) {
            known.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::federation::rule::{MAX_TEXT, SubjectMatch};
    use crate::error::Violations;

    fn claim(path: &[&str], values: &[ClaimValue], contains: bool) -> ClaimMatch {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        ClaimMatch::read(&mut Violations::default(), &path, values.to_vec(), contains).unwrap()
    }

    fn text(text: &str) -> ClaimValue {
        ClaimValue::Text(text.to_owned())
    }

    fn rule(claims: Vec<ClaimMatch>) -> RuleMatch {
        let subject = SubjectMatch::Exact("s".to_owned());
        RuleMatch::read(&mut Violations::default(), &["a".to_owned()], subject, claims).unwrap()
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
            "deep": {"iss": "inner", "empty": {}, "number": 1}, "some": ["a", "a", "c\nd", "b"],
        });
        let recorded = Recorded::of(claims.as_object().unwrap(), &rule(vec![]));
        assert_eq!((recorded.subject.as_str(), recorded.audiences.as_slice()), ("s", &["a".to_owned()][..]));
        // Of an array what can be recorded: the rest is nothing that a rule can name.
        let expected = json!({
            "good": "g", "flag": true, "list": ["a"], "deep": {"iss": "inner"}, "some": ["a", "b"],
        });
        assert_eq!(Value::Object(recorded.claims), expected);
        let of = |claims: &Map<String, Value>| Recorded::of(claims, &rule(vec![])).claims;
        let many: Map<String, Value> = (0..200).map(|n| (format!("c{n}"), "v".into())).collect();
        assert_eq!(of(&many).len(), MAX_RECORDED);
        let items: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let kept = of(json!({"groups": items, "later": "x"}).as_object().unwrap());
        assert_eq!((kept["groups"].as_array().unwrap().len(), kept.get("later")), (MAX_RECORDED - 1, None));
        let hidden = json!({"sub": "a\u{202e}b"});
        assert_eq!(Recorded::of(hidden.as_object().unwrap(), &rule(vec![])).subject, "");
    }

    #[test]
    fn what_is_recorded_of_the_worst_assertion_is_small() {
        let text = |n: usize| format!("{n:0>250}");
        let lists: Map<String, Value> = (0..64).map(|n| (text(n), json!(vec![text(n); 32]))).collect();
        let nested = json!({text(1): {text(2): {text(3): {text(4): {text(5): {text(6): {text(7): {text(8): "v"}}}}}}}});
        let short: Map<String, Value> =
            (0..2_000).map(|n| (n.to_string(), json!({"a": {"b": ["c"]}}))).collect();
        for claims in [lists, nested.as_object().unwrap().clone(), short] {
            let written = serde_json::to_string(&Recorded::of(&claims, &rule(vec![])).claims).unwrap();
            assert!(written.len() <= 2 * MAX_BYTES, "{}", written.len());
        }
    }

    #[test]
    fn what_a_rule_names_is_recorded_first() {
        let mut claims: Map<String, Value> = (0..200).map(|n| (format!("a{n}"), "v".into())).collect();
        let groups: Vec<String> = (0..100).map(|n| format!("g{n}")).collect();
        claims.insert("groups".to_owned(), json!(groups));
        claims.insert("z".to_owned(), json!({"z": {"last": "x", "flag": true}}));
        let named = rule(vec![
            claim(&["groups"], &[text("g98"), text("g99")], true),
            claim(&["groups"], &[text("g50")], true),
            claim(&["z", "z", "last"], &[text("x")], false),
            claim(&["z", "z", "flag"], &[ClaimValue::Bool(true)], false),
        ]);
        let recorded = Recorded::of(&claims, &named).into_claims();
        assert_eq!(recorded["groups"].as_array().unwrap()[..2], [json!("g98"), json!("g50")]);
        assert_eq!(recorded["z"], json!({"z": {"last": "x", "flag": true}}));
        assert!(named.claims().iter().all(|claim| claim_passes(claim, &recorded)));
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
            let recorded = Recorded::of(&claims, &rule(vec![])).into_claims();
            prop_assert_eq!(claim_passes(&claim, &claims), claim_passes(&claim, &recorded));
        }
    }
}
