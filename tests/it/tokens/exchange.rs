//! The main job: a long-lived token becomes a short-lived JWT that an outside service can verify.

use std::time::Duration;

use countersign::clock::Clock;
use countersign::config::SigningAlgorithm;
use countersign::crypto::seal::MasterKeys;
use countersign::grpc::pb;
use countersign::state::{Pools, State};
use jsonwebtoken::jwk::{JwkSet, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{
    Database, LIMITS, TestServer, by_id, by_text, claims, http_get, read_keys, refused, token_for,
};

#[tokio::test]
async fn a_token_becomes_a_jwt_that_a_stranger_verifies() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let grants = [("manager", "*"), ("invoices.read", "*"), ("invoices.write", "customers/acme")];
    let (account, bot) = server.account(&org.id, "bot", &grants).await;
    let before = server.state.clock.now().unix_timestamp();
    let answer = bot.exchange().await.unwrap();
    assert_eq!(answer.token_type, "Bearer");
    assert_eq!(answer.issued_token_type, "urn:ietf:params:oauth:token-type:access_token");

    // All that an outside service has: the issuer's address.
    let discovery: Value =
        serde_json::from_str(&http_get(&server.endpoint, "/.well-known/openid-configuration").await.body)
            .unwrap();
    assert_eq!(discovery["issuer"], server.endpoint.as_str());
    assert!(discovery.get("response_types_supported").is_none(), "nothing is listed that is empty");
    let jwks_path =
        discovery["jwks_uri"].as_str().unwrap().strip_prefix(&server.endpoint).unwrap().to_owned();
    let keys: JwkSet = serde_json::from_str(&http_get(&server.endpoint, &jwks_path).await.body).unwrap();
    let header = decode_header(&answer.access_token).unwrap();
    assert_eq!((header.typ.as_deref(), header.alg), (Some("at+jwt"), Algorithm::EdDSA));
    let key = keys.find(header.kid.as_ref().unwrap()).unwrap();
    assert_eq!(key.thumbprint(ThumbprintHash::SHA256).unwrap(), header.kid.unwrap());
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_issuer(&[&server.endpoint]);
    validation.set_audience(&[&server.endpoint]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    let read = decode::<Value>(&answer.access_token, &DecodingKey::from_jwk(key).unwrap(), &validation)
        .unwrap()
        .claims;

    let caller = bot.caller().await.unwrap();
    assert_eq!(read["sub"], account.id.as_str());
    assert_eq!(read["client_id"], caller.credential_id.as_str());
    assert_eq!(read["org"], org.id.as_str());
    assert_eq!(read["aud"], server.endpoint.as_str());
    assert_eq!((&read["account_kind"], &read["token_kind"]), (&json!("SERVICE_ACCOUNT"), &json!("SECRET")));
    assert_eq!(read["roles"], json!(["manager", "member"]));
    assert_eq!(
        read["authorization_details"],
        json!([{ "type": "countersign_grant", "identifier": "customers/acme", "actions": ["invoices.write"] }])
    );
    let scope: Vec<_> = read["scope"].as_str().unwrap().split(' ').collect();
    assert_eq!(scope, answer.scopes);
    assert_eq!(scope, caller.permissions);
    assert!(
        scope.contains(&"invoices.read")
            && !scope.contains(&"invoices.write")
            && !scope.contains(&"orgs.write")
    );
    let (iat, exp) = (read["iat"].as_i64().unwrap(), read["exp"].as_i64().unwrap());
    assert!(iat >= before && read["nbf"] == iat && exp == iat + 300);
    assert_eq!(answer.expire_time.unwrap().seconds, exp);
    assert!(
        read["org_ver"].is_i64()
            && read["acct_ver"].is_i64()
            && read["secret"] == 1
            && read.get("act").is_none()
    );
    assert_ne!(claims(&bot.exchange().await.unwrap().access_token)["jti"], read["jti"]);
    assert!(answer.access_token.len() <= 4_096);
}

/// Verifies as a service does that pinned one algorithm, and knows only the
/// issuer's address.
async fn verified(endpoint: &str, jwt: &str, pinned: Algorithm) -> Value {
    let keys: JwkSet =
        serde_json::from_str(&http_get(endpoint, "/.well-known/jwks.json").await.body).unwrap();
    let header = decode_header(jwt).unwrap();
    assert_eq!((header.typ.as_deref(), header.alg), (Some("at+jwt"), pinned));
    let key = keys.find(&header.kid.unwrap()).unwrap();
    let mut validation = Validation::new(pinned);
    validation.set_issuer(&[endpoint]);
    validation.set_audience(&[endpoint]);
    decode::<Value>(jwt, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims
}

#[tokio::test]
async fn a_stranger_verifies_each_algorithm() {
    for algorithm in SigningAlgorithm::ALL {
        let server = TestServer::signing_with(*algorithm).await;
        let jwt = server.operator.exchange().await.unwrap().access_token;
        let read = verified(&server.endpoint, &jwt, algorithm.name().parse().unwrap()).await;
        assert_eq!(read["iss"], server.endpoint.as_str());
        // Countersign's own API takes it, and discovery says what to pin.
        let caller = server.client(jwt).caller().await.unwrap();
        assert_eq!(read["client_id"], caller.credential_id.as_str());
        let discovered = http_get(&server.endpoint, "/.well-known/openid-configuration").await.body;
        let discovered: Value = serde_json::from_str(&discovered).unwrap();
        assert_eq!(discovered["id_token_signing_alg_values_supported"], json!([algorithm.name()]));
    }
}

#[tokio::test]
async fn a_database_that_signs_with_another_algorithm_keeps_its_key() {
    let database = Database::create().await;
    let master = MasterKeys::new_file();
    let open = async |algorithm| {
        let pools = Pools::open(&database.options(), 1, 1, Default::default());
        let issuer = "https://id.example".parse().unwrap();
        State::open(pools, read_keys(&master), algorithm, issuer, LIMITS.credentials(), Clock::default())
            .await
            .unwrap()
    };
    let first = open(SigningAlgorithm::Es256).await;
    for algorithm in SigningAlgorithm::ALL {
        let later = open(*algorithm).await;
        assert_eq!(later.keyring.signer.algorithms(), ["ES256"]);
        assert_eq!(later.keyring.signer.jwks_json(), first.keyring.signer.jwks_json());
        later.close().await;
    }
    first.close().await;
    let rows: Vec<(String, String)> = sqlx::query_as("select state, algorithm from signing_keys")
        .fetch_all(&database.pool())
        .await
        .unwrap();
    assert_eq!(rows, [("ACTIVE".to_owned(), "ES256".to_owned())]);
}

#[tokio::test]
async fn the_bearer_may_be_the_subject() {
    let server = TestServer::start().await;
    let answer = server.operator.tokens().exchange_token(pb::ExchangeTokenRequest::default()).await.unwrap();
    let scope = answer.into_inner().scopes;
    assert_eq!(scope, ["platform.accounts", "platform.keys", "platform.orgs", "platform.verify"]);
    // It may be there twice. Another bearer is that of the caller, and refused where it is wrong.
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(server.operator.token().into()),
        ..Default::default()
    };
    server.operator.tokens().exchange_token(request.clone()).await.unwrap();
    let stale = server.client("a.b.c").tokens().exchange_token(request).await;
    let stale = refused(stale, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    let info = tonic_types::StatusExt::get_details_error_info(&stale).unwrap();
    assert_eq!(info.metadata["credential"], "caller");
}

#[tokio::test]
async fn asking_for_less() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[("invoices.read", "*"), ("invoices.write", "*")]).await;
    let ask = async |request: pb::ExchangeTokenRequest| {
        let request = pb::ExchangeTokenRequest { subject_token: Some(bot.token().into()), ..request };
        bot.tokens().exchange_token(request).await.map(|answer| claims(&answer.into_inner().access_token))
    };
    let scoped = ask(pb::ExchangeTokenRequest { scopes: vec!["invoices.read".into()], ..Default::default() })
        .await
        .unwrap();
    assert_eq!(scoped["scope"], "invoices.read");
    assert!(scoped.get("roles").is_none(), "a narrowed JWT names no roles");
    let two = vec!["https://a.example".to_owned(), "https://b.example".to_owned()];
    let elsewhere =
        ask(pb::ExchangeTokenRequest { audiences: two.clone(), ..Default::default() }).await.unwrap();
    assert_eq!(elsewhere["aud"], json!(two));
    let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let short = ask(pb::ExchangeTokenRequest { requested_ttl: ttl, ..Default::default() }).await.unwrap();
    assert_eq!(short["exp"].as_i64().unwrap() - short["iat"].as_i64().unwrap(), 60);
}

