//! `WatchRevocations`: cursors, bounds, and what ends a stream.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Clock;
use countersign::commands::dev::connect_options;
use countersign::config::ServerLimits;
use countersign::crypto::seal::MasterKeys;
use countersign::db::events::revocations::{Ends, that_came_about};
use countersign::db::schema;
use countersign::domain::tokens::revocations::{Revocation, Revoked};
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::error::Reason;
use countersign::grpc::pb;
use countersign::grpc::pb::watch_revocations_response::Item;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;
use tonic::transport::Endpoint;

use super::{SYSTEM, Verifier, of_token};
use crate::harness::{
    Client, Database, LIMITS, Org, Proxy, Scratch, TestServer, by_id, reason, refused, rotate_token,
    start_postgres, token_for, until, violated,
};

/// An account of the org that may watch.
async fn watcher(server: &TestServer, org: &Org) -> Client {
    server.account(&org.id, "watcher", &[("tokens.introspect", "*")]).await.1
}

/// A token of a bot of the org: its id.
async fn token(server: &TestServer, org: &Org) -> String {
    let made = server.operator.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
    made.into_inner().token.unwrap().id
}

async fn revoke(org: &Org, id: &str) {
    org.owner.tokens().revoke_token(by_id("", id)).await.unwrap();
}

async fn watch(by: &Client, request: pb::WatchRevocationsRequest) -> Result<(), tonic::Status> {
    // What refuses it later than at once comes as its first item.
    Verifier::open(by, request).await?.read().await.map(drop)
}

fn with_cursor(cursor: &str) -> pb::WatchRevocationsRequest {
    pb::WatchRevocationsRequest { cursor: cursor.into(), ..Default::default() }
}

#[tokio::test]
async fn what_is_in_force_comes_first_and_then_what_is_new() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    let (before, after) = (token(&server, &org).await, token(&server, &org).await);
    revoke(&org, &before).await;
    let mut stream = Verifier::open(&by, Default::default()).await.unwrap();
    let first = stream.read().await.unwrap();
    assert!(matches!(first, Some(Item::KeySet(_))), "{first:?}");
    assert_eq!(stream.keys.len(), 1);
    let checkpoint = stream.checkpoint().await.unwrap();
    assert!(stream.heard.iter().any(of_token(&before)));
    assert!(!stream.heard.iter().any(of_token(&after)));
    assert!(checkpoint.time.is_some() && checkpoint.lag.unwrap().seconds < 60);
    assert!(checkpoint.cursor.len() <= 512 && checkpoint.cursor.is_ascii());

    revoke(&org, &after).await;
    let heard = stream.hears(of_token(&after)).await;
    assert_eq!((heard.org_id.as_str(), heard.min_version), (org.id.as_str(), 0));
    assert_eq!(heard.reason(), pb::ErrorReason::TokenRevoked);
    let left = heard.expire_time.unwrap().seconds - server.state.clock.now().unix_timestamp();
    assert!((3_600..=3_900).contains(&left), "{left}");

    // After that time it is forgotten.
    server.state.clock.advance(Duration::from_secs(3_901));
    let later = Verifier::watching(&server.fresh_operator().await, &[&org.id], "").await;
    assert!(!later.heard.iter().any(|heard| of_token(&before)(heard) || of_token(&after)(heard)));
}

#[tokio::test]
async fn a_stream_is_resumed_on_another_node_without_a_loss() {
    let server = TestServer::start().await;
    let other = server.beside(ServerLimits { feed_listen: false, ..LIMITS }).await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    let elsewhere = other.client(by.token());
    let mut stream = Verifier::watching(&by, &[], "").await;
    let mut ids = Vec::new();
    for node in [&elsewhere, &by, &elsewhere] {
        let id = token(&server, &org).await;
        revoke(&org, &id).await;
        ids.push(id);
        // The first node tells what it has not told; the cut loses what was under way.
        let cursor = stream.cursor.clone();
        drop(stream);
        let more = token(&server, &org).await;
        revoke(&org, &more).await;
        ids.push(more);
        other.hear().await;
        stream = Verifier::watching(node, &[], &cursor).await;
        for id in &ids[ids.len() - 2..] {
            assert!(stream.heard.iter().any(of_token(id)), "{id}");
        }
    }
    // A new node knows nothing of its own of what was before it.
    let cursor = stream.cursor.clone();
    let id = token(&server, &org).await;
    revoke(&org, &id).await;
    let third = server.beside(LIMITS).await;
    let resumed = Verifier::watching(&third.client(by.token()), &[], &cursor).await;
    assert!(resumed.heard.iter().any(of_token(&id)));
    assert!(!resumed.heard.iter().any(of_token(&ids[0])), "it came before the cursor");
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_an_old_transaction_and_the_cursor_does() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    let mut stream = Verifier::watching(&by, &[], "").await;
    let mut open = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let mut open = open.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *open).await.unwrap();
    let id = token(&server, &org).await;
    revoke(&org, &id).await;
    stream.hears(of_token(&id)).await;
    stream.checkpoint().await.unwrap();
    // The checkpoint came after it, and its cursor is before it.
    let again = Verifier::watching(&by, &[], &stream.cursor).await;
    assert!(again.heard.iter().any(of_token(&id)));
    open.rollback().await.unwrap();
    until(async || {
        stream.checkpoint().await.unwrap();
        let again = Verifier::watching(&by, &[], &stream.cursor).await;
        !again.heard.iter().any(of_token(&id))
    })
    .await;
}

