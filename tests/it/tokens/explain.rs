//! `ExplainToken` says what the exchange says, to callers with the right; to others all
//! token strings look alike.

use std::time::Duration;

use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use pb::explain_token_request::Target;
use tonic::Code;

use crate::harness::{Client, Org, TestServer, by_id, reason, refused, rotate_token, violated};

const STATE: [&str; 5] = ["revoked", "org", "account", "expiry", "policy"];
const USE: [&str; 6] = ["purpose", "network", "certificate", "origin", "audience", "scopes"];
const TEXT: [&str; 4] = ["shape", "checksum", "known", "secret"];

/// What would be exchanged, and how.
#[derive(Clone, Default)]
struct Shown {
    text: String,
    audience: &'static str,
    purpose: &'static str,
    origin: &'static str,
    address: &'static str,
}

impl Shown {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    fn explain(&self, target: Target) -> pb::ExplainTokenRequest {
        pb::ExplainTokenRequest {
            target: Some(target),
            audience: self.audience.into(),
            purpose: self.purpose.into(),
            origin: self.origin.into(),
            client_address: self.address.into(),
            ..Default::default()
        }
    }

    fn exchange(&self) -> pb::ExchangeTokenRequest {
        pb::ExchangeTokenRequest {
            subject_token: Some(self.text.clone()),
            audiences: Some(self.audience)
                .filter(|audience| !audience.is_empty())
                .map(Into::into)
                .into_iter()
                .collect(),
            purpose: self.purpose.into(),
            origin: self.origin.into(),
            client_address: self.address.into(),
            ..Default::default()
        }
    }
}

async fn explain(by: &Client, request: pb::ExplainTokenRequest) -> Vec<pb::TokenCheck> {
    by.tokens().explain_token(request).await.unwrap().into_inner().checks
}

fn names(checks: &[pb::TokenCheck]) -> Vec<&str> {
    checks.iter().map(|check| check.name.as_str()).collect()
}

/// The first that failed, with its reason; each that passed has none.
fn first_failed(checks: &[pb::TokenCheck]) -> Option<(&str, &str)> {
    assert!(checks.iter().all(|check| check.passed == check.reason.is_empty()), "{checks:?}");
    checks.iter().find(|check| !check.passed).map(|check| (check.name.as_str(), check.reason.as_str()))
}

struct World {
    server: TestServer,
    org: Org,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        Self { server, org }
    }

    /// A token of an account of its own.
    async fn token(&self, name: &str, request: pb::CreateTokenRequest) -> (pb::Token, String) {
        let (bot, _) = self.server.account(&self.org.id, name, &[("x.y", "*")]).await;
        let request = pb::CreateTokenRequest { org_id: self.org.id.clone(), account_id: bot.id, ..request };
        let made = self.server.operator.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap(), made.secret)
    }

    /// Both say that this check fails first, for the same reason.
    async fn agree(&self, shown: &Shown, token: Option<&pb::Token>, expected: Option<(&str, &str)>) {
        let by = &self.server.operator;
        let checks = explain(by, shown.explain(Target::TokenText(shown.text.clone()))).await;
        assert_eq!(first_failed(&checks), expected);
        let exchanged = by.tokens().exchange_token(shown.exchange()).await;
        assert_eq!(exchanged.err().map(|status| reason(&status)).as_deref(), expected.map(|(_, why)| why));
        // By its id all but the string is explained alike.
        let Some(token) = token else { return };
        let named = pb::ExplainTokenRequest {
            org_id: self.org.id.clone(),
            ..shown.explain(Target::TokenId(token.id.clone()))
        };
        let by_id = explain(by, named).await;
        assert_eq!(names(&by_id), [&STATE[..], &USE].concat());
        assert_eq!(by_id, checks[4..]);
    }
}

