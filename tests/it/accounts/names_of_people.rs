//! What names, locales and addresses may be, over the API: whatever is shown to others follows one rule.

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::federation;
use crate::harness::{Client, TestServer, create_org, refused, token_for, violated};

/// Names that look like something else, each in its own way.
const BAD: [&str; 6] = [
    "evil.example/login",
    "\u{2800}",
    "Ad\u{200d}min",
    "\u{410}dmin",
    "=?utf-8?q?evil=2Eexample?=",
    "evil&#46;example",
];

async fn named(client: &Client, name: &str) -> Vec<(&'static str, Result<(), Status>)> {
    let shown = || Some(name.to_owned());
    let profile = |field: fn(&mut pb::Profile, String)| {
        let mut profile = pb::Profile::default();
        field(&mut profile, name.to_owned());
        Some(profile)
    };
    let user =
        |profile| pb::CreateUserRequest { email: "ana@example.org".into(), profile, ..Default::default() };
    let role = pb::Role {
        name: "reader".into(),
        display_name: shown(),
        permissions: vec!["invoices.read".into()],
        ..Default::default()
    };
    let resource =
        pb::CreateResourceRequest { path: "a/b".into(), display_name: name.into(), ..Default::default() };
    let org = pb::UpdateOrgRequest {
        org: Some(pb::Org { display_name: name.into(), ..Default::default() }),
        ..Default::default()
    };
    let token = pb::CreateTokenRequest { display_name: name.into(), ..token_for("", "") };
    let issuer = pb::CreateIssuerRequest {
        issuer: Some(pb::Issuer { display_name: shown(), ..federation::issuer_of("a") }),
        ..Default::default()
    };
    let rule = pb::CreateFederationRuleRequest {
        rule: Some(pb::FederationRule { display_name: shown(), ..federation::rule_for("", "") }),
        ..Default::default()
    };
    let mut accounts = client.accounts();
    vec![
        (
            "profile.display_name",
            accounts.create_user(user(profile(|p, name| p.display_name = Some(name)))).await.map(drop),
        ),
        (
            "profile.given_name",
            accounts.create_user(user(profile(|p, name| p.given_name = Some(name)))).await.map(drop),
        ),
        (
            "profile.family_name",
            accounts.create_user(user(profile(|p, name| p.family_name = Some(name)))).await.map(drop),
        ),
        (
            "role.display_name",
            client
                .orgs()
                .create_role(pb::CreateRoleRequest { role: Some(role), ..Default::default() })
                .await
                .map(drop),
        ),
        ("display_name", client.orgs().create_resource(resource).await.map(drop)),
        ("org.display_name", client.orgs().update_org(org).await.map(drop)),
        ("display_name", client.tokens().create_token(token).await.map(drop)),
        ("issuer.display_name", client.orgs().create_issuer(issuer).await.map(drop)),
        ("rule.display_name", client.orgs().create_federation_rule(rule).await.map(drop)),
    ]
}

#[tokio::test]
async fn a_name_that_looks_like_something_else_is_refused_everywhere() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for bad in BAD {
        for (field, outcome) in named(&org.owner, bad).await {
            let status = refused(outcome, Code::InvalidArgument, "INVALID_FIELD");
            assert!(violated(&status).contains(&field.to_owned()), "{bad:?} as {field}: {status:?}");
        }
        let request = pb::CreateOrgRequest { display_name: bad.into(), ..create_org("another") };
        let outcome = server.operator.orgs().create_org(request).await;
        refused(outcome, Code::InvalidArgument, "INVALID_FIELD");
    }
    let request = pb::DeactivateAccountRequest {
        account_id: org.owner_id.clone(),
        reason: "\u{200b}".into(),
        ..Default::default()
    };
    refused(
        server.operator.accounts().deactivate_account(request).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
}

#[tokio::test]
async fn names_are_stored_composed_and_found_whatever_their_case_and_form() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let profile = pb::Profile {
        display_name: Some("Zoe\u{308} Strauße".into()),
        locale: Some("pt-br".into()),
        zoneinfo: Some("europe/madrid".into()),
        ..Default::default()
    };
    let request = pb::CreateUserRequest {
        email: "zoe@example.org".into(),
        profile: Some(profile),
        ..Default::default()
    };
    let made = org.owner.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    let profile = made.profile.clone().unwrap();
    assert_eq!(profile.display_name.as_deref(), Some("Zoë Strauße"));
    assert_eq!(
        (profile.locale.as_deref(), profile.zoneinfo.as_deref()),
        (Some("pt-BR"), Some("Europe/Madrid"))
    );
    for query in ["zoë", "ZOË STRAUSSE", "zoe\u{308}", "ｚｏë", "Strauß", "z"] {
        let list = pb::ListAccountsRequest { query: query.into(), ..Default::default() };
        let found = org.owner.accounts().list_accounts(list).await.unwrap().into_inner().accounts;
        assert!(found.iter().any(|account| account.id == made.id), "{query}");
    }
}

#[tokio::test]
async fn locales_zones_and_mailboxes_are_those_that_exist() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let profile = pb::Profile {
        locale: Some("xx-YY".into()),
        zoneinfo: Some("Europe/Atlantis".into()),
        ..Default::default()
    };
    let request =
        pb::CreateUserRequest { email: "ana@123.456".into(), profile: Some(profile), ..Default::default() };
    let status = org.owner.accounts().create_user(request).await.unwrap_err();
    let mut fields = violated(&status);
    fields.sort();
    assert_eq!(fields, ["email", "profile.locale", "profile.zoneinfo"]);
    let request = pb::CreateServiceAccountRequest {
        name: "bot".into(),
        contact_email: "ops@10.0.0.1".into(),
        ..Default::default()
    };
    let status = org.owner.accounts().create_service_account(request).await.unwrap_err();
    assert_eq!(violated(&status), ["contact_email"]);
    let request = pb::CreateInvitationRequest { email: "ana@127.0.0.1".into(), ..Default::default() };
    let status = org.owner.orgs().create_invitation(request).await.unwrap_err();
    assert_eq!(violated(&status), ["email"]);
}

#[tokio::test]
async fn labels_are_stored_composed_and_found_whatever_their_case_and_form() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let labels = |value: &str| [("team".to_owned(), value.to_owned())].into();
    let request = pb::CreateTokenRequest { labels: labels("Zoe\u{308} Strauße"), ..token_for("", "") };
    let token = org.owner.tokens().create_token(request).await.unwrap().into_inner().token.unwrap();
    assert_eq!(token.labels["team"], "Zoë Strauße");
    let found = async |value: &str| {
        let list = pb::ListTokensRequest { labels: labels(value), ..Default::default() };
        let tokens = org.owner.tokens().list_tokens(list).await.unwrap().into_inner().tokens;
        tokens.iter().any(|found| found.id == token.id)
    };
    for value in ["Zoë Strauße", "ZOË STRAUSSE", "ｚoe\u{308} strauße"] {
        assert!(found(value).await, "{value}");
    }
    assert!(!found("zoe strausse").await && !found("Zoë").await);
    let new = pb::Token { id: token.id.clone(), labels: labels("plain"), ..Default::default() };
    let update = pb::UpdateTokenRequest { token: Some(new), ..Default::default() };
    org.owner.tokens().update_token(update).await.unwrap();
    assert!(found("PLAIN").await && !found("Zoë Strauße").await);
    let request = pb::CreateTokenRequest { labels: labels("a\u{200b}b"), ..token_for("", "") };
    let status = org.owner.tokens().create_token(request).await.unwrap_err();
    assert_eq!(violated(&status), ["labels"]);
}