#[tokio::test]
async fn the_end_of_an_overlap_is_told_when_it_comes_on_each_node() {
    let server = TestServer::start().await;
    let other = server.beside(LIMITS).await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    let ids = [token(&server, &org).await, token(&server, &org).await];
    let mut streams = [
        Verifier::watching(&by, &[], "").await,
        Verifier::watching(&other.client(by.token()), &[], "").await,
    ];
    let away = streams[0].cursor.clone();
    for id in &ids {
        org.owner.tokens().rotate_token(rotate_token("", id, Some(60))).await.unwrap();
    }
    let cancel = pb::CancelRotationRequest { token_id: ids[1].clone(), ..Default::default() };
    org.owner.tokens().cancel_rotation(cancel).await.unwrap();
    let old = |id: &str| {
        let secret = pb::RevokedSecret { token_id: id.to_owned(), number: 1 };
        move |heard: &pb::Revocation| heard.subject == Some(pb::revocation::Subject::Secret(secret.clone()))
    };
    server.hear().await;
    other.hear().await;
    let before = Verifier::watching(&by, &[], "").await;
    assert!(!before.heard.iter().any(|heard| old(&ids[0])(heard) || old(&ids[1])(heard)));

    server.state.clock.advance(Duration::from_secs(61));
    for stream in &mut streams {
        let heard = stream.hears(old(&ids[0])).await;
        assert_eq!(heard.reason(), pb::ErrorReason::AccessTokenStale);
    }
    // Who was away hears it, whether the change or its effect came meanwhile; and of the cancelled one no stream does.
    for cursor in ["", &away, &before.cursor] {
        let late = Verifier::watching(&other.client(by.token()), &[], cursor).await;
        assert!(late.heard.iter().any(old(&ids[0])), "{}", cursor.is_empty());
        assert!(!late.heard.iter().any(old(&ids[1])));
    }
    for stream in &mut streams {
        stream.checkpoint().await.unwrap();
        assert!(!stream.heard.iter().any(old(&ids[1])));
    }
}

#[tokio::test]
async fn cursors_are_of_one_org_and_one_selection() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let (by, foreign) = (watcher(&server, &org).await, watcher(&server, &other).await);
    let good = Verifier::watching(&by, &[], "").await.cursor;
    Verifier::watching(&by, &[], &good).await;
    // Named, it is the same selection.
    Verifier::watching(&by, &[&org.id], &good).await;

    let cut = &good[..good.len() - 1];
    let mut changed = good.clone().into_bytes();
    changed[9] = if changed[9] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for (who, cursor) in
        [(&by, cut), (&by, &changed), (&by, "AAAA"), (&by, "no\u{1b}[0m base64"), (&foreign, &good)]
    {
        refused(watch(who, with_cursor(cursor)).await, Code::OutOfRange, "CURSOR_EXPIRED");
    }
    let long =
        refused(watch(&by, with_cursor(&"A".repeat(513))).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&long), ["cursor"]);
    let all = Verifier::watching(&server.operator, &[], "").await.cursor;
    let one = pb::WatchRevocationsRequest { org_ids: vec![org.id.clone()], ..with_cursor(&all) };
    refused(watch(&server.operator, one).await, Code::OutOfRange, "CURSOR_EXPIRED");
    // That of another RPC.
    let events = org.owner.orgs().watch_events(pb::WatchEventsRequest::default()).await.unwrap();
    let first = events.into_inner().message().await.unwrap().unwrap().item;
    let Some(pb::watch_events_response::Item::Checkpoint(checkpoint)) = first else { panic!("{first:?}") };
    refused(watch(&by, with_cursor(&checkpoint.cursor)).await, Code::OutOfRange, "CURSOR_EXPIRED");
    // An old one.
    server.state.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let fresh = server.client(server.managing_token_of(&org).await);
    let good = Verifier::watching(&fresh, &[], "").await.cursor;
    server.state.clock.advance(Duration::from_secs(24 * 3_600 + 1));
    let fresh = server.client(server.managing_token_of(&org).await);
    refused(watch(&fresh, with_cursor(&good)).await, Code::OutOfRange, "CURSOR_EXPIRED");
}

