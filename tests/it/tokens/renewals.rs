//! `RotateToken.ttl`: a token gets another lifetime, by an administrator or by itself.

use countersign::grpc::pb;
use pb::create_token_request::Expiration;
use prost_types::Duration;
use tonic::{Code, Status};

use crate::harness::{Client, LIMITS, Org, TestServer, refused, rotate_token, token_for, violated};

const DAY: i64 = 86_400;
const DENY: (Code, &str) = (Code::PermissionDenied, "PERMISSION_MISSING");

async fn rotate(
    by: &Client,
    id: &str,
    days: i64,
    overlap: Option<i64>,
) -> Result<(pb::Token, String), Status> {
    let ttl = Some(Duration { seconds: days * DAY, nanos: 0 });
    let request = pb::RotateTokenRequest { ttl, ..rotate_token("", id, overlap) };
    let answer = by.tokens().rotate_token(request).await?.into_inner();
    Ok((answer.token.unwrap(), answer.secret))
}

fn lasts(token: &pb::Token, server: &TestServer) -> i64 {
    let left = token.expire_time.as_ref().unwrap().seconds - server.state.clock.now().unix_timestamp();
    (left + DAY / 2) / DAY
}

/// A token of the account for this many days.
async fn token(by: &Client, org: &Org, account_id: &str, days: i64, manages: bool) -> (String, String) {
    let request = pb::CreateTokenRequest {
        may_manage_tokens: manages,
        expiration: Some(Expiration::Ttl(Duration { seconds: days * DAY, nanos: 0 })),
        display_name: "nightly".into(),
        ..token_for(&org.id, account_id)
    };
    let made = by.tokens().create_token(request).await.unwrap().into_inner();
    (made.token.unwrap().id, made.secret)
}

async fn allow(server: &TestServer, org: &Org, max_days: Option<i64>) {
    let policy = pb::TokenPolicy {
        allow_self_renewal: Some(true),
        max_renewed_lifetime: max_days.map(|days| Duration { seconds: days * DAY, nanos: 0 }),
        ..Default::default()
    };
    let request =
        pb::UpdateTokenPolicyRequest { org_id: org.id.clone(), policy: Some(policy), ..Default::default() };
    let policy =
        server.operator.orgs().update_token_policy(request).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(policy.allow_self_renewal, Some(true));
    assert_eq!(policy.max_renewed_lifetime.unwrap().seconds, max_days.unwrap_or(730) * DAY);
}

fn pass(server: &TestServer, days: i64) {
    server.state.clock.advance(std::time::Duration::from_secs((days * DAY) as u64));
}

#[tokio::test]
async fn an_administrator_renews_a_token_within_the_policy_and_both_lifetimes() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let (id, _) = token(&server.operator, &org, &bot.id, 30, false).await;
    // Not by a token whose account lacks tokens.write, though it is its own.
    let (_, own) = token(&server.operator, &org, &bot.id, 60, true).await;
    refused(rotate(&server.client(own), &id, 90, None).await, DENY.0, DENY.1);
    let (_, owners) = token(&server.operator, &org, &org.owner_id, 100, true).await;
    let owner = server.client(owners);
    assert_eq!(lasts(&rotate(&owner, &id, 90, Some(0)).await.unwrap().0, &server), 90);
    // Never past the end of the credential that asks.
    let (renewed, secret) = rotate(&owner, &id, 200, Some(0)).await.unwrap();
    assert_eq!(lasts(&renewed, &server), 100);
    server.client(secret).exchange().await.unwrap();
    let refusal = refused(rotate(&owner, &id, 50, Some(0)).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["ttl"]);
    // Nor past the one that its maker had: the owner's token had 100 days.
    let (made, _) = token(&owner, &org, &bot.id, 10, false).await;
    let admin = server.person(&org.id, "admin@example.org", &[("owner", "*")]).await;
    let session = server.session(&admin.username).await;
    assert_eq!(lasts(&rotate(&session, &made, 300, Some(0)).await.unwrap().0, &server), 100);
    assert_eq!(lasts(&rotate(&session, &id, 300, Some(0)).await.unwrap().0, &server), 300);
    // Nor longer than one lifetime of the policy, which counts from the renewal.
    let policy = pb::TokenPolicy {
        max_secret_lifetime: Some(Duration { seconds: 310 * DAY, nanos: 0 }),
        ..Default::default()
    };
    let request =
        pb::UpdateTokenPolicyRequest { org_id: org.id.clone(), policy: Some(policy), ..Default::default() };
    server.operator.orgs().update_token_policy(request).await.unwrap();
    refused(rotate(&session, &id, 311, Some(0)).await, Code::InvalidArgument, "INVALID_FIELD");
    pass(&server, 5);
    let session = server.session(&admin.username).await;
    let (renewed, secret) = rotate(&session, &id, 310, Some(0)).await.unwrap();
    assert_eq!((lasts(&renewed, &server), renewed.state()), (310, pb::TokenState::Active));
    server.client(secret).exchange().await.unwrap();
    let list = pb::ListTokensRequest { state: pb::TokenState::Active.into(), ..Default::default() };
    let listed = session.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
    assert!(listed.iter().any(|token| token.id == id));
    // An event of its own, beside that of the rotation.
    let events = pb::ListEventsRequest { r#type: "token.renewed".into(), ..Default::default() };
    let events = session.orgs().list_events(events).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 5);
    assert_eq!(events[0].changes[0].field, "expire_time");
    let rotations = pb::ListEventsRequest { r#type: "token.rotated".into(), ..Default::default() };
    assert_eq!(session.orgs().list_events(rotations).await.unwrap().into_inner().events.len(), 5);
}

