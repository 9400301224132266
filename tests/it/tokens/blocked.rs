//! A token that violates its org's policy: blocked in every use, on every node, and active
//! for everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use countersign::config::ServerLimits;
use countersign::domain::values::ids::{OrgId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use tonic::Code;

use crate::harness::{
    Client, LIMITS, Org, TestServer, by_id, by_text, claims, grant, reason, refused, rotate_token, token_for,
    until,
};
use crate::orgs::token_policy::{DAY, decide, mask, never, org, seconds, ttl};

struct World {
    server: TestServer,
    org: Org,
    bot: pb::Account,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
        Self { server, org, bot }
    }

    async fn decide(&self, policy: pb::TokenPolicy, paths: &[&str]) -> pb::UpdateTokenPolicyResponse {
        decide(&self.server.operator, &self.org, policy, paths).await.unwrap()
    }

    async fn make(&self, request: pb::CreateTokenRequest) -> (String, Client) {
        let made = self.server.operator.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap().id, self.server.client(made.secret))
    }

    async fn token(&self, id: &str) -> pb::Token {
        let request = pb::GetTokenRequest { org_id: self.org.id.clone(), token_id: id.into() };
        self.server.operator.tokens().get_token(request).await.unwrap().into_inner().token.unwrap()
    }

    async fn is_active(&self, text: &str) -> bool {
        let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
        self.server.operator.tokens().introspect_token(request).await.unwrap().into_inner().active
    }

    fn advance(&self, seconds: i64) {
        self.server.state.clock.advance(Duration::from_secs(seconds as u64));
    }
}

fn days(days: i64) -> Option<prost_types::Duration> {
    seconds(days * DAY)
}

