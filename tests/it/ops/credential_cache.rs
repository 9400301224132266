//! The cache: cached credentials send no query, and misses are few and bounded.

use std::time::{Duration, Instant};

use countersign::config::{DatabaseAnswers, ServerLimits, SigningAlgorithm};
use countersign::domain::values::client_address::{ClientAddress, ForwardedHeaders};
use countersign::domain::values::ids::TokenId;
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use countersign::state::{Pools, State};
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, LIMITS, PASSWORD, TestServer, read_keys, reason, refused, token_for, until};

/// A token string that does not exist.
fn unknown(number: u128) -> String {
    TokenString::new(TokenStringKind::SecretToken, TokenId::from_u128(number), [7; 32]).expose().to_owned()
}

#[tokio::test]
async fn what_is_warm_executes_no_statement() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    server.hear_all().await;
    let jwt = bot.exchange().await.unwrap().access_token;
    org.owner.exchange().await.unwrap();
    let looks = server.state.principals.looks();
    // Any query now would fail: these are all the connections that handlers have.
    server.state.db.close().await;
    server.state.principals.close().await;
    for _ in 0..3 {
        bot.exchange().await.unwrap();
        for text in [bot.token(), jwt.as_str()] {
            let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
            assert!(org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active);
        }
        // Authenticated, by token and by JWT, and closed by the access table.
        for caller in [bot.clone(), server.client(jwt.clone())] {
            let made = caller.orgs().create_org(crate::harness::create_org("none")).await;
            refused(made, Code::PermissionDenied, "PERMISSION_MISSING");
        }
    }
    assert_eq!(server.state.principals.looks(), looks);
    // The uses are buffered until they can be written: here that fails, and so they stay buffered.
    let waiting = server.state.last_uses.len();
    assert!(waiting >= 2, "{waiting}");
    server.state.last_uses.flush().await.unwrap_err();
    assert_eq!(server.state.last_uses.len(), waiting);
}

