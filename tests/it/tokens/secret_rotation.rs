//! Rotation: a second secret, an overlap, and the expiry of the old one.

use std::time::Duration;

use countersign::db::events::EventValue as _;
use countersign::grpc::pb;
use pb::TokenSecretState::{Active, Expired, Retiring};
use tonic::{Code, Status};

use crate::harness::{
    Client, LIMITS, Org, TestServer, by_id, by_text, reason, refused, rotate_token, token_for, until,
    violated,
};

const DAY: i64 = 24 * 60 * 60;
const MISSING: &str = "RESOURCE_NOT_FOUND";
const EXCEEDS: &str = "TARGET_EXCEEDS_CALLER";

/// A token of a bot, created by the operator: its id, and a client that uses it.
async fn token(server: &TestServer, org: &Org, request: pb::CreateTokenRequest) -> (String, Client) {
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    let token = made.token.unwrap();
    assert_eq!(token.org_id, org.id);
    (token.id, server.client(made.secret))
}

async fn bot(server: &TestServer, org: &Org) -> (String, Client) {
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    token(server, org, token_for(&org.id, &bot.id)).await
}

/// Rotates a token of the caller's org.
async fn rotate(by: &Client, id: &str, overlap: Option<i64>) -> Result<(pb::Token, Client), Status> {
    let answer = by.tokens().rotate_token(rotate_token("", id, overlap)).await?.into_inner();
    let client = Client { channel: by.channel.clone(), bearer: Some(answer.secret) };
    Ok((answer.token.unwrap(), client))
}

async fn finish(by: &Client, id: &str) -> Result<pb::Token, Status> {
    let request = pb::FinishRotationRequest { token_id: id.into(), ..Default::default() };
    Ok(by.tokens().finish_rotation(request).await?.into_inner().token.unwrap())
}

async fn cancel(by: &Client, id: &str) -> Result<pb::Token, Status> {
    let request = pb::CancelRotationRequest { token_id: id.into(), ..Default::default() };
    Ok(by.tokens().cancel_rotation(request).await?.into_inner().token.unwrap())
}

async fn get(by: &Client, id: &str) -> pb::Token {
    let request = pb::GetTokenRequest { token_id: id.into(), ..Default::default() };
    by.tokens().get_token(request).await.unwrap().into_inner().token.unwrap()
}

fn states(token: &pb::Token) -> Vec<pb::TokenSecretState> {
    token.secrets.iter().map(|secret| secret.state()).collect()
}

async fn works(client: &Client) {
    client.exchange().await.expect("it works");
}

async fn has_expired(client: &Client) {
    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn both_secrets_work_until_the_overlap_is_over() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = bot(&server, &org).await;
    let before = get(&org.owner, &id).await;
    assert_eq!((states(&before), before.secrets[0].expire_time), (vec![Active], None));

    let (rotated, new) = rotate(&org.owner, &id, None).await.unwrap();
    assert_ne!(old.token(), new.token());
    assert_eq!(old.token()[..33], new.token()[..33], "the same id");
    assert_eq!(states(&rotated), [Retiring, Active]);
    let life =
        rotated.secrets[0].expire_time.unwrap().seconds - rotated.secrets[1].create_time.unwrap().seconds;
    assert_eq!((life, rotated.secrets[1].expire_time), (DAY, None));
    assert!(new.token().ends_with(rotated.secrets[1].obfuscated.split('…').nth(1).unwrap()));
    server.hear_all().await;
    for client in [&old, &new] {
        works(client).await;
        client.caller().await.unwrap();
    }

    // Just before the expiry, and just after it. Nothing is queried for that.
    server.state.clock.advance(Duration::from_secs(DAY as u64 - 300));
    works(&old).await;
    works(&new).await;
    let looks = server.state.principals.looks();
    server.state.clock.advance(Duration::from_secs(305));
    has_expired(&old).await;
    works(&new).await;
    assert_eq!(server.state.principals.looks(), looks);
    let owner = server.client(server.managing_token_of(&org).await);
    assert_eq!(states(&get(&owner, &id).await), [Expired, Active]);
    // It is not active for introspection, either.
    let ask = async |text: &str| {
        let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
        owner.tokens().introspect_token(request).await.unwrap().into_inner().active
    };
    assert_eq!((ask(old.token()).await, ask(new.token()).await), (false, true));
    // Swept when it is no longer in use.
    let later = server.state.clock.now() + time::Duration::days(29);
    countersign::db::sweep::sweep(&server.state.db, later).await.unwrap();
    assert_eq!(get(&owner, &id).await.secrets.len(), 2);
    let later = server.state.clock.now() + time::Duration::days(31);
    countersign::db::sweep::sweep(&server.state.db, later).await.unwrap();
    assert_eq!(states(&get(&owner, &id).await), [Active]);
}