#[tokio::test]
async fn the_first_check_that_fails_is_why_the_exchange_is_refused() {
    let world = World::new().await;
    let (server, org) = (&world.server, &world.org);
    let (token, text) = world.token("good", pb::CreateTokenRequest::default()).await;
    let good = Shown::text(&text);
    world.agree(&good, Some(&token), None).await;
    let checks = explain(&org.owner, good.explain(Target::TokenText(text.clone()))).await;
    assert_eq!(names(&checks), [&TEXT[..], &STATE, &USE].concat());

    // The token string.
    let unknown =
        TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(7), [7; 32]).expose().to_owned();
    let id = TokenString::parse(&text).unwrap().id();
    let wrong = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]).expose().to_owned();
    let other_kind = TokenString::new(TokenStringKind::PublishableToken, id, [7; 32]).expose().to_owned();
    let mut flipped = text.clone();
    let last = if flipped.ends_with('0') { "1" } else { "0" };
    flipped.replace_range(82.., last);
    for (text, check, count) in [
        ("junk".to_owned(), "shape", 1),
        (text[..60].to_owned(), "shape", 1),
        ("x".repeat(129), "shape", 1),
        (flipped, "checksum", 2),
        (unknown, "known", 3),
        (wrong, "secret", 15),
        (other_kind, "secret", 15),
    ] {
        let shown = Shown::text(&text);
        world.agree(&shown, None, Some((check, "TOKEN_INVALID"))).await;
        let checks = explain(&org.owner, shown.explain(Target::TokenText(text))).await;
        assert_eq!((first_failed(&checks), checks.len()), (Some((check, "TOKEN_INVALID")), count));
    }

    // How it is used.
    let purpose = pb::CreateTokenRequest { purpose: "SCIM".into(), ..Default::default() };
    let (token, text) = world.token("purpose", purpose).await;
    world.agree(&Shown::text(&text), Some(&token), Some(("purpose", "PURPOSE_MISMATCH"))).await;
    world.agree(&Shown { purpose: "SCIM", ..Shown::text(&text) }, Some(&token), None).await;
    let networks =
        pb::CreateTokenRequest { allowed_cidrs: vec!["192.0.2.0/24".into()], ..Default::default() };
    let (token, text) = world.token("network", networks).await;
    let from = |address| Shown { address, ..Shown::text(&text) };
    let outside = Some(("network", "ADDRESS_NOT_ALLOWED"));
    world.agree(&from("192.0.3.1"), Some(&token), outside).await;
    world.agree(&from("192.0.2.1"), Some(&token), None).await;
    let checks = explain(&org.owner, from("").explain(Target::TokenText(text.clone()))).await;
    assert_eq!(first_failed(&checks), outside, "an address that is not told is in no network");
    let publishable = pb::CreateTokenRequest {
        kind: pb::TokenKind::Publishable.into(),
        scopes: vec!["x.y".into()],
        allowed_origins: vec!["https://app.example".into()],
        ..Default::default()
    };
    let (token, text) = world.token("origin", publishable).await;
    let from = |origin| Shown { origin, ..Shown::text(&text) };
    world.agree(&from(""), Some(&token), Some(("origin", "ORIGIN_NOT_ALLOWED"))).await;
    world.agree(&from("https://x.example"), Some(&token), Some(("origin", "ORIGIN_NOT_ALLOWED"))).await;
    world.agree(&from("https://app.example"), Some(&token), None).await;
    let audiences = pb::CreateTokenRequest { allowed_audiences: vec!["a".into()], ..Default::default() };
    let (token, text) = world.token("audience", audiences).await;
    let to = |audience| Shown { audience, ..Shown::text(&text) };
    world.agree(&to("b"), Some(&token), Some(("audience", "INVALID_TARGET"))).await;
    world.agree(&to("a"), Some(&token), None).await;
    world.agree(&to(""), Some(&token), Some(("audience", "INVALID_TARGET"))).await;

    // What blocks it.
    let (token, text) = world.token("account", pb::CreateTokenRequest::default()).await;
    let stop = pb::DeactivateAccountRequest {
        org_id: org.id.clone(),
        account_id: token.account_id.clone(),
        ..Default::default()
    };
    server.operator.accounts().deactivate_account(stop).await.unwrap();
    world.agree(&Shown::text(&text), Some(&token), Some(("account", "ACCOUNT_DEACTIVATED"))).await;
    let (token, text) = world.token("policy", pb::CreateTokenRequest::default()).await;
    let set = async |seconds: i64| {
        let longest = Some(prost_types::Duration { seconds, nanos: 0 });
        let request = pb::UpdateTokenPolicyRequest {
            org_id: org.id.clone(),
            policy: Some(pb::TokenPolicy { max_secret_lifetime: longest, ..Default::default() }),
            ..Default::default()
        };
        server.operator.orgs().update_token_policy(request).await.unwrap();
    };
    set(30 * 86_400).await;
    world.agree(&Shown::text(&text), Some(&token), Some(("policy", "TOKEN_BLOCKED"))).await;
    set(365 * 86_400).await;
    world.agree(&Shown::text(&text), Some(&token), None).await;
    let ttl = pb::create_token_request::Expiration::Ttl(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let short = pb::CreateTokenRequest { expiration: Some(ttl), ..Default::default() };
    let (short, short_text) = world.token("expiry", short).await;
    let (rotated, old) = world.token("rotated", pb::CreateTokenRequest::default()).await;
    let rotate = rotate_token(&org.id, &rotated.id, Some(60));
    let new = server.operator.tokens().rotate_token(rotate).await.unwrap().into_inner().secret;
    world.agree(&Shown::text(&old), Some(&rotated), None).await;
    server.state.clock.advance(Duration::from_secs(3_601));
    world.agree(&Shown::text(&short_text), Some(&short), Some(("expiry", "TOKEN_EXPIRED"))).await;
    // Its id names no secret.
    world.agree(&Shown::text(&old), None, Some(("expiry", "TOKEN_EXPIRED"))).await;
    world.agree(&Shown::text(&new), Some(&rotated), None).await;
    let (token, text) = world.token("revoked", pb::CreateTokenRequest::default()).await;
    server.operator.tokens().revoke_token(by_id(&org.id, &token.id)).await.unwrap();
    world.agree(&Shown::text(&text), Some(&token), Some(("revoked", "TOKEN_REVOKED"))).await;
    let suspend = pb::SuspendOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    world.agree(&Shown::text(&text), Some(&token), Some(("revoked", "TOKEN_REVOKED"))).await;
    world.agree(&good, None, Some(("org", "ORG_SUSPENDED"))).await;
    // All that fail are there, not only the first.
    let shown = Shown { purpose: "SCIM", ..Shown::text(&text) };
    let checks = explain(&server.operator, shown.explain(Target::TokenText(text))).await;
    let failed: Vec<_> =
        checks.iter().filter(|check| !check.passed).map(|check| check.name.as_str()).collect();
    assert_eq!(failed, ["revoked", "org", "purpose"]);
}