#[tokio::test]
async fn a_miss_is_looked_up_once_however_many_ask() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    // On a busy machine a moment may pass for a while; the next iteration checks again.
    let few = |before: u64| {
        let looks = server.state.principals.looks() - before;
        assert!((1..=5).contains(&looks), "{looks}");
    };
    let before = server.state.principals.looks();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let bot = bot.clone();
            tokio::spawn(async move { bot.exchange().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    few(before);
    // So is what does not exist, for a moment.
    let before = server.state.principals.looks();
    for _ in 0..20 {
        refused(server.client(unknown(1)).exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    few(before);
    // A wrong secret of a token that exists sends no further query.
    let before = server.state.principals.looks();
    let id = TokenString::parse(bot.token()).unwrap().id();
    let wrong = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]);
    for _ in 0..20 {
        refused(server.client(wrong.expose()).exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    assert!(server.state.principals.looks() - before < 5);
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let cache_size = 32 << 10;
    let server = TestServer::with_limits(ServerLimits { cache_size, ..LIMITS }).await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    for _ in 0..90 {
        let made =
            server.operator.tokens().create_token(token_for(&org.id, &bot.id)).await.unwrap().into_inner();
        server.client(made.secret).exchange().await.unwrap();
        assert!(server.state.principals.weight() <= cache_size);
    }
    assert!((10..90).contains(&server.state.principals.len()), "{}", server.state.principals.len());
}

#[tokio::test]
async fn an_entry_is_looked_at_again_after_its_time() {
    let limits = ServerLimits { cache_max_age: Duration::from_millis(1), ..LIMITS };
    let server = TestServer::with_limits(limits).await;
    server.operator.exchange().await.unwrap();
    let looks = server.state.principals.looks();
    tokio::time::sleep(Duration::from_millis(2)).await;
    server.operator.exchange().await.unwrap();
    // A change that is heard of meanwhile has it read once more.
    assert!(server.state.principals.looks() > looks);
}

#[tokio::test]
async fn what_nothing_was_heard_of_for_two_seconds_is_looked_at_again() {
    let server = TestServer::start().await;
    // A node that is not notified of changes: its feed has no follower.
    let silence = DatabaseAnswers::SOON.silence;
    let database_answers = DatabaseAnswers { silence, ..LIMITS.database_answers };
    let state = State::open(
        Pools::open(&server.database().options(), 2, 1, Default::default()),
        read_keys(server.master_key_file()),
        SigningAlgorithm::EdDsa,
        server.state.issuer.clone(),
        ServerLimits { database_answers, ..LIMITS }.credentials(),
        server.state.clock.clone(),
    );
    let state = state.await.unwrap();
    let look = async || {
        state
            .authenticator
            .by_string(server.operator.token(), ClientAddress::UNKNOWN, state.clock.now())
            .await
            .map(|_| ())
            .unwrap()
    };
    look().await;
    let (loaded, looks) = (Instant::now(), state.principals.looks());
    until(async || loaded.elapsed() > silence && state.feed.staleness() > silence).await;
    assert!(loaded.elapsed() < LIMITS.cache_max_age && state.feed.answers(), "it is no older than it may be");
    look().await;
    assert_eq!(state.principals.looks(), looks + 1);
    state.close().await;
}

#[tokio::test]
async fn whoever_guesses_has_to_wait_and_others_go_on() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.hear_all().await;
    server.operator.caller().await.unwrap();
    org.owner.exchange().await.unwrap();
    // At once, and again where that took longer than the failures of an address count.
    let mut numbers = 1_000..;
    until(async || {
        let clients = numbers.by_ref().take(101).map(|number| server.client(unknown(number)));
        let guesses = clients.map(|client| tokio::spawn(async move { client.exchange().await }));
        let mut throttled = false;
        for guess in guesses.collect::<Vec<_>>() {
            throttled |= reason(&guess.await.unwrap().unwrap_err()) == "THROTTLED";
        }
        throttled
    })
    .await;
    // Whatever is wrong: what was not found a moment ago, what is no token, a wrong secret of a token
    // that is cached. But a client learns that its JWT is none: it exchanges its token again.
    let id = TokenString::parse(org.owner.token()).unwrap().id();
    let wrong = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]).expose().to_owned();
    let here = here();
    until(async || {
        for _ in 0..101 {
            server
                .state
                .authenticator
                .by_string("junk", here, server.state.clock.now())
                .await
                .map(|_| ())
                .unwrap_err();
        }
        let looks = server.state.principals.looks();
        let mut refusals = Vec::new();
        for text in [unknown(500), unknown(1_000), "junk".to_owned(), wrong.clone()] {
            refusals.push(server.client(text).exchange().await.unwrap_err());
        }
        refusals.push(server.client(unknown(501)).caller().await.unwrap_err());
        let jwt = server.client("a.b.c".to_owned()).caller().await;
        refused(jwt, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
        let throttled = |refusal: &Status| {
            reason(refusal) == "THROTTLED"
                && refusal.code() == Code::ResourceExhausted
                && refusal.get_details_retry_info().unwrap().retry_delay.is_some()
        };
        let all = refusals.iter().all(throttled);
        assert!(!all || server.state.principals.looks() == looks, "none is looked up by itself");
        all
    })
    .await;
    // From the same address, what is cached goes on.
    org.owner.exchange().await.unwrap();
    server.operator.caller().await.unwrap();
}

/// The address of the clients of a test server.
fn here() -> ClientAddress {
    ClientAddress::of_request([127, 0, 0, 1].into(), &ForwardedHeaders::default(), &[])
}

/// Makes failures from the address of the test until it is throttled.
async fn fail_too_often(server: &TestServer) {
    until(async || {
        for _ in 0..101 {
            server
                .state
                .authenticator
                .by_string("junk", here(), server.state.clock.now())
                .await
                .map(|_| ())
                .unwrap_err();
        }
        reason(&server.client("junk").caller().await.unwrap_err()) == "THROTTLED"
    })
    .await;
}

/// What matches is never refused for the failures of others at its address: tokens, sessions, their
/// JWTs and codes that no node has cached.
#[tokio::test]
async fn what_exists_works_from_an_address_that_is_throttled() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let (_, other) = server.account(&org.id, "other", &[]).await;
    let jwt = other.exchange().await.unwrap().access_token;
    server.person(&org.id, "ann@example.org", &[]).await;
    let session = server.session("ann@example.org").await;
    let request = pb::CreateUserRequest { email: "bob@example.org".into(), ..Default::default() };
    org.owner.accounts().create_user(request).await.unwrap();
    let code = server.code_for("bob@example.org").await.unwrap();
    // A node that has cached nothing.
    let node = server.beside(LIMITS).await;
    fail_too_often(&node).await;
    let looks = node.state.principals.looks();
    node.client(bot.token().to_owned()).exchange().await.unwrap();
    node.client(session.token().to_owned()).caller().await.unwrap();
    node.client(jwt).caller().await.unwrap();
    let set = pb::ResetPasswordRequest { code, new_password: PASSWORD.into() };
    node.anonymous().accounts().reset_password(set).await.unwrap();
    assert!(node.state.principals.looks() >= looks + 3);
    // A wrong secret of a token that is there tells no more than an id that is not.
    let id = TokenString::parse(org.owner.token()).unwrap().id();
    let wrong = TokenString::new(TokenStringKind::SecretToken, id, [7; 32]).expose().to_owned();
    until(async || {
        fail_too_often(&node).await;
        let mut reasons = Vec::new();
        for text in [wrong.clone(), unknown(77)] {
            reasons.push(reason(&node.client(text).exchange().await.unwrap_err()));
        }
        reasons == ["THROTTLED", "THROTTLED"]
    })
    .await;
}

