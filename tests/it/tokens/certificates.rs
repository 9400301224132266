//! Tokens and JWTs that are bound to a client certificate (RFC 8705).

use countersign::config::ServerLimits;
use countersign::grpc::pb;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::harness::{
    Authority, Client, LIMITS, Org, Pair, TestServer, TlsFiles, claims, reason, refused, rotate_token,
    token_for, violated, watch,
};

const REFUSED: &str = "CLIENT_CERTIFICATE_NOT_ALLOWED";

/// A server that accepts client certificates, and connections with some of them.
struct World {
    server: TestServer,
    org: Org,
    own: Pair,
    with_own: Channel,
    /// Of the same key.
    renewed: Pair,
    with_renewed: Channel,
    with_other: Channel,
    without: Channel,
}

impl World {
    async fn new(name: &str) -> Self {
        let (files, clients) = (TlsFiles::new(name), Authority::new("clients"));
        files.accept(&clients);
        let server = TestServer::over_tls(&files, files.authorities(false), None, LIMITS).await;
        let org = server.org().await;
        let [own, renewed] = clients.renewed_clients();
        let channel = async |pair: Option<&Pair>| files.channel(&server.endpoint, pair).await.unwrap();
        let (with_own, with_renewed) = (channel(Some(&own)).await, channel(Some(&renewed)).await);
        let (with_other, without) = (channel(Some(&clients.client())).await, channel(None).await);
        Self { server, org, own, with_own, renewed, with_renewed, with_other, without }
    }

    /// The secret and the id of a token of the org's owner with these certificates.
    async fn token(&self, certificates: &[&str]) -> (String, String) {
        let request = pb::CreateTokenRequest {
            may_manage_tokens: true,
            allowed_client_certs: certificates.iter().map(|text| (*text).to_owned()).collect(),
            ..token_for(&self.org.id, &self.org.owner_id)
        };
        let made = self.server.operator.tokens().create_token(request).await.unwrap().into_inner();
        watch(&made.secret);
        let token = made.token.unwrap();
        assert_eq!(token.allowed_client_certs, certificates);
        (made.secret, token.id)
    }
}

fn on(channel: &Channel, bearer: &str) -> Client {
    Client { channel: channel.clone(), bearer: Some(bearer.to_owned()) }
}

/// A JWT that is bound to the certificate of this connection.
async fn bound(client: &Client) -> Result<String, Status> {
    let request = pb::ExchangeTokenRequest { certificate_bound: true, ..Default::default() };
    let jwt = client.tokens().exchange_token(request).await?.into_inner().access_token;
    watch(&jwt);
    Ok(jwt)
}

#[tokio::test]
async fn a_token_works_with_its_certificates_alone() {
    let world = World::new("certs-token").await;
    let thumbprint = world.own.thumbprint();
    let (by_thumbprint, _) = world.token(&[&thumbprint]).await;
    let (by_key, _) = world.token(&[&world.own.public_key]).await;
    for (channel, of_thumbprint, of_key) in [
        (&world.with_own, true, true),
        (&world.with_renewed, false, true),
        (&world.with_other, false, false),
        (&world.without, false, false),
    ] {
        for (secret, works) in [(&by_thumbprint, of_thumbprint), (&by_key, of_key)] {
            let client = on(channel, secret);
            let (called, exchanged) = (client.caller().await, client.exchange().await);
            if works {
                called.unwrap();
                let jwt = exchanged.unwrap().access_token;
                // Its JWTs are bound, though nothing asked for that.
                assert!(claims(&jwt)["cnf"]["x5t#S256"].is_string());
            } else {
                refused(called, Code::PermissionDenied, REFUSED);
                refused(exchanged, Code::PermissionDenied, REFUSED);
            }
        }
    }
    // That of the key is bound to the certificate of the connection, not to the key.
    let jwt = on(&world.with_renewed, &by_key).exchange().await.unwrap().access_token;
    assert_eq!(claims(&jwt)["cnf"]["x5t#S256"], world.renewed.thumbprint());
    on(&world.with_renewed, &jwt).caller().await.unwrap();
    for other in [&world.with_own, &world.with_other, &world.without] {
        refused(on(other, &jwt).caller().await, Code::PermissionDenied, REFUSED);
    }
}

