//! What tokens created by tokens may be: a narrow credential never becomes a wide one.

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{Client, Org, TestServer, by_id, grant, refused, token_for};

type Made = Result<pb::CreateTokenResponse, Status>;

async fn make(maker: &Client, request: pb::CreateTokenRequest) -> Made {
    Ok(maker.tokens().create_token(request).await?.into_inner())
}

fn ttl(seconds: i64) -> Option<pb::create_token_request::Expiration> {
    Some(pb::create_token_request::Expiration::Ttl(prost_types::Duration { seconds, nanos: 0 }))
}

/// A token of the org's owner, limited as the request says, that may manage tokens.
async fn narrow(server: &TestServer, org: &Org, request: pb::CreateTokenRequest) -> Client {
    let request = pb::CreateTokenRequest {
        org_id: org.id.clone(),
        account_id: org.owner_id.clone(),
        may_manage_tokens: true,
        ..request
    };
    server.client(make(&server.operator, request).await.unwrap().secret)
}

#[tokio::test]
async fn tokens_need_may_manage_tokens_to_make_tokens() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let plain = make(&org.owner, pb::CreateTokenRequest::default()).await.unwrap();
    assert!(!plain.token.as_ref().unwrap().may_manage_tokens);
    let plain = server.client(plain.secret);
    for caller in [plain.clone(), plain.with_jwt().await] {
        let refusal = make(&caller, pb::CreateTokenRequest::default()).await;
        refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
        // Revoking needs only the right.
        let other = make(&org.owner, pb::CreateTokenRequest::default()).await.unwrap().token.unwrap();
        caller.tokens().revoke_token(by_id("", &other.id)).await.unwrap();
    }
    // Only an operator's token gives it.
    let asked = pb::CreateTokenRequest { may_manage_tokens: true, ..Default::default() };
    refused(make(&org.owner, asked).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
}

#[tokio::test]
async fn a_token_made_by_a_token_never_exceeds_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "c"]).await;
    let exceeds = "TARGET_EXCEEDS_CALLER";
    let scopes = |scopes: &[&str]| pb::CreateTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        ..Default::default()
    };
    let maker = narrow(&server, &org, scopes(&["tokens.write", "invoices.read"])).await;
    for too_wide in [scopes(&[]), scopes(&["invoices.read", "invoices.write"]), scopes(&["accounts.write"])] {
        refused(make(&maker, too_wide).await, Code::PermissionDenied, exceeds);
    }
    make(&maker, scopes(&["invoices.read"])).await.unwrap();
    make(&maker, scopes(&["tokens.write", "invoices.read"])).await.unwrap();

    let audiences = |audiences: &[&str]| pb::CreateTokenRequest {
        allowed_audiences: audiences.iter().map(|audience| (*audience).into()).collect(),
        ..Default::default()
    };
    let maker = narrow(&server, &org, audiences(&["x", "y"])).await;
    for too_wide in [audiences(&[]), audiences(&["x", "z"])] {
        refused(make(&maker, too_wide).await, Code::PermissionDenied, exceeds);
    }
    make(&maker, audiences(&["y"])).await.unwrap();

    let maker =
        narrow(&server, &org, pb::CreateTokenRequest { expiration: ttl(3_600), ..Default::default() }).await;
    let longer = make(&maker, pb::CreateTokenRequest { expiration: ttl(7_200), ..Default::default() }).await;
    refused(longer, Code::InvalidArgument, "INVALID_FIELD");
    let own = maker.caller().await.unwrap().credential_id;
    let own = org
        .owner
        .tokens()
        .get_token(pb::GetTokenRequest { token_id: own, ..Default::default() })
        .await
        .unwrap();
    let made = make(&maker, pb::CreateTokenRequest::default()).await.unwrap().token.unwrap();
    assert_eq!(
        made.expire_time,
        own.into_inner().token.unwrap().expire_time,
        "the default life ends with the maker's"
    );

    // On a resource: `tokens.write` is not held on the whole org any more.
    let resources = pb::CreateTokenRequest { resources: vec!["a".into()], ..Default::default() };
    let maker = narrow(&server, &org, resources).await;
    refused(
        make(&maker, pb::CreateTokenRequest::default()).await,
        Code::PermissionDenied,
        "PERMISSION_MISSING",
    );
}

