//! The database is away: what is cached is exchanged within the grace, and what works once is not.

use std::sync::Arc;
use std::time::Duration;

use countersign::config::{DatabaseAnswers, ServerLimits};
use countersign::crypto::seal::MasterKeys;
use countersign::db::schema;
use countersign::grpc::pb;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tonic::{Code, Status};

use super::{SUBJECT, World, allow_federation, create_issuer, create_rule, exchange, rule_for};
use crate::harness::{
    Database, LiveIssuer, Proxy, Signer, TestServer, claims, reason, refused, start_postgres, until,
};

/// Longer than the calls within it take.
const GRACE: Duration = Duration::from_secs(20);

/// What works until the grace is over, which may be while the call is under way.
#[track_caller]
fn within_the_grace<T>(server: &TestServer, answer: Result<T, Status>) -> Option<T> {
    let over = server.state.feed.staleness() > GRACE;
    answer.inspect_err(|status| assert!(over, "{status:?}")).ok()
}

/// What is not known while the database is away is refused with that as the reason.
#[track_caller]
fn unavailable<T: std::fmt::Debug>(answer: Result<T, Status>) {
    refused(answer, Code::Unavailable, "DATABASE_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_lets_nothing_be_used_twice() {
    let data_dir = std::env::temp_dir().join(format!("countersign-federation-{}", std::process::id()));
    let postgres = start_postgres(&data_dir).await;
    let proxy = Proxy::to(&postgres).await;
    let mut connection = PgConnection::connect_with(&proxy.options("postgres")).await.unwrap();
    schema::migrate(&mut connection).await.unwrap();
    drop(connection);
    let (live, signer) = (LiveIssuer::start().await, Signer::ed25519());
    live.publish(&[("1", &signer)]);
    // A call that hangs is answered while the database is still away, with that as the reason.
    let limits = ServerLimits {
        outage_grace: GRACE,
        request_timeout: Duration::from_secs(12),
        database_answers: DatabaseAnswers::SOON,
        ..live.limits()
    };
    let unused = Arc::new(Database::create_empty().await);
    let master = MasterKeys::new_file().as_str().into();
    let server = TestServer::on(proxy.options("postgres"), unused, master, None, limits).await;
    let org = server.org().await;
    allow_federation(&org.owner).await;
    let (account, _) = server.account(&org.id, "deployer", &[("invoices.read", "*")]).await;
    let fetched =
        pb::Issuer { kind: pb::IssuerKind::Oidc.into(), issuer: live.url.clone(), ..Default::default() };
    let issuer_id = create_issuer(&org.owner, fetched.clone()).await.unwrap();
    let rule_id = create_rule(&org.owner, rule_for(&issuer_id, &account.id)).await.unwrap();
    let cold = create_rule(&org.owner, rule_for(&issuer_id, &account.id)).await.unwrap();
    let once = pb::Issuer {
        kind: pb::IssuerKind::Jwks.into(),
        issuer: format!("{}/once", live.url),
        jwks: signer.key_set("1"),
        single_use_jti: Some(true),
        ..Default::default()
    };
    let once_url = once.issuer.clone();
    let once_id = create_issuer(&org.owner, once).await.unwrap();
    let once_rule_id = create_rule(&org.owner, rule_for(&once_id, &account.id)).await.unwrap();
    let world = World { server, live, signer, org, account, issuer_id, rule_id };
    let (server, anonymous) = (&world.server, world.server.anonymous());
    let single = |jti: &str| world.signed(&world.claims(json!({"iss": once_url, "jti": jti})));

    server.hear_all().await;
    let before = server.client(world.access_token().await);
    before.caller().await.unwrap();
    world.org.owner.caller().await.unwrap();
    let (used, fresh) = (single("used"), single("fresh"));
    exchange(&anonymous, &once_rule_id, &used).await.unwrap();
    until(async || world.get_issuer().await.key_ids == ["1"]).await;
    server.hear_all().await;
    world.access_token().await;
    exchange(&anonymous, &once_rule_id, &single("warm")).await.unwrap();

    proxy.cut();
    while server.state.feed.answers() {
        within_the_grace(server, world.exchange(&world.assertion()).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nothing could say that it was not used before, and whether it was.
    for assertion in [&fresh, &used, &single("another")] {
        unavailable(exchange(&anonymous, &once_rule_id, assertion).await);
    }
    // What is wrong with it is said in the same way as ever.
    let wrong = world.signed(&world.claims(json!({"iss": once_url, "jti": "wrong", "sub": "another"})));
    let refusal = exchange(&anonymous, &once_rule_id, &wrong).await.unwrap_err();
    assert!(reason(&refusal) == "TOKEN_INVALID" || server.state.feed.staleness() > GRACE, "{refusal:?}");
    // A rule that was not used before is not known.
    unavailable(exchange(&anonymous, &cold, &world.assertion()).await);
    // Others go on, for a minute at most, and what they gave works.
    let introspect = async |jwt: &str| {
        let request = pb::IntrospectTokenRequest { token_text: jwt.into(), ..Default::default() };
        world.org.owner.tokens().introspect_token(request).await.map(tonic::Response::into_inner)
    };
    if let Some(given) = within_the_grace(server, world.exchange(&world.assertion()).await) {
        let read = claims(&given.access_token);
        assert!(read["exp"].as_i64().unwrap() - read["iat"].as_i64().unwrap() <= 60);
        for jwt in [&*given.access_token, before.token()] {
            let seen = within_the_grace(server, introspect(jwt).await);
            assert!(seen.is_none_or(|seen| seen.active));
        }
    }
    // The keys of an issuer are fetched without the database, and one that is gone is gone.
    let next = Signer::ed25519();
    world.live.publish(&[("2", &next)]);
    server.state.clock.advance(Duration::from_secs(11));
    let by_next = || next.sign(&json!({"alg": "EdDSA", "kid": "2"}), &world.claims(json!({})));
    within_the_grace(server, world.exchange(&by_next()).await);
    let gone = world.exchange(&world.assertion()).await.unwrap_err();
    assert!(reason(&gone) == "TOKEN_INVALID" || server.state.feed.staleness() > GRACE, "{gone:?}");
    while server.state.feed.staleness() <= GRACE {
        within_the_grace(server, world.exchange(&by_next()).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unavailable(world.exchange(&by_next()).await);
    unavailable(exchange(&anonymous, &once_rule_id, &fresh).await);

    proxy.mend();
    until(async || world.exchange(&by_next()).await.is_ok()).await;
    until(async || exchange(&anonymous, &cold, &by_next()).await.is_ok()).await;
    // One that was refused was not used up; one that was used before is refused as ever.
    until(async || exchange(&anonymous, &once_rule_id, &fresh).await.is_ok()).await;
    for assertion in [&fresh, &used] {
        let replayed = exchange(&anonymous, &once_rule_id, assertion).await;
        refused(replayed, Code::Unauthenticated, "TOKEN_INVALID");
    }
    // What the key vouched for that is gone is stale, once that is stored.
    until(async || before.caller().await.is_err_and(|status| reason(&status) == "ACCESS_TOKEN_STALE")).await;
    assert_eq!(world.get_issuer().await.key_ids, ["2"]);
    // What was presented meanwhile is counted.
    until(async || {
        let _ = server.state.presentations.flush().await;
        let request = pb::ListPresentationsRequest { rule_id: world.rule_id.clone(), ..Default::default() };
        let listed = world.org.owner.orgs().list_presentations(request).await.unwrap().into_inner();
        listed.presentations.iter().any(|one| one.subject == SUBJECT && one.count > 1)
    })
    .await;
    drop(world);
    postgres.stop_immediately();
    let _ = std::fs::remove_dir_all(&data_dir);
}
