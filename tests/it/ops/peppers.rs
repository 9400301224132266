//! Peppers rotate by number: new secrets at once, older ones at their next use, and
//! without the pepper a stolen or planted row is worth nothing.

use std::time::Duration;

use aws_lc_rs::hmac;
use countersign::commands::keys;
use countersign::crypto::peppers::{Peppers, new_sealed};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::flows::signing_key_rotation;
use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{
    Client, LIMITS, TestServer, http_get, master_keys, read_keys, refused, token_for, until,
};

/// As `countersign keys new-pepper` does it.
async fn new_pepper(server: &TestServer) -> i32 {
    let master = read_keys(server.master_key_file());
    keys::new_pepper(&server.state.db, &master, &server.state.clock).await.unwrap()
}

async fn pepper_of(server: &TestServer, token: &str) -> i32 {
    let id = TokenString::parse(token).unwrap().id();
    let query = sqlx::query_scalar("select pepper_id from token_secrets where token_id = $1");
    query.bind(id.uuid()).fetch_one(&server.state.db).await.unwrap()
}

async fn peppers(server: &TestServer) -> Vec<i32> {
    let query = sqlx::query_scalar("select pepper_id from peppers order by pepper_id");
    query.fetch_all(&server.state.db).await.unwrap()
}

#[tokio::test]
async fn a_newer_pepper_is_taken_up_on_use_and_an_older_one_goes() {
    let a = TestServer::start().await;
    let b = a.beside(LIMITS).await;
    let org = a.org().await;
    let (bot, used) = a.account(&org.id, "bot", &[]).await;
    let on_b = b.client(used.token());
    on_b.exchange().await.unwrap();
    let idle = org.owner.tokens().create_token(token_for("", &bot.id)).await.unwrap().into_inner();

    assert_eq!(new_pepper(&a).await, 2);
    for node in [&a, &b] {
        until(async || node.state.keyring.peppers.load().newest() == Some(2)).await;
    }
    // A new secret is kept under it at once, and works on the other node.
    let made = org.owner.tokens().create_token(token_for("", &bot.id)).await.unwrap().into_inner();
    assert_eq!(pepper_of(&a, &made.secret).await, 2);
    b.client(made.secret).exchange().await.unwrap();
    // An older one when it is used, also from the cache; one that is not used is not re-hashed.
    on_b.exchange().await.unwrap();
    until(async || pepper_of(&a, used.token()).await == 2).await;
    assert_eq!(pepper_of(&a, &idle.secret).await, 1);
    for client in [&used, &on_b] {
        client.exchange().await.unwrap();
    }

    // The first pepper goes when no active token needs it and every node has long been notified.
    for (who, token) in [("the operator", a.operator.token()), ("the owner", org.owner.token())] {
        a.client(token).exchange().await.unwrap();
        until(async || pepper_of(&a, token).await == 2).await;
        assert!(
            signing_key_rotation::drop_peppers(&a.state).await.unwrap().is_empty(),
            "{who} has used its token"
        );
    }
    a.state.clock.advance(Duration::from_secs(3_600));
    assert!(signing_key_rotation::drop_peppers(&a.state).await.unwrap().is_empty(), "a live token needs it");
    a.client(&idle.secret).exchange().await.unwrap();
    until(async || pepper_of(&a, &idle.secret).await == 2).await;
    assert_eq!(signing_key_rotation::drop_peppers(&a.state).await.unwrap(), [1]);
    assert!(signing_key_rotation::drop_peppers(&a.state).await.unwrap().is_empty());
    assert_eq!(peppers(&a).await, [2]);
    until(async || !b.state.keyring.peppers.load().knows(1)).await;
    for client in [&used, &on_b, &a.client(&idle.secret), &b.client(&idle.secret)] {
        client.exchange().await.unwrap();
    }
    let told: Vec<(String, Vec<String>)> =
        sqlx::query_as("select type, resource_ids from events where type like 'pepper.%' order by event_id")
            .fetch_all(&a.state.db)
            .await
            .unwrap();
    assert_eq!(
        told,
        [("created", "2"), ("dropped", "1")]
            .map(|(verb, number)| (format!("pepper.{verb}"), vec![format!("pepper/{number}")]))
    );
}

#[tokio::test]
async fn a_dead_token_holds_no_pepper() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let idle = org.owner.tokens().create_token(token_for("", &bot.id)).await.unwrap().into_inner();
    new_pepper(&server).await;
    until(async || server.state.keyring.peppers.load().newest() == Some(2)).await;
    server.state.clock.advance(Duration::from_secs(3_601));
    // All tokens but one are re-hashed as if they had been used.
    let uuid = TokenString::parse(&idle.secret).unwrap().id().uuid();
    sqlx::query("update token_secrets set pepper_id = 2 where token_id <> $1")
        .bind(uuid)
        .execute(&server.state.db)
        .await
        .unwrap();
    assert!(signing_key_rotation::drop_peppers(&server.state).await.unwrap().is_empty());
    sqlx::query(
        "update tokens set revoke_time = create_time, revoke_reason = 'UNSPECIFIED' where token_id = $1",
    )
    .bind(uuid)
    .execute(&server.state.db)
    .await
    .unwrap();
    assert_eq!(signing_key_rotation::drop_peppers(&server.state).await.unwrap(), [1]);
}

