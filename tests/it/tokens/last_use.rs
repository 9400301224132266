//! When secrets were last used: buffered in memory, written from time to time.

use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::db::tokens::secrets::{SecretUse, record_uses};
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{
    Client, LIMITS, Org, PATIENCE, TestServer, by_id, refused, rotate_token, token_for, until,
};

async fn bot(server: &TestServer, org: &Org) -> (String, Client) {
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let made = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner();
    (made.token.unwrap().id, server.client(made.secret))
}

async fn token(by: &Client, id: &str) -> pb::Token {
    let request = pb::GetTokenRequest { token_id: id.into(), ..Default::default() };
    by.tokens().get_token(request).await.unwrap().into_inner().token.unwrap()
}

async fn counts(by: &Client, id: &str) -> Vec<i64> {
    token(by, id).await.secrets.iter().map(|secret| secret.use_count).collect()
}

fn time(token: &pb::Token) -> time::OffsetDateTime {
    let time = token.secrets[0].last_use_time.unwrap();
    time::OffsetDateTime::from_unix_timestamp(time.seconds).unwrap() + Duration::from_nanos(time.nanos as u64)
}

#[tokio::test]
async fn each_secret_keeps_its_own_last_use() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, old) = bot(&server, &org).await;
    let unused = token(&org.owner, &id).await;
    let secret = &unused.secrets[0];
    assert_eq!((secret.last_use_time, secret.last_use_address.as_str(), secret.use_count), (None, "", 0));
    let rotated = org.owner.tokens().rotate_token(rotate_token("", &id, None)).await.unwrap().into_inner();
    let new = server.client(rotated.secret);
    server.hear_all().await;
    let began = server.state.clock.now();
    // Two exchanges and two calls; one that is refused for its parameters is no use.
    for _ in 0..2 {
        old.exchange().await.unwrap();
        old.caller().await.unwrap();
    }
    let request = pb::ExchangeTokenRequest { scopes: vec!["invoices.write".into()], ..Default::default() };
    refused(old.tokens().exchange_token(request).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
    // No uses: another caller introspects it; a JWT; a wrong secret.
    let jwt = new.exchange().await.unwrap().access_token;
    for text in [old.token(), new.token(), &jwt] {
        let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
        assert!(org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active);
    }
    server.client(jwt).caller().await.unwrap();
    let mut wrong = new.token().to_owned();
    wrong.truncate(82);
    refused(server.client(wrong).exchange().await, Code::Unauthenticated, "TOKEN_INVALID");

    let written = "select (select count(*) from events), (select count(*) from feed)";
    let rows: (i64, i64) = sqlx::query_as(written).fetch_one(&server.state.db).await.unwrap();
    let looks = server.state.principals.looks();
    server.state.last_uses.flush().await.unwrap();
    assert_eq!(counts(&org.owner, &id).await, [4, 1]);
    let after = token(&org.owner, &id).await;
    for secret in &after.secrets {
        assert_eq!(secret.last_use_address, "127.0.0.1");
    }
    assert!(time(&after) >= began && time(&after) <= server.state.clock.now());
    // It changes no etag, writes no event, and no node drops anything for it.
    assert_eq!(after.etag, rotated.token.unwrap().etag);
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(written).fetch_one(&server.state.db).await.unwrap(), rows);
    new.exchange().await.unwrap();
    assert_eq!(server.state.principals.looks(), looks);
    // Lists return it too, and what was written once is not written again.
    server.state.last_uses.flush().await.unwrap();
    let list = pb::ListTokensRequest { account_id: after.account_id.clone(), ..Default::default() };
    let listed = org.owner.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
    let listed = listed.iter().find(|token| token.id == id).unwrap();
    assert_eq!(listed.secrets.iter().map(|secret| secret.use_count).collect::<Vec<_>>(), [4, 2]);
}

#[tokio::test]
async fn many_are_written_in_one_statement() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    for org in [&org, &other] {
        let (bot, _) = server.account(&org.id, "bot", &[]).await;
        for _ in 0..20 {
            let made = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap();
            server.client(made.into_inner().secret).exchange().await.unwrap();
        }
    }
    // The operator's, which created all that, is the other one.
    assert_eq!(server.state.last_uses.len(), 41);
    server.state.last_uses.flush().await.unwrap();
    assert!(server.state.last_uses.is_empty());
    // A transaction is a statement here.
    let sql = "select count(*), count(distinct xmin::text) from token_secrets where use_count > 0";
    let written: (i64, i64) = sqlx::query_as(sql).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(written, (41, 1));
}