#[tokio::test]
async fn the_token_stays_what_it_is() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*"), ("orders.read", "*")]).await;
    let request = pb::CreateTokenRequest {
        display_name: "nightly".into(),
        scopes: vec!["invoices.read".into()],
        resources: vec!["customers/acme".into()],
        allowed_audiences: vec!["https://a.example".into()],
        ..token_for(&org.id, &bot.id)
    };
    let (id, _) = token(&server, &org, request).await;
    let before = get(&org.owner, &id).await;
    let (after, new) = rotate(&org.owner, &id, None).await.unwrap();
    assert_ne!(before.etag, after.etag);
    let same = pb::Token { secrets: before.secrets.clone(), etag: before.etag.clone(), ..after.clone() };
    assert_eq!(same, before);
    // So are its limits.
    let request =
        pb::ExchangeTokenRequest { audiences: vec!["https://a.example".into()], ..Default::default() };
    let jwt = new.tokens().exchange_token(request).await.unwrap().into_inner();
    assert_eq!(jwt.scopes, [""; 0], "held on the path alone");
    let request =
        pb::ExchangeTokenRequest { audiences: vec!["https://b.example".into()], ..Default::default() };
    refused(new.tokens().exchange_token(request).await, Code::InvalidArgument, "INVALID_TARGET");
}

#[tokio::test]
async fn an_overlap_is_0_to_30_days_and_ends_with_the_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = bot(&server, &org).await;
    for (seconds, nanos) in [(-1, 0), (0, -1), (30 * DAY, 1), (31 * DAY, 0), (i64::MAX, 0), (1, -1)] {
        let overlap = Some(prost_types::Duration { seconds, nanos });
        let request = pb::RotateTokenRequest { token_id: id.clone(), overlap, ..Default::default() };
        let refusal = org.owner.tokens().rotate_token(request).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), ["overlap"]);
    }
    // All at once.
    for wrong in ["", "tok_", "acct_01m81jwdz2fhdavh38z0vtk14n"] {
        let refusal = org.owner.tokens().rotate_token(rotate_token("", wrong, Some(-1))).await;
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["token_id", "overlap"]);
        refused(finish(&org.owner, wrong).await, Code::InvalidArgument, "INVALID_FIELD");
        refused(cancel(&org.owner, wrong).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    assert_eq!(states(&get(&org.owner, &id).await), [Active], "nothing happened");
    rotate(&org.owner, &id, Some(30 * DAY)).await.unwrap();
    works(&old).await;

    let account = get(&org.owner, &id).await.account_id;
    let ttl = prost_types::Duration { seconds: 3_600, nanos: 0 };
    let expiration = Some(pb::create_token_request::Expiration::Ttl(ttl));
    let request = pb::CreateTokenRequest { expiration, ..token_for(&org.id, &account) };
    let (id, old) = token(&server, &org, request).await;
    let (rotated, new) = rotate(&org.owner, &id, None).await.unwrap();
    assert_eq!(rotated.secrets[0].expire_time, rotated.expire_time);
    server.state.clock.advance(Duration::from_secs(3_601));
    has_expired(&old).await;
    has_expired(&new).await;
}

#[tokio::test]
async fn while_two_live_there_is_no_third_unless_both_end() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, first) = bot(&server, &org).await;
    let (_, second) = rotate(&org.owner, &id, None).await.unwrap();
    for overlap in [None, Some(1), Some(30 * DAY)] {
        let refusal = rotate(&org.owner, &id, overlap).await;
        refused(refusal, Code::FailedPrecondition, "ROTATION_IN_PROGRESS");
    }
    works(&first).await;
    works(&second).await;
    let (token, third) = rotate(&org.owner, &id, Some(0)).await.unwrap();
    assert_eq!(states(&token), [Expired, Expired, Active]);
    has_expired(&first).await;
    has_expired(&second).await;
    works(&third).await;

    // Any number in a row, each way. The one before last is not even known any more.
    let (mut before, mut last) = (second, third);
    for n in 0..12 {
        let (token, next) = rotate(&org.owner, &id, Some(n % 3 * 60)).await.unwrap();
        assert!(token.secrets.len() <= 3);
        refused(before.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
        works(&next).await;
        match n % 3 {
            0 => has_expired(&last).await,
            1 => {
                finish(&org.owner, &id).await.unwrap();
                has_expired(&last).await;
            }
            _ => {
                works(&last).await;
                server.state.clock.advance(Duration::from_secs(120));
                has_expired(&last).await;
            }
        }
        (before, last) = (last, next);
    }
}