#[tokio::test]
async fn each_offence_stops_every_use_until_the_policy_allows_it_again() {
    let world = World::new().await;
    let open =
        pb::TokenPolicy { allow_endless: Some(true), allow_user_tokens: Some(true), ..Default::default() };
    world.decide(open, &[]).await;
    let request = pb::CreateUserRequest {
        org_id: world.org.id.clone(),
        email: "ann@example.org".into(),
        ..Default::default()
    };
    let user = world.server.operator.accounts().create_user(request).await.unwrap().into_inner();
    let of_bot = || token_for(&world.org.id, &world.bot.id);
    let shorter = pb::TokenPolicy { max_secret_lifetime: days(30), ..Default::default() };
    for (what, request, tighter, paths) in [
        ("too long", of_bot(), shorter, &["max_secret_lifetime"][..]),
        (
            "without an end",
            pb::CreateTokenRequest { expiration: never(), ..of_bot() },
            pb::TokenPolicy::default(),
            &["allow_endless"],
        ),
        (
            "of a user",
            token_for(&world.org.id, &user.account.unwrap().id),
            pb::TokenPolicy::default(),
            &["allow_user_tokens"],
        ),
    ] {
        let (id, token) = world.make(request).await;
        let jwt = token.with_jwt().await;
        jwt.caller().await.unwrap();
        let before = org(&world.server.operator, &world.org.id).await.token_policy.unwrap();
        let version = claims(jwt.token())["org_ver"].as_i64().unwrap();

        let stopped = world.decide(tighter, paths).await.affected_tokens;
        assert!(stopped.iter().any(|token| token.id == id), "{what}");
        refused(token.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        refused(token.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        refused(jwt.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        for text in [token.token(), jwt.token()] {
            assert!(!world.is_active(text).await, "{what}");
        }
        assert_eq!(world.token(&id).await.state(), pb::TokenState::Blocked, "{what}");
        // A caller without the secret learns nothing of it.
        let own = TokenString::parse(token.token()).unwrap();
        let wrong = TokenString::new(TokenStringKind::SecretToken, own.id(), [7; 32]);
        let wrong = wrong.expose().to_owned();
        refused(world.server.client(wrong).exchange().await, Code::Unauthenticated, "TOKEN_INVALID");

        let before = pb::TokenPolicy { etag: String::new(), ..before };
        let loosened = world.decide(before, paths).await;
        assert_eq!(loosened.affected_count, Some(0), "{what}");
        let again = token.exchange().await.unwrap().access_token;
        assert!(claims(&again)["org_ver"].as_i64().unwrap() > version, "{what}");
        assert_eq!(world.token(&id).await.state(), pb::TokenState::Active, "{what}");
        // JWTs from before remain stale, also for verifiers that cache it.
        refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
        assert!(!world.is_active(jwt.token()).await && world.is_active(&again).await, "{what}");
    }
}

#[tokio::test]
async fn a_stopped_token_is_told_why_in_the_order_of_what_stops_it() {
    let world = World::new().await;
    let (id, token) = world.make(token_for(&world.org.id, &world.bot.id)).await;
    world.decide(pb::TokenPolicy { max_secret_lifetime: days(30), ..Default::default() }, &[]).await;
    refused(token.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    let (org_id, account_id) = (world.org.id.clone(), world.bot.id.clone());
    let stop = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
    world.server.operator.accounts().deactivate_account(stop).await.unwrap();
    refused(token.exchange().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
    world.server.operator.tokens().revoke_token(by_id(&world.org.id, &id)).await.unwrap();
    refused(token.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(world.token(&id).await.state(), pb::TokenState::Revoked);
}

#[tokio::test]
async fn a_stopped_token_is_alive_for_everything_else() {
    let world = World::new().await;
    let operator = &world.server.operator;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(world.make(token_for(&world.org.id, &world.bot.id)).await);
    }
    world.decide(pb::TokenPolicy { max_secret_lifetime: days(30), ..Default::default() }, &[]).await;
    // It counts among the account's active ones.
    let delete = pb::DeleteAccountRequest { org_id: world.org.id.clone(), account_id: world.bot.id.clone() };
    let refusal = operator.accounts().delete_account(delete).await;
    refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    for _ in 0..96 {
        let request =
            pb::CreateTokenRequest { expiration: ttl(DAY), ..token_for(&world.org.id, &world.bot.id) };
        world.make(request).await;
    }
    let request = pb::CreateTokenRequest { expiration: ttl(DAY), ..token_for(&world.org.id, &world.bot.id) };
    refused(operator.tokens().create_token(request).await, Code::FailedPrecondition, "LIMIT_REACHED");
    // It is rotated and renamed, and remains blocked; it is revoked by id, by its string.
    let [(renamed, one), (by_its_text, two), (moved, _)] = &tokens[..] else { panic!("three were made") };
    let rotated = operator.tokens().rotate_token(rotate_token(&world.org.id, renamed, Some(0))).await;
    let rotated = rotated.unwrap().into_inner();
    assert_eq!(rotated.token.unwrap().state(), pb::TokenState::Blocked);
    let refusal = world.server.client(rotated.secret).exchange().await;
    refused(refusal, Code::Unauthenticated, "TOKEN_BLOCKED");
    refused(one.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    let token = pb::Token { id: renamed.clone(), display_name: "old".into(), ..Default::default() };
    let request = pb::UpdateTokenRequest {
        org_id: world.org.id.clone(),
        token: Some(token),
        update_mask: mask(&["display_name"]),
    };
    let token = operator.tokens().update_token(request).await.unwrap().into_inner().token.unwrap();
    assert_eq!((token.display_name.as_str(), token.state()), ("old", pb::TokenState::Blocked));
    world.server.anonymous().tokens().revoke_token(by_text(two.token())).await.unwrap();
    assert_eq!(world.token(by_its_text).await.state(), pb::TokenState::Revoked);
    let (other, _) = world.server.account(&world.org.id, "other", &[("invoices.read", "*")]).await;
    let request = pb::ReassignTokenRequest {
        org_id: world.org.id.clone(),
        token_id: moved.clone(),
        account_id: other.id.clone(),
        ..Default::default()
    };
    let token = operator.tokens().reassign_token(request).await.unwrap().into_inner().token.unwrap();
    assert_eq!((token.account_id.as_str(), token.state()), (other.id.as_str(), pb::TokenState::Blocked));
    operator.tokens().revoke_token(by_id(&world.org.id, renamed)).await.unwrap();
}

#[tokio::test]
async fn what_one_node_decides_stops_tokens_on_the_other() {
    for feed_listen in [true, false] {
        let world = World::new().await;
        let b = world.server.beside(ServerLimits { feed_listen, ..LIMITS }).await;
        let (_, token) = world.make(token_for(&world.org.id, &world.bot.id)).await;
        let on_b = b.client(token.token());
        let jwt = on_b.with_jwt().await;
        jwt.caller().await.unwrap();
        world.decide(pb::TokenPolicy { max_secret_lifetime: days(30), ..Default::default() }, &[]).await;
        refused(token.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        until(async || on_b.exchange().await.is_err()).await;
        refused(on_b.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        refused(jwt.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
        world.decide(pb::TokenPolicy::default(), &["max_secret_lifetime"]).await;
        until(async || on_b.exchange().await.is_ok()).await;
    }
}

#[tokio::test]
async fn what_is_made_while_the_policy_is_tightened_is_refused_or_stopped() {
    let world = World::new().await;
    let (mut made, mut refusals) = (0, 0);
    for _ in 0..6 {
        world.decide(pb::TokenPolicy { allow_endless: Some(true), ..Default::default() }, &[]).await;
        let calls = (0..4).map(|_| {
            let operator = world.server.operator.clone();
            let request =
                pb::CreateTokenRequest { expiration: never(), ..token_for(&world.org.id, &world.bot.id) };
            tokio::spawn(async move { operator.tokens().create_token(request).await })
        });
        let calls: Vec<_> = calls.collect();
        world.decide(pb::TokenPolicy::default(), &["allow_endless"]).await;
        for call in calls {
            match call.await.unwrap() {
                Ok(token) => {
                    let token = token.into_inner();
                    let client = world.server.client(token.secret);
                    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
                    let id = token.token.unwrap().id;
                    assert_eq!(world.token(&id).await.state(), pb::TokenState::Blocked);
                    made += 1;
                }
                Err(refusal) => {
                    assert_eq!(reason(&refusal), "INVALID_FIELD");
                    refusals += 1;
                }
            }
        }
    }
    assert_eq!(made + refusals, 24);
}

#[tokio::test]
async fn audiences_are_those_of_token_and_policy_and_jwts_live_as_the_policy_says() {
    let world = World::new().await;
    let request = pb::CreateTokenRequest {
        allowed_audiences: vec!["a".into(), "b".into()],
        ..token_for(&world.org.id, &world.bot.id)
    };
    let (_, token) = world.make(request).await;
    let ask = async |audience: &str, life: Option<i64>| {
        let request = pb::ExchangeTokenRequest {
            subject_token: Some(token.token().into()),
            audiences: [audience].into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect(),
            requested_ttl: life.and_then(seconds),
            ..Default::default()
        };
        token.tokens().exchange_token(request).await.map(tonic::Response::into_inner)
    };
    let life = |answer: &pb::ExchangeTokenResponse| {
        let claims = claims(&answer.access_token);
        let (end, start) = (claims["exp"].as_i64().unwrap(), claims["iat"].as_i64().unwrap());
        assert_eq!(answer.expire_time.unwrap().seconds, end);
        end - start
    };
    assert_eq!(life(&ask("a", Some(3_600)).await.unwrap()), 3_600);
    let for_a = ask("a", None).await.unwrap().access_token;
    assert!(world.is_active(&for_a).await);

    let policy = pb::TokenPolicy {
        allowed_audiences: vec!["b".into(), "c".into()],
        access_token_lifetime: seconds(120),
        ..Default::default()
    };
    let narrowed = world.decide(policy, &[]).await;
    assert_eq!(narrowed.affected_count, Some(0), "no token is stopped");
    for refused_one in ["a", "c"] {
        refused(ask(refused_one, None).await, Code::InvalidArgument, "INVALID_TARGET");
    }
    assert_eq!(life(&ask("b", None).await.unwrap()), 120);
    assert_eq!(life(&ask("b", Some(3_600)).await.unwrap()), 120);
    assert_eq!(life(&ask("", Some(30)).await.unwrap()), 30);
    // One for an audience that is no longer allowed is not good.
    assert!(!world.is_active(&for_a).await);
    let audience = |audience: &str| pb::IntrospectTokenRequest {
        token_text: token.token().into(),
        audience: audience.into(),
        ..Default::default()
    };
    for (asked, active) in [("a", false), ("b", true), ("c", false), ("", true)] {
        let seen =
            world.server.operator.tokens().introspect_token(audience(asked)).await.unwrap().into_inner();
        assert_eq!(seen.active, active, "{asked}");
        assert_eq!(seen.aud, if active { vec!["b".to_owned()] } else { Vec::new() });
    }
    // A change that only widens makes nothing stale.
    let jwt = token.with_jwt().await;
    let wider = pb::TokenPolicy { access_token_lifetime: seconds(600), ..Default::default() };
    world.decide(wider, &["access_token_lifetime", "allowed_audiences"]).await;
    jwt.caller().await.unwrap();
    assert_eq!(life(&ask("a", None).await.unwrap()), 600);
}

#[tokio::test]
async fn a_token_that_lies_idle_is_stopped_until_it_is_rotated_or_the_limit_loosened() {
    let world = World::new().await;
    let (idle, sleeper) = world.make(token_for(&world.org.id, &world.bot.id)).await;
    let (used, busy) = world.make(token_for(&world.org.id, &world.bot.id)).await;
    world.decide(pb::TokenPolicy { idle_limit: days(2), ..Default::default() }, &[]).await;
    let state = async |id: &str| state_of(&world.server.fresh_operator().await, &world.org, id).await;
    world.advance(DAY + DAY / 2);
    busy.exchange().await.unwrap();
    sleeper.exchange().await.unwrap();
    world.server.state.last_uses.flush().await.unwrap();
    world.advance(DAY + DAY / 2);
    // The clock has jumped: the cache does not know of the use yet, and reads again within 2 s.
    let works = async || busy.exchange().await.is_ok();
    until(works).await;
    world.server.state.last_uses.flush().await.unwrap();
    // The limit, and the delay until a use is known.
    world.advance(DAY / 2 + 180);
    assert_eq!(state(&idle).await, pb::TokenState::Active);
    world.advance(121);
    assert_eq!((state(&idle).await, state(&used).await), (pb::TokenState::Blocked, pb::TokenState::Active));
    refused(sleeper.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    refused(sleeper.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    until(works).await;
    let jwt = busy.with_jwt().await;
    jwt.caller().await.unwrap();
    // A refusal is no use.
    world.server.state.last_uses.flush().await.unwrap();
    refused(sleeper.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");

    // A new secret gives it another such time, the old one with it.
    let operator = world.server.fresh_operator().await;
    let rotated = operator.tokens().rotate_token(rotate_token(&world.org.id, &idle, None)).await.unwrap();
    let rotated = rotated.into_inner();
    assert_eq!(rotated.token.unwrap().state(), pb::TokenState::Active);
    let fresh = world.server.client(rotated.secret);
    fresh.exchange().await.unwrap();
    sleeper.exchange().await.unwrap();
    // So does a wider limit, to all.
    world.server.state.last_uses.flush().await.unwrap();
    world.advance(2 * DAY + 301);
    for (id, token) in [(&idle, &fresh), (&used, &busy)] {
        assert_eq!(state(id).await, pb::TokenState::Blocked);
        refused(token.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    }
    let wider = pb::TokenPolicy { idle_limit: days(3), ..Default::default() };
    decide(&world.server.fresh_operator().await, &world.org, wider, &[]).await.unwrap();
    busy.exchange().await.unwrap();
}

#[tokio::test]
async fn a_use_that_was_not_known_yet_counts_when_it_is() {
    let world = World::new().await;
    let (id, token) = world.make(token_for(&world.org.id, &world.bot.id)).await;
    world.advance(3 * DAY);
    let operator = world.server.fresh_operator().await;
    token.exchange().await.unwrap();
    // The limit comes before the use is written: the token seems to have been idle for 3 days.
    let limit = pb::TokenPolicy { idle_limit: days(1), ..Default::default() };
    let stopped = decide(&operator, &world.org, limit, &[]).await.unwrap();
    assert!(stopped.affected_tokens.iter().any(|token| token.id == id));
    refused(token.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    world.server.state.last_uses.flush().await.unwrap();
    // What seems idle is read again, at most each 2 s: without a change, an event or a restart.
    until(async || token.exchange().await.is_ok()).await;
    assert_eq!(state_of(&operator, &world.org, &id).await, pb::TokenState::Active);
    // Cached, it sends no query.
    world.server.hear_all().await;
    token.exchange().await.unwrap();
    let looks = world.server.state.principals.looks();
    for _ in 0..20 {
        token.exchange().await.unwrap();
    }
    assert_eq!(world.server.state.principals.looks(), looks);
}

async fn state_of(by: &Client, org: &Org, id: &str) -> pb::TokenState {
    let request = pb::GetTokenRequest { org_id: org.id.clone(), token_id: id.into() };
    by.tokens().get_token(request).await.unwrap().into_inner().token.unwrap().state()
}

/// Numbers that look random, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as i64
    }

    fn perhaps<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) > 0).then_some(value)
    }
}

/// Tokens of all kinds and ages, by random.
async fn grow_tokens(world: &World, numbers: &mut Numbers) {
    let (other, _) = world.server.account(&world.org.id, "other", &[("invoices.read", "*")]).await;
    let request = pb::CreateUserRequest {
        org_id: world.org.id.clone(),
        email: "ann@example.org".into(),
        grants: vec![grant("invoices.read", "*")],
        ..Default::default()
    };
    let user = world.server.operator.accounts().create_user(request).await.unwrap().into_inner();
    let owners = [world.bot.id.clone(), other.id, user.account.unwrap().id];
    let org_id = OrgId::parse(&world.org.id).unwrap().uuid();
    for n in 0..60 {
        let mut request = token_for(&world.org.id, &owners[n % 3]);
        if numbers.below(2) == 0 {
            request.kind = pb::TokenKind::Publishable.into();
            request.scopes = vec!["invoices.read".into()];
            request.allowed_origins = vec!["https://app.example".into()];
        }
        let (id, _) = world.make(request).await;
        if numbers.below(4) == 0 {
            let rotate = rotate_token(&world.org.id, &id, None);
            world.server.operator.tokens().rotate_token(rotate).await.unwrap();
        }
        if numbers.below(8) == 0 {
            world.server.operator.tokens().revoke_token(by_id(&world.org.id, &id)).await.unwrap();
        }
        let token_id = TokenId::parse(&id).unwrap().uuid();
        let (age, life) = (numbers.below(40), numbers.below(80));
        let sql = "update tokens set create_time = create_time - $3 * interval '12 hours',
                   expire_time = create_time + ($4 - $3) * interval '12 hours' where org_id = $1 and token_id = $2";
        let life = numbers.perhaps(life.max(1) as f64);
        sqlx::query(sql)
            .bind(org_id)
            .bind(token_id)
            .bind(age as f64)
            .bind(life)
            .execute(&world.server.state.db)
            .await
            .unwrap();
        let used = numbers.below(40) as f64;
        let sql = "update token_secrets set create_time = create_time - $3 * interval '12 hours',
                   last_use_time = create_time - $4 * interval '12 hours',
                   use_count = case when $4 is null then null else 1 end where org_id = $1 and token_id = $2";
        sqlx::query(sql)
            .bind(org_id)
            .bind(token_id)
            .bind(age as f64)
            .bind(numbers.perhaps(used))
            .execute(&world.server.state.db)
            .await
            .unwrap();
    }
}

async fn listed(by: &Client, org: &Org, state: pb::TokenState) -> Vec<pb::Token> {
    let request = pb::ListTokensRequest {
        org_id: org.id.clone(),
        state: state.into(),
        page_size: 200,
        ..Default::default()
    };
    let page = by.tokens().list_tokens(request).await.unwrap().into_inner();
    assert_eq!(page.total_size, Some(page.tokens.len() as i32));
    page.tokens
}

/// The filter is SQL, the returned state the pure rule: they agree over tokens and policies of all kinds.
#[tokio::test]
async fn lists_by_state_hold_what_is_shown_in_that_state() {
    const STATES: [pb::TokenState; 4] =
        [pb::TokenState::Active, pb::TokenState::Expired, pb::TokenState::Revoked, pb::TokenState::Blocked];
    let world = World::new().await;
    let operator = &world.server.operator;
    world.decide(pb::TokenPolicy { allow_user_tokens: Some(true), ..Default::default() }, &[]).await;
    let mut numbers = Numbers(7);
    grow_tokens(&world, &mut numbers).await;
    let mut seen: BTreeMap<i32, usize> = BTreeMap::new();
    let mut before: Option<BTreeSet<String>> = None;
    for _ in 0..12 {
        let half_days = |days: i64| seconds(days.max(2) * DAY / 2);
        let (life, idle) = (half_days(numbers.below(80)), half_days(numbers.below(40)));
        let policy = pb::TokenPolicy {
            max_secret_lifetime: numbers.perhaps(life).flatten(),
            max_publishable_lifetime: half_days(numbers.below(80)),
            allow_endless: Some(numbers.below(2) == 0),
            allow_user_tokens: Some(numbers.below(2) == 0),
            idle_limit: numbers.perhaps(idle).flatten(),
            ..Default::default()
        };
        let paths = [
            "max_secret_lifetime",
            "max_publishable_lifetime",
            "allow_endless",
            "allow_user_tokens",
            "idle_limit",
        ];
        let stopped = world.decide(policy, &paths).await;
        let all = listed(operator, &world.org, pb::TokenState::Unspecified).await;
        for state in STATES {
            let shown: Vec<_> = all.iter().filter(|token| token.state() == state).cloned().collect();
            assert_eq!(listed(operator, &world.org, state).await, shown, "{state:?}");
            *seen.entry(state.into()).or_default() += shown.len();
        }
        // What a change reports as blocked is what was active and is blocked.
        let ids = |state: pb::TokenState| -> BTreeSet<String> {
            all.iter().filter(|token| token.state() == state).map(|token| token.id.clone()).collect()
        };
        if let Some(active) = before {
            let expected: BTreeSet<_> = ids(pb::TokenState::Blocked).intersection(&active).cloned().collect();
            let told: BTreeSet<_> = stopped.affected_tokens.into_iter().map(|token| token.id).collect();
            assert_eq!(told, expected);
        }
        before = Some(ids(pb::TokenState::Active));
    }
    assert!(seen.len() == 4 && seen.values().all(|tokens| *tokens > 20), "{seen:?}");
}
