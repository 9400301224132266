use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::domain::access::credential::tests::now;
use crate::domain::federation::issuer::TrustFields;
use crate::domain::federation::rule::{ClaimMatch, ClaimValue};
use crate::error::Violations;

const ISSUER: &str = "https://issuer.example";

fn trust(kind: IssuerKind, issuer: &str, lifetime: u64, single_use_jti: bool) -> Trust {
    let key =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"jwt-svid"}"#;
    let jwks = format!(r#"{{"keys":[{key}]}}"#);
    let fields = TrustFields {
        jwks: if kind == IssuerKind::Oidc { "" } else { &jwks },
        max_assertion_lifetime: Some(std::time::Duration::from_secs(lifetime)),
        single_use_jti,
        ..TrustFields::of(kind, issuer)
    };
    fields.trust()
}

fn rule(subject: SubjectMatch, claims: Vec<ClaimMatch>) -> RuleMatch {
    let audiences = ["https://id.example".to_owned(), "other".to_owned()];
    RuleMatch::read(&mut Violations::default(), &audiences, subject, claims).unwrap()
}

fn exact(subject: &str) -> SubjectMatch {
    SubjectMatch::Exact(subject.to_owned())
}

fn text(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| BASE64URL.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64URL.encode([1; 64]))
}

/// Good claims, with these in place of some; null stands for none.
fn claims(changes: Value) -> Value {
    let at = now().unix_timestamp();
    let mut claims = json!({
        "iss": ISSUER, "sub": "repo:acme/app:ref:refs/heads/main", "aud": "https://id.example", "iat": at, "exp": at + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

fn first_failure(trust: &Trust, rule: &RuleMatch, changes: Value) -> Option<RuleCheck> {
    let text = text(&json!({"alg": "RS256"}), &claims(changes));
    ForeignAssertion::read(&text).ok().unwrap().first_failure(trust, rule, now())
}

#[test]
fn a_text_is_read_in_one_way_only() {
    let good = text(
        &json!({"alg": "ES256", "kid": "k", "jku": "https://evil.example", "x5u": 5}),
        &claims(json!({})),
    );
    let read = ForeignAssertion::read(&good).ok().unwrap();
    assert_eq!((read.algorithm(), read.kid()), (Algorithm::Es256, Some("k")));
    let (signed, signature) = read.signed();
    assert!(good.starts_with(signed) && signature == [1; 64]);
    for (header, expected) in [
        (json!({"alg": "none"}), RuleCheck::Algorithm),
        (json!({"alg": "HS256"}), RuleCheck::Algorithm),
        (json!({"alg": "rs256"}), RuleCheck::Algorithm),
        (json!({"alg": ["RS256"]}), RuleCheck::Algorithm),
        (json!({}), RuleCheck::Algorithm),
        (json!({"alg": "RS256", "crit": ["b64"]}), RuleCheck::Shape),
        (json!({"alg": "RS256", "jwk": {}}), RuleCheck::Shape),
        (json!({"alg": "RS256", "kid": 5}), RuleCheck::Shape),
        (json!({"alg": "RS256", "kid": ["k"]}), RuleCheck::Shape),
        (json!({"alg": "RS256", "typ": 5}), RuleCheck::Shape),
    ] {
        let refused = ForeignAssertion::read(&text(&header, &claims(json!({})))).err();
        assert_eq!(refused, Some(expected), "{header}");
    }
    let twice = BASE64URL.encode(r#"{"iss":"a","deep":{"a":1,"a":2}}"#);
    let header = BASE64URL.encode(r#"{"alg":"RS256"}"#);
    assert_eq!(ForeignAssertion::read(&format!("{header}.{twice}.AA")).err(), Some(RuleCheck::Shape));
    assert_eq!(ForeignAssertion::read("").err(), Some(RuleCheck::Shape));
}

#[test]
fn an_issuer_is_compared_byte_by_byte() {
    let (trust, rule) = (
        trust(IssuerKind::Oidc, ISSUER, 3_600, false),
        rule(exact("repo:acme/app:ref:refs/heads/main"), vec![]),
    );
    assert_eq!(first_failure(&trust, &rule, json!({})), None);
    for other in [
        json!("https://issuer.example/"),
        json!("https://Issuer.example"),
        json!("HTTPS://issuer.example"),
        json!("https://issuer.example:443"),
        json!("https://user@issuer.example"),
        json!("https://issuer.example."),
        json!("https://issuer.ex%61mple"),
        json!("http://issuer.example"),
        json!("issuer.example.com"),
        json!("https://issuer.example "),
        json!("https://\u{456}ssuer.example"),
        json!([ISSUER]),
        json!(5),
        Value::Null,
    ] {
        assert_eq!(first_failure(&trust, &rule, json!({"iss": other})), Some(RuleCheck::Issuer), "{other}");
    }
}

#[test]
fn each_audience_is_one_of_the_rule() {
    let (trust, rule) = (
        trust(IssuerKind::Oidc, ISSUER, 3_600, false),
        rule(exact("repo:acme/app:ref:refs/heads/main"), vec![]),
    );
    for (aud, good) in [
        (json!("https://id.example"), true),
        (json!("other"), true),
        (json!(["other", "https://id.example"]), true),
        (json!(["https://id.example", "https://foreign.example"]), false),
        (json!("https://id.example/"), false),
        (json!("HTTPS://id.example"), false),
        (json!([]), false),
        (json!(["other", 5]), false),
        (json!([["other"]]), false),
        (json!({"other": true}), false),
        (json!(5), false),
        (json!(""), false),
        (Value::Null, false),
    ] {
        let expected = if good { None } else { Some(RuleCheck::Audience) };
        assert_eq!(first_failure(&trust, &rule, json!({"aud": aud})), expected, "{aud}");
    }
}

#[test]
fn it_is_good_for_a_bounded_time() {
    let (trust, rule) = (
        trust(IssuerKind::Oidc, ISSUER, 600, false),
        rule(exact("repo:acme/app:ref:refs/heads/main"), vec![]),
    );
    let at = now().unix_timestamp();
    for (changes, good) in [
        (json!({"exp": at + 1}), true),
        (json!({"exp": at}), false),
        (json!({"exp": at + 660}), true),
        (json!({"exp": at + 661}), false),
        // Ten years, however it began.
        (json!({"exp": at + 315_360_000}), false),
        (json!({"iat": at - 500, "exp": at + 100}), true),
        // Some issuers date it back; that it lives longer for it is bounded.
        (json!({"iat": at - 300, "exp": at + 600}), true),
        (json!({"iat": at - 600, "exp": at + 600}), true),
        (json!({"iat": at - 601, "exp": at + 600}), false),
        (json!({"iat": at - 1_190, "exp": at + 10}), true),
        (json!({"iat": at - 1_191, "exp": at + 10}), false),
        (json!({"iat": at + 60, "exp": at + 600}), true),
        (json!({"iat": at + 61, "exp": at + 600}), false),
        (json!({"iat": null, "exp": at + 660}), true),
        (json!({"iat": null, "exp": at + 661}), false),
        (json!({"iat": i64::MIN, "exp": i64::MAX}), false),
        (json!({"iat": i64::MAX, "exp": i64::MAX}), false),
        (json!({"nbf": at + 60}), true),
        (json!({"nbf": at + 61}), false),
        (json!({"exp": null}), false),
        (json!({"exp": (at + 60).to_string()}), false),
        (json!({"exp": at as f64 + 60.5}), false),
        (json!({"iat": at as f64}), false),
        (json!({"nbf": "0"}), false),
    ] {
        let expected = if good { None } else { Some(RuleCheck::Time) };
        assert_eq!(first_failure(&trust, &rule, changes.clone()), expected, "{changes}");
    }
}

#[test]
fn a_subject_is_compared_byte_by_byte_or_by_whole_segments() {
    let trust = trust(IssuerKind::Oidc, ISSUER, 3_600, false);
    let prefix = |prefix: &str| SubjectMatch::Prefix(prefix.to_owned());
    for (subject, sub, good) in [
        (exact("repo:acme/app"), json!("repo:acme/app"), true),
        (exact("repo:acme/app"), json!("repo:acme/app "), false),
        (exact("repo:acme/app"), json!("repo:acme/App"), false),
        (exact("repo:acme/app"), json!("repo:\u{430}cme/app"), false),
        (exact("repo:acme/app"), json!("repo:acme/app:ref"), false),
        (exact("A|B"), json!("A"), false),
        (exact("A|B"), json!("A|B"), true),
        (exact("caf\u{e9}"), json!("cafe\u{301}"), false),
        (prefix("repo:acme/"), json!("repo:acme/app"), true),
        (prefix("repo:acme/"), json!("repo:acme/"), false),
        (prefix("repo:acme/"), json!("repo:acme-evil/app"), false),
        (prefix("repo:acme/"), json!("repo:acme"), false),
        (prefix("repo:acme/"), json!("Repo:acme/app"), false),
        (prefix("repo:acme/"), json!("xrepo:acme/app"), false),
        (exact("repo:acme/app"), json!(["repo:acme/app"]), false),
        (exact("5"), json!(5), false),
        (exact("repo:acme/app"), Value::Null, false),
    ] {
        let rule = rule(subject.clone(), vec![]);
        let expected = if good { None } else { Some(RuleCheck::Subject) };
        assert_eq!(first_failure(&trust, &rule, json!({"sub": sub})), expected, "{subject:?} {sub}");
    }
}

#[test]
fn each_claim_is_checked_in_its_order_and_named_by_its_path() {
    let trust = trust(IssuerKind::Oidc, ISSUER, 3_600, false);
    let claim = |path: &[&str], value: &str| {
        let path: Vec<String> = path.iter().map(ToString::to_string).collect();
        let values = vec![ClaimValue::Text(value.to_owned())];
        ClaimMatch::read(&mut Violations::default(), &path, values, false).unwrap()
    };
    let rule = rule(SubjectMatch::Any, vec![claim(&["ref"], "main"), claim(&["k8s.io/a", "n~s"], "prod")]);
    let good = json!({"ref": "main", "k8s.io/a": {"n~s": "prod"}});
    assert_eq!(first_failure(&trust, &rule, good.clone()), None);
    assert_eq!(first_failure(&trust, &rule, json!({"k8s.io/a": {"n~s": "prod"}})), Some(RuleCheck::Claim(0)));
    assert_eq!(first_failure(&trust, &rule, json!({"ref": "main"})), Some(RuleCheck::Claim(1)));
    let names: Vec<_> = RuleCheck::of_claims(&rule).map(|check| check.name(Some(&rule))).collect();
    let expected = ["issuer", "aud", "time", "replay", "subject", "claims/ref", "claims/k8s.io~1a/n~0s"];
    assert_eq!(names, expected);
}

#[test]
fn the_name_of_a_check_that_is_recorded_is_bounded() {
    // Each `/` of a name is two bytes of a pointer: eight of these make four kilobytes.
    let long = |last: &str| {
        let mut path: Vec<String> = (0..7).map(|_| "/".repeat(255)).collect();
        path.push(last.to_owned());
        let values = vec![ClaimValue::Text("v".to_owned())];
        ClaimMatch::read(&mut Violations::default(), &path, values, false).unwrap()
    };
    let claims = vec![long("a"), long("b"), long("\u{e9}")];
    let rule = rule(SubjectMatch::Any, claims);
    let mut names: Vec<_> = (0..3).map(|place| RuleCheck::Claim(place).recorded_name(&rule)).collect();
    names.push(RuleCheck::Subject.recorded_name(&rule));
    assert!(names.iter().all(|name| name.len() <= MAX_TEXT && RuleCheck::is_name_of_rule(name)), "{names:?}");
    assert_eq!(names[3], "subject");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4);
    for check in RuleCheck::OF_SIGNATURE.into_iter().chain(RuleCheck::OF_PROOF).chain([RuleCheck::Replay]) {
        assert!(!RuleCheck::is_name_of_rule(&check.recorded_name(&rule)), "{check:?}");
    }
}

#[test]
fn one_that_works_once_has_a_jti_that_is_kept_until_it_has_expired() {
    let (once, often) =
        (trust(IssuerKind::Oidc, ISSUER, 3_600, true), trust(IssuerKind::Oidc, ISSUER, 3_600, false));
    let rule = rule(exact("repo:acme/app:ref:refs/heads/main"), vec![]);
    for (jti, good) in [(json!("1"), true), (json!(""), false), (json!(5), false), (Value::Null, false)] {
        let expected = if good { None } else { Some(RuleCheck::Replay) };
        assert_eq!(first_failure(&once, &rule, json!({"jti": jti})), expected, "{jti}");
        assert_eq!(first_failure(&often, &rule, json!({"jti": jti})), None, "{jti}");
    }
    let text = text(&json!({"alg": "RS256"}), &claims(json!({"jti": "1"})));
    let read = ForeignAssertion::read(&text).ok().unwrap();
    let used = read.used(&once, now()).unwrap();
    assert_eq!(used.keep_until, now() + Duration::seconds(300 + KEPT_LONGER));
    assert_eq!(used.jti_hash.as_slice(), digest(&SHA256, b"1").as_ref());
    assert_eq!(read.used(&often, now()), None);
}

#[test]
fn an_svid_is_one_of_the_trust_domain() {
    let trust = trust(IssuerKind::Spiffe, "spiffe://prod.example", 3_600, false);
    let rule = rule(SubjectMatch::Prefix("spiffe://prod.example/ns/web/".to_owned()), vec![]);
    let failure =
        |sub: &str, iss: Value| first_failure(&trust, &rule, json!({"sub": sub, "iss": iss, "iat": null}));
    for iss in [Value::Null, json!("https://spire.example"), json!("anything")] {
        assert_eq!(failure("spiffe://prod.example/ns/web/sa/a", iss), None);
    }
    for (sub, expected) in [
        ("spiffe://prod.example/ns/db/sa/a", RuleCheck::Subject),
        ("spiffe://staging.example/ns/web/sa/a", RuleCheck::Issuer),
        ("spiffe://prod.example.evil/ns/web/sa/a", RuleCheck::Issuer),
        ("spiffe://prod.example/ns/web/../../x", RuleCheck::Issuer),
        ("spiffe://prod.example/ns/web//a", RuleCheck::Issuer),
        ("spiffe://prod.example/ns/web/a%2fb", RuleCheck::Issuer),
        ("https://prod.example/ns/web/a", RuleCheck::Issuer),
        ("", RuleCheck::Issuer),
    ] {
        assert_eq!(failure(sub, Value::Null), Some(expected), "{sub}");
    }
}

#[test]
fn our_own_jwts_are_recognised_in_every_spelling() {
    let is_own = |iss: Value| {
        let text = text(&json!({"alg": "RS256"}), &claims(json!({"iss": iss})));
        ForeignAssertion::read(&text).ok().unwrap().is_our_own("https://id.example")
    };
    assert!(is_own(json!("https://id.example")) && is_own(json!("https://id.example/")));
    assert!(!is_own(json!("https://other.example")) && !is_own(json!(5)) && !is_own(Value::Null));
}

#[test]
fn what_comes_before_the_subject_is_counted_without_it() {
    for check in RuleCheck::OF_SIGNATURE.into_iter().chain(RuleCheck::OF_PROOF) {
        assert!(!check.is_after_proof(), "{check:?}");
    }
    for check in [RuleCheck::Replay, RuleCheck::Subject, RuleCheck::Claim(3)] {
        assert!(check.is_after_proof(), "{check:?}");
    }
}

proptest! {
    /// No two different subjects satisfy a rule that names one.
    #[test]
    fn a_rule_that_names_a_subject_has_one(one in "\\PC{1,40}", other in "\\PC{1,40}", appended in "\\PC{0,3}") {
        let mut violations = Violations::default();
        let audiences = ["https://id.example".to_owned()];
        let read = RuleMatch::read(&mut violations, &audiences, exact(&one), vec![]);
        prop_assume!(read.is_some());
        let rule = read.unwrap();
        let passes = |subject: &str| {
            let claims = json!({"sub": subject});
            passes_rule(RuleCheck::Subject, claims.as_object().unwrap(), &rule)
        };
        prop_assert!(passes(&one));
        for subject in [other, format!("{one}{appended}"), format!("{appended}{one}"), one.to_uppercase(), one.trim().to_owned()] {
            prop_assert_eq!(passes(&subject), subject == one);
        }
    }
}
