//! `UpdateTokenPolicy`: an org's rules for its tokens, within the ceilings of the
//! deployment, and what they limit when tokens are created.

use std::time::Duration;

use countersign::commands::bootstrap;
use countersign::config::{ServerLimits, TokenLimits};
use countersign::grpc::pb;
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::harness::{Client, LIMITS, Org, TestServer, refused, token_for, violated};

pub const DAY: i64 = 86_400;

type Expiration = pb::create_token_request::Expiration;

pub fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

pub fn mask(paths: &[&str]) -> Option<FieldMask> {
    (!paths.is_empty()).then(|| FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

/// Changes a policy: what the mask names; without paths, what is set.
pub async fn decide(
    by: &Client,
    org: &Org,
    policy: pb::TokenPolicy,
    paths: &[&str],
) -> Result<pb::UpdateTokenPolicyResponse, Status> {
    let request = pb::UpdateTokenPolicyRequest {
        org_id: org.id.clone(),
        policy: Some(policy),
        update_mask: mask(paths),
        ..Default::default()
    };
    Ok(by.orgs().update_token_policy(request).await?.into_inner())
}

pub async fn org(by: &Client, id: &str) -> pb::Org {
    by.orgs().get_org(pb::GetOrgRequest { org_id: id.into() }).await.unwrap().into_inner().org.unwrap()
}

pub fn never() -> Option<Expiration> {
    Some(Expiration::NeverExpires(true))
}

pub fn ttl(life: i64) -> Option<Expiration> {
    seconds(life).map(Expiration::Ttl)
}

/// The whole lifetime of the token, in seconds.
fn life(token: &pb::Token) -> Option<i64> {
    Some(token.expire_time?.seconds - token.create_time?.seconds)
}

struct World {
    server: TestServer,
    org: Org,
    bot: pb::Account,
}

impl World {
    async fn new(limits: ServerLimits) -> Self {
        let server = TestServer::with_limits(limits).await;
        let org = server.org().await;
        let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
        Self { server, org, bot }
    }

    async fn decide(&self, policy: pb::TokenPolicy) -> Result<pb::UpdateTokenPolicyResponse, Status> {
        decide(&self.server.operator, &self.org, policy, &[]).await
    }

    /// Created by the operator, whose token limits nothing.
    async fn make(&self, request: pb::CreateTokenRequest) -> Result<pb::Token, Status> {
        Ok(self.server.operator.tokens().create_token(request).await?.into_inner().token.unwrap())
    }

    fn secret(&self, expiration: Option<Expiration>) -> pb::CreateTokenRequest {
        pb::CreateTokenRequest { expiration, ..token_for(&self.org.id, &self.bot.id) }
    }

    fn publishable(&self, expiration: Option<Expiration>) -> pb::CreateTokenRequest {
        pb::CreateTokenRequest {
            kind: pb::TokenKind::Publishable.into(),
            scopes: vec!["invoices.read".into()],
            allowed_origins: vec!["https://app.example".into()],
            ..self.secret(expiration)
        }
    }

    async fn policy_events(&self) -> Vec<String> {
        let sql =
            "select changes::text from events where type = 'org.token_policy_updated' order by event_id";
        sqlx::query_scalar(sql).fetch_all(&self.server.state.db).await.unwrap()
    }
}

#[tokio::test]
async fn an_org_begins_with_the_defaults() {
    let world = World::new(LIMITS).await;
    let org = org(&world.org.owner, "").await;
    let expected = pb::TokenPolicy {
        max_secret_lifetime: seconds(3_650 * DAY),
        max_publishable_lifetime: seconds(3_650 * DAY),
        default_lifetime: seconds(365 * DAY),
        allow_endless: Some(false),
        allow_user_tokens: Some(false),
        allow_self_renewal: Some(false),
        allow_federation: Some(false),
        max_renewed_lifetime: seconds(730 * DAY),
        etag: org.etag,
        ..Default::default()
    };
    assert_eq!(org.token_policy.unwrap(), expected);
}

#[tokio::test]
async fn fields_change_by_mask_and_go_back_to_their_defaults() {
    let world = World::new(LIMITS).await;
    let (owner, before) = (&world.org.owner, org(&world.org.owner, "").await);
    let wanted = pb::TokenPolicy {
        default_lifetime: seconds(30 * DAY),
        allow_endless: Some(true),
        allowed_audiences: vec!["https://b.example".into(), "a".into(), "a".into()],
        idle_limit: seconds(90 * DAY),
        etag: before.etag.clone(),
        ..Default::default()
    };
    let after = decide(owner, &world.org, wanted.clone(), &[]).await.unwrap().policy.unwrap();
    let expected = pb::TokenPolicy {
        allowed_audiences: vec!["https://b.example".into(), "a".into()],
        etag: after.etag.clone(),
        max_secret_lifetime: seconds(3_650 * DAY),
        max_publishable_lifetime: seconds(3_650 * DAY),
        allow_user_tokens: Some(false),
        allow_self_renewal: Some(false),
        allow_federation: Some(false),
        max_renewed_lifetime: seconds(730 * DAY),
        ..wanted.clone()
    };
    assert_eq!(after, expected);
    let read = org(owner, "").await;
    assert_eq!((read.token_policy.as_ref(), &read.etag), (Some(&after), &after.etag));
    assert_ne!(before.etag, after.etag);
    assert!(read.update_time != before.update_time);
    let changes = world.policy_events().await.pop().unwrap();
    for part in ["default_lifetime", "2592000s", "allow_endless", "allowed_audiences", "idle_limit"] {
        assert!(changes.contains(part), "{part} in {changes}");
    }
    assert!(!changes.contains("max_secret_lifetime"), "{changes}");

    // The etag that the caller read is outdated; a value set already, in whatever order, changes nothing.
    refused(decide(owner, &world.org, wanted.clone(), &[]).await, Code::Aborted, "ETAG_MISMATCH");
    let turned = pb::TokenPolicy {
        allowed_audiences: vec!["a".into(), "https://b.example".into()],
        etag: String::new(),
        ..wanted
    };
    let same = decide(owner, &world.org, turned, &["allowed_audiences", "idle_limit"]).await.unwrap();
    assert_eq!((same.policy.unwrap().etag, same.affected_count), (after.etag, Some(0)));
    assert_eq!(world.policy_events().await.len(), 1);

    // A field that the mask names and that is absent gets its default; the others are unchanged.
    let paths = ["idle_limit", "allowed_audiences", "allow_endless"];
    let after = decide(owner, &world.org, pb::TokenPolicy::default(), &paths).await.unwrap().policy.unwrap();
    assert_eq!((after.idle_limit, after.allow_endless), (None, Some(false)));
    assert!(after.allowed_audiences.is_empty());
    assert_eq!(after.default_lifetime, seconds(30 * DAY));
}

#[tokio::test]
async fn an_org_is_sent_back_whole_with_the_policy_it_has() {
    let world = World::new(LIMITS).await;
    let mut read = org(&world.org.owner, "").await;
    read.display_name = "New".into();
    let update = async |org: pb::Org| {
        let request = pb::UpdateOrgRequest { org: Some(org), update_mask: None };
        world.org.owner.orgs().update_org(request).await
    };
    let mut after = update(read).await.unwrap().into_inner().org.unwrap();
    after.token_policy.as_mut().unwrap().allow_endless = Some(true);
    let refusal = refused(update(after).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["org.token_policy"]);
}

#[tokio::test]
async fn each_limit_has_its_edges() {
    let world = World::new(LIMITS).await;
    let time = |path: &str, asked: Option<prost_types::Duration>| {
        let mut policy = pb::TokenPolicy::default();
        *match path {
            "max_secret_lifetime" => &mut policy.max_secret_lifetime,
            "max_publishable_lifetime" => &mut policy.max_publishable_lifetime,
            "default_lifetime" => &mut policy.default_lifetime,
            "access_token_lifetime" => &mut policy.access_token_lifetime,
            "max_renewed_lifetime" => &mut policy.max_renewed_lifetime,
            _ => &mut policy.idle_limit,
        } = asked;
        policy
    };
    let most = 3_650 * DAY;
    for (path, least, most) in [
        ("max_secret_lifetime", 60, most),
        ("max_publishable_lifetime", 60, most),
        ("default_lifetime", 60, most),
        ("access_token_lifetime", 10, 3_600),
        ("idle_limit", DAY, most),
        ("max_renewed_lifetime", 60, most),
    ] {
        for good in [least, most] {
            let request = pb::UpdateTokenPolicyRequest {
                policy: Some(time(path, seconds(good))),
                validate_only: true,
                ..Default::default()
            };
            world.org.owner.orgs().update_token_policy(request).await.unwrap();
        }
        let whole = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let half = prost_types::Duration { seconds: least, nanos: 500_000_000 };
        for bad in [whole(least - 1), whole(most + 1), whole(0), whole(-least), whole(i64::MAX), half] {
            let refusal = decide(&world.org.owner, &world.org, time(path, Some(bad)), &[]).await;
            let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(violated(&refusal), [format!("policy.{path}")], "{bad:?}");
        }
    }
    // All at once; what the mask does not name is not checked.
    let all = pb::TokenPolicy {
        allowed_audiences: vec!["a b".into(), "a".into(), String::new()],
        ..time("idle_limit", seconds(1))
    };
    let refusal = refused(
        decide(&world.org.owner, &world.org, all.clone(), &[]).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    let named = ["policy.idle_limit", "policy.allowed_audiences[0]", "policy.allowed_audiences[2]"];
    assert_eq!(violated(&refusal), named);
    decide(&world.org.owner, &world.org, all, &["allow_endless"]).await.unwrap();
    let many = pb::TokenPolicy { allowed_audiences: vec!["a".into(); 101], ..Default::default() };
    for (policy, paths, field) in [
        (many, &[][..], "policy.allowed_audiences"),
        (pb::TokenPolicy::default(), &[], "update_mask"),
        (pb::TokenPolicy::default(), &["*"], "update_mask"),
        (pb::TokenPolicy::default(), &["etag"], "update_mask"),
    ] {
        let refusal = decide(&world.org.owner, &world.org, policy, paths).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), [field]);
    }
    assert_eq!(world.policy_events().await.len(), 0);
}

#[tokio::test]
async fn a_new_token_keeps_to_the_policy() {
    let world = World::new(LIMITS).await;
    let policy = pb::TokenPolicy {
        max_secret_lifetime: seconds(90 * DAY),
        max_publishable_lifetime: seconds(30 * DAY),
        default_lifetime: seconds(60 * DAY),
        allowed_audiences: vec!["https://a.example".into()],
        ..Default::default()
    };
    world.decide(policy).await.unwrap();
    // The default is cut to the maximum of the kind; a requested lifetime is not.
    for (request, expected) in [
        (world.secret(None), 60 * DAY),
        (world.publishable(None), 30 * DAY),
        (world.secret(ttl(90 * DAY)), 90 * DAY),
        (world.publishable(ttl(30 * DAY)), 30 * DAY),
    ] {
        let token = world.make(request).await.unwrap();
        assert_eq!((life(&token), token.state()), (Some(expected), pb::TokenState::Active));
    }
    let now = world.server.state.clock.now().unix_timestamp();
    let at = |days: i64| {
        let time = prost_types::Timestamp { seconds: now + days * DAY, nanos: 0 };
        Some(Expiration::ExpireTime(time))
    };
    for (request, field, maximum) in [
        (world.secret(ttl(90 * DAY + 1)), "ttl", "90 days"),
        (world.publishable(ttl(30 * DAY + 1)), "ttl", "30 days"),
        (world.secret(at(91)), "expire_time", "90 days"),
        (world.secret(never()), "never_expires", "requires an expiry"),
        (world.secret(Some(Expiration::NeverExpires(false))), "never_expires", "must be true"),
    ] {
        let refusal = refused(world.make(request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
        assert!(refusal.message().contains(maximum), "{}", refusal.message());
    }
    let request = pb::CreateTokenRequest {
        allowed_audiences: vec!["https://a.example".into(), "https://b.example".into()],
        ..world.secret(ttl(91 * DAY))
    };
    let refusal = refused(world.make(request).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["allowed_audiences[1]", "ttl"]);
}

#[tokio::test]
async fn a_token_without_an_end_is_made_where_the_policy_allows_it() {
    let world = World::new(LIMITS).await;
    let endless = pb::TokenPolicy { allow_endless: Some(true), ..Default::default() };
    world.decide(endless).await.unwrap();
    let request = pb::CreateTokenRequest { may_manage_tokens: true, ..world.secret(never()) };
    let made = world.server.operator.tokens().create_token(request).await.unwrap().into_inner();
    let token = made.token.unwrap();
    assert_eq!((token.expire_time, token.state()), (None, pb::TokenState::Active));
    let client = world.server.client(made.secret);
    world.server.state.clock.advance(Duration::from_secs(20 * 365 * DAY as u64));
    client.exchange().await.unwrap();
    assert_eq!(client.caller().await.unwrap().credential_expire_time, None);
    // A caller that expires creates only what expires; one that does not creates what the policy allows.
    let ending = world.server.client(world.server.managing_token_of(&world.org).await);
    let ask = pb::IntrospectTokenRequest { token_text: client.token().into(), ..Default::default() };
    let seen = ending.tokens().introspect_token(ask).await.unwrap().into_inner();
    assert_eq!((seen.active, seen.exp), (true, 0));
    let refusal = ending.tokens().create_token(world.secret(never())).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["never_expires"]);
    let grant = pb::GrantAccessRequest {
        account_id: world.bot.id.clone(),
        grants: vec![crate::harness::grant("tokens.write", "*")],
        ..Default::default()
    };
    ending.accounts().grant_access(grant).await.unwrap();
    let by_endless = client.tokens().create_token(world.secret(never())).await.unwrap().into_inner();
    assert_eq!(by_endless.token.unwrap().expire_time, None);
    // It is given an expiry as any other is shortened.
    let end = world.server.state.clock.now().unix_timestamp() + DAY;
    let end = prost_types::Timestamp { seconds: end, nanos: 0 };
    let shorter = pb::Token { id: token.id, expire_time: Some(end), ..Default::default() };
    let request =
        pb::UpdateTokenRequest { org_id: world.org.id.clone(), token: Some(shorter), update_mask: None };
    // Its whole lifetime counts, which was long: the policy limits what expires.
    let refusal = ending.tokens().update_token(request).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["token.expire_time"]);
}

#[tokio::test]
async fn an_update_keeps_to_the_policy() {
    let world = World::new(LIMITS).await;
    let token = world.make(world.secret(None)).await.unwrap();
    let policy = pb::TokenPolicy {
        max_secret_lifetime: seconds(30 * DAY),
        allowed_audiences: vec!["a".into()],
        ..Default::default()
    };
    world.decide(policy).await.unwrap();
    let made = token.create_time.unwrap().seconds;
    let update = async |days: i64, audience: &str, paths: &[&str]| {
        let token = pb::Token {
            id: token.id.clone(),
            expire_time: Some(prost_types::Timestamp { seconds: made + days * DAY, nanos: 0 }),
            allowed_audiences: vec![audience.into()],
            ..Default::default()
        };
        let org_id = world.org.id.clone();
        let request = pb::UpdateTokenRequest { org_id, token: Some(token), update_mask: mask(paths) };
        let answer = world.server.operator.tokens().update_token(request).await;
        answer.map(|answer| answer.into_inner().token.unwrap())
    };
    let refusal = refused(update(31, "b", &[]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["token.expire_time", "token.allowed_audiences[0]"]);
    assert!(refusal.message().contains("30 days"), "{}", refusal.message());
    // Shortened to what the policy allows, it works again.
    let named = update(31, "a", &["allowed_audiences"]).await.unwrap();
    assert_eq!(named.state(), pb::TokenState::Blocked);
    let shortened = update(30, "a", &["expire_time"]).await.unwrap();
    assert_eq!(shortened.state(), pb::TokenState::Active);
}

#[tokio::test]
async fn ceilings_bound_what_is_decided_and_what_was() {
    let wide = World::new(LIMITS).await;
    let policy = pb::TokenPolicy {
        max_secret_lifetime: seconds(400 * DAY),
        allow_endless: Some(true),
        allow_user_tokens: Some(true),
        access_token_lifetime: seconds(3_600),
        ..Default::default()
    };
    wide.decide(policy.clone()).await.unwrap();
    let endless = wide.make(wide.secret(never())).await.unwrap();
    let long =
        wide.server.operator.tokens().create_token(wide.secret(ttl(400 * DAY))).await.unwrap().into_inner();
    let short = wide.server.operator.tokens().create_token(wide.secret(ttl(DAY))).await.unwrap().into_inner();

    let tokens = TokenLimits {
        max_lifetime: Duration::from_secs(90 * DAY as u64),
        max_access_token_lifetime: Duration::from_secs(120),
        allow_non_expiring: false,
        allow_user_tokens: false,
        max_idle: Some(Duration::from_secs(30 * DAY as u64)),
    };
    let narrow = wide.server.beside(ServerLimits { tokens, ..LIMITS }).await;
    // The operator's token lasts for a day, as bootstrap created it.
    let shown = org(&narrow.operator, &wide.org.id).await.token_policy.unwrap();
    let expected = pb::TokenPolicy {
        max_secret_lifetime: seconds(90 * DAY),
        max_publishable_lifetime: seconds(90 * DAY),
        default_lifetime: seconds(90 * DAY),
        allow_endless: Some(false),
        allow_user_tokens: Some(false),
        access_token_lifetime: seconds(120),
        idle_limit: seconds(30 * DAY),
        allow_self_renewal: Some(false),
        allow_federation: Some(false),
        max_renewed_lifetime: seconds(730 * DAY),
        etag: shown.etag.clone(),
        ..Default::default()
    };
    assert_eq!(shown, expected);
    for (token, state) in [
        (&endless, pb::TokenState::Blocked),
        (long.token.as_ref().unwrap(), pb::TokenState::Blocked),
        (short.token.as_ref().unwrap(), pb::TokenState::Active),
    ] {
        let get = pb::GetTokenRequest { org_id: wide.org.id.clone(), token_id: token.id.clone() };
        let seen = narrow.operator.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
        assert_eq!(seen.state(), state);
    }
    let refusal = narrow.client(&long.secret).exchange().await;
    refused(refusal, Code::Unauthenticated, "TOKEN_BLOCKED");
    wide.server.client(long.secret).exchange().await.unwrap();
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(short.secret),
        requested_ttl: seconds(3_600),
        ..Default::default()
    };
    let jwt = narrow.anonymous().tokens().exchange_token(request).await.unwrap().into_inner();
    assert!(jwt.expire_time.unwrap().seconds <= narrow.state.clock.now().unix_timestamp() + 120);

    let refusal = decide(&narrow.operator, &wide.org, policy, &[]).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    let fields = ["max_secret_lifetime", "access_token_lifetime", "allow_endless", "allow_user_tokens"];
    assert_eq!(violated(&refusal), fields.map(|field| format!("policy.{field}")));
    assert!(refusal.message().contains("90 days"), "{}", refusal.message());
    let idle = pb::TokenPolicy { idle_limit: seconds(31 * DAY), ..Default::default() };
    refused(decide(&narrow.operator, &wide.org, idle, &[]).await, Code::InvalidArgument, "INVALID_FIELD");
    for (expiration, field) in [(ttl(91 * DAY), "ttl"), (never(), "never_expires")] {
        let refusal = narrow.operator.tokens().create_token(wide.secret(expiration)).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), [field]);
    }
}