#[tokio::test]
async fn a_nightly_rotator_goes_on_for_as_long_as_the_org_allows() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let request = pb::CreateServiceAccountRequest {
        org_id: org.id.clone(),
        name: "rotator".into(),
        contact_email: "team@example.org".into(),
        settings: Some(pb::AccountSettings { email_notifications: Some(true), ..Default::default() }),
        ..Default::default()
    };
    let bot = server.operator.accounts().create_service_account(request).await.unwrap();
    let bot = bot.into_inner().account.unwrap();
    let (id, secret) = token(&server.operator, &org, &bot.id, 100, true).await;
    let mut rotator = server.client(secret);
    // Not where the policy says nothing.
    assert_eq!(rotator.caller().await.unwrap().renewable_from, None);
    refused(rotate(&rotator, &id, 100, None).await, DENY.0, DENY.1);
    allow(&server, &org, Some(200)).await;
    let begins = rotator.caller().await.unwrap().renewable_from.unwrap().seconds;
    assert_eq!((begins - server.state.clock.now().unix_timestamp()) / DAY, 75);
    // Not before the last quarter, not with a short overlap, and not by a JWT.
    let early = refused(rotate(&rotator, &id, 100, None).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&early), ["ttl"]);
    pass(&server, 80);
    for overlap in [0, 3_599] {
        let short = rotate(&rotator, &id, 100, Some(overlap)).await;
        assert_eq!(violated(&refused(short, Code::InvalidArgument, "INVALID_FIELD")), ["overlap"]);
    }
    refused(rotate(&rotator.with_jwt().await, &id, 100, None).await, DENY.0, DENY.1);
    let (renewed, secret) = rotate(&rotator, &id, 100, Some(3_600)).await.unwrap();
    assert_eq!(lasts(&renewed, &server), 100);
    let mailed: i64 = sqlx::query_scalar("select count(*) from outbox where recipient = 'team@example.org'")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert_eq!(mailed, 1);
    // By the current secret alone: the retiring one is heard, and renews nothing.
    rotator.exchange().await.unwrap();
    let new = server.client(secret);
    let finish = pb::FinishRotationRequest { token_id: id.clone(), ..Default::default() };
    refused(rotator.tokens().finish_rotation(finish.clone()).await, DENY.0, DENY.1);
    refused(rotate(&rotator, &id, 100, Some(3_600)).await, DENY.0, DENY.1);
    new.tokens().finish_rotation(finish.clone()).await.unwrap();
    rotator = new;
    // The last one ends 200 days after its creation, and then there is none.
    pass(&server, 90);
    let (renewed, secret) = rotate(&rotator, &id, 100, Some(3_600)).await.unwrap();
    assert_eq!(lasts(&renewed, &server), 30);
    let new = server.client(secret);
    new.tokens().finish_rotation(finish).await.unwrap();
    assert_eq!(new.caller().await.unwrap().renewable_from, None);
    pass(&server, 25);
    let refusal = refused(rotate(&new, &id, 100, Some(3_600)).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["ttl"]);
    pass(&server, 6);
    refused(new.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_lifetime_that_is_asked_for_is_checked() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (id, _) = token(&server.operator, &org, &bot.id, 30, false).await;
    for (seconds, nanos) in [(0, 0), (0, 1), (-1, 0), (3_650 * DAY, 1), (i64::MAX, 0)] {
        let ttl = Some(Duration { seconds, nanos });
        let request = pb::RotateTokenRequest { ttl, ..rotate_token("", &id, None) };
        let refusal = org.owner.tokens().rotate_token(request).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["ttl"]);
    }
    // A refused renewal rotates nothing.
    let get = pb::GetTokenRequest { token_id: id, ..Default::default() };
    let token = org.owner.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!(token.secrets.len(), 1);
}