#[tokio::test]
async fn a_server_writes_by_itself_and_when_it_ends() {
    let quick = ServerLimits { last_use_interval: Duration::from_millis(10), ..LIMITS };
    let a = TestServer::with_limits(quick).await;
    let org = a.org().await;
    let (id, bot) = bot(&a, &org).await;
    bot.exchange().await.unwrap();
    until(async || counts(&org.owner, &id).await == [1]).await;
    // One whose next write would come after its expiry.
    let mut b = a.beside(ServerLimits { last_use_interval: 2 * PATIENCE, ..LIMITS }).await;
    let on_b = b.client(bot.token());
    for _ in 0..3 {
        on_b.exchange().await.unwrap();
    }
    assert_eq!(counts(&org.owner, &id).await, [1]);
    b.shut_down();
    b.serving.take().unwrap().await.unwrap().unwrap();
    let later = a.beside(LIMITS).await;
    assert_eq!(counts(&later.client(org.owner.token()), &id).await, [4]);
}

#[tokio::test]
async fn nodes_add_up_and_time_goes_forward_only() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let org = a.org().await;
    let (id, bot) = bot(&a, &org).await;
    // The other node's uses are later, and are written first.
    b.state.clock.advance(Duration::from_secs(3_600));
    bot.exchange().await.unwrap();
    b.client(bot.token()).exchange().await.unwrap();
    b.client(bot.token()).exchange().await.unwrap();
    b.state.last_uses.flush().await.unwrap();
    let last = token(&org.owner, &id).await.secrets[0].last_use_time;
    a.state.last_uses.flush().await.unwrap();
    let both = token(&org.owner, &id).await;
    assert_eq!((both.secrets[0].use_count, both.secrets[0].last_use_time), (3, last));

    // The address is stored with the time.
    let used = |number, seconds, address: Option<&str>| SecretUse {
        org_id: OrgId::parse(&org.id).unwrap(),
        token_id: TokenId::parse(&id).unwrap(),
        number,
        time: time(&both) + time::Duration::seconds(seconds),
        address: address.map(str::to_owned),
        count: 10,
    };
    for (seconds, address, shown, count) in [
        (-1, Some("192.0.2.1"), "127.0.0.1", 13),
        (1, Some("2001:db8::1"), "2001:db8::1", 23),
        (0, Some("192.0.2.1"), "2001:db8::1", 33),
        (2, None, "", 43),
    ] {
        // One that is deleted, or never existed, is skipped.
        record_uses(&a.state.db, &[used(1, seconds, address), used(9, 0, None)]).await.unwrap();
        let secret = token(&org.owner, &id).await.secrets.remove(0);
        assert_eq!((secret.last_use_address.as_str(), secret.use_count), (shown, count), "{seconds}");
    }
    assert_eq!(time(&token(&org.owner, &id).await), time(&both) + time::Duration::seconds(2));
    // The org is part of the row's name.
    let foreign = SecretUse { org_id: OrgId::from_u128(1), ..used(1, 9, None) };
    record_uses(&a.state.db, &[foreign]).await.unwrap();
    assert_eq!(counts(&org.owner, &id).await, [43]);
}

#[tokio::test]
async fn nodes_that_write_the_same_secrets_at_once_lose_none() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let mut uses = Vec::new();
    for _ in 0..40 {
        let made = server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap();
        let token_id = TokenId::parse(&made.into_inner().token.unwrap().id).unwrap();
        let (org_id, time) = (OrgId::parse(&org.id).unwrap(), server.state.clock.now());
        uses.push(SecretUse { org_id, token_id, number: 1, time, address: None, count: 1 });
    }
    let writers = (0..4).map(|n| {
        let (db, mut uses) = (server.state.db.clone(), uses.clone());
        // The worst order there is.
        if n % 2 == 1 {
            uses.reverse();
        }
        tokio::spawn(async move {
            for _ in 0..10 {
                countersign::db::retrying(|| record_uses(&db, &uses)).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let sql = "select min(use_count), max(use_count) from token_secrets where use_count is not null";
    let counts: (i64, i64) = sqlx::query_as(sql).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(counts, (40, 40));
}

#[tokio::test]
async fn a_dead_token_keeps_what_was_known_of_its_use() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (id, bot) = bot(&server, &org).await;
    bot.exchange().await.unwrap();
    org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap();
    refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    server.state.last_uses.flush().await.unwrap();
    assert_eq!(counts(&org.owner, &id).await, [1]);
}