#[tokio::test]
async fn users_own_tokens_where_the_policy_says_so() {
    let world = World::new(LIMITS).await;
    let operator = &world.server.operator;
    let request = pb::CreateUserRequest {
        org_id: world.org.id.clone(),
        email: "ann@example.org".into(),
        ..Default::default()
    };
    let user = operator.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    let for_user = token_for(&world.org.id, &user.id);
    let refusal = world.make(for_user.clone()).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");

    let users = |allowed| pb::TokenPolicy { allow_user_tokens: Some(allowed), ..Default::default() };
    world.decide(users(true)).await.unwrap();
    let made = operator.tokens().create_token(for_user.clone()).await.unwrap().into_inner();
    let (token, client) = (made.token.unwrap(), world.server.client(made.secret));
    assert_eq!(
        crate::harness::claims(&client.exchange().await.unwrap().access_token)["account_kind"],
        "USER"
    );
    // A token is never moved to a user.
    let own = world.make(world.secret(None)).await.unwrap();
    let move_to = |token_id: &str, account_id: &str| pb::ReassignTokenRequest {
        org_id: world.org.id.clone(),
        token_id: token_id.into(),
        account_id: account_id.into(),
        allow_narrowing: true,
        ..Default::default()
    };
    let refusal = operator.tokens().reassign_token(move_to(&own.id, &user.id)).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");

    let stopped = world.decide(users(false)).await.unwrap();
    assert_eq!(stopped.affected_tokens.iter().map(|token| &token.id).collect::<Vec<_>>(), [&token.id]);
    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    refused(world.make(for_user).await, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
    // It is active: the user is not deleted before it has moved, and under a service account it works.
    let delete = pb::DeleteAccountRequest {
        org_id: world.org.id.clone(),
        account_id: user.id.clone(),
        ..Default::default()
    };
    let refusal = operator.accounts().delete_account(delete.clone()).await;
    refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let moved = operator.tokens().reassign_token(move_to(&token.id, &world.bot.id)).await.unwrap();
    assert_eq!(moved.into_inner().token.unwrap().state(), pb::TokenState::Active);
    client.exchange().await.unwrap();
    operator.accounts().delete_account(delete).await.unwrap();
}

#[tokio::test]
async fn what_would_stop_is_listed_before_and_what_did_after() {
    let world = World::new(LIMITS).await;
    let mut long = Vec::new();
    for n in 0..61 {
        let (account, _) = if n % 60 == 0 {
            world.server.account(&world.org.id, &format!("bot-{n}"), &[]).await
        } else {
            (world.bot.clone(), world.server.anonymous())
        };
        let request =
            pb::CreateTokenRequest { expiration: ttl(200 * DAY), ..token_for(&world.org.id, &account.id) };
        long.push(world.make(request).await.unwrap().id);
    }
    let short = world.make(world.secret(ttl(DAY))).await.unwrap();
    let gone = world.make(world.secret(None)).await.unwrap();
    let revoke = crate::harness::by_id(&world.org.id, &gone.id);
    world.server.operator.tokens().revoke_token(revoke).await.unwrap();

    let policy = pb::TokenPolicy { max_secret_lifetime: seconds(100 * DAY), ..Default::default() };
    let request = pb::UpdateTokenPolicyRequest {
        org_id: world.org.id.clone(),
        policy: Some(policy.clone()),
        validate_only: true,
        ..Default::default()
    };
    let before = org(&world.server.operator, &world.org.id).await;
    let operator = &world.server.operator;
    let would = operator.orgs().update_token_policy(request.clone()).await.unwrap().into_inner();
    assert_eq!(org(operator, &world.org.id).await, before, "nothing has changed");
    assert_eq!(world.policy_events().await.len(), 0);
    world.org.owner.exchange().await.unwrap();
    // Those of the helpers are for a year: the owner's, the bot's, and of the two accounts.
    let ids: Vec<_> = would.affected_tokens.iter().map(|token| token.id.clone()).collect();
    assert_eq!((would.affected_count, ids.len()), (Some(65), 65));
    assert!(long.iter().all(|id| ids.contains(id)) && ids.is_sorted());
    assert!(!ids.contains(&short.id) && !ids.contains(&gone.id));
    assert!(would.affected_tokens.iter().all(|token| token.state() == pb::TokenState::Blocked));
    let request = pb::UpdateTokenPolicyRequest { validate_only: false, ..request };
    let did = operator.orgs().update_token_policy(request.clone()).await.unwrap().into_inner();
    assert_eq!((&did.affected_tokens, did.affected_count), (&would.affected_tokens, Some(65)));
    assert_eq!(did.policy.unwrap().max_secret_lifetime, would.policy.unwrap().max_secret_lifetime);
    refused(world.org.owner.exchange().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    // What is blocked already is not counted as newly blocked.
    let policy = pb::TokenPolicy { max_secret_lifetime: seconds(99 * DAY), ..policy };
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), ..request };
    let again = operator.orgs().update_token_policy(request).await.unwrap().into_inner();
    assert_eq!((again.affected_tokens.len(), again.affected_count), (0, Some(0)));
}