#[tokio::test]
async fn an_exchange_never_outlives_its_token() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let ttl = pb::create_token_request::Expiration::Ttl(prost_types::Duration { seconds: 120, nanos: 0 });
    let request = pb::CreateTokenRequest { expiration: Some(ttl), ..token_for(&org.id, &org.owner_id) };
    let made = server.operator.tokens().create_token(request).await.unwrap().into_inner();
    let end = made.token.unwrap().expire_time.unwrap().seconds;
    let client = server.client(made.secret);
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(client.token().into()),
        requested_ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    let answer = client.tokens().exchange_token(request).await.unwrap().into_inner();
    assert!(claims(&answer.access_token)["exp"].as_i64().unwrap() <= end);
    server.state.clock.advance(std::time::Duration::from_secs(121));
    refused(client.exchange().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(client.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_revoked_token_stops_at_once_and_its_jwts_with_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let jwt = bot.with_jwt().await;
    let id = jwt.caller().await.unwrap().credential_id;
    let revoked = org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap().into_inner().token.unwrap();
    assert_eq!(revoked.state(), pb::TokenState::Revoked);
    assert!(revoked.revoke_time.is_some());
    refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(bot.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(jwt.caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    // For good: again changes nothing.
    let again = org.owner.tokens().revoke_token(by_id("", &id)).await.unwrap().into_inner().token.unwrap();
    assert_eq!(again, revoked);
}

#[tokio::test]
async fn whoever_has_the_text_may_revoke_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, bot) = server.account(&org.id, "bot", &[]).await;
    let anonymous = server.anonymous();
    let reason = pb::RevokeReason::Superseded.into();
    let request = pb::RevokeTokenRequest { reason, ..by_text(bot.token()) };
    assert_eq!(anonymous.tokens().revoke_token(request).await.unwrap().into_inner().token, None);
    refused(bot.exchange().await, Code::Unauthenticated, "TOKEN_REVOKED");
    // Unknown ones "succeed" (RFC 7009).
    for text in ["rubbish", bot.token(), &bot.token().replace("csign", "cxign")] {
        anonymous.tokens().revoke_token(by_text(text)).await.unwrap();
    }
    refused(
        anonymous.tokens().revoke_token(by_id("", "tok_x")).await,
        Code::Unauthenticated,
        "CREDENTIAL_MISSING",
    );
}

#[tokio::test]
async fn taking_a_grant_away_narrows_the_next_exchange() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[("invoices.read", "*"), ("auditor", "*")]).await;
    let jwt = bot.with_jwt().await;
    let list = || pb::ListAccountsRequest::default();
    jwt.accounts().list_accounts(list()).await.unwrap();
    let taken = vec![crate::harness::grant("auditor", "*")];
    let request = pb::RevokeAccessRequest { account_id: account.id, grants: taken, ..Default::default() };
    org.owner.accounts().revoke_access(request).await.unwrap();
    // The JWT from before is refused with a hint to get a new one; the token has the change at once.
    refused(jwt.accounts().list_accounts(list()).await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    refused(bot.accounts().list_accounts(list()).await, Code::PermissionDenied, "PERMISSION_MISSING");
    assert_eq!(bot.exchange().await.unwrap().scopes, ["invoices.read"]);
    bot.with_jwt().await.caller().await.unwrap();
}

