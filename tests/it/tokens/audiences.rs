//! A token whose audiences lack the issuer, introspection of rights on resources, and JWTs explained.

use countersign::domain::values::ids::TokenId;
use countersign::grpc::layers::access::{Access, concerns_itself, row};
use countersign::grpc::pb;
use pb::explain_token_request::Target;
use tonic::Code;

use crate::contract::proto::rpcs;
use crate::harness::{
    Client, Org, TestServer, by_id, by_text, call_raw, reason, refused, rotate_token, token_for, watch,
};

async fn make(server: &TestServer, request: pb::CreateTokenRequest) -> (Client, pb::Token) {
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    watch(&made.secret);
    (server.client(made.secret), made.token.unwrap())
}

fn for_others(org: &Org, account_id: &str) -> pb::CreateTokenRequest {
    pb::CreateTokenRequest {
        allowed_audiences: vec!["https://api.example".into()],
        may_manage_tokens: true,
        ..token_for(&org.id, account_id)
    }
}

#[tokio::test]
async fn a_token_for_other_audiences_is_no_bearer_but_for_itself() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (client, token) = make(&server, for_others(&org, &org.owner_id)).await;
    let exchange = |audience: Option<&str>| pb::ExchangeTokenRequest {
        audiences: audience.map(str::to_owned).into_iter().collect(),
        ..Default::default()
    };
    // No JWT for the issuer, asked for or not; one for the audience that it has.
    for audience in [None, Some(server.endpoint.as_str())] {
        let answer = client.tokens().exchange_token(exchange(audience)).await;
        refused(answer, Code::InvalidArgument, "INVALID_TARGET");
    }
    let jwt =
        client.tokens().exchange_token(exchange(Some("https://api.example"))).await.unwrap().into_inner();
    refused(server.client(jwt.access_token).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");

    // Every RPC that needs a credential, but those about itself.
    for rpc in rpcs() {
        if matches!(row(&rpc), Some((Access::Open, _))) || concerns_itself(&rpc) {
            continue;
        }
        let status = call_raw(&client, &rpc, Vec::new()).await.expect_err(&rpc);
        assert_eq!(reason(&status), "TOKEN_INVALID", "{rpc}");
    }
    assert_eq!(client.caller().await.unwrap().credential_id, token.id);
    // Another token of the same account is another's.
    let (other, another) = make(&server, token_for(&org.id, &org.owner_id)).await;
    for refusal in [
        client.tokens().rotate_token(rotate_token("", &another.id, None)).await.map(|_| ()),
        client.tokens().revoke_token(by_id("", &another.id)).await.map(|_| ()),
    ] {
        refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    other.caller().await.unwrap();
    let rotated = client.tokens().rotate_token(rotate_token("", &token.id, None)).await.unwrap().into_inner();
    watch(&rotated.secret);
    let cancel = pb::CancelRotationRequest { token_id: token.id.clone(), ..Default::default() };
    client.tokens().cancel_rotation(cancel).await.unwrap();
    client.tokens().revoke_token(by_id("", &token.id)).await.unwrap();
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
}

#[tokio::test]
async fn audiences_count_at_use() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let both = pb::CreateTokenRequest {
        allowed_audiences: vec![server.endpoint.clone(), "https://api.example".into()],
        ..token_for(&org.id, &org.owner_id)
    };
    let (client, token) = make(&server, both).await;
    let jwt = client.with_jwt().await;
    jwt.caller().await.unwrap();
    let narrow = pb::UpdateTokenRequest {
        org_id: org.id.clone(),
        token: Some(pb::Token {
            id: token.id,
            allowed_audiences: vec!["https://api.example".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let introspect = pb::IntrospectTokenRequest { token_text: jwt.token().into(), ..Default::default() };
    let active = async || {
        let answer = org.owner.tokens().introspect_token(introspect.clone()).await.unwrap();
        answer.into_inner().active
    };
    assert!(active().await);
    server.operator.tokens().update_token(narrow).await.unwrap();
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    assert!(!active().await);
}

#[tokio::test]
async fn rights_on_a_resource_are_introspected() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let (_, bot) = server.account(&org.id, "bot", &[("invoices.read", "customers/acme")]).await;
    let jwt = bot.exchange().await.unwrap().access_token;
    let ask = |token_text: &str, resource: &str, scopes: &[&str]| pb::IntrospectTokenRequest {
        token_text: token_text.into(),
        resource: resource.into(),
        required_scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        ..Default::default()
    };
    let details = [pb::AuthorizationDetail {
        r#type: "countersign_grant".into(),
        identifier: "customers/acme".into(),
        actions: vec!["invoices.read".into()],
    }];
    for text in [bot.token(), jwt.as_str()] {
        let introspect = async |resource: &str, scopes: &[&str]| {
            org.owner.tokens().introspect_token(ask(text, resource, scopes)).await.unwrap().into_inner()
        };
        let seen = introspect("", &[]).await;
        assert!(seen.active && seen.scope.is_empty());
        assert_eq!(seen.authorization_details, details);
        // By prefix, also for a node that is not there.
        for (resource, active) in [
            ("customers/acme", true),
            ("customers/acme/no/such", true),
            ("customers", false),
            ("customers/acmes", false),
            ("*", false),
            ("", false),
        ] {
            let seen = introspect(resource, &["invoices.read"]).await;
            assert_eq!(seen.active, active, "{resource}");
            assert!(active || seen == pb::IntrospectTokenResponse::default());
        }
        assert!(!introspect("customers/acme", &["invoices.read", "invoices.write"]).await.active);
    }
    let wrong = org.owner.tokens().introspect_token(ask(bot.token(), "/x", &[])).await;
    refused(wrong, Code::InvalidArgument, "INVALID_FIELD");
    // What an owner holds by being one is active where it is asked for, in the whole org and below.
    for resource in ["", "*", "customers/acme"] {
        let seen =
            org.owner.tokens().introspect_token(ask(org.owner.token(), resource, &["x.unknown"])).await;
        assert!(seen.unwrap().into_inner().active, "{resource}");
    }
    // Its JWT carries only what was asked for.
    let own = org.owner.exchange().await.unwrap().access_token;
    let seen = org.owner.tokens().introspect_token(ask(&own, "", &["x.unknown"])).await.unwrap().into_inner();
    assert!(!seen.active);
}

/// The names of the checks, each with the reason for which it fails.
async fn explained(by: &Client, request: pb::ExplainTokenRequest) -> Vec<(String, String)> {
    let answer = by.tokens().explain_token(request).await.unwrap().into_inner();
    answer.checks.into_iter().map(|check| (check.name, check.reason)).collect()
}

fn failures(checks: &[(String, String)]) -> Vec<(&str, &str)> {
    let failed = checks.iter().filter(|(_, reason)| !reason.is_empty());
    failed.map(|(name, reason)| (name.as_str(), reason.as_str())).collect()
}

#[tokio::test]
async fn jwts_scopes_and_resources_are_explained() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (account, bot) = server.account(&org.id, "bot", &[("invoices.read", "a"), ("x.y", "*")]).await;
    let jwt = bot.exchange().await.unwrap().access_token;
    let explain = |text: &str, scopes: &[&str], resource: &str| pb::ExplainTokenRequest {
        target: Some(Target::TokenText(text.into())),
        scopes: scopes.iter().map(|scope| (*scope).into()).collect(),
        resource: resource.into(),
        ..Default::default()
    };
    let good = explained(&org.owner, explain(&jwt, &[], "")).await;
    let names: Vec<_> = good.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "signature",
            "known",
            "revoked",
            "org",
            "account",
            "expiry",
            "policy",
            "version",
            "purpose",
            "network",
            "certificate",
            "origin",
            "audience",
            "scopes"
        ]
    );
    assert_eq!(failures(&good), []);
    for text in [jwt.as_str(), bot.token()] {
        for (scopes, resource, passes) in [
            (&["invoices.read", "x.y"][..], "", true),
            (&["invoices.read"], "a/b", true),
            (&["invoices.read"], "*", false),
            (&["invoices.read"], "b", false),
            (&["x.y"], "b", true),
            (&["no.such"], "", false),
        ] {
            let checks = explained(&org.owner, explain(text, scopes, resource)).await;
            let expected: &[(&str, &str)] = if passes { &[] } else { &[("scopes", "SCOPE_NOT_HELD")] };
            assert_eq!(failures(&checks), expected, "{scopes:?} on {resource}");
        }
    }
    let for_others =
        pb::ExplainTokenRequest { audience: "https://api.example".into(), ..explain(&jwt, &[], "") };
    assert_eq!(failures(&explained(&org.owner, for_others).await), [("audience", "INVALID_TARGET")]);
    // What is no JWT of ours ends at its signature; one of another org is not known.
    let mut broken = jwt.clone();
    broken.replace_range(jwt.len() - 4.., "AAAA");
    let checks = explained(&org.owner, explain(&broken, &[], "")).await;
    assert_eq!(checks.len(), 1);
    assert_eq!(failures(&checks), [("signature", "ACCESS_TOKEN_INVALID")]);
    let other = server.org().await;
    let checks = explained(&other.owner, explain(&jwt, &[], "")).await;
    assert_eq!(failures(&checks), [("known", "ACCESS_TOKEN_INVALID")]);
    assert_eq!(checks.len(), 2);
    // Narrowed since: stale, and nothing else.
    let revoke = pb::RevokeAccessRequest {
        account_id: account.id.clone(),
        grants: vec![crate::harness::grant("x.y", "*")],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(revoke).await.unwrap();
    let checks = explained(&org.owner, explain(&jwt, &[], "")).await;
    assert_eq!(failures(&checks), [("version", "ACCESS_TOKEN_STALE")]);
    server.anonymous().tokens().revoke_token(by_text(bot.token())).await.unwrap();
    let checks = explained(&org.owner, explain(&jwt, &[], "")).await;
    assert_eq!(failures(&checks), [("revoked", "TOKEN_REVOKED")]);
}

#[tokio::test]
async fn the_tokens_of_a_deleted_account_are_listed() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[]).await;
    server.anonymous().tokens().revoke_token(by_text(bot.token())).await.unwrap();
    let delete = pb::DeleteAccountRequest { account_id: account.id.clone(), ..Default::default() };
    org.owner.accounts().delete_account(delete).await.unwrap();
    for account_id in [account.id, account.username] {
        let list = pb::ListTokensRequest { account_id, ..Default::default() };
        let listed = org.owner.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
        assert_eq!(listed.len(), 1);
        assert!(TokenId::parse(&listed[0].id).is_ok());
    }
    let unknown =
        pb::ListTokensRequest { account_id: "acct_00000000000000000000000007".into(), ..Default::default() };
    refused(org.owner.tokens().list_tokens(unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}