#[tokio::test]
async fn to_whoever_may_not_read_it_every_token_is_unknown() {
    let world = World::new().await;
    let (server, org) = (&world.server, &world.org);
    let (token, text) = world.token("bot", pb::CreateTokenRequest::default()).await;
    let (revoked, revoked_text) = world.token("revoked", pb::CreateTokenRequest::default()).await;
    server.operator.tokens().revoke_token(by_id(&org.id, &revoked.id)).await.unwrap();
    let id = TokenString::parse(&text).unwrap().id();
    let wrong = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]).expose().to_owned();
    let unknown =
        TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(7), [7; 32]).expose().to_owned();
    let foreign = server.org().await;
    let mut answers = Vec::new();
    for text in [&text, &revoked_text, &wrong, &unknown] {
        answers
            .push(explain(&foreign.owner, Shown::text(text).explain(Target::TokenText(text.clone()))).await);
    }
    assert_eq!(first_failed(&answers[0]), Some(("known", "TOKEN_INVALID")));
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    for id in [&token.id, &revoked.id, "tok_00000000000000000000000000"] {
        let request = Shown::default().explain(Target::TokenId(id.into()));
        refused(foreign.owner.tokens().explain_token(request).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    // An operator who names another org does not get it either; one who names none, or its own, does.
    let naming = async |org_id: &str| {
        let request = Shown::text(&text).explain(Target::TokenText(text.clone()));
        let request = pb::ExplainTokenRequest { org_id: org_id.into(), ..request };
        first_failed(&explain(&server.operator, request).await).map(|(name, _)| name.to_owned())
    };
    assert_eq!(naming(&foreign.id).await.as_deref(), Some("known"));
    assert_eq!((naming(&org.id).await, naming("").await), (None, None));
    let request = pb::ExplainTokenRequest {
        org_id: org.id.clone(),
        ..Shown::default().explain(Target::TokenText(text.clone()))
    };
    refused(foreign.owner.tokens().explain_token(request).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // Without the right, not even junk is explained.
    let (_, member) = server.account(&org.id, "member", &[("x.y", "*"), ("tokens.write", "*")]).await;
    for target in [Target::TokenText(text), Target::TokenText("junk".into()), Target::TokenId("x".into())] {
        let request = Shown::default().explain(target);
        refused(member.tokens().explain_token(request).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
}

#[tokio::test]
async fn what_is_asked_is_checked() {
    let world = World::new().await;
    let org = &world.org;
    let token_id = org.owner.caller().await.unwrap().credential_id;
    let good = || Shown::default().explain(Target::TokenId(token_id.clone()));
    let target = |target| Shown::default().explain(target);
    for (request, fields) in [
        (pb::ExplainTokenRequest::default(), vec!["target"]),
        (target(Target::TokenText(String::new())), vec!["token_text"]),
        (target(Target::TokenId(org.id.clone())), vec!["token_id"]),
        (target(Target::TokenId(String::new())), vec!["token_id"]),
        (pb::ExplainTokenRequest { audience: "a b".into(), ..good() }, vec!["audience"]),
        (pb::ExplainTokenRequest { audience: "a".repeat(256), ..good() }, vec!["audience"]),
        (pb::ExplainTokenRequest { purpose: "scim".into(), ..good() }, vec!["purpose"]),
        (pb::ExplainTokenRequest { purpose: "S".repeat(33), ..good() }, vec!["purpose"]),
        (pb::ExplainTokenRequest { origin: "https://*.example".into(), ..good() }, vec!["origin"]),
        (pb::ExplainTokenRequest { client_address: "192.0.2.256".into(), ..good() }, vec!["client_address"]),
        (
            pb::ExplainTokenRequest {
                audience: " ".into(),
                purpose: "x".into(),
                origin: "null".into(),
                client_address: "x".into(),
                ..Default::default()
            },
            vec!["target", "audience", "purpose", "origin", "client_address"],
        ),
    ] {
        let refusal = org.owner.tokens().explain_token(request).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), fields);
    }
    let request = pb::ExplainTokenRequest {
        audience: "a".repeat(255),
        purpose: "S".repeat(32),
        origin: "https://app.example".into(),
        client_address: "2001:db8::1".into(),
        ..good()
    };
    assert_eq!(first_failed(&explain(&org.owner, request).await), Some(("purpose", "PURPOSE_MISMATCH")));
}