#[tokio::test]
async fn a_jwt_for_another_audience_does_not_work_here() {
    let server = TestServer::start().await;
    let ask = |audience: &str| pb::ExchangeTokenRequest {
        subject_token: Some(server.operator.token().into()),
        audiences: vec![audience.into()],
        ..Default::default()
    };
    let mut tokens = server.operator.tokens();
    let foreign =
        tokens.exchange_token(ask("https://billing.example")).await.unwrap().into_inner().access_token;
    refused(server.client(foreign).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    let own = tokens.exchange_token(ask(&server.endpoint)).await.unwrap().into_inner().access_token;
    server.client(own.clone()).caller().await.unwrap();
    // An access token expires after five minutes, and yields no other.
    let subject = pb::ExchangeTokenRequest { subject_token: Some(own.clone()), ..Default::default() };
    refused(tokens.exchange_token(subject).await, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    server.state.clock.advance(std::time::Duration::from_secs(301));
    refused(server.client(own).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
}

#[tokio::test]
async fn too_many_rights_for_one_jwt_are_told() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (account, bot) = server.account(&org.id, "bot", &[]).await;
    for part in 0..4 {
        let names = (0..100).map(|n| format!("application_{part}_{n}.read"));
        let grants = names.map(|name| crate::harness::grant(&name, "*")).collect();
        let request =
            pb::GrantAccessRequest { org_id: org.id.clone(), account_id: account.id.clone(), grants };
        server.operator.accounts().grant_access(request).await.unwrap();
    }
    refused(bot.exchange().await, Code::FailedPrecondition, "SCOPE_TOO_WIDE");
    let request = pb::ExchangeTokenRequest {
        subject_token: Some(bot.token().into()),
        scopes: vec!["application_0_0.read".into()],
        ..Default::default()
    };
    bot.tokens().exchange_token(request).await.unwrap();
}

#[tokio::test]
async fn what_stops_an_account_or_an_org_stops_its_tokens_and_jwts() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let jwt = org.owner.with_jwt().await;
    let db = &server.state.db;
    for (stop, resume, expected) in [
        (
            "update accounts set deactivate_time = now()",
            "update accounts set deactivate_time = null",
            "ACCOUNT_DEACTIVATED",
        ),
        (
            "update accounts set delete_time = now()",
            "update accounts set delete_time = null",
            "ACCOUNT_DEACTIVATED",
        ),
        ("update orgs set suspend_time = now()", "update orgs set suspend_time = null", "ORG_SUSPENDED"),
        ("update orgs set delete_time = now()", "update orgs set delete_time = null", "ORG_SUSPENDED"),
    ] {
        let ours = " where org_id <> '00000000-0000-7000-8000-000000000001'";
        sqlx::query(sqlx::AssertSqlSafe(format!("{stop}{ours}"))).execute(db).await.unwrap();
        // Changed in the database directly.
        server.state.principals.clear();
        refused(org.owner.exchange().await, Code::Unauthenticated, expected);
        refused(org.owner.caller().await, Code::Unauthenticated, expected);
        refused(jwt.caller().await, Code::Unauthenticated, expected);
        let request =
            pb::IntrospectTokenRequest { token_text: org.owner.token().into(), ..Default::default() };
        assert!(!server.operator.tokens().introspect_token(request).await.unwrap().into_inner().active);
        sqlx::query(sqlx::AssertSqlSafe(format!("{resume}{ours}"))).execute(db).await.unwrap();
        server.state.principals.clear();
        org.owner.exchange().await.unwrap();
    }
}

#[tokio::test]
async fn an_account_may_be_made_deactivated() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request =
        pb::CreateServiceAccountRequest { name: "later".into(), deactivated: true, ..Default::default() };
    let account =
        org.owner.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap();
    assert_eq!(account.state(), pb::AccountState::Deactivated);
    let token = server.managing_token(&org.id, &account.id).await;
    refused(server.client(token).exchange().await, Code::Unauthenticated, "ACCOUNT_DEACTIVATED");
}

