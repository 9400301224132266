//! A token's expiry is announced 30, 7 and 1 days before, once in all.

use std::time::Duration;

use countersign::db;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::grpc::pb;
use countersign::jobs::remind;

use crate::harness::{LIMITS, Org, TestServer, by_id, token_for};
use crate::orgs::token_policy::{DAY, decide, never, ttl};

struct World {
    server: TestServer,
    org: Org,
    bot: pb::Account,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        // Without a token of its own.
        let request = pb::CreateServiceAccountRequest {
            org_id: org.id.clone(),
            name: "bot".into(),
            ..Default::default()
        };
        let bot = server.operator.accounts().create_service_account(request).await.unwrap().into_inner();
        Self { bot: bot.account.unwrap(), server, org }
    }

    async fn make(&self, request: pb::CreateTokenRequest) -> String {
        self.server.operator.tokens().create_token(request).await.unwrap().into_inner().token.unwrap().id
    }

    async fn for_days(&self, days: i64) -> String {
        self.make(pb::CreateTokenRequest {
            expiration: ttl(days * DAY),
            ..token_for(&self.org.id, &self.bot.id)
        })
        .await
    }

    async fn pass(&self, days: i64) {
        self.server.state.clock.advance(Duration::from_secs((days * DAY) as u64));
        remind(&self.server.state).await.unwrap();
    }

    /// The thresholds that were announced for this token, oldest first.
    async fn told(&self, id: &str) -> Vec<i32> {
        let sql = "select jsonb_path_query_first(changes, '$[*] ? (@.field == \"expires_within_days\").new_value') #>> '{}'
                   from events where org_id = $1 and type = 'token.expiring' and resource_ids[1] = $2 order by event_id";
        let rows: Vec<String> = sqlx::query_scalar(sql)
            .bind(OrgId::parse(&self.org.id).unwrap().uuid())
            .bind(id)
            .fetch_all(&self.server.state.db)
            .await
            .unwrap();
        rows.iter().map(|days| days.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn each_threshold_is_told_of_once_and_by_its_life() {
    let world = World::new().await;
    let operator = &world.server.operator;
    decide(operator, &world.org, pb::TokenPolicy { allow_endless: Some(true), ..Default::default() }, &[])
        .await
        .unwrap();
    let (long, month, week, day) = (
        world.for_days(60).await,
        world.for_days(30).await,
        world.for_days(6).await,
        world.for_days(1).await,
    );
    let forever = world
        .make(pb::CreateTokenRequest { expiration: never(), ..token_for(&world.org.id, &world.bot.id) })
        .await;
    let revoked = world.for_days(60).await;
    world.server.operator.tokens().revoke_token(by_id(&world.org.id, &revoked)).await.unwrap();
    assert_eq!(remind(&world.server.state).await.unwrap(), 0, "nothing is due when it is made");
    for _ in 0..61 {
        world.pass(1).await;
        world.pass(0).await;
    }
    for (id, expected) in [
        (&long, &[30, 7, 1][..]),
        (&month, &[7, 1]),
        (&week, &[1]),
        (&day, &[]),
        (&forever, &[]),
        (&revoked, &[]),
    ] {
        assert_eq!(world.told(id).await, expected, "{id}");
    }
    // The event says which token, whose, and when; it is of the org, and has no actor.
    let sql = "select resource_ids, actor_id is null and not operator, changes::text from events
               where type = 'token.expiring' and resource_ids[1] = $1 order by event_id limit 1";
    let (ids, is_nobodys, changes): (Vec<String>, bool, String) =
        sqlx::query_as(sql).bind(&long).fetch_one(&world.server.state.db).await.unwrap();
    assert_eq!(ids, [long, world.bot.id.clone()]);
    assert!(is_nobodys && changes.contains("expire_time"), "{changes}");
    let feed: i64 = sqlx::query_scalar("select count(*) from feed where kind = 'token.expiring'")
        .fetch_one(&world.server.state.db)
        .await
        .unwrap();
    assert!(feed >= 6, "whoever watches events hears of them");
}

#[tokio::test]
async fn after_a_while_in_which_nobody_looked_the_nearest_is_told() {
    let world = World::new().await;
    let (week, gone, hours) = (world.for_days(60).await, world.for_days(50).await, world.for_days(53).await);
    world.pass(53).await;
    assert_eq!(world.told(&week).await, [7]);
    assert_eq!(world.told(&gone).await, [0; 0], "what has ended ends no more");
    assert_eq!(world.told(&hours).await, [0; 0]);
    world.pass(6).await;
    assert_eq!(world.told(&week).await, [7, 1]);
}

#[tokio::test]
async fn many_nodes_tell_it_once() {
    let world = World::new().await;
    let (b, c) = (world.server.beside(LIMITS).await, world.server.beside(LIMITS).await);
    let mut tokens = Vec::new();
    for _ in 0..30 {
        tokens.push(world.for_days(40).await);
    }
    world.server.state.clock.advance(Duration::from_secs(11 * DAY as u64));
    let nodes = [&world.server, &b, &c, &b].map(|node| {
        let state = node.state.clone();
        tokio::spawn(async move {
            remind(&state).await.unwrap();
        })
    });
    for node in nodes {
        node.await.unwrap();
    }
    for id in &tokens {
        assert_eq!(world.told(id).await, [30]);
    }
    assert_eq!(remind(&c.state).await.unwrap(), 0, "nor again after a restart");
}

#[tokio::test]
async fn a_token_that_is_shortened_is_told_of_by_its_new_end() {
    let world = World::new().await;
    let (unheard, heard) = (world.for_days(300).await, world.for_days(40).await);
    world.pass(20).await;
    assert_eq!(world.told(&heard).await, [30]);
    let end = world.server.state.clock.now().unix_timestamp() + 5 * DAY;
    let operator = world.server.fresh_operator().await;
    for id in [&unheard, &heard] {
        let token = pb::Token {
            id: id.clone(),
            expire_time: Some(prost_types::Timestamp { seconds: end, nanos: 0 }),
            ..Default::default()
        };
        let request =
            pb::UpdateTokenRequest { org_id: world.org.id.clone(), token: Some(token), update_mask: None };
        operator.tokens().update_token(request).await.unwrap();
    }
    world.pass(0).await;
    assert_eq!((world.told(&unheard).await, world.told(&heard).await), (vec![7], vec![30, 7]));
    world.pass(4).await;
    assert_eq!((world.told(&unheard).await, world.told(&heard).await), (vec![7, 1], vec![30, 7, 1]));
}

#[tokio::test]
async fn one_that_is_revoked_or_shortened_under_way_is_not_told_of() {
    let world = World::new().await;
    let (revoked, kept) = (world.for_days(40).await, world.for_days(40).await);
    // What a node does in eleven days; the clock of this one stands still, so that it announces nothing.
    let (state, later) = (&world.server.state, world.server.state.clock.now() + time::Duration::days(11));
    let due = db::tokens::reminders::find_due(&state.db, later, Default::default(), 10).await.unwrap();
    assert_eq!(due.len(), 2);
    world.server.operator.tokens().revoke_token(by_id(&world.org.id, &revoked)).await.unwrap();
    let mut connection = state.db.acquire().await.unwrap();
    for token in &due {
        let told = db::tokens::reminders::remind(&mut connection, token, 30).await.unwrap();
        let expected = token.token_id == TokenId::parse(&kept).unwrap();
        assert_eq!(told.is_some(), expected);
        if let Some(told) = told {
            assert_eq!((told.account_id.to_string(), told.days), (world.bot.id.clone(), 30));
            assert!(db::tokens::reminders::remind(&mut connection, token, 30).await.unwrap().is_none());
            // Another expiry than the one that was read.
            let other = db::tokens::reminders::ExpiringToken { expire_time: later, ..*token };
            assert!(db::tokens::reminders::remind(&mut connection, &other, 7).await.unwrap().is_none());
        }
    }
}

/// Rows from before the migration, and of a binary from before it.
#[tokio::test]
async fn tokens_from_before_are_told_of_as_well() {
    let world = World::new().await;
    let id = world.for_days(60).await;
    sqlx::query("update tokens set reminded_days = null").execute(&world.server.state.db).await.unwrap();
    world.pass(31).await;
    assert_eq!(world.told(&id).await, [30]);
}
