use std::sync::atomic::AtomicUsize;
use std::thread;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use pb::revocation::Subject;
use pb::watch_revocations_response::Item;
use serde_json::{Value, json};

use super::*;
use crate::clock::ManualClock;

const ISSUER: &str = "https://id.example";
pub(crate) const AUDIENCE: &str = "https://billing.example";
const NOW: u64 = 1_790_000_000;

/// A verifier that is told everything, by a clock that stands still, and the issuer's key.
pub(crate) struct Bench {
    pub(crate) verifier: Verifier,
    pub(crate) clock: ManualClock,
    key: Ed25519KeyPair,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(change: impl FnOnce(VerifierBuilder) -> VerifierBuilder) -> Self {
        let clock = ManualClock::new(Duration::from_secs(NOW), Duration::from_secs(1_000));
        let verifier = change(Verifier::fed(ISSUER, true).clock(clock.clock())).build().unwrap();
        let bench = Self { verifier, clock, key: Ed25519KeyPair::generate().unwrap() };
        bench.verifier.apply(Item::KeySet(pb::KeySet { keys: vec![bench.jwk("a")], max_age: None }));
        bench.checkpoint("c1");
        bench
    }

    fn jwk(&self, kid: &str) -> pb::JsonWebKey {
        pb::JsonWebKey {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            alg: "EdDSA".into(),
            r#use: "sig".into(),
            kid: kid.into(),
            x: BASE64URL.encode(self.key.public_key()),
            ..Default::default()
        }
    }

    fn checkpoint(&self, cursor: &str) {
        let time = self.clock.clock().unix();
        self.verifier.apply(Item::Checkpoint(pb::Checkpoint {
            cursor: cursor.into(),
            time: Some(prost_types::Timestamp { seconds: time, nanos: 0 }),
            lag: None,
        }));
    }

    fn revoke(&self, subject: Option<Subject>, min_version: i64, seconds: Option<u64>) {
        self.verifier.apply(Item::Revocation(pb::Revocation {
            org_id: "org_1".into(),
            subject,
            min_version,
            reason: 0,
            expire_time: seconds
                .map(|seconds| prost_types::Timestamp { seconds: (NOW + seconds) as i64, nanos: 0 }),
        }));
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "sub": "acct_1", "aud": AUDIENCE, "exp": NOW + 300, "iat": NOW, "nbf": NOW, "jti": "j",
            "client_id": "tok_1", "org": "org_1", "org_ver": 3, "acct_ver": 5, "secret": 2,
            "scope": "invoices.read", "later": {"deep": [1]},
        })
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        format!("{signed}.{}", BASE64URL.encode(self.key.sign(signed.as_bytes())))
    }

    pub(crate) fn jwt(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = Self::claims();
        change(&mut claims);
        self.sign(r#"{"typ":"at+jwt","alg":"EdDSA","kid":"a"}"#, &claims.to_string())
    }

    /// Of a federation rule.
    fn of_rule(&self, version: Value) -> String {
        self.jwt(|claims| {
            claims["client_id"] = json!("fed_1");
            claims["rule_ver"] = version;
            claims.as_object_mut().unwrap().remove("secret");
        })
    }

    pub(crate) fn good(&self) -> String {
        self.jwt(|_| {})
    }

    fn verify(&self, jwt: &str) -> Result<Claims> {
        self.verifier.verify(jwt, AUDIENCE, &Orgs::from("org_1"))
    }

    /// The reason and the check of a refusal.
    fn refused(&self, jwt: &str) -> (String, &'static str) {
        let error = self.verify(jwt).unwrap_err();
        (error.reason().to_owned(), error.check().unwrap_or("none"))
    }
}