#[tokio::test]
async fn finish_ends_the_old_one_and_cancel_drops_the_new_one() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = bot(&server, &org).await;
    refused(cancel(&org.owner, &id).await, Code::NotFound, MISSING);
    let (_, new) = rotate(&org.owner, &id, None).await.unwrap();
    let cancelled = cancel(&org.owner, &id).await.unwrap();
    assert_eq!((states(&cancelled), cancelled.secrets[0].expire_time), (vec![Active, Expired], None));
    has_expired(&new).await;
    server.state.clock.advance(Duration::from_secs(2 * DAY as u64));
    works(&old).await;
    let owner = server.client(server.managing_token_of(&org).await);
    refused(cancel(&owner, &id).await, Code::NotFound, MISSING);

    let (_, newer) = rotate(&owner, &id, None).await.unwrap();
    let finished = finish(&owner, &id).await.unwrap();
    assert_eq!(states(&finished), [Expired, Active]);
    has_expired(&old).await;
    works(&newer).await;
    // Again: it is so already. The old one does not come back.
    assert_eq!(finish(&owner, &id).await.unwrap(), finished);
    refused(cancel(&owner, &id).await, Code::NotFound, MISSING);
    has_expired(&old).await;
    works(&newer).await;
}

#[tokio::test]
async fn what_does_not_live_is_not_rotated() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (revoked, gone) = bot(&server, &org).await;
    rotate(&org.owner, &revoked, None).await.unwrap();
    org.owner.tokens().revoke_token(by_id("", &revoked)).await.unwrap();
    let account = get(&org.owner, &revoked).await.account_id;
    let ttl = prost_types::Duration { seconds: 60, nanos: 0 };
    let expiration = Some(pb::create_token_request::Expiration::Ttl(ttl));
    let (expired, _) =
        token(&server, &org, pb::CreateTokenRequest { expiration, ..token_for(&org.id, &account) }).await;
    rotate(&org.owner, &expired, Some(30)).await.unwrap();
    server.state.clock.advance(Duration::from_secs(61));
    for id in [&revoked, &expired, &"tok_01m81jwe5rfestc5fn7temwc74".to_owned()] {
        refused(rotate(&org.owner, id, Some(0)).await, Code::NotFound, MISSING);
        refused(finish(&org.owner, id).await, Code::NotFound, MISSING);
        refused(cancel(&org.owner, id).await, Code::NotFound, MISSING);
    }
    refused(gone.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn oneself_rotates_ones_own_where_the_credential_may() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, mut member) = server.account(&org.id, "member", &[("invoices.read", "*")]).await;
    let own = member.caller().await.unwrap().credential_id;
    let (sibling, plain) = token(&server, &org, token_for(&org.id, &account.id)).await;
    let (others, _) = bot(&server, &org).await;
    let unknown = "tok_01m81jwe5rfestc5fn7temwc74";
    // Without `may_manage_tokens` not even itself.
    for id in [&sibling, &own] {
        refused(rotate(&plain, id, None).await, Code::PermissionDenied, "PERMISSION_MISSING");
        refused(finish(&plain, id).await, Code::PermissionDenied, "PERMISSION_MISSING");
        refused(cancel(&plain, id).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    for with_jwt in [false, true] {
        let caller = if with_jwt { member.with_jwt().await } else { member.clone() };
        // Another's token gives the same answer as what does not exist, or is no id.
        for id in [&others, unknown, "junk"] {
            refused(rotate(&caller, id, Some(-1)).await, Code::PermissionDenied, "PERMISSION_MISSING");
            refused(finish(&caller, id).await, Code::PermissionDenied, "PERMISSION_MISSING");
            refused(cancel(&caller, id).await, Code::PermissionDenied, "PERMISSION_MISSING");
        }
        rotate(&caller, &sibling, None).await.unwrap();
        cancel(&caller, &sibling).await.unwrap();
        rotate(&caller, &sibling, None).await.unwrap();
        finish(&caller, &sibling).await.unwrap();
        // Itself: by the token, and never by a JWT that was made from it.
        if with_jwt {
            refused(rotate(&caller, &own, None).await, Code::PermissionDenied, "PERMISSION_MISSING");
            refused(finish(&caller, &own).await, Code::PermissionDenied, "PERMISSION_MISSING");
            refused(cancel(&caller, &own).await, Code::PermissionDenied, "PERMISSION_MISSING");
            continue;
        }
        rotate(&caller, &own, None).await.unwrap();
        cancel(&caller, &own).await.unwrap();
        let (_, next) = rotate(&caller, &own, None).await.unwrap();
        // The retiring secret does not finish its own rotation, and so end itself.
        refused(finish(&caller, &own).await, Code::PermissionDenied, "PERMISSION_MISSING");
        finish(&next, &own).await.unwrap();
        has_expired(&member).await;
        member = next;
    }
}

#[tokio::test]
async fn what_is_narrow_rotates_itself_alone() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, wide) = server.account(&org.id, "wide", &[("a.read", "*"), ("b.read", "*")]).await;
    let (sibling, _) = token(&server, &org, token_for(&org.id, &account.id)).await;
    server.resources(&org.id, &["x"]).await;
    let denied = Code::PermissionDenied;
    for (scopes, resources) in [(vec!["a.read".to_owned()], vec![]), (vec![], vec!["x".to_owned()])] {
        let request = pb::CreateTokenRequest {
            may_manage_tokens: true,
            scopes,
            resources,
            ..token_for(&org.id, &account.id)
        };
        let (id, narrow) = token(&server, &org, request).await;
        refused(rotate(&narrow, &sibling, None).await, denied, "PERMISSION_MISSING");
        refused(finish(&narrow, &sibling).await, denied, "PERMISSION_MISSING");
        refused(cancel(&narrow, &sibling).await, denied, "PERMISSION_MISSING");
        let (_, next) = rotate(&narrow, &id, Some(0)).await.unwrap();
        has_expired(&narrow).await;
        rotate(&next, &id, None).await.unwrap();
        cancel(&next, &id).await.unwrap();
    }
    // A narrowed JWT gets no string of the whole token.
    let own = wide.caller().await.unwrap().credential_id;
    let request = pb::ExchangeTokenRequest { scopes: vec!["a.read".into()], ..Default::default() };
    let jwt = wide.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let narrowed = server.client(jwt);
    refused(rotate(&narrowed, &own, None).await, denied, "PERMISSION_MISSING");
    refused(rotate(&narrowed, &sibling, None).await, denied, "PERMISSION_MISSING");
    rotate(&wide, &own, None).await.unwrap();
}