#[tokio::test]
async fn a_caller_watches_its_orgs_alone() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let by = watcher(&server, &org).await;
    let of = |ids: &[&str]| pb::WatchRevocationsRequest {
        org_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    for ids in [&[other.id.as_str()][..], &[&org.id, &other.id], &[SYSTEM]] {
        refused(watch(&by, of(ids)).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let wrong = refused(watch(&by, of(&[&org.id, &org.slug])).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&wrong), ["org_ids[1]"]);
    let many: Vec<_> = std::iter::repeat_n(org.id.as_str(), 101).collect();
    refused(watch(&by, of(&many)).await, Code::InvalidArgument, "INVALID_FIELD");
    for name in ["a\u{1b}[31mb", "a\nb", &"x".repeat(101)] {
        let named = pb::WatchRevocationsRequest { verifier_name: name.into(), ..Default::default() };
        let wrong = refused(watch(&by, named).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&wrong), ["verifier_name"]);
    }

    // Nothing of another org is heard, but for what operators have everywhere; an operator hears both.
    let (own, foreign) = (token(&server, &org).await, token(&server, &other).await);
    let mut stream = Verifier::watching(&by, &[], "").await;
    let mut all = Verifier::watching(&server.operator, &[], "").await;
    revoke(&other, &foreign).await;
    revoke(&org, &own).await;
    stream.hears(of_token(&own)).await;
    all.hears(of_token(&own)).await;
    all.hears(of_token(&foreign)).await;
    stream.checkpoint().await.unwrap();
    assert!(stream.heard.iter().all(|heard| [org.id.as_str(), SYSTEM].contains(&&*heard.org_id)));
    let later = Verifier::watching(&by, &[], "").await;
    assert!(later.heard.iter().all(|heard| [org.id.as_str(), SYSTEM].contains(&&*heard.org_id)));

    // A person signed in watches where it may.
    let guest = server.guest(&org.id, &[("tokens.introspect", "*")]).await;
    let session = server.session(&guest.username).await;
    Verifier::watching(&session, &[&org.id], "").await;
    refused(watch(&session, Default::default()).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn a_stream_ends_with_its_caller() {
    let server = TestServer::start().await;
    let org = server.org().await;
    // Its credential ends.
    let by = watcher(&server, &org).await;
    let mut stream = Verifier::watching(&by, &[], "").await;
    let id = by.caller().await.unwrap().credential_id;
    revoke(&org, &id).await;
    let end = stream.ends().await.expect("an error");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "TOKEN_REVOKED"));
    // Its right.
    let (account, by) = server.account(&org.id, "other", &[("tokens.introspect", "*")]).await;
    let mut stream = Verifier::watching(&by, &[], "").await;
    let taken = pb::RevokeAccessRequest {
        account_id: account.id,
        grants: vec![crate::harness::grant("tokens.introspect", "*")],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(taken).await.unwrap();
    let end = stream.ends().await.expect("an error");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::PermissionDenied, "PERMISSION_MISSING"));
    // Its time, which no change says: by the next checkpoint.
    let by = org.owner.with_jwt().await;
    let mut stream = Verifier::watching(&by, &[], "").await;
    server.state.clock.advance(Duration::from_secs(3_601));
    let end = stream.ends().await.expect("an error");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::Unauthenticated, "ACCESS_TOKEN_INVALID"));
    assert_eq!(server.state.streams.count(), 0);
}