#[tokio::test]
async fn a_hundred_are_listed_and_all_are_counted() {
    let world = World::new(LIMITS).await;
    for n in 0..2 {
        let (account, _) = world.server.account(&world.org.id, &format!("bot-{n}"), &[]).await;
        for _ in 0..55 {
            world.make(token_for(&world.org.id, &account.id)).await.unwrap();
        }
    }
    // A caller that may change the policy and not read tokens.
    let role = pb::Role {
        name: "policy-keeper".into(),
        permissions: vec!["orgs.write".into()],
        ..Default::default()
    };
    let request =
        pb::CreateRoleRequest { org_id: world.org.id.clone(), role: Some(role), ..Default::default() };
    let role = world.server.operator.orgs().create_role(request).await.unwrap().into_inner().role.unwrap();
    let (_, keeper) = world.server.account(&world.org.id, "keeper", &[(&role.id, "*")]).await;
    let policy = pb::TokenPolicy { max_secret_lifetime: seconds(DAY), ..Default::default() };
    let stopped = decide(&keeper, &world.org, policy, &[]).await.unwrap();
    // With one of the owner, three of the helpers and its own.
    assert_eq!((stopped.affected_tokens.len(), stopped.affected_count), (100, Some(115)));
    for token in &stopped.affected_tokens {
        let pb::Token { id, org_id, account_id, kind, state, .. } = token.clone();
        assert_eq!(*token, pb::Token { id, org_id, account_id, kind, state, ..Default::default() });
    }
    // A caller can block its own token, too: an operator or another owner undoes it.
    refused(keeper.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    decide(&world.server.operator, &world.org, pb::TokenPolicy::default(), &["max_secret_lifetime"])
        .await
        .unwrap();
    keeper.caller().await.unwrap();
}

#[tokio::test]
async fn the_operator_comes_back_from_a_policy_that_stops_it() {
    let server = TestServer::start().await;
    let policy = pb::TokenPolicy {
        max_secret_lifetime: seconds(60),
        access_token_lifetime: seconds(60),
        ..Default::default()
    };
    let org_id = server.operator.org_id().await;
    let request = pb::UpdateTokenPolicyRequest { org_id, policy: Some(policy), ..Default::default() };
    let stopped = server.operator.orgs().update_token_policy(request).await.unwrap().into_inner();
    assert_eq!(stopped.affected_count, Some(1));
    refused(server.operator.caller().await, Code::Unauthenticated, "TOKEN_BLOCKED");
    // One of a shorter lifetime, as the policy has it.
    server.fresh_operator().await.caller().await.unwrap();
    let mut text = String::new();
    let keep = |token: &str| {
        text.push_str(token);
        Ok(())
    };
    bootstrap::recover(&server.state, "recovered", bootstrap::TOKEN_LIFETIME, keep).await.unwrap();
    let operator = server.client(text);
    let system = operator.caller().await.unwrap().org.unwrap();
    let policy = system.token_policy.unwrap();
    let left = (policy.max_secret_lifetime, policy.access_token_lifetime);
    assert_eq!(left, (seconds(3_650 * DAY), seconds(60)));
    let sql = "select count(*) from events where type = 'org.token_policy_updated'";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&server.state.db).await.unwrap(), 2);
}