#[test]
fn a_good_jwt_has_its_claims_also_those_without_a_field() {
    let bench = Bench::new();
    let claims = bench.verify(&bench.good()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.secret), ("acct_1", Some(2)));
    assert_eq!(claims.aud, [AUDIENCE]);
    assert_eq!(claims.json(), Bench::claims());
    let many = bench.jwt(|claims| claims["aud"] = json!(["https://x.example", AUDIENCE]));
    assert!(bench.verify(&many).is_ok());
    assert!(bench.verifier.verify(&bench.good(), AUDIENCE, &Orgs::Any).is_ok());
    assert!(bench.verifier.verify(&bench.good(), AUDIENCE, &Orgs::from(["org_2", "org_1"])).is_ok());
}

#[test]
fn what_is_not_as_it_must_be_is_refused_by_its_check() {
    let bench = Bench::new();
    let invalid = |check| ("ACCESS_TOKEN_INVALID".to_owned(), check);
    let claims = Bench::claims().to_string();
    for (header, check) in [
        (r#"{"typ":"JWT","alg":"EdDSA","kid":"a"}"#, "typ"),
        (r#"{"alg":"EdDSA","kid":"a"}"#, "typ"),
        (r#"{"typ":"at+jwt","alg":"none","kid":"a"}"#, "alg"),
        (r#"{"typ":"at+jwt","alg":"HS256","kid":"a"}"#, "alg"),
        (r#"{"typ":"at+jwt","alg":["EdDSA"],"kid":"a"}"#, "alg"),
        (r#"{"typ":"at+jwt","kid":"a"}"#, "alg"),
        (r#"{"typ":"at+jwt","alg":"EdDSA","kid":"b"}"#, "kid"),
        (r#"{"typ":"at+jwt","alg":"EdDSA","kid":1}"#, "kid"),
        (r#"{"typ":"at+jwt","alg":"EdDSA"}"#, "kid"),
        (r#"{"typ":"at+jwt","alg":"EdDSA","kid":"a","crit":["exp"]}"#, "crit"),
        (r#"{"typ":"at+jwt","alg":"EdDSA","kid":"a","crit":null}"#, "crit"),
        (r#"{"typ":"at+jwt","alg":"EdDSA","kid":"b","kid":"a"}"#, "format"),
        (r#"["at+jwt","EdDSA","a"]"#, "format"),
        ("{", "format"),
    ] {
        assert_eq!(bench.refused(&bench.sign(header, &claims)), invalid(check), "{header}");
    }
    for (claim, value, check) in [
        ("iss", json!("https://id.example/"), "iss"),
        ("aud", json!("https://other.example"), "aud"),
        ("aud", json!([]), "aud"),
        ("aud", json!([1]), "claims"),
        ("aud", json!(null), "claims"),
        ("exp", json!(NOW), "exp"),
        ("exp", json!(9e99), "claims"),
        ("exp", json!(u64::MAX), "claims"),
        ("exp", json!("9999999999"), "claims"),
        ("nbf", json!(NOW + 61), "nbf"),
        ("nbf", json!(i64::MAX), "nbf"),
        ("iat", json!(NOW + 61), "iat"),
        ("org", json!("org_2"), "org"),
        ("act", json!({"sub": "acct_2"}), "act"),
        ("act", json!(null), "act"),
        ("sub", json!(""), "claims"),
        ("jti", json!(7), "claims"),
        ("scope", json!(["invoices.read"]), "claims"),
        ("authorization_details", json!([[]]), "claims"),
        ("authorization_details", json!({}), "claims"),
        ("org_ver", json!("3"), "claims"),
        ("secret", json!(null), "claims"),
        ("secret", json!(2.5), "claims"),
        ("rule_ver", json!(1), "claims"),
        ("client_id", json!("key_1"), "claims"),
        ("client_id", json!("ses_1"), "claims"),
        ("client_id", json!("fed_1"), "claims"),
    ] {
        let jwt = bench.jwt(|claims| claims[claim] = value.clone());
        assert_eq!(bench.refused(&jwt), invalid(check), "{claim} {value}");
    }
    for claim in
        ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "org", "org_ver", "acct_ver", "secret"]
    {
        let jwt = bench.jwt(|claims| drop(claims.as_object_mut().unwrap().remove(claim)));
        assert_eq!(bench.refused(&jwt), invalid("claims"), "no {claim}");
    }
    // Of a session there is no secret.
    let session = bench.jwt(|claims| {
        claims["client_id"] = json!("ses_1");
        claims.as_object_mut().unwrap().remove("secret");
    });
    assert!(bench.verify(&session).is_ok());
    // A rule has its version, and no secret.
    assert_eq!(bench.verify(&bench.of_rule(json!(1))).unwrap().rule_ver, Some(1));
    for version in [json!(0), json!(-1), json!("1"), json!(1.5), json!(true), json!(null), json!(u64::MAX)] {
        assert_eq!(bench.refused(&bench.of_rule(version.clone())), invalid("claims"), "{version}");
    }
    let both = bench.jwt(|claims| (claims["client_id"], claims["rule_ver"]) = (json!("fed_1"), json!(1)));
    assert_eq!(bench.refused(&both), invalid("claims"));
    let good = bench.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (jwt, check) in [
        (String::new(), "format"),
        ("a.b".to_owned(), "format"),
        (format!("{good}.x"), "format"),
        (format!("{good}="), "format"),
        (format!("{signed}.{}", signature.replace(['-', '_'], "+") + "+"), "format"),
        (format!("{signed}."), "signature"),
        (format!("{signed}.{}", BASE64URL.encode([0; 64])), "signature"),
        (format!("{signed}.{}", BASE64URL.encode([0; 4_000])), "signature"),
        (format!("{good}{}", "A".repeat(16 << 10)), "format"),
    ] {
        assert_eq!(bench.refused(&jwt), invalid(check), "{jwt:.80}");
    }
    let other = Bench::new();
    assert_eq!(bench.refused(&other.good()), invalid("signature"));
}

#[test]
fn a_bound_jwt_is_good_with_its_certificate_alone() {
    let bench = Bench::new();
    let mine = Thumbprint::of(b"certificate");
    let bound = |cnf: Value| bench.jwt(|claims| claims["cnf"] = cnf);
    let verify = |jwt: &str, certificate: Option<&Thumbprint>| {
        bench.verifier.verify_bound(jwt, AUDIENCE, &Orgs::Any, certificate).map_err(|error| error.check())
    };
    let jwt = bound(json!({"x5t#S256": mine.as_str()}));
    assert!(verify(&jwt, Some(&mine)).is_ok());
    assert_eq!(verify(&jwt, None).unwrap_err(), Some("cnf"));
    assert_eq!(verify(&jwt, Some(&Thumbprint::of(b"another"))).unwrap_err(), Some("cnf"));
    let both = json!({"x5t#S256": mine.as_str(), "jkt": "x"});
    for cnf in [both, json!({}), json!({"jkt": "x"}), json!(null), json!(mine.as_str())] {
        assert_eq!(verify(&bound(cnf.clone()), Some(&mine)).unwrap_err(), Some("cnf"), "{cnf}");
    }
    // One that is bound to nothing is good over any connection.
    assert!(verify(&bench.good(), Some(&mine)).is_ok());
}

#[test]
fn what_the_stream_ends_is_refused() {
    let secret = |number| Some(Subject::Secret(pb::RevokedSecret { token_id: "tok_1".into(), number }));
    for (subject, version, expected) in [
        (Some(Subject::TokenId("tok_1".into())), 0, Some(("TOKEN_REVOKED", "token"))),
        (Some(Subject::TokenId("tok_2".into())), 0, None),
        (secret(2), 0, Some(("ACCESS_TOKEN_STALE", "secret"))),
        (secret(1), 0, None),
        (Some(Subject::AccountId("acct_1".into())), 5, None),
        (Some(Subject::AccountId("acct_1".into())), 6, Some(("ACCESS_TOKEN_STALE", "account_version"))),
        (Some(Subject::AccountId("acct_1".into())), 0, Some(("ACCOUNT_DEACTIVATED", "account"))),
        (Some(Subject::AccountId("acct_2".into())), 9, None),
        (Some(Subject::Org(true)), 3, None),
        (Some(Subject::Org(true)), 4, Some(("ACCESS_TOKEN_STALE", "org_version"))),
        (Some(Subject::Org(true)), 0, Some(("ORG_SUSPENDED", "org_state"))),
        (Some(Subject::KeyId("a".into())), 0, Some(("ACCESS_TOKEN_INVALID", "kid"))),
        (None, 0, Some(("VERIFIER_STALE", "fresh"))),
    ] {
        let bench = Bench::new();
        bench.revoke(subject.clone(), version, Some(300));
        match expected {
            None => assert!(bench.verify(&bench.good()).is_ok(), "{subject:?}"),
            Some((reason, check)) => {
                assert_eq!(bench.refused(&bench.good()), (reason.to_owned(), check), "{subject:?}");
            }
        }
    }
}

#[test]
fn versions_only_rise_and_a_revoked_key_never_comes_back() {
    let bench = Bench::new();
    let account = || Some(Subject::AccountId("acct_1".into()));
    for (version, good) in [(4, true), (6, false), (2, false)] {
        bench.revoke(account(), version, Some(300));
        assert_eq!(bench.verify(&bench.good()).is_ok(), good, "{version}");
    }
    assert!(bench.verify(&bench.jwt(|claims| claims["acct_ver"] = json!(6))).is_ok());
    bench.revoke(Some(Subject::KeyId("a".into())), 0, None);
    bench
        .verifier
        .apply(Item::KeySet(pb::KeySet { keys: vec![bench.jwk("a"), bench.jwk("b")], max_age: None }));
    assert_eq!(bench.verifier.status().key_ids, ["b"]);
    assert_eq!(bench.refused(&bench.good()).1, "kid");
}

#[test]
fn a_rule_ends_up_to_a_version_or_for_good() {
    let bench = Bench::new();
    let rule = |id: &str| Some(Subject::RuleId(id.into()));
    let stale = ("ACCESS_TOKEN_STALE".to_owned(), "rule_version");
    bench.revoke(rule("fed_2"), 0, Some(300));
    bench.revoke(rule("fed_1"), 4, Some(300));
    bench.revoke(rule("fed_1"), 3, Some(300));
    assert_eq!(bench.refused(&bench.of_rule(json!(3))), stale);
    assert!(bench.verify(&bench.of_rule(json!(4))).is_ok());
    assert_eq!(bench.verifier.status().revocations, 2);
    bench.revoke(rule("fed_1"), 0, Some(300));
    bench.revoke(rule("fed_1"), 5, Some(300));
    for version in [1, 4, 5, i64::MAX] {
        assert_eq!(bench.refused(&bench.of_rule(json!(version))), ("TOKEN_REVOKED".to_owned(), "rule"));
    }
    // The versions of a rule are in whichever org.
    assert!(bench.verify(&bench.good()).is_ok());
}

#[test]
fn revocations_are_forgotten_once_both_clocks_have_passed_their_end() {
    let bench = Bench::new();
    bench.revoke(Some(Subject::TokenId("tok_1".into())), 0, Some(100));
    bench.revoke(Some(Subject::SessionId("ses_1".into())), 0, Some(1_000));
    bench.revoke(Some(Subject::SessionId("ses_1".into())), 0, Some(10));
    let fresh = bench.jwt(|claims| claims["exp"] = json!(NOW + 10_000));
    // A clock that steps forward and back forgets nothing.
    bench.clock.set_wall(Duration::from_secs(NOW + 5_000));
    assert_eq!((bench.verifier.status().revocations, bench.refused(&fresh).1), (2, "token"));
    bench.clock.set_wall(Duration::from_secs(NOW + 161));
    bench.checkpoint("c2");
    assert!(bench.verify(&fresh).is_ok());
    assert_eq!(bench.verifier.status().revocations, 1);
}

#[test]
fn it_closes_when_it_has_heard_nothing_for_too_long() {
    let bench = Bench::new();
    let late = |seconds: u64| bench.clock.set_monotonic(Duration::from_secs(1_000 + seconds));
    late(30);
    assert!(bench.verify(&bench.good()).is_ok());
    // A step of the wall clock does not make the news older, or newer.
    bench.clock.set_wall(Duration::from_secs(NOW - 3_600));
    late(31);
    bench.clock.set_wall(Duration::from_secs(NOW));
    let error = bench.verify(&bench.good()).unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("VERIFIER_STALE", true));
    assert_eq!(error.code(), Code::Unavailable);
    // What is wrong in itself is said all the same.
    assert_eq!(bench.refused("a.b").1, "format");
    bench.checkpoint("c2");
    assert!(bench.verify(&bench.good()).is_ok());
    assert_eq!(bench.verifier.status().cursor, "c2");
}

#[test]
fn it_goes_on_for_as_long_as_it_was_told_and_never_with_a_revoked_key() {
    let bench = Bench::with(|builder| builder.open_for(Duration::from_secs(120)));
    bench.clock.set_monotonic(Duration::from_secs(1_120));
    assert!(bench.verify(&bench.good()).is_ok());
    bench.clock.set_monotonic(Duration::from_secs(1_121));
    assert_eq!(bench.refused(&bench.good()).1, "fresh");
    bench.clock.set_monotonic(Duration::from_secs(1_100));
    bench.revoke(Some(Subject::KeyId("a".into())), 0, None);
    assert_eq!(bench.refused(&bench.good()).1, "kid");
    let longer = Verifier::fed(ISSUER, true).open_for(Duration::from_secs(3_601)).build().unwrap_err();
    assert_eq!(longer.reason(), "INVALID_FIELD");
}

#[test]
fn what_was_heard_stays_when_the_stream_ends() {
    let bench = Bench::new();
    bench.revoke(Some(Subject::TokenId("tok_1".into())), 0, Some(300));
    let ended = Error::new(Code::Unavailable, "DATABASE_UNAVAILABLE", "");
    assert_eq!(bench.verifier.stream_ended(&ended), "c1");
    let expired = Error::new(Code::OutOfRange, "CURSOR_EXPIRED", "");
    assert_eq!(bench.verifier.stream_ended(&expired), "");
    assert_eq!(bench.refused(&bench.good()).1, "token");
}

#[test]
fn a_thousand_threads_verify_at_the_first_use() {
    let bench = Bench::new();
    let (good, done) = (bench.good(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..1_000 {
            scope.spawn(|| {
                bench.verify(&good).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), 1_000);
}

#[test]
fn a_process_that_was_forked_is_told_so() {
    let bench = Bench::new();
    let Verifier { inner, .. } = bench.verifier.clone();
    drop(bench.verifier);
    let mut inner = Arc::into_inner(inner).expect("nothing else has it");
    inner.process = inner.process.wrapping_add(1);
    let bench = Bench {
        verifier: Verifier { inner: Arc::new(inner), _tasks: Arc::new(Tasks(Vec::new())) },
        clock: bench.clock,
        key: bench.key,
    };
    let error = bench.verify(&bench.good()).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("forked"), "{error}");
}

#[tokio::test]
async fn it_is_ready_once_it_has_keys_and_a_checkpoint() {
    let verifier = Verifier::fed(ISSUER, true).build().unwrap();
    let error = verifier.ready(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.reason(), "VERIFIER_STALE");
    let waiting = tokio::spawn({
        let verifier = verifier.clone();
        async move { verifier.ready(Duration::from_secs(60)).await }
    });
    verifier.apply(Item::KeySet(pb::KeySet::default()));
    verifier.apply(Item::Checkpoint(pb::Checkpoint::default()));
    waiting.await.unwrap().unwrap();
}