#[tokio::test]
async fn introspection_tells_what_is_good_now() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (account, bot) =
        server.account(&org.id, "bot", &[("invoices.read", "*"), ("invoices.write", "a")]).await;
    let jwt = bot.exchange().await.unwrap().access_token;
    let ask = async |request: pb::IntrospectTokenRequest| {
        org.owner.tokens().introspect_token(request).await.unwrap().into_inner()
    };
    let about = |text: &str| pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };

    let token = ask(about(bot.token())).await;
    assert!(token.active);
    assert_eq!((token.scope.as_str(), token.sub.as_str()), ("invoices.read", account.id.as_str()));
    assert_eq!((token.username, token.org_id), (account.username.clone(), org.id.clone()));
    assert_eq!((token.iss, token.token_type), (server.endpoint.clone(), "Bearer".into()));
    assert!(token.exp > token.iat && token.nbf == token.iat && token.jti.is_empty());
    assert_eq!(token.account_kind, i32::from(pb::AccountKind::ServiceAccount));
    assert_eq!(token.max_cache_ttl.unwrap().seconds, 60);
    let of_jwt = ask(about(&jwt)).await;
    assert_eq!(
        (of_jwt.active, of_jwt.client_id, of_jwt.aud),
        (true, token.client_id, vec![server.endpoint.clone()])
    );
    assert_eq!(of_jwt.jti, claims(&jwt)["jti"].as_str().unwrap());

    let nothing = pb::IntrospectTokenResponse::default();
    let with_scope = |text: &str, scope: &str| pb::IntrospectTokenRequest {
        required_scopes: vec![scope.into()],
        ..about(text)
    };
    let for_audience =
        |text: &str, audience: &str| pb::IntrospectTokenRequest { audience: audience.into(), ..about(text) };
    for text in [bot.token(), &jwt] {
        assert!(ask(with_scope(text, "invoices.read")).await.active);
        assert_eq!(ask(with_scope(text, "invoices.write")).await, nothing, "held on a path only");
    }
    assert_eq!(ask(for_audience(&jwt, "https://other.example")).await, nothing);
    assert!(ask(for_audience(bot.token(), "https://other.example")).await.active);
    for junk in ["x", "a.b.c", &bot.token()[..80], &jwt[..jwt.len() - 3]] {
        assert_eq!(ask(about(junk)).await, nothing, "{junk}");
    }
    // Another org's owner gets no answer; a platform's verifier does.
    let foreign = server.org().await;
    let answer = foreign.owner.tokens().introspect_token(about(bot.token())).await.unwrap().into_inner();
    assert_eq!(answer, nothing);
    assert!(server.operator.tokens().introspect_token(about(bot.token())).await.unwrap().into_inner().active);
    // A stale JWT is no longer valid.
    let taken = vec![crate::harness::grant("invoices.read", "*")];
    let request = pb::RevokeAccessRequest { account_id: account.id, grants: taken, ..Default::default() };
    org.owner.accounts().revoke_access(request).await.unwrap();
    assert_eq!(ask(about(&jwt)).await, nothing);
    assert_eq!(ask(about(bot.token())).await.scope, "");
}