#[tokio::test]
async fn nobody_rotates_what_exceeds_them() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let owners = org.owner.caller().await.unwrap().credential_id;
    let (bots, _) = bot(&server, &org).await;
    let denied = Code::PermissionDenied;
    for id in [&owners, &bots] {
        // The bot holds an application permission, which a manager does not.
        refused(rotate(&manager, id, None).await, denied, EXCEEDS);
        refused(finish(&manager, id).await, denied, EXCEEDS);
        refused(cancel(&manager, id).await, denied, EXCEEDS);
    }
    // Limited to what the manager holds too, it is the manager's to rotate.
    let limited = pb::CreateTokenRequest {
        scopes: vec!["accounts.read".into()],
        allowed_audiences: vec!["https://a.example".into(), "https://b.example".into()],
        ..token_for(&org.id, &org.owner_id)
    };
    let (limited, _) = token(&server, &org, limited).await;
    rotate(&manager, &limited, None).await.unwrap();
    cancel(&manager, &limited).await.unwrap();

    // The limits of the credential bound it, whatever its account holds.
    let narrow = async |request: pb::CreateTokenRequest| {
        let request = pb::CreateTokenRequest {
            may_manage_tokens: true,
            org_id: org.id.clone(),
            account_id: org.owner_id.clone(),
            ..request
        };
        token(&server, &org, request).await.1
    };
    let by_scopes = ["tokens.write", "accounts.read"].map(String::from).to_vec();
    let by_scopes = narrow(pb::CreateTokenRequest { scopes: by_scopes, ..Default::default() }).await;
    let by_audience = vec!["https://a.example".into(), server.endpoint.clone()];
    let by_audience =
        narrow(pb::CreateTokenRequest { allowed_audiences: by_audience, ..Default::default() }).await;
    let (member, _) = server.account(&org.id, "member", &[]).await;
    let (members, _) = token(&server, &org, token_for(&org.id, &member.id)).await;
    rotate(&by_scopes, &limited, None).await.unwrap();
    cancel(&by_scopes, &limited).await.unwrap();
    // Without scopes it gets whatever its account comes to hold.
    refused(rotate(&by_scopes, &members, None).await, denied, EXCEEDS);
    refused(rotate(&by_scopes, &bots, None).await, denied, EXCEEDS);
    refused(rotate(&by_audience, &limited, None).await, denied, EXCEEDS);
    refused(rotate(&by_audience, &members, None).await, denied, EXCEEDS);
    // An owner rotates them all, and so does an operator, in any org.
    for id in [&bots, &members, &limited] {
        rotate(&org.owner, id, None).await.unwrap();
        server.operator.tokens().rotate_token(rotate_token(&org.id, id, Some(0))).await.unwrap();
    }
}