#[tokio::test]
async fn a_use_under_an_older_pepper_writes_nothing_on_its_way() {
    let server = TestServer::start().await;
    server.hear_all().await;
    server.operator.exchange().await.unwrap();
    new_pepper(&server).await;
    until(async || server.state.keyring.peppers.load().newest() == Some(2)).await;
    server.hear_all().await;
    // Any query now would fail: these are all the connections that handlers have.
    server.state.db.close().await;
    server.state.principals.close().await;
    for _ in 0..3 {
        server.operator.exchange().await.unwrap();
    }
}

/// Makes a row of a token secret say what the attacker wants.
async fn plant(server: &TestServer, token: &str, mac: &[u8], pepper: i32) {
    let id = TokenString::parse(token).unwrap().id();
    let update = "update token_secrets set mac = $2, pepper_id = $3 where token_id = $1";
    let done = sqlx::query(update).bind(id.uuid()).bind(mac).bind(pepper);
    assert_eq!(done.execute(&server.state.db).await.unwrap().rows_affected(), 1);
    server.state.principals.clear();
}

fn mac(pepper: &[u8], text: &TokenString) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, pepper));
    context.update(b"countersign/token/v1\0");
    context.update(text.expose().as_bytes());
    context.sign().as_ref().to_vec()
}

#[tokio::test]
async fn what_stands_in_a_dump_or_was_planted_authenticates_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[("owner", "*")]).await;
    let real = TokenString::parse(bot.token()).unwrap();
    let invalid = async |client: Client| {
        refused(client.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
        refused(client.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
        let request = pb::IntrospectTokenRequest { token_text: client.token().into(), ..Default::default() };
        assert!(!org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active);
    };
    // The MAC of a dump in the place of the secret.
    let stored: Vec<u8> = sqlx::query_scalar("select mac from token_secrets where token_id = $1")
        .bind(real.id().uuid())
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    let from_dump =
        TokenString::new(TokenStringKind::SecretToken, real.id(), stored.as_slice().try_into().unwrap());
    invalid(server.client(from_dump.expose())).await;

    // A token string of the attacker's own, its MAC written under what the attacker can know: no
    // pepper, a guessed one, the sealed bytes of the real one.
    let own = TokenString::new(TokenStringKind::SecretToken, real.id(), [7; 32]);
    let sealed: Vec<u8> = sqlx::query_scalar("select sealed from peppers where pepper_id = 1")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    for guessed in
        [&[][..], &[0; 32], &[1; 32], b"countersign/token/v1\0", &sealed, &sealed[sealed.len() - 48..]]
    {
        plant(&server, bot.token(), &mac(guessed, &own), 1).await;
        invalid(server.client(own.expose())).await;
    }
    // The MAC of another row, for its own token string.
    let (_, other) = server.account(&org.id, "other", &[]).await;
    let theirs: Vec<u8> = sqlx::query_scalar("select mac from token_secrets where token_id = $1")
        .bind(TokenString::parse(other.token()).unwrap().id().uuid())
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    plant(&server, bot.token(), &theirs, 1).await;
    invalid(server.client(own.expose())).await;
    invalid(server.client(bot.token())).await;

    // A pepper of the attacker's own: sealed with another master key, not sealed, moved, or none.
    let foreign = new_sealed(&master_keys(), 2, [2; 32]);
    for (number, sealed) in [(2, foreign), (3, [2; 32].to_vec()), (4, sealed.clone()), (5, Vec::new())] {
        sqlx::query("insert into peppers values ($1, $2, now())")
            .bind(number)
            .bind(&sealed)
            .execute(&server.state.db)
            .await
            .unwrap();
        plant(&server, bot.token(), &mac(&[2; 32], &own), number).await;
        invalid(server.client(own.expose())).await;
        server.state.keyring.reload().await.unwrap();
        invalid(server.client(own.expose())).await;
    }
    plant(&server, bot.token(), &mac(&[2; 32], &own), 77).await;
    invalid(server.client(own.expose())).await;
    // Other callers go on, new secrets are stored under the real one, and a new pepper skips them.
    assert_eq!(http_get(&server.endpoint, "/readyz").await.status, 200);
    let (_, later) = server.account(&org.id, "later", &[]).await;
    assert_eq!(pepper_of(&server, later.token()).await, 1);
    later.exchange().await.unwrap();
    assert_eq!(new_pepper(&server).await, 6);
    // The real bytes, under the real master key, put back: the token is good again.
    plant(&server, bot.token(), &stored, 1).await;
    bot.exchange().await.unwrap();
}

#[tokio::test]
async fn every_row_that_names_a_pepper_holds_it() {
    let server = TestServer::start().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.columns
         where table_schema = 'public' and column_name = 'pepper_id' and table_name <> 'peppers'
         order by table_name",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    // `db::peppers::find_unused` has to check each, and `renew` to load each that lasts long.
    assert_eq!(tables, ["codes", "sessions", "token_secrets"]);
    assert!(Peppers::open(&server.state.keyring.master, []).unwrap().newest().is_none());
}