#[tokio::test]
async fn the_certificate_of_a_proxy_is_none_of_its_clients() {
    let (files, clients) = (TlsFiles::new("certs-proxy"), Authority::new("clients"));
    files.accept(&clients);
    let limits = ServerLimits { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..LIMITS };
    let server = TestServer::over_tls(&files, files.authorities(false), None, limits).await;
    let channel = files.channel(&server.endpoint, Some(&clients.client())).await.unwrap();
    let client = on(&channel, server.operator.token());
    bound(&client).await.unwrap();
    for header in ["x-forwarded-for", "forwarded"] {
        let mut request =
            Request::new(pb::ExchangeTokenRequest { certificate_bound: true, ..Default::default() });
        request.metadata_mut().insert(header, "for=192.0.2.1".parse().unwrap());
        let refusal = client.tokens().exchange_token(request).await.unwrap_err();
        assert_eq!(violated(&refusal), ["certificate_bound"]);
    }
}

#[tokio::test]
async fn a_jwt_is_bound_where_that_is_asked_for() {
    let world = World::new("certs-jwt").await;
    let owner = world.org.owner.token();
    // Nothing to bind to.
    let refusal = refused(bound(&on(&world.without, owner)).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["certificate_bound"]);
    assert!(claims(&on(&world.with_own, owner).exchange().await.unwrap().access_token)["cnf"].is_null());
    let jwt = bound(&on(&world.with_own, owner)).await.unwrap();
    assert_eq!(claims(&jwt)["cnf"], serde_json::json!({ "x5t#S256": world.own.thumbprint() }));
    on(&world.with_own, &jwt).caller().await.unwrap();
    refused(on(&world.with_other, &jwt).caller().await, Code::PermissionDenied, REFUSED);

    // No header counts, whatever a proxy would write into it.
    let pem = world.own.certificate.replace('\n', "%0A");
    for (name, value) in [
        ("x-forwarded-client-cert", format!("Hash={};Cert=\"{pem}\"", world.own.thumbprint())),
        ("ssl-client-cert", pem.clone()),
        ("x-ssl-client-cert", pem.clone()),
        ("client-cert", world.own.thumbprint()),
    ] {
        let mut request = Request::new(pb::GetCallerRequest {});
        request.metadata_mut().insert(name, value.parse().unwrap());
        let outcome = on(&world.without, &jwt).accounts().get_caller(request).await;
        refused(outcome, Code::PermissionDenied, REFUSED);
    }
    // A page has the certificate of its browser, which says nothing about the page.
    for (header, value, code, reason) in [
        // It may exchange tokens, and nothing else.
        ("origin", "https://app.example", Code::Unimplemented, "METHOD_UNKNOWN"),
        ("sec-fetch-site", "cross-site", Code::Unimplemented, "METHOD_UNKNOWN"),
        ("sec-fetch-site", "same-site", Code::PermissionDenied, REFUSED),
    ] {
        let mut request = Request::new(pb::GetCallerRequest {});
        request.metadata_mut().insert(header, value.parse().unwrap());
        let outcome = on(&world.with_own, &jwt).accounts().get_caller(request).await;
        refused(outcome, code, reason);
        let mut request =
            Request::new(pb::ExchangeTokenRequest { certificate_bound: true, ..Default::default() });
        request.metadata_mut().insert(header, value.parse().unwrap());
        let outcome = on(&world.with_own, owner).tokens().exchange_token(request).await;
        assert_eq!(
            violated(&refused(outcome, Code::InvalidArgument, "INVALID_FIELD")),
            ["certificate_bound"]
        );
    }
}