#[tokio::test]
async fn two_at_once_leave_at_most_two_live_secrets() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, first) = bot(&server, &org).await;
    let (own, itself) = (org.owner.caller().await.unwrap().credential_id, org.owner.clone());
    // By another token, and by itself: those lock the same row twice.
    for (target, by) in [(id, org.owner.clone()), (own, itself)] {
        let calls = (0..8).map(|_| {
            let (by, target) = (by.clone(), target.clone());
            tokio::spawn(async move { rotate(&by, &target, None).await })
        });
        let mut winners = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            match call.await.unwrap() {
                Ok((_, new)) => winners.push(new),
                Err(lost) => assert_eq!(reason(&lost), "ROTATION_IN_PROGRESS"),
            }
        }
        assert_eq!(winners.len(), 1);
        works(&winners[0]).await;
        works(if by.token() == org.owner.token() { &by } else { &first }).await;
        // Finished and cancelled at once: one of the two secrets is left.
        let (finished, cancelled) = tokio::join!(finish(&by, &target), cancel(&by, &target));
        assert!(finished.is_ok() || cancelled.is_ok());
        if let Err(lost) = cancelled {
            assert!([MISSING, "TOKEN_EXPIRED"].contains(&reason(&lost).as_str()), "{lost:?}");
        }
    }
    // With an overlap of 0 each expires the one before, and the last one is left.
    let (id, _) = {
        let (bot, _) = server.account(&org.id, "other", &[]).await;
        token(&server, &org, token_for(&org.id, &bot.id)).await
    };
    let calls = (0..8).map(|_| {
        let (by, id) = (server.operator.clone(), id.clone());
        let request = rotate_token(&org.id, &id, Some(0));
        tokio::spawn(async move { by.tokens().rotate_token(request).await.unwrap().into_inner().secret })
    });
    let mut left = 0;
    let mut all = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        all.push(server.client(call.await.unwrap()));
    }
    for client in &all {
        left += usize::from(client.exchange().await.is_ok());
    }
    assert_eq!(left, 1);
    let unended =
        "select count(*) from token_secrets where expire_time is null group by token_id having count(*) <> 1";
    let wrong: Vec<i64> = sqlx::query_scalar(unended).fetch_all(&server.state.db).await.unwrap();
    assert_eq!(wrong, [0; 0]);
}