#[tokio::test]
async fn a_narrowed_jwt_makes_nothing_wider_than_itself() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(org.owner.token().into()),
        scopes: vec!["tokens.write".into(), "invoices.read".into()],
        ..Default::default()
    };
    let jwt = org.owner.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    let maker = server.client(jwt);
    refused(
        make(&maker, pb::CreateTokenRequest::default()).await,
        Code::PermissionDenied,
        "TARGET_EXCEEDS_CALLER",
    );
    let wide = pb::CreateTokenRequest { scopes: vec!["accounts.write".into()], ..Default::default() };
    refused(make(&maker, wide).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let same = pb::CreateTokenRequest { scopes: vec!["invoices.read".into()], ..Default::default() };
    make(&maker, same).await.unwrap();
}

#[tokio::test]
async fn a_narrow_token_of_a_powerful_account_does_no_more_than_its_scopes() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (target, _) = server.account(&org.id, "target", &[("invoices.read", "*")]).await;
    let scopes =
        ["accounts.read", "accounts.write", "tokens.write", "invoices.read"].map(String::from).to_vec();
    let token = narrow(&server, &org, pb::CreateTokenRequest { scopes, ..Default::default() }).await;
    let jwt = token.with_jwt().await;
    for caller in [&token, &jwt] {
        caller.accounts().list_accounts(pb::ListAccountsRequest::default()).await.unwrap();
        // Call.
        let resource = pb::CreateResourceRequest { path: "a".into(), ..Default::default() };
        refused(caller.orgs().create_resource(resource).await, Code::PermissionDenied, "PERMISSION_MISSING");
        refused(
            caller.tokens().list_tokens(pb::ListTokensRequest::default()).await,
            Code::PermissionDenied,
            "PERMISSION_MISSING",
        );
        // Grant.
        for right in ["owner", "manager", "auditor", "tokens.read", "invoices.write"] {
            let grants = vec![grant(right, "*")];
            let request =
                pb::GrantAccessRequest { account_id: target.id.clone(), grants, ..Default::default() };
            refused(
                caller.accounts().grant_access(request).await,
                Code::PermissionDenied,
                "GRANT_EXCEEDS_CALLER",
            );
        }
        // Create a credential for: itself, and a more powerful account.
        for account in [&org.owner_id, ""] {
            let request = token_for("", account);
            refused(make(caller, request).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
        }
        // Deactivate an owner.
        let owners = org.owner.caller().await.unwrap().credential_id;
        refused(
            caller.tokens().revoke_token(by_id("", &owners)).await,
            Code::PermissionDenied,
            "TARGET_EXCEEDS_CALLER",
        );
        // What it covers, it may do.
        let request =
            pb::CreateTokenRequest { scopes: vec!["invoices.read".into()], ..token_for("", &target.id) };
        make(caller, request).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_takes_over_what_exceeds_them() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*")]).await;
    let (bot, _) = server.account(&org.id, "bot", &[("invoices.read", "*")]).await;
    let exceeds = "TARGET_EXCEEDS_CALLER";
    let refusal = make(&manager, token_for("", &org.owner_id)).await;
    refused(refusal, Code::PermissionDenied, exceeds);
    refused(make(&manager, token_for("", &bot.id)).await, Code::PermissionDenied, exceeds);
    // Limited to what the manager holds too, it is the manager's to give.
    let limited =
        pb::CreateTokenRequest { scopes: vec!["accounts.read".into()], ..token_for("", &org.owner_id) };
    make(&manager, limited).await.unwrap();
    let owners = org.owner.caller().await.unwrap().credential_id;
    refused(manager.tokens().revoke_token(by_id("", &owners)).await, Code::PermissionDenied, exceeds);
}

#[tokio::test]
async fn an_operators_token_gives_any_life_and_may_manage_tokens() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let long = pb::CreateTokenRequest {
        expiration: ttl(400 * 86_400),
        may_manage_tokens: true,
        ..token_for(&org.id, &org.owner_id)
    };
    let made = make(&server.operator, long.clone()).await.unwrap().token.unwrap();
    assert!(made.may_manage_tokens);
    // A JWT of it may do as much; a narrowed one may not.
    make(&server.operator.with_jwt().await, long.clone()).await.unwrap();
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(server.operator.token().into()),
        scopes: vec!["platform.accounts".into()],
        ..Default::default()
    };
    let narrowed = server.operator.tokens().exchange_token(request).await.unwrap().into_inner().access_token;
    refused(make(&server.client(narrowed), long).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
}