#[tokio::test]
async fn streams_are_counted_by_credential_and_by_org() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let mut open = Vec::new();
    for n in 0..5 {
        let (_, by) = server.account(&org.id, &format!("watcher-{n}"), &[("tokens.introspect", "*")]).await;
        for _ in 0..20 {
            open.push(Verifier::watching(&by, &[], "").await);
        }
        let full = refused(watch(&by, Default::default()).await, Code::ResourceExhausted, "OVERLOADED");
        assert!(full.message().contains("20 streams") || n == 4, "{}", full.message());
    }
    // The org has its hundred; another one is not concerned.
    let full = refused(watch(&org.owner, Default::default()).await, Code::ResourceExhausted, "OVERLOADED");
    assert!(full.message().contains("100 streams"), "{}", full.message());
    let other = server.org().await;
    Verifier::watching(&other.owner, &[], "").await;
    open.truncate(50);
    until(async || server.state.streams.count() <= 51).await;
    Verifier::watching(&org.owner, &[], "").await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_at_once() {
    let mut server = TestServer::start().await;
    let mut stream = Verifier::watching(&server.operator, &[], "").await;
    let mut events =
        server.operator.orgs().watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    events.message().await.unwrap();
    server.shut_down();
    // Without an error: it is opened again elsewhere.
    assert!(stream.ends().await.is_none());
    while events.message().await.unwrap().is_some() {}
    server.serving.take().unwrap().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_that_is_old_ends_its_streams() {
    let mut limits = LIMITS;
    limits.connections.max_age = Duration::from_secs(2);
    let server = TestServer::with_limits(limits).await;
    let mut stream = Verifier::watching(&server.operator, &[], "").await;
    assert!(stream.ends().await.is_none());
    Verifier::watching(&server.operator, &[], &stream.cursor).await;
}

/// Writes so many changes that each end a token, as one transaction.
async fn flood(db: &mut PgConnection, org: &str, count: i32) {
    let sql = r#"insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time, revocations)
        select (select feed_epoch from deployment), pg_current_xact_id()::text::bigint, n, $1, gen_random_uuid(),
               'token.revoked', '{tok_0000000000e008000000000001}', now(),
               '[{"subject": "tok_0000000000e008000000000001", "reason": "TOKEN_REVOKED"}]'
        from generate_series(1, $2) n"#;
    let org = OrgId::parse(org).unwrap().uuid();
    sqlx::query(sql).bind(org).bind(count).execute(db).await.unwrap();
}

/// What one org schedules keeps the ends of no other one from being told, however much it is.
#[tokio::test]
async fn many_scheduled_ends_of_one_org_hold_back_no_other() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let by = watcher(&server, &org).await;
    let id = token(&server, &org).await;
    let mut stream = Verifier::watching(&by, &[], "").await;
    org.owner.tokens().rotate_token(rotate_token("", &id, Some(60))).await.unwrap();
    server.hear().await;
    // Changes of before, so that only the reader of scheduled ends meets them, which are due after the other one.
    let mut db = PgConnection::connect_with(&server.database().options()).await.unwrap();
    let sql = r#"insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time, effective_time,
                                   revocations)
        select (select feed_epoch from deployment), 1, n, $1, gen_random_uuid(), 'token.updated',
               '{tok_0000000000e008000000000001}', now(), at,
               jsonb_build_array(jsonb_build_object('subject', 'tok_0000000000e008000000000001', 'reason', 'TOKEN_EXPIRED',
                   'from', (extract(epoch from at) * 1000000)::bigint))
        from generate_series(1, 300000) n, lateral (select now() + interval '160 s' + n * interval '50 us' as at) t"#;
    sqlx::query(sql).bind(OrgId::parse(&other.id).unwrap().uuid()).execute(&mut db).await.unwrap();
    // All of them are to be read now, and the end of the overlap is due.
    server.state.clock.advance(Duration::from_secs(130));
    let old = pb::RevokedSecret { token_id: id.clone(), number: 1 };
    let old = pb::revocation::Subject::Secret(old);
    stream.hears(|heard| heard.subject.as_ref() == Some(&old)).await;
    // The reading comes to its end, and then nothing is behind.
    until(async || server.state.streams.ends_lag(server.state.clock.now()) < Duration::from_secs(2)).await;
    let late = Verifier::watching(&by, &[], "").await;
    assert!(late.heard.iter().any(|heard| heard.subject.as_ref() == Some(&old)));
    assert!(!late.heard.iter().any(|heard| heard.org_id == other.id));
}