#[tokio::test]
async fn introspection_says_what_a_token_is_bound_to() {
    let world = World::new("certs-introspect").await;
    let (own, other) = (world.own.thumbprint(), world.renewed.thumbprint());
    let owner = world.org.owner.token();
    let jwt = bound(&on(&world.with_own, owner)).await.unwrap();
    let unbound = on(&world.with_own, owner).exchange().await.unwrap().access_token;
    let (limited, _) = world.token(&[&own]).await;
    let (by_key, _) = world.token(&[&world.own.public_key]).await;
    let of_key = on(&world.with_own, &by_key).exchange().await.unwrap().access_token;
    let none = String::new();
    // (what, the thumbprint that is named, whether it is active, what it is bound to)
    for (text, named, active, cnf) in [
        (&jwt, &none, true, Some(&own)),
        (&jwt, &own, true, Some(&own)),
        (&jwt, &other, false, None),
        (&unbound, &none, true, None),
        (&unbound, &own, true, None),
        (&limited, &none, false, None),
        (&limited, &own, true, Some(&own)),
        (&limited, &other, false, None),
        // A thumbprint does not tell the key.
        (&by_key, &own, false, None),
        (&of_key, &own, true, Some(&own)),
        (&of_key, &other, false, None),
    ] {
        let request = pb::IntrospectTokenRequest {
            token_text: text.clone(),
            client_certificate_thumbprint: named.clone(),
            ..Default::default()
        };
        // By a caller with a certificate of its own, which does not matter.
        let answer =
            on(&world.with_other, owner).tokens().introspect_token(request).await.unwrap().into_inner();
        assert_eq!(answer.active, active, "{named}");
        assert_eq!(answer.cnf.map(|cnf| cnf.x5t_s256).as_ref(), cnf);
    }
    let request = pb::IntrospectTokenRequest {
        token_text: jwt,
        client_certificate_thumbprint: "00".repeat(32),
        ..Default::default()
    };
    let refusal = world.org.owner.tokens().introspect_token(request).await;
    assert_eq!(violated(&refusal.unwrap_err()), ["client_certificate_thumbprint"]);
}

#[tokio::test]
async fn explanations_name_the_certificate() {
    let world = World::new("certs-explain").await;
    let (own, other) = (world.own.thumbprint(), world.renewed.thumbprint());
    let (limited, _) = world.token(&[&own]).await;
    let jwt = bound(&on(&world.with_own, world.org.owner.token())).await.unwrap();
    for text in [limited, jwt] {
        for (named, good) in [(&own, true), (&other, false), (&String::new(), false)] {
            let request = pb::ExplainTokenRequest {
                target: Some(pb::explain_token_request::Target::TokenText(text.clone())),
                client_certificate_thumbprint: named.clone(),
                ..Default::default()
            };
            let checks = world.org.owner.tokens().explain_token(request).await.unwrap().into_inner().checks;
            let check = checks.iter().find(|check| check.name == "certificate").unwrap();
            let expected = if good { "" } else { REFUSED };
            assert_eq!((check.passed, check.reason.as_str()), (good, expected), "{named:?}");
        }
    }
}