#[tokio::test]
async fn a_compromised_token_takes_what_it_made_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let child = server.client(make(&org.owner, pb::CreateTokenRequest::default()).await.unwrap().secret);
    let reason = pb::RevokeReason::KeyCompromise.into();
    let operator = server.operator.caller().await.unwrap().credential_id;
    let other = server.org().await;
    // The operator's token created the owners' tokens, in two orgs, and one of those created another.
    let spare = bootstrap_spare(&server).await;
    let request = pb::RevokeTokenRequest { reason, ..by_id("", &operator) };
    spare.tokens().revoke_token(request).await.unwrap();
    for gone in [&server.operator, &org.owner, &other.owner, &child] {
        refused(gone.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    }
    spare.caller().await.unwrap();
    let events: Vec<(i32, bool)> =
        sqlx::query_as("select cardinality(resource_ids), operator from events where type = 'token.revoked'")
            .fetch_all(&server.state.db)
            .await
            .unwrap();
    assert_eq!(events.len(), 3, "one in each org: {events:?}");
    assert!(events.contains(&(2, true)));
}

/// Another operator token, which no token created.
async fn bootstrap_spare(server: &TestServer) -> Client {
    let operator = countersign::commands::bootstrap::find_operator(&server.state).await.unwrap().unwrap();
    let life = countersign::commands::bootstrap::TOKEN_LIFETIME;
    let text =
        countersign::commands::bootstrap::reissue(&server.state, operator, "spare", life).await.unwrap();
    server.client(text.expose())
}

#[tokio::test]
async fn an_account_has_at_most_a_hundred_live_tokens() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let mut last = String::new();
    for _ in 1..100 {
        last = make(&server.operator, token_for(&org.id, &bot.id)).await.unwrap().token.unwrap().id;
    }
    let more = make(&server.operator, token_for(&org.id, &bot.id)).await;
    refused(more, Code::FailedPrecondition, "LIMIT_REACHED");
    server.operator.tokens().revoke_token(by_id(&org.id, &last)).await.unwrap();
    make(&server.operator, token_for(&org.id, &bot.id)).await.unwrap();
}

#[tokio::test]
async fn a_secret_is_shown_once_and_kept_nowhere() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = make(&org.owner, pb::CreateTokenRequest::default()).await.unwrap();
    let text = made.secret.clone();
    let secret = text.split('_').nth(3).unwrap();
    let get = pb::GetTokenRequest { token_id: made.token.unwrap().id, ..Default::default() };
    let token = org.owner.tokens().get_token(get).await.unwrap().into_inner().token.unwrap();
    let shown = &token.secrets[0].obfuscated;
    assert!(shown.starts_with(&text[..33]) && shown.ends_with(&text[79..]) && !shown.contains(&secret[..6]));
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    for table in tables {
        let sql = format!("select count(*) from {table} t where t::text like '%' || $1 || '%'");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(secret)
            .fetch_one(&server.state.db)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn a_row_planted_without_the_master_key_authenticates_nothing() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    // The secret of one token under the id of another, powerful one.
    sqlx::query(
        "update token_secrets s set mac = o.mac from token_secrets o
         where s.token_id = (select token_id from tokens where may_manage_tokens order by token_id limit 1)
           and o.token_id = (select token_id from tokens order by token_id desc limit 1)",
    )
    .execute(&server.state.db)
    .await
    .unwrap();
    server.state.principals.clear();
    refused(server.operator.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    bot.exchange().await.unwrap();
}