/// Ids that do not exist take no place from others: however many are asked for, no load of a
/// credential is one of them, and those that exist among them are found.
#[tokio::test]
async fn ids_that_do_not_exist_are_looked_up_in_batches() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let mut bots = Vec::new();
    for n in 0..5 {
        bots.push(server.account(&org.id, &format!("bot-{n}"), &[]).await.1.token().to_owned());
    }
    let node = server.beside(LIMITS).await;
    let mut number = 1_000_000;
    // Again where that took longer than failures count, or a query longer than a load may.
    until(async || {
        fail_too_often(&node).await;
        let looks = node.state.principals.looks();
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..2_500 {
            number += 1;
            let text = if n % 500 == 250 { bots[n / 500].clone() } else { unknown(number) };
            let state = node.state.clone();
            calls.spawn(async move {
                state.authenticator.by_string(&text, here(), state.clock.now()).await.is_ok()
            });
        }
        let found = calls.join_all().await.into_iter().filter(|found| *found).count();
        found == 5 && node.state.principals.looks() <= looks + 5
    })
    .await;
}

/// One that gives up in the middle of a batch leaves the others to the next one.
#[tokio::test]
async fn a_batch_whose_caller_is_gone_is_asked_for_again() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let node = server.beside(LIMITS).await;
    fail_too_often(&node).await;
    let calls: Vec<_> = (0..200)
        .map(|n| {
            let text = if n == 199 { bot.token().to_owned() } else { unknown(9_000 + n) };
            let state = node.state.clone();
            tokio::spawn(async move {
                state.authenticator.by_string(&text, here(), state.clock.now()).await.is_ok()
            })
        })
        .collect();
    // Some of them have begun, and none has to end.
    tokio::task::yield_now().await;
    let last = calls.len() - 1;
    for call in &calls[..last] {
        call.abort();
    }
    assert!(calls.into_iter().next_back().unwrap().await.unwrap());
}

#[tokio::test]
async fn what_others_sent_to_a_caller_is_no_failure_of_its_address() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let introspect = async |text: String| {
        let request = pb::IntrospectTokenRequest { token_text: text, ..Default::default() };
        org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active
    };
    for number in 0..101 {
        assert!(!introspect(unknown(number)).await);
    }
    // Not cached yet: it takes a query.
    assert!(introspect(bot.token().into()).await);
}

#[tokio::test]
async fn an_owners_list_names_what_the_org_names_since() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let names = async || {
        let caller = org.owner.caller().await.unwrap();
        caller.permissions.iter().any(|permission| permission == "shipments.plan")
    };
    assert!(!names().await);
    server.account(&org.id, "bot", &[("shipments.plan", "*")]).await;
    assert!(names().await);
}

#[tokio::test]
async fn misses_beyond_what_may_wait_are_shed_and_what_is_cached_goes_on() {
    let server = TestServer::start().await;
    let org = server.org().await;
    // What was changed before drops nothing of what is cached then.
    server.hear_all().await;
    org.owner.exchange().await.unwrap();
    // Lookups hang for as long as this is open; nothing else needs the table.
    let mut holder = server.database().pool().begin().await.unwrap();
    sqlx::query("lock table credentials in access exclusive mode").execute(&mut *holder).await.unwrap();
    let (mut shed, mut waited, mut connection) = (0, 0, 0);
    // Again where a busy machine sends them one after another, so that the first have given up when the last come.
    until(async || {
        let mut calls = Vec::new();
        // A connection carries 256 calls at once, and as many lookups may wait.
        for _ in 0..2 {
            let endpoint = Endpoint::from_shared(server.endpoint.clone()).unwrap();
            let channel = endpoint.connect().await.unwrap();
            connection += 1;
            for n in 0..200 {
                let bearer = Some(unknown(10_000 + connection * 1_000 + n));
                let client = Client { channel: channel.clone(), bearer };
                calls.push(tokio::spawn(async move { client.exchange().await }));
            }
        }
        // Again where the feed fell behind on a busy machine: then what is cached is looked up, too.
        until(async || org.owner.exchange().await.is_ok()).await;
        for call in calls {
            let refusal = call.await.unwrap().unwrap_err();
            match reason(&refusal).as_str() {
                "OVERLOADED" => {
                    assert!(refusal.get_details_retry_info().unwrap().retry_delay.is_some());
                    shed += 1;
                }
                "DATABASE_UNAVAILABLE" => waited += 1,
                other => panic!("{other}"),
            }
        }
        shed > 0 && waited > 0
    })
    .await;
    holder.rollback().await.unwrap();
    until(async || org.owner.exchange().await.is_ok()).await;
}