#[tokio::test]
async fn an_exchange_writes_nothing() {
    let server = TestServer::start().await;
    let count = "select (select count(*) from events) + (select count(*) from feed) + (select count(*) from requests)";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&server.state.db).await.unwrap();
    server.operator.exchange().await.unwrap();
    server.operator.with_jwt().await.caller().await.unwrap();
    let after: i64 = sqlx::query_scalar(count).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(before, after);
}

#[tokio::test]
async fn the_key_set_over_grpc_is_that_over_http() {
    for algorithm in SigningAlgorithm::ALL {
        let server = TestServer::signing_with(*algorithm).await;
        let answer =
            server.anonymous().tokens().get_json_web_key_set(pb::GetJsonWebKeySetRequest {}).await.unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.max_age.unwrap().seconds, 300);
        let http = http_get(&server.endpoint, "/.well-known/jwks.json").await;
        assert_eq!(http.header("cache-control").unwrap(), "public, max-age=300");
        let keys: Value = serde_json::from_str(&http.body).unwrap();
        let [key] = &answer.keys[..] else { panic!("{answer:?}") };
        let pb::JsonWebKey { kty, kid, r#use, alg, crv, x, y, n, e } = key;
        let all = json!({
            "kty": kty, "kid": kid, "use": r#use, "alg": alg, "crv": crv, "x": x, "y": y, "n": n, "e": e,
        });
        let Value::Object(mut members) = all else { unreachable!() };
        members.retain(|_, value| value != "");
        assert_eq!(keys, json!({ "keys": [members] }));
    }
}

