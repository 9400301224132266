//! What changes a token after it was created: updates, new owners, revocation of all of an
//! account's; and how tokens are found.

use countersign::grpc::pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, Org, TestServer, claims, grant, refused, token_for, violated};

struct World {
    server: TestServer,
    org: Org,
    /// Holds `invoices.read` and `invoices.write` on the org.
    bot: pb::Account,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let grants = [("invoices.read", "*"), ("invoices.write", "*")];
        let (bot, _) = server.account(&org.id, "bot", &grants).await;
        Self { server, org, bot }
    }

    async fn make(&self, request: pb::CreateTokenRequest) -> (pb::Token, Client) {
        let made = self.org.owner.tokens().create_token(request).await.unwrap().into_inner();
        (made.token.unwrap(), self.server.client(made.secret))
    }

    fn scoped(&self, scopes: &[&str]) -> pb::CreateTokenRequest {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        pb::CreateTokenRequest { scopes, ..token_for(&self.org.id, &self.bot.id) }
    }

    async fn events(&self) -> i64 {
        sqlx::query_scalar("select count(*) from events").fetch_one(&self.server.state.db).await.unwrap()
    }
}

fn mask(paths: &[&str]) -> Option<FieldMask> {
    Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

async fn update(by: &Client, token: pb::Token, paths: &[&str]) -> Result<pb::Token, Status> {
    let request =
        pb::UpdateTokenRequest { token: Some(token), update_mask: mask(paths), ..Default::default() };
    Ok(by.tokens().update_token(request).await?.into_inner().token.unwrap())
}

fn texts(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_narrowed_and_jwts_from_before_are_stale() {
    let world = World::new().await;
    world.server.resources(&world.org.id, &["customers/acme"]).await;
    let (token, client) = world.make(world.scoped(&[])).await;
    let wide = client.with_jwt().await;
    wide.caller().await.unwrap();
    let narrowed = pb::Token {
        id: token.id.clone(),
        scopes: texts(&["invoices.read"]),
        allowed_audiences: texts(&[&world.server.endpoint]),
        etag: token.etag.clone(),
        ..Default::default()
    };
    let after = update(&world.org.owner, narrowed.clone(), &["scopes", "allowed_audiences"]).await.unwrap();
    assert_eq!(after.scopes, ["invoices.read"]);
    assert_ne!(after.etag, token.etag);
    refused(wide.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert_eq!(client.exchange().await.unwrap().scopes, ["invoices.read"]);
    // The etag that the caller read is outdated.
    refused(update(&world.org.owner, narrowed.clone(), &["scopes"]).await, Code::Aborted, "ETAG_MISMATCH");
    let events = world.events().await;
    let same = pb::Token { etag: String::new(), ..narrowed };
    let again = update(&world.org.owner, same, &["scopes", "allowed_audiences"]).await.unwrap();
    assert_eq!((again, world.events().await), (after, events), "what is so already changes nothing");

    // A token that was shortened revokes its JWTs.
    let (_, verifier) = world.server.account(&world.org.id, "verifier", &[("tokens.introspect", "*")]).await;
    let jwt = client.exchange().await.unwrap().access_token;
    let end = world.server.state.clock.now().unix_timestamp() + 20;
    let shorter = pb::Token {
        id: token.id.clone(),
        expire_time: Some(prost_types::Timestamp { seconds: end, nanos: 0 }),
        ..Default::default()
    };
    update(&world.org.owner, shorter, &[]).await.unwrap();
    let ask = pb::IntrospectTokenRequest { token_text: jwt, ..Default::default() };
    let seen = verifier.tokens().introspect_token(ask).await.unwrap().into_inner();
    assert_eq!((seen.active, seen.exp), (true, end));
    assert!(seen.max_cache_ttl.unwrap().seconds <= 20);

    let path = pb::Token {
        id: token.id.clone(),
        resources: texts(&["customers/acme"]),
        display_name: "x".into(),
        ..Default::default()
    };
    let after = update(&world.org.owner, path, &[]).await.unwrap();
    assert_eq!((after.resources, after.display_name), (texts(&["customers/acme"]), "x".to_owned()));
    let jwt = client.exchange().await.unwrap();
    assert!(jwt.scopes.is_empty());
    assert_eq!(claims(&jwt.access_token)["authorization_details"][0]["identifier"], "customers/acme");
}

#[tokio::test]
async fn nothing_of_a_token_is_widened_or_emptied() {
    let world = World::new().await;
    world.server.resources(&world.org.id, &["customers/acme", "customers/other"]).await;
    let request = pb::CreateTokenRequest {
        resources: texts(&["customers/acme"]),
        allowed_audiences: texts(&["https://a.example"]),
        allowed_cidrs: texts(&["127.0.0.0/8"]),
        ..world.scoped(&["invoices.read"])
    };
    let (token, client) = world.make(request).await;
    let base = pb::Token { id: token.id.clone(), ..Default::default() };
    let later = token.expire_time.map(|end| prost_types::Timestamp { seconds: end.seconds + 60, ..end });
    for (change, path) in [
        (pb::Token { scopes: texts(&["invoices.read", "invoices.write"]), ..base.clone() }, "scopes"),
        (base.clone(), "scopes"),
        (pb::Token { resources: texts(&["customers/other"]), ..base.clone() }, "resources"),
        (pb::Token { resources: texts(&["customers"]), ..base.clone() }, "resources"),
        (base.clone(), "resources"),
        (pb::Token { allowed_audiences: texts(&["https://b.example"]), ..base.clone() }, "allowed_audiences"),
        (base.clone(), "allowed_audiences"),
        (base.clone(), "allowed_cidrs"),
        (base.clone(), "expire_time"),
        (pb::Token { expire_time: later, ..base.clone() }, "expire_time"),
    ] {
        let refusal = refused(
            update(&world.org.owner, change, &[path]).await,
            Code::InvalidArgument,
            "WIDENING_NOT_ALLOWED",
        );
        let listed = refusal.get_details_precondition_failure().unwrap().violations;
        assert!(listed.iter().any(|violation| violation.subject == path), "{path}");
    }
    let get = pb::GetTokenRequest { token_id: token.id.clone(), ..Default::default() };
    let now = world.org.owner.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    assert_eq!((now.scopes, now.resources, now.etag), (token.scopes, token.resources, token.etag.clone()));
    // The places that it works from may change.
    let moved = pb::Token { allowed_cidrs: texts(&["192.0.2.0/24"]), ..base.clone() };
    update(&world.org.owner, moved, &["allowed_cidrs"]).await.unwrap();
    refused(client.exchange().await, Code::PermissionDenied, "ADDRESS_NOT_ALLOWED");

    let refuse = async |change: pb::Token, paths: &[&str]| {
        let refusal = update(&world.org.owner, change, paths).await;
        violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD"))
    };
    let past = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let bad = pb::Token {
        id: "org_1".into(),
        scopes: texts(&["nonsense"]),
        allowed_cidrs: texts(&["any"]),
        expire_time: past,
        ..Default::default()
    };
    assert_eq!(
        refuse(bad, &[]).await,
        ["token.id", "token.expire_time", "token.scopes[0]", "token.allowed_cidrs[0]"]
    );
    assert_eq!(refuse(base.clone(), &["purpose", "kind", "*", "account_id"]).await, ["update_mask"; 4]);
    assert_eq!(refuse(base.clone(), &[]).await, ["update_mask"]);
    let origin = pb::Token { allowed_origins: texts(&["https://a.example"]), ..base.clone() };
    assert_eq!(refuse(origin, &[]).await, ["token.allowed_origins"]);
    let gone = pb::Token { id: "tok_00000000000000000000000000".into(), ..base.clone() };
    refused(update(&world.org.owner, gone, &["scopes"]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    world.org.owner.tokens().revoke_token(crate::harness::by_id("", &token.id)).await.unwrap();
    let named = pb::Token { display_name: "late".into(), ..base };
    refused(update(&world.org.owner, named, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn nobody_changes_what_exceeds_them() {
    let world = World::new().await;
    let (owners, _) = world.make(token_for(&world.org.id, &world.org.owner_id)).await;
    let (_, manager) = world.server.account(&world.org.id, "manager", &[("manager", "*")]).await;
    let change = pb::Token { id: owners.id.clone(), display_name: "mine".into(), ..Default::default() };
    let refusal = update(&manager, change, &[]).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let (target, _) = world.server.account(&world.org.id, "target", &[]).await;
    let reassign = pb::ReassignTokenRequest {
        token_id: owners.id.clone(),
        account_id: target.id.clone(),
        ..Default::default()
    };
    let refusal = manager.tokens().reassign_token(reassign).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    // An unrestricted token, to an account that can do more than the caller.
    let (weak, _) = world.make(token_for(&world.org.id, &target.id)).await;
    let rise = pb::ReassignTokenRequest {
        token_id: weak.id,
        account_id: world.org.owner_id.clone(),
        ..Default::default()
    };
    let refusal = manager.tokens().reassign_token(rise).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let all = pb::RevokeAccountTokensRequest { account_id: world.org.owner_id.clone(), ..Default::default() };
    let refusal = manager.tokens().revoke_account_tokens(all).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    // Without `may_manage_tokens` nothing is changed, whatever is held.
    let (_, plain) = world.make(token_for(&world.org.id, &world.org.owner_id)).await;
    let change = pb::Token { id: owners.id, display_name: "mine".into(), ..Default::default() };
    refused(update(&plain, change, &[]).await, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn a_token_goes_on_under_another_account() {
    let world = World::new().await;
    let (target, _) = world.server.account(&world.org.id, "target", &[("invoices.read", "*")]).await;
    let (token, client) = world.make(world.scoped(&["invoices.read", "invoices.write"])).await;
    let before = client.with_jwt().await;
    let ask = |allow_narrowing, validate_only| pb::ReassignTokenRequest {
        token_id: token.id.clone(),
        account_id: target.id.clone(),
        allow_narrowing,
        validate_only,
        ..Default::default()
    };
    let owner = &world.org.owner;
    let refusal = owner.tokens().reassign_token(ask(false, false)).await;
    let refusal = refused(refusal, Code::PermissionDenied, "SCOPE_NOT_HELD");
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    assert_eq!(listed.iter().map(|v| v.subject.as_str()).collect::<Vec<_>>(), ["invoices.write"]);
    let events = world.events().await;
    let preview = owner.tokens().reassign_token(ask(true, true)).await.unwrap().into_inner();
    assert_eq!(preview.lost_scopes, ["invoices.write"]);
    assert_eq!(preview.token.unwrap().account_id, target.id);
    assert_eq!(world.events().await, events);
    assert_eq!(client.exchange().await.unwrap().scopes, ["invoices.read", "invoices.write"]);

    let moved = owner.tokens().reassign_token(ask(true, false)).await.unwrap().into_inner();
    assert_eq!(moved.lost_scopes, ["invoices.write"]);
    let now = moved.token.unwrap();
    assert_eq!((now.account_id.as_str(), now.scopes.len()), (target.id.as_str(), 1));
    let jwt = client.exchange().await.unwrap();
    assert_eq!(jwt.scopes, ["invoices.read"]);
    assert_eq!(claims(&jwt.access_token)["sub"], target.id.as_str());
    refused(before.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    assert_eq!(client.caller().await.unwrap().account.unwrap().id, target.id);
    // There it is.
    let events = world.events().await;
    owner.tokens().reassign_token(ask(false, false)).await.unwrap();
    assert_eq!(world.events().await, events);
}

#[tokio::test]
async fn what_a_token_without_scopes_loses_is_told_before_it_is_lost() {
    let world = World::new().await;
    world.server.resources(&world.org.id, &["customers/acme"]).await;
    let (weak, _) = world.server.account(&world.org.id, "weak", &[("invoices.read", "customers/acme")]).await;
    let (token, client) = world.make(world.scoped(&[])).await;
    let ask = |allow_narrowing| pb::ReassignTokenRequest {
        token_id: token.id.clone(),
        account_id: weak.id.clone(),
        allow_narrowing,
        ..Default::default()
    };
    let refusal = world.org.owner.tokens().reassign_token(ask(false)).await;
    let refusal = refused(refusal, Code::PermissionDenied, "SCOPE_NOT_HELD");
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    let listed: Vec<_> = listed.iter().map(|v| v.subject.as_str()).collect();
    // From the whole org to one customer is less, too.
    assert_eq!(listed, ["invoices.read on *", "invoices.write on *"]);
    assert_eq!(client.exchange().await.unwrap().scopes, ["invoices.read", "invoices.write"]);
    let moved = world.org.owner.tokens().reassign_token(ask(true)).await.unwrap().into_inner();
    assert_eq!(moved.lost_scopes, ["invoices.read", "invoices.write"]);
}

#[tokio::test]
async fn less_is_always_allowed_and_the_order_of_a_list_says_nothing() {
    let world = World::new().await;
    let (token, client) = world.make(world.scoped(&["invoices.read", "invoices.write"])).await;
    let jwt = client.with_jwt().await;
    let events = world.events().await;
    let turned = pb::Token {
        id: token.id.clone(),
        scopes: texts(&["invoices.write", "invoices.read"]),
        ..Default::default()
    };
    let same = update(&world.org.owner, turned, &[]).await.unwrap();
    assert_eq!((same.etag, world.events().await), (token.etag, events));
    jwt.caller().await.unwrap();
    // A scope that its account has lost since blocks no change.
    let taken = pb::RevokeAccessRequest {
        account_id: world.bot.id.clone(),
        grants: vec![grant("invoices.write", "*")],
        ..Default::default()
    };
    world.org.owner.accounts().revoke_access(taken).await.unwrap();
    let contained =
        pb::Token { id: token.id, allowed_audiences: texts(&["https://a.example"]), ..Default::default() };
    update(&world.org.owner, contained, &[]).await.unwrap();
}

#[tokio::test]
async fn no_scope_left_would_be_every_right() {
    let world = World::new().await;
    let (empty, _) = world.server.account(&world.org.id, "empty", &[]).await;
    let (strong, _) =
        world.server.account(&world.org.id, "strong", &[("invoices.read", "*"), ("payroll.read", "*")]).await;
    let (token, client) = world.make(world.scoped(&["invoices.write"])).await;
    for account in [&empty, &strong] {
        let request = pb::ReassignTokenRequest {
            token_id: token.id.clone(),
            account_id: account.id.clone(),
            allow_narrowing: true,
            ..Default::default()
        };
        let refusal = world.org.owner.tokens().reassign_token(request).await;
        refused(refusal, Code::PermissionDenied, "SCOPE_NOT_HELD");
    }
    assert_eq!(client.exchange().await.unwrap().scopes, ["invoices.write"]);
    // Only service accounts own tokens, and only in their own org.
    let user = pb::CreateUserRequest { email: "ann@example.com".into(), ..Default::default() };
    let user = world.org.owner.accounts().create_user(user).await.unwrap().into_inner().account.unwrap();
    let to = |account_id: &str| pb::ReassignTokenRequest {
        token_id: token.id.clone(),
        account_id: account_id.into(),
        ..Default::default()
    };
    let refusal = world.org.owner.tokens().reassign_token(to(&user.id)).await;
    refused(refusal, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
    let other = world.server.org().await;
    let refusal = world.org.owner.tokens().reassign_token(to(&other.owner_id)).await;
    refused(refusal, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn all_tokens_of_an_account_move_together_or_not_at_all() {
    let world = World::new().await;
    let (target, _) = world.server.account(&world.org.id, "target", &[("invoices.read", "*")]).await;
    let (source, _) =
        world.server.account(&world.org.id, "source", &[("invoices.read", "*"), ("x.y", "*")]).await;
    let of = |scopes: &[&str]| pb::CreateTokenRequest {
        scopes: texts(scopes),
        ..token_for(&world.org.id, &source.id)
    };
    let (_, reader) = world.make(of(&["invoices.read"])).await;
    let (_, both) = world.make(of(&["invoices.read", "x.y"])).await;
    let ask = |allow_narrowing| pb::ReassignAccountTokensRequest {
        from_account_id: source.id.clone(),
        account_id: target.id.clone(),
        allow_narrowing,
        ..Default::default()
    };
    let refusal = world.org.owner.tokens().reassign_account_tokens(ask(false)).await;
    refused(refusal, Code::PermissionDenied, "SCOPE_NOT_HELD");
    assert_eq!(reader.caller().await.unwrap().account.unwrap().id, source.id);
    let delete = pb::DeleteAccountRequest { account_id: source.id.clone(), ..Default::default() };
    let refusal = world.org.owner.accounts().delete_account(delete.clone()).await;
    refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let events = world.events().await;
    // The source has a managing token, which only an operator may pass on.
    let request = pb::ReassignAccountTokensRequest { org_id: world.org.id.clone(), ..ask(true) };
    let moved = world.server.operator.tokens().reassign_account_tokens(request).await;
    let moved = moved.unwrap().into_inner();
    // The harness gave the source one more, without scopes.
    assert_eq!((moved.tokens.len(), moved.lost_scopes), (3, texts(&["x.y"])));
    assert_eq!(world.events().await, events + 1, "one event that lists them all");
    assert!(moved.tokens.iter().all(|token| token.account_id == target.id));
    assert_eq!(both.exchange().await.unwrap().scopes, ["invoices.read"]);
    // Nothing belongs to the old account any more.
    world.org.owner.accounts().delete_account(delete).await.unwrap();
    reader.exchange().await.unwrap();
}

#[tokio::test]
async fn an_account_has_no_more_tokens_than_one_may_have_by_moving_either() {
    let world = World::new().await;
    let (full, _) = world.server.account(&world.org.id, "full", &[]).await;
    for _ in 0..99 {
        world.make(token_for(&world.org.id, &full.id)).await;
    }
    let (token, _) = world.make(world.scoped(&[])).await;
    let request = pb::ReassignTokenRequest {
        allow_narrowing: true,
        token_id: token.id,
        account_id: full.id.clone(),
        ..Default::default()
    };
    let refusal = world.org.owner.tokens().reassign_token(request).await;
    refused(refusal, Code::FailedPrecondition, "LIMIT_REACHED");
}

#[tokio::test]
async fn all_tokens_of_an_account_are_revoked_at_once() {
    let world = World::new().await;
    let (_, one) = world.make(world.scoped(&[])).await;
    let (_, two) = world.make(world.scoped(&["invoices.read"])).await;
    let events = world.events().await;
    let request = pb::RevokeAccountTokensRequest {
        account_id: world.bot.id.clone(),
        reason: pb::RevokeReason::CessationOfOperation.into(),
        ..Default::default()
    };
    let owner = &world.org.owner;
    // With the one that the harness created.
    let answer = owner.tokens().revoke_account_tokens(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.revoked_count, 3);
    assert_eq!(world.events().await, events + 1);
    for client in [&one, &two] {
        refused(client.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    let answer = owner.tokens().revoke_account_tokens(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.revoked_count, world.events().await), (0, events + 1));
    let bad = pb::RevokeAccountTokensRequest { account_id: "tok_1".into(), reason: 99, ..request };
    let refusal = owner.tokens().revoke_account_tokens(bad).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["account_id", "reason"]);
}

#[tokio::test]
async fn tokens_are_found_by_what_they_are() {
    let world = World::new().await;
    let labelled = pb::CreateTokenRequest {
        labels: [("team".to_owned(), "billing".to_owned()), ("env".to_owned(), "prod".to_owned())].into(),
        purpose: "SCIM".into(),
        expiration: Some(pb::create_token_request::Expiration::Ttl(prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        })),
        ..world.scoped(&[])
    };
    let (scim, _) = world.make(labelled).await;
    let public = pb::CreateTokenRequest {
        kind: pb::TokenKind::Publishable.into(),
        allowed_origins: texts(&["https://a.example"]),
        ..world.scoped(&["invoices.read"])
    };
    let (public, _) = world.make(public).await;
    let (dead, _) = world.make(world.scoped(&[])).await;
    world.org.owner.tokens().revoke_token(crate::harness::by_id("", &dead.id)).await.unwrap();
    let found = async |request: pb::ListTokensRequest| {
        let request = pb::ListTokensRequest { account_id: world.bot.id.clone(), ..request };
        let answer = world.org.owner.tokens().list_tokens(request).await.unwrap().into_inner();
        assert_eq!(answer.total_size, Some(answer.tokens.len() as i32));
        answer.tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    let any = pb::ListTokensRequest::default;
    let in_hours = |hours: i64| {
        let seconds = world.server.state.clock.now().unix_timestamp() + hours * 3_600;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    assert_eq!(found(any()).await.len(), 4);
    assert_eq!(found(pb::ListTokensRequest { purpose: "SCIM".into(), ..any() }).await, [scim.id.as_str()]);
    let kind = pb::TokenKind::Publishable.into();
    assert_eq!(found(pb::ListTokensRequest { kind, ..any() }).await, [public.id.as_str()]);
    let state = pb::TokenState::Revoked.into();
    assert_eq!(found(pb::ListTokensRequest { state, ..any() }).await, [dead.id.as_str()]);
    let state = pb::TokenState::Active.into();
    assert_eq!(found(pb::ListTokensRequest { state, ..any() }).await.len(), 3);
    assert_eq!(
        found(pb::ListTokensRequest { state: pb::TokenState::Expired.into(), ..any() }).await.len(),
        0
    );
    let soon = pb::ListTokensRequest { expires_before: in_hours(2), ..any() };
    assert_eq!(found(soon).await, [scim.id.as_str()]);
    let label = |key: &str, value: &str| pb::ListTokensRequest {
        labels: [(key.to_owned(), value.to_owned())].into(),
        ..any()
    };
    assert_eq!(found(label("team", "billing")).await, [scim.id.as_str()]);
    assert_eq!(found(label("team", "other")).await.len(), 0);
    assert_eq!(found(pb::ListTokensRequest { idle_since: in_hours(-1), ..any() }).await.len(), 0);
    assert_eq!(found(pb::ListTokensRequest { idle_since: in_hours(1), ..any() }).await.len(), 4);
    let both = pb::ListTokensRequest { kind, ..label("team", "billing") };
    assert_eq!(found(both).await.len(), 0);

    let bad = pb::ListTokensRequest { kind: 9, state: 9, purpose: "x".into(), ..any() };
    let refusal = world.org.owner.tokens().list_tokens(bad).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["kind", "purpose", "state"]);
}

#[tokio::test]
async fn a_batch_is_answered_in_its_order() {
    let world = World::new().await;
    let (_, verifier) = world.server.account(&world.org.id, "verifier", &[("tokens.introspect", "*")]).await;
    let (token, client) = world.make(world.scoped(&["invoices.read"])).await;
    let other = world.server.org().await;
    let of = |text: &str| pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
    let ask = async |requests| {
        let request = pb::BatchIntrospectTokensRequest { requests };
        Ok::<_, Status>(verifier.tokens().batch_introspect_tokens(request).await?.into_inner().responses)
    };
    let jwt = client.exchange().await.unwrap().access_token;
    let requests = vec![of("junk"), of(client.token()), of(other.owner.token()), of(&jwt)];
    let answers = ask(requests).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.active).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(answers[0], pb::IntrospectTokenResponse::default());
    assert_eq!(answers[2], pb::IntrospectTokenResponse::default(), "another org's is not told apart");
    assert_eq!(answers[1].client_id, token.id);
    assert_eq!(ask(vec![of("x"); 100]).await.unwrap().len(), 100);
    let refusal = refused(ask(vec![of("x"); 101]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["requests"]);
    let refusal = refused(ask(Vec::new()).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["requests"]);
    let wrong = pb::IntrospectTokenRequest { purpose: "x".into(), ..Default::default() };
    let refusal = refused(ask(vec![of("x"), wrong]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["requests[1].token_text", "requests[1].purpose"]);
    let (_, member) = world.server.account(&world.org.id, "member", &[]).await;
    let request = pb::BatchIntrospectTokensRequest { requests: vec![of("x")] };
    let refusal = member.tokens().batch_introspect_tokens(request).await;
    refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
}