#[tokio::test]
async fn a_slow_reader_is_dropped_and_resumes() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    // A connection that takes little before it is read.
    let endpoint = Endpoint::from_shared(server.endpoint.clone()).unwrap();
    let channel = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let slow = Client { channel: channel.connect().await.unwrap(), bearer: by.bearer.clone() };
    let mut stream = Verifier::watching(&slow, &[], "").await;
    let mut other = Verifier::watching(&by, &[], "").await;
    let mut db = PgConnection::connect_with(&server.database().options()).await.unwrap();
    // More than is kept, and far more than its client takes.
    for _ in 0..3 {
        flood(&mut db, &org.id, 15_000).await;
        // One that reads is not harmed.
        other.heard.clear();
        while other.heard.len() < 15_000 {
            other.read().await.unwrap();
        }
    }
    let id = token(&server, &org).await;
    revoke(&org, &id).await;
    other.hears(of_token(&id)).await;
    let end = stream.ends().await.expect("an error");
    assert_eq!((end.code(), reason(&end).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    let mut resumed = Verifier::watching(&by, &[], &stream.cursor).await;
    resumed.hears(of_token(&id)).await;
}

#[tokio::test]
async fn a_key_that_is_revoked_is_told_with_the_next_key_set() {
    let server = TestServer::start().await;
    let other = server.beside(LIMITS).await;
    let org = server.org().await;
    let by = watcher(&server, &org).await;
    let mut streams = [
        Verifier::watching(&by, &[], "").await,
        Verifier::watching(&other.client(by.token()), &[], "").await,
    ];
    let kid = streams[0].keys[0].clone();
    let request = pb::RevokeSigningKeyRequest { kid: kid.clone(), ..Default::default() };
    server.operator.tokens().revoke_signing_key(request).await.unwrap();
    let of_key = |heard: &pb::Revocation| heard.subject == Some(pb::revocation::Subject::KeyId(kid.clone()));
    for stream in &mut streams {
        let heard = stream.hears(of_key).await;
        assert_eq!((heard.org_id.as_str(), heard.expire_time), ("", None));
        while stream.keys.contains(&kid) || stream.keys.is_empty() {
            stream.read().await.unwrap();
        }
    }
    // Nor is it forgotten.
    server.state.clock.advance(Duration::from_secs(7 * 24 * 3_600));
    let later = Verifier::watching(&server.fresh_operator().await, &[], "").await;
    assert!(later.heard.iter().any(of_key));
}

#[tokio::test]
async fn an_outage_is_a_lag_and_another_database_a_new_beginning() {
    let scratch = Scratch::new("streams");
    let (old, new) = (start_postgres(&scratch.path("old")).await, start_postgres(&scratch.path("new")).await);
    let mut from = PgConnection::connect_with(&connect_options(&old, "postgres")).await.unwrap();
    schema::migrate(&mut from).await.unwrap();
    let proxy = Proxy::to(&old).await;
    let unused = Arc::new(Database::create_empty().await);
    let master: Arc<str> = MasterKeys::new_file().as_str().into();
    let server = TestServer::on(proxy.options("postgres"), unused, master, None, LIMITS).await;
    let org = server.org().await;
    let mut stream = Verifier::watching(&org.owner, &[], "").await;
    proxy.cut();
    // The stream stays, and says how far behind it is.
    let mut lag = 0;
    while lag < 2 {
        lag = stream.checkpoint().await.unwrap().lag.unwrap().seconds;
    }
    proxy.mend();
    until(async || server.state.feed.answers()).await;
    let id = token(&server, &org).await;
    revoke(&org, &id).await;
    stream.hears(of_token(&id)).await;

    // A database without any of it.
    let mut to = PgConnection::connect_with(&connect_options(&new, "postgres")).await.unwrap();
    schema::migrate(&mut to).await.unwrap();
    proxy.lead_to(&new);
    let end = stream.ends().await.expect("an error");
    let said = reason(&end);
    assert!(
        // Whichever is found first: that the caller is gone, or that the feed is another one.
        ["CURSOR_EXPIRED", "TOKEN_INVALID"].contains(&said.as_str()),
        "{said}"
    );
}

/// It comes with a change, and was told with it; an older server could not have checked the others for ever.
#[tokio::test]
async fn an_end_of_an_unexpected_kind_holds_up_no_other_one() {
    let database = Database::create().await;
    let db = database.db();
    let (org_id, now) = (OrgId::from_u128(1), Clock::default().now());
    let end = |subject| {
        let reason = Reason::TokenRevoked;
        let revocation = Revocation { org_id, subject, min_version: 0, reason, from: now, scheduled: true };
        Ends { org_id, told: Vec::new(), revocations: vec![revocation] }
    };
    let gone = Revoked::Token(TokenId::from_u128(2));
    let scheduled = vec![end(Revoked::Org), end(gone.clone())];
    let came = that_came_about(&mut db.acquire().await.unwrap(), scheduled, now).await.unwrap();
    let came: Vec<_> = came.iter().flat_map(|ends| &ends.revocations).map(|one| &one.subject).collect();
    assert_eq!(came, [&gone]);
}