#[tokio::test]
async fn each_step_is_one_event_without_a_secret() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, _) = bot(&server, &org).await;
    let (first, _) = rotate(&org.owner, &id, Some(60)).await.unwrap();
    rotate(&org.owner, &id, Some(60)).await.unwrap_err();
    cancel(&org.owner, &id).await.unwrap();
    let (second, _) = rotate(&org.owner, &id, Some(60)).await.unwrap();
    finish(&org.owner, &id).await.unwrap();
    finish(&org.owner, &id).await.unwrap();
    let (third, _) = rotate(&org.owner, &id, Some(0)).await.unwrap();
    let sql =
        "select type, resource_ids, changes from events where type like 'token.rotat%' order by event_id";
    let events: Vec<(String, Vec<String>, serde_json::Value)> =
        sqlx::query_as(sql).fetch_all(&server.state.db).await.unwrap();
    let shown = |token: &pb::Token, n: usize| token.secrets[n].obfuscated.clone();
    let gives = |token, n| format!("secrets null {:?}", shown(token, n));
    let takes = |token, n| format!("secrets {:?} null", shown(token, n));
    let end = |token: &pb::Token| {
        let end = token.secrets[0].expire_time.unwrap();
        let end = time::OffsetDateTime::from_unix_timestamp(end.seconds).unwrap()
            + Duration::from_nanos(end.nanos as u64);
        end.event_value()
    };
    let retires = |token| format!("secrets.expire_time null {:?}", end(token));
    let revives = |token| format!("secrets.expire_time {:?} null", end(token));
    let expected = [
        ("token.rotated", vec![gives(&first, 1), retires(&first)]),
        ("token.rotation_cancelled", vec![takes(&first, 1), revives(&first)]),
        ("token.rotated", vec![gives(&second, 1), retires(&second)]),
        ("token.rotation_finished", vec![takes(&second, 0)]),
        ("token.rotated", vec![gives(&third, 1), takes(&second, 1)]),
    ];
    let mut found = Vec::new();
    for (kind, ids, changes) in &events {
        assert_eq!(*ids, [id.as_str()]);
        let change = |change: &serde_json::Value| {
            let field = change["field"].as_str().unwrap();
            format!("{field} {} {}", change["old_value"], change["new_value"])
        };
        found.push((kind.as_str(), changes.as_array().unwrap().iter().map(change).collect::<Vec<_>>()));
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn an_old_text_revokes_the_token_only_while_it_works() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = bot(&server, &org).await;
    let (_, new) = rotate(&org.owner, &id, Some(0)).await.unwrap();
    server.anonymous().tokens().revoke_token(by_text(old.token())).await.unwrap();
    works(&new).await;
    let (_, newer) = rotate(&org.owner, &id, None).await.unwrap();
    server.anonymous().tokens().revoke_token(by_text(new.token())).await.unwrap();
    for client in [&new, &newer] {
        refused(client.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
}

#[tokio::test]
async fn a_compromised_token_takes_what_it_rotated_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let thief = server.client(server.managing_token(&org.id, &org.owner_id).await);
    let accomplice = server.client(server.managing_token(&org.id, &org.owner_id).await);
    let (taken, _) = bot(&server, &org).await;
    let account = get(&org.owner, &taken).await.account_id;
    let (kept, _) = token(&server, &org, token_for(&org.id, &account)).await;
    let (cancelled, safe) = token(&server, &org, token_for(&org.id, &account)).await;
    let id = async |client: &Client| client.caller().await.unwrap().credential_id;
    let (thiefs, accomplices) = (id(&thief).await, id(&accomplice).await);
    let (_, stolen) = rotate(&thief, &taken, None).await.unwrap();
    // One that the thief's rotations lead to, through one that rotates itself, in a circle.
    let (_, accomplice) = rotate(&thief, &accomplices, Some(0)).await.unwrap();
    let (_, accomplice) = rotate(&accomplice, &accomplices, Some(0)).await.unwrap();
    rotate(&accomplice, &thiefs, None).await.unwrap();
    // What was revoked since, or never given, goes on.
    rotate(&thief, &kept, None).await.unwrap();
    let (_, kept) = rotate(&org.owner, &kept, Some(0)).await.unwrap();
    rotate(&thief, &cancelled, None).await.unwrap();
    cancel(&org.owner, &cancelled).await.unwrap();

    let reason = pb::RevokeReason::KeyCompromise.into();
    let request = pb::RevokeTokenRequest { reason, ..by_id("", &thiefs) };
    org.owner.tokens().revoke_token(request).await.unwrap();
    for gone in [&thief, &stolen, &accomplice] {
        refused(gone.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    for client in [&kept, &safe, &org.owner] {
        works(client).await;
    }
    let events: Vec<Vec<String>> =
        sqlx::query_scalar("select resource_ids from events where type = 'token.revoked' and org_id = (select org_id from orgs where slug = $1)")
            .bind(&org.slug)
            .fetch_all(&server.state.db)
            .await
            .unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0].iter().collect::<std::collections::BTreeSet<_>>(),
        [&thiefs, &taken, &accomplices].into()
    );
}

#[tokio::test]
async fn the_other_node_hears_of_it() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let org = a.org().await;
    let (id, old) = bot(&a, &org).await;
    let on_b = b.client(old.token());
    works(&on_b).await;
    let (_, new) = rotate(&org.owner, &id, Some(0)).await.unwrap();
    until(async || on_b.exchange().await.is_err()).await;
    has_expired(&on_b).await;
    works(&b.client(new.token())).await;
}