/// Two nodes need not agree to the second: what one has just made works on the other, whose clock
/// is behind; and what one has just ended does not.
#[tokio::test]
async fn the_clocks_of_two_nodes_differ() {
    let ahead = TestServer::at_standing_time(LIMITS).await;
    let behind = ahead.beside_with_own_clock(LIMITS).await;
    let org = ahead.org().await;
    let (_, bot) = ahead.account(&org.id, "bot", &[]).await;
    ahead.person(&org.id, "ann@example.org", &[]).await;
    let mut skew = 0;
    for (seconds, accepted) in [(0, true), (2, true), (59, true), (60, true), (61, false), (120, false)] {
        ahead.state.clock.advance(Duration::from_secs(seconds - skew));
        skew = seconds;
        let jwt = bot.exchange().await.unwrap().access_token;
        let caller = behind.client(jwt.clone()).caller().await;
        if accepted {
            caller.unwrap();
        } else {
            refused(caller, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
        }
        ahead.client(jwt.clone()).caller().await.unwrap();
        let request = pb::IntrospectTokenRequest { token_text: jwt, ..Default::default() };
        let answer = behind.operator.tokens().introspect_token(request).await.unwrap().into_inner();
        assert_eq!(answer.active, accepted, "{seconds} s");
        // A clock that is ahead accepts what one that is behind has made.
        let jwt = behind.client(bot.token()).exchange().await.unwrap().access_token;
        ahead.client(jwt).caller().await.unwrap();
        // A session is not older or younger than what is asked of it.
        behind.client(ahead.session("ann@example.org").await.token()).caller().await.unwrap();
    }
}

/// A secret that was ended at once has ended on every node, also where the clock is behind.
#[tokio::test]
async fn a_secret_that_is_ended_has_ended_by_every_clock() {
    let ahead = TestServer::at_standing_time(LIMITS).await;
    let behind = ahead.beside_with_own_clock(LIMITS).await;
    ahead.state.clock.advance(Duration::from_secs(59));
    let org = ahead.org().await;
    let (_, bot) = ahead.account(&org.id, "bot", &[]).await;
    let old = behind.client(bot.token());
    old.caller().await.unwrap();
    let overlap = Some(prost_types::Duration { seconds: 0, nanos: 0 });
    let token_id = bot.caller().await.unwrap().credential_id;
    let request = pb::RotateTokenRequest { token_id, overlap, ..Default::default() };
    org.owner.tokens().rotate_token(request).await.unwrap();
    behind.hear().await;
    refused(old.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(bot.caller().await, Code::Unauthenticated, "TOKEN_EXPIRED");
}