#[tokio::test]
async fn what_is_made_from_a_bound_jwt_is_bound_to_the_same() {
    let world = World::new("certs-made").await;
    let (bot, _) = world.server.account(&world.org.id, "bot", &[("accounts.read", "*")]).await;
    let (own, other) = (world.own.thumbprint(), world.renewed.thumbprint());
    let jwt = bound(&on(&world.with_own, world.org.owner.token())).await.unwrap();
    let (limited, _) = world.token(&[&own, &other]).await;
    // By an impersonation: with the JWT, and with a token that works with some certificates alone.
    for bearer in [&jwt, &limited] {
        let acting = on(&world.with_own, bearer).impersonate(&bot.id).await.unwrap();
        assert_eq!(claims(&acting)["cnf"]["x5t#S256"], own);
        on(&world.with_own, &acting).caller().await.unwrap();
        for channel in [&world.with_renewed, &world.without] {
            refused(on(channel, &acting).caller().await, Code::PermissionDenied, REFUSED);
        }
    }
    // By a token that it creates, rotates or changes, and by a password.
    let caller = on(&world.with_own, &jwt);
    let create = |certificates: &[&String]| pb::CreateTokenRequest {
        allowed_client_certs: certificates.iter().map(|text| (*text).clone()).collect(),
        ..token_for(&world.org.id, &bot.id)
    };
    for wider in [&[][..], &[&other], &[&own, &other], &[&world.own.public_key]] {
        let outcome = caller.tokens().create_token(create(wider)).await;
        refused(outcome, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    }
    let made = caller.tokens().create_token(create(&[&own])).await.unwrap().into_inner().token.unwrap();
    let free = world.server.operator.tokens().create_token(create(&[])).await.unwrap().into_inner();
    let rotate = rotate_token(&world.org.id, &free.token.unwrap().id, None);
    refused(caller.tokens().rotate_token(rotate).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let update = pb::UpdateTokenRequest {
        org_id: world.org.id.clone(),
        token: Some(pb::Token {
            id: made.id.clone(),
            allowed_client_certs: vec![other],
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["allowed_client_certs".into()] }),
    };
    refused(caller.tokens().update_token(update).await, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
    let user = world.server.user(&world.org, "ana@example.org").await;
    let request = pb::SetPasswordRequest {
        org_id: world.org.id.clone(),
        account_id: user.id,
        password: "correct horse battery staple".into(),
    };
    let outcome = caller.accounts().set_password(request).await;
    refused(outcome, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
}

#[tokio::test]
async fn certificates_may_be_replaced_and_never_emptied() {
    let world = World::new("certs-update").await;
    let (own, renewed) = (world.own.thumbprint(), world.renewed.thumbprint());
    let (secret, id) = world.token(&[&own]).await;
    let jwt = on(&world.with_own, &secret).exchange().await.unwrap().access_token;
    let update = async |certificates: &[&String]| {
        let token = pb::Token {
            id: id.clone(),
            allowed_client_certs: certificates.iter().map(|text| (*text).clone()).collect(),
            ..Default::default()
        };
        let request = pb::UpdateTokenRequest {
            org_id: world.org.id.clone(),
            token: Some(token),
            update_mask: Some(prost_types::FieldMask { paths: vec!["allowed_client_certs".into()] }),
        };
        world.server.operator.tokens().update_token(request).await
    };
    let refusal = update(&[]).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::InvalidArgument, "WIDENING_NOT_ALLOWED"));
    update(&[&renewed]).await.unwrap();
    on(&world.with_renewed, &secret).caller().await.unwrap();
    refused(on(&world.with_own, &secret).caller().await, Code::PermissionDenied, REFUSED);
    // JWTs from before are refused, also by services that introspect.
    assert!(on(&world.with_own, &jwt).caller().await.is_err());
    let request = pb::IntrospectTokenRequest {
        token_text: jwt,
        client_certificate_thumbprint: own.clone(),
        ..Default::default()
    };
    assert!(!world.org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active);
    // The log has what changed.
    let request = pb::ListEventsRequest { org_id: world.org.id.clone(), ..Default::default() };
    let events = world.server.operator.orgs().list_events(request).await.unwrap().into_inner().events;
    let changed = events.iter().find(|event| event.r#type == "token.updated").unwrap();
    let change = changed.changes.iter().find(|change| change.field == "allowed_client_certs").unwrap();
    assert_eq!((change.old_value.as_ref(), change.new_value.as_ref()), (Some(&own), Some(&renewed)));

    // At most 20, each of them a digest.
    let many: Vec<String> = std::iter::repeat_n(own.clone(), 21).collect();
    for (certificates, field) in [
        (many, "allowed_client_certs"),
        (vec![own, "CN=client".to_owned()], "allowed_client_certs[1]"),
        (vec!["aa:bb:cc".to_owned()], "allowed_client_certs[0]"),
        (vec![String::new()], "allowed_client_certs[0]"),
    ] {
        let request = pb::CreateTokenRequest {
            allowed_client_certs: certificates,
            ..token_for(&world.org.id, &world.org.owner_id)
        };
        let refusal = world.server.operator.tokens().create_token(request).await.unwrap_err();
        assert_eq!((violated(&refusal), refusal.code()), (vec![field.to_owned()], Code::InvalidArgument));
    }
}
