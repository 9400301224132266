//! Tokens of kind `KEY`: made with a public key, rotated to the next one, and managed like any other.

use aws_lc_rs::rsa::KeySize;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{
    Client, LIMITS, Org, Signer, TestServer, by_id, by_text, claims, key_for, refused, rotate_token,
    token_for, violated,
};

/// A server with an account that has a token of kind `KEY`.
pub(super) struct World {
    pub(super) server: TestServer,
    pub(super) org: Org,
    account: pb::Account,
    pub(super) signer: Signer,
    pub(super) token: pb::Token,
}

impl World {
    pub(super) async fn new() -> Self {
        let server = TestServer::at_standing_time(LIMITS).await;
        let org = server.org().await;
        let (account, _) = server.account(&org.id, "bot", &[("auditor", "*"), ("x.y", "*")]).await;
        let signer = Signer::ed25519();
        let token = server.key_token(&org.id, &account.id, &signer).await;
        Self { server, org, account, signer, token }
    }

    pub(super) fn assertion(&self) -> String {
        self.signer.assertion(&self.server, &self.token.id)
    }

    /// The client with a JWT that this pair was exchanged for.
    async fn with_jwt(&self, signer: &Signer) -> Client {
        let assertion = signer.assertion(&self.server, &self.token.id);
        self.server.client(self.server.anonymous().exchange_assertion(&assertion).await.unwrap())
    }

    pub(super) async fn rotate(
        &self,
        signer: &Signer,
        overlap: Option<i64>,
    ) -> Result<pb::Token, tonic::Status> {
        let request = pb::RotateTokenRequest {
            public_jwk: signer.jwk().to_string(),
            ..rotate_token(&self.org.id, &self.token.id, overlap)
        };
        let answer = self.org.owner.tokens().rotate_token(request).await?.into_inner();
        assert_eq!(answer.secret, "", "a key has no secret");
        Ok(answer.token.unwrap())
    }

    async fn get(&self) -> pb::Token {
        let request = pb::GetTokenRequest { org_id: self.org.id.clone(), token_id: self.token.id.clone() };
        self.org.owner.tokens().get_token(request).await.unwrap().into_inner().token.unwrap()
    }
}

#[tokio::test]
async fn a_key_of_each_kind_authenticates_by_its_assertions() {
    let World { server, org, account, .. } = World::new().await;
    for signer in [
        Signer::ed25519(),
        Signer::p256(),
        Signer::rsa(KeySize::Rsa2048, "RS256").await,
        Signer::rsa(KeySize::Rsa3072, "PS256").await,
        Signer::rsa(KeySize::Rsa4096, "RS256").await,
    ] {
        let algorithm = signer.algorithm();
        let token = server.key_token(&org.id, &account.id, &signer).await;
        assert_eq!((token.kind(), token.state()), (pb::TokenKind::Key, pb::TokenState::Active));
        assert_eq!(token.secrets.len(), 1);
        assert_eq!(token.secrets[0].obfuscated, signer.thumbprint());
        let jwk: Value = serde_json::from_str(&token.public_jwk).unwrap();
        let (kid, named) = (json!(signer.thumbprint()), json!(algorithm));
        assert_eq!((&jwk["kid"], &jwk["alg"], &jwk["use"]), (&kid, &named, &json!("sig")));
        for (name, value) in signer.jwk().as_object().unwrap() {
            assert_eq!(&jwk[name], value, "{algorithm}");
        }

        // With and without a kid, and for the other typ.
        for header in [
            json!({"alg": algorithm}),
            json!({"alg": algorithm, "kid": kid, "typ": "client-authentication+jwt"}),
        ] {
            let claims = crate::harness::assertion_claims(&server, &token.id);
            server.anonymous().exchange_assertion(&signer.sign(&header, &claims)).await.unwrap();
        }
        let assertion = signer.assertion(&server, &token.id);
        let jwt = server.anonymous().exchange_assertion(&assertion).await.unwrap();
        let claims = claims(&jwt);
        assert_eq!((&claims["token_kind"], &claims["secret"]), (&json!("KEY"), &json!(1)));
        assert_eq!((&claims["client_id"], &claims["sub"]), (&json!(token.id), &json!(account.id)));
        let caller = server.client(&jwt).caller().await.unwrap();
        assert_eq!(caller.credential_id, token.id);
        assert_eq!(caller.secret_obfuscated, signer.thumbprint());
    }
    let exchanged = server.state.metrics.credentials.exchanges();
    let of_keys = exchanged.filter(|(kind, _)| kind.name() == "KEY").map(|(_, count)| count).sum::<u64>();
    assert_eq!(of_keys, 15);
}

#[tokio::test]
async fn an_assertion_is_taken_where_it_is_asked_for_alone() {
    let world = World::new().await;
    let (server, assertion) = (&world.server, world.assertion());
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    let access_token = "urn:ietf:params:oauth:token-type:access_token";
    let exchange = async |subject: Option<&str>, kind: &str, bearer: Option<&str>| {
        let client = Client { bearer: bearer.map(str::to_owned), ..server.anonymous() };
        let request = pb::ExchangeTokenRequest {
            subject_token: subject.map(str::to_owned),
            subject_token_type: kind.into(),
            ..Default::default()
        };
        client.tokens().exchange_token(request).await.map(drop)
    };
    for kind in ["", access_token] {
        let answer = exchange(Some(&assertion), kind, None).await;
        refused(answer, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
        let answer = exchange(None, kind, Some(&assertion)).await;
        refused(answer, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
        exchange(Some(world.org.owner.token()), kind, None).await.unwrap();
    }
    let invalid = |answer, field: &str| {
        assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), [field]);
    };
    invalid(exchange(None, jwt, Some(&assertion)).await, "subject_token");
    invalid(exchange(Some(""), jwt, None).await, "subject_token");
    let token = world.org.owner.token();
    invalid(exchange(Some(token), jwt, None).await, "subject_token_type");
    for other in ["jwt", "urn:ietf:params:oauth:token-type:id_token", &access_token.to_uppercase()] {
        invalid(exchange(Some(&assertion), other, None).await, "subject_token_type");
        invalid(exchange(Some(token), other, None).await, "subject_token_type");
    }
    // As a credential of a call, and as a token to introspect, it is nothing.
    let answer = server.client(&assertion).caller().await;
    refused(answer, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
    let introspected = async |text: &str| {
        let request = pb::IntrospectTokenRequest { token_text: text.into(), ..Default::default() };
        world.org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active
    };
    assert!(!introspected(&assertion).await);
    // Nor does it revoke anything, or count as leaked.
    server.anonymous().tokens().revoke_token(by_text(&assertion)).await.unwrap();
    let leak = pb::ReportLeakedTokenRequest { token_texts: vec![assertion.clone()] };
    server.anonymous().tokens().report_leaked_token(leak).await.unwrap();
    // All that spent nothing.
    let jwt = server.anonymous().exchange_assertion(&assertion).await.unwrap();
    assert!(introspected(&jwt).await);
}

#[tokio::test]
async fn what_is_no_public_key_makes_no_token() {
    let World { server, org, account, .. } = World::new().await;
    let (ed25519, p256) = (Signer::ed25519(), Signer::p256());
    let small = Signer::rsa(KeySize::Rsa2048, "RS256").await.jwk();
    let with = |jwk: &Value, name: &str, value: Value| {
        let mut jwk = jwk.clone();
        jwk[name] = value;
        jwk.to_string()
    };
    let off_curve = BASE64URL.encode([&[2_u8][..], &[0; 31]].concat());
    let thousand_bits = BASE64URL.encode([0xff; 128]);
    for jwk in [
        String::new(),
        "{}".to_owned(),
        "csign".to_owned(),
        with(&ed25519.jwk(), "d", "AAAA".into()),
        with(&ed25519.jwk(), "use", "enc".into()),
        with(&ed25519.jwk(), "alg", "ES256".into()),
        with(&ed25519.jwk(), "x", off_curve.into()),
        with(&p256.jwk(), "y", p256.jwk()["x"].clone()),
        with(&small, "n", thousand_bits.into()),
        with(&small, "e", "Aw".into()),
        with(&small, "p", "AAAA".into()),
        json!({"kty": "oct", "k": "AAAA"}).to_string(),
        ed25519.jwk().to_string().replacen('{', r#"{"kty":"OKP","#, 1),
        format!("{}{}", ed25519.jwk(), " ".repeat(8 << 10)),
    ] {
        let request =
            pb::CreateTokenRequest { public_jwk: jwk.clone(), ..key_for(&org.id, &account.id, &p256) };
        let answer = server.operator.tokens().create_token(request).await;
        assert_eq!(
            violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")),
            ["public_jwk"],
            "{jwk}"
        );
    }
    let key = key_for(&org.id, &account.id, &p256);
    for kind in [pb::TokenKind::Unspecified, pb::TokenKind::Secret] {
        let answer = server
            .operator
            .tokens()
            .create_token(pb::CreateTokenRequest { kind: kind.into(), ..key.clone() })
            .await;
        assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), ["public_jwk"]);
    }
    let at_origin = pb::CreateTokenRequest { allowed_origins: vec!["https://a.example".into()], ..key };
    let answer = server.operator.tokens().create_token(at_origin).await;
    assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), ["allowed_origins"]);
}

#[tokio::test]
async fn no_two_active_tokens_have_the_same_key() {
    let World { server, org, account, signer, token } = World::new().await;
    let other = server.org().await;
    let create = async |org_id: &str, owner: &str, signer: &Signer, validate_only: bool| {
        let request = pb::CreateTokenRequest { validate_only, ..key_for(org_id, owner, signer) };
        server.operator.tokens().create_token(request).await.map(|made| made.into_inner().token.unwrap())
    };
    // Also by the account of another org, which learns nothing of the first one.
    for (org_id, owner) in [(&org.id, &account.id), (&other.id, &other.owner_id)] {
        for validate_only in [false, true] {
            let refusal = create(org_id, owner, &signer, validate_only).await;
            let refusal = refused(refusal, Code::AlreadyExists, "RESOURCE_EXISTS");
            let said = format!("{refusal:?}");
            assert!(
                !said.contains(&token.id) && !said.contains("bot") && !said.contains(&account.id),
                "{said}"
            );
        }
    }
    server.operator.tokens().revoke_token(by_id(&org.id, &token.id)).await.unwrap();
    // What is only checked takes nothing.
    create(&other.id, &other.owner_id, &signer, true).await.unwrap();
    let taken = create(&other.id, &other.owner_id, &signer, false).await.unwrap();
    refused(create(&org.id, &account.id, &signer, false).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    // The first one is still the owner's, and still revoked.
    let answer = server.anonymous().exchange_assertion(&signer.assertion(&server, &token.id)).await;
    refused(answer, Code::Unauthenticated, "TOKEN_REVOKED");
    server.anonymous().exchange_assertion(&signer.assertion(&server, &taken.id)).await.unwrap();

    let contested = Signer::p256();
    let [one, two] = [(&org.id, &account.id), (&other.id, &other.owner_id)]
        .map(|(org_id, owner)| create(org_id, owner, &contested, false));
    let outcomes = tokio::join!(one, two);
    assert_eq!(usize::from(outcomes.0.is_ok()) + usize::from(outcomes.1.is_ok()), 1, "{outcomes:?}");
    let refusal = outcomes.0.and(outcomes.1);
    refused(refusal, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn a_rotation_gives_a_token_its_next_key() {
    let world = World::new().await;
    let (server, old, new) = (&world.server, &world.signer, Signer::p256());
    let exchange = async |signer: &Signer| {
        server.anonymous().exchange_assertion(&signer.assertion(server, &world.token.id)).await
    };
    let (of_old, next) = (world.with_jwt(old).await, Signer::ed25519());
    let rotated = world.rotate(&new, Some(3_600)).await.unwrap();
    let shown: Vec<_> = rotated.secrets.iter().map(|key| key.obfuscated.clone()).collect();
    assert_eq!(shown, [old.thumbprint(), new.thumbprint()]);
    assert!(rotated.public_jwk.contains(&new.thumbprint()), "the one that stays");
    // Both work, each with JWTs of its own.
    assert_eq!(claims(&exchange(old).await.unwrap())["secret"], 1);
    assert_eq!(claims(&exchange(&new).await.unwrap())["secret"], 2);
    refused(world.rotate(&next, Some(60)).await, Code::FailedPrecondition, "ROTATION_IN_PROGRESS");
    let request =
        pb::FinishRotationRequest { org_id: world.org.id.clone(), token_id: world.token.id.clone() };
    world.org.owner.tokens().finish_rotation(request).await.unwrap();
    refused(exchange(old).await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(of_old.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");

    // Cancelled, the next one is gone, and is free for another token.
    world.rotate(&next, None).await.unwrap();
    let of_next = world.with_jwt(&next).await;
    let request =
        pb::CancelRotationRequest { org_id: world.org.id.clone(), token_id: world.token.id.clone() };
    let cancelled =
        world.org.owner.tokens().cancel_rotation(request).await.unwrap().into_inner().token.unwrap();
    assert!(cancelled.public_jwk.contains(&new.thumbprint()));
    refused(exchange(&next).await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(of_next.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    exchange(&new).await.unwrap();
    server.key_token(&world.org.id, &world.account.id, &next).await;

    // A reset ends all others at once. A former key may come back.
    let of_new = world.with_jwt(&new).await;
    world.rotate(old, Some(0)).await.unwrap();
    refused(of_new.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    refused(exchange(&new).await, Code::Unauthenticated, "TOKEN_EXPIRED");
    exchange(old).await.unwrap();
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("select thumbprint from token_keys order by 1")
        .fetch_all(&server.database().pool())
        .await
        .unwrap();
    assert!(keys.contains(&BASE64URL.decode(old.thumbprint()).unwrap()));
}

#[tokio::test]
async fn a_rotation_takes_a_key_for_a_key_and_none_for_a_secret() {
    let world = World::new().await;
    let owner = &world.org.owner;
    let answer = owner.tokens().rotate_token(rotate_token(&world.org.id, &world.token.id, None)).await;
    assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), ["public_jwk"]);
    let secret =
        world.server.operator.tokens().create_token(token_for(&world.org.id, &world.account.id)).await;
    let secret = secret.unwrap().into_inner().token.unwrap();
    let request = pb::RotateTokenRequest {
        public_jwk: Signer::p256().jwk().to_string(),
        ..rotate_token(&world.org.id, &secret.id, None)
    };
    let answer = owner.tokens().rotate_token(request).await;
    assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), ["public_jwk"]);
    // The key that it has, and one of another token.
    let other = Signer::p256();
    world.server.key_token(&world.org.id, &world.account.id, &other).await;
    for taken in [&world.signer, &other] {
        refused(world.rotate(taken, None).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    }
    assert_eq!(world.get().await.secrets.len(), 1, "nothing has changed");
}

#[tokio::test]
async fn a_key_token_is_managed_like_any_other() {
    let world = World::new().await;
    let World { server, org, account, signer, token } = &world;
    let tokens = || org.owner.tokens();
    let listed = async |kind: pb::TokenKind| {
        let request =
            pb::ListTokensRequest { kind: kind.into(), account_id: account.id.clone(), ..Default::default() };
        let tokens = tokens().list_tokens(request).await.unwrap().into_inner().tokens;
        tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(pb::TokenKind::Key).await, [token.id.as_str()]);
    assert!(!listed(pb::TokenKind::Secret).await.contains(&token.id));

    // Its use is counted, by its number.
    let jwt = world.with_jwt(signer).await;
    server.state.last_uses.flush().await.unwrap();
    assert_eq!(world.get().await.secrets[0].use_count, 1);
    // It is narrowed, and keeps its key.
    let update = pb::UpdateTokenRequest {
        token: Some(pb::Token { id: token.id.clone(), scopes: vec!["x.y".into()], ..Default::default() }),
        ..Default::default()
    };
    let updated = tokens().update_token(update.clone()).await.unwrap().into_inner().token.unwrap();
    assert_eq!((updated.scopes, &updated.public_jwk), (vec!["x.y".to_owned()], &token.public_jwk));
    refused(jwt.caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let mut wrong = update;
    wrong.token.as_mut().unwrap().allowed_origins = vec!["https://a.example".into()];
    let answer = tokens().update_token(wrong).await;
    assert_eq!(violated(&refused(answer, Code::InvalidArgument, "INVALID_FIELD")), ["token.allowed_origins"]);
    // It moves to another account, and is exchanged for that one.
    let (other, _) = server.account(&org.id, "other", &[("x.y", "*")]).await;
    let request = pb::ReassignTokenRequest {
        token_id: token.id.clone(),
        account_id: other.id.clone(),
        ..Default::default()
    };
    tokens().reassign_token(request).await.unwrap();
    let jwt = world.with_jwt(signer).await;
    assert_eq!(claims(jwt.token())["sub"], other.id);
    // A JWT of a key is one of a secret: it makes no tokens without the right to.
    let made = jwt.tokens().create_token(token_for(&org.id, &other.id)).await;
    refused(made, Code::PermissionDenied, "PERMISSION_MISSING");

    let request = pb::RevokeAccountTokensRequest { account_id: other.id.clone(), ..Default::default() };
    tokens().revoke_account_tokens(request).await.unwrap();
    assert_eq!(world.get().await.state(), pb::TokenState::Revoked);
    let answer = server.anonymous().exchange_assertion(&world.assertion()).await;
    refused(answer, Code::Unauthenticated, "TOKEN_REVOKED");
    let request = pb::ListEventsRequest { resource_id: token.id.clone(), ..Default::default() };
    let events = org.owner.orgs().list_events(request).await.unwrap().into_inner().events;
    let created = events.iter().find(|event| event.r#type == "token.created").unwrap();
    let changed =
        |field: &str| created.changes.iter().find(|change| change.field == field).unwrap().new_value.clone();
    assert_eq!(
        (changed("kind"), changed("secrets")),
        (Some("TOKEN_KIND_KEY".into()), Some(signer.thumbprint()))
    );
    assert!(events.iter().any(|event| event.r#type == "token.revoked"));
}

/// What a purged account had is free, and nothing of it is left.
#[tokio::test]
async fn a_purged_account_leaves_no_key() {
    let World { server, org, account, token, .. } = World::new().await;
    server.operator.tokens().revoke_token(by_id(&org.id, &token.id)).await.unwrap();
    let tokens = pb::RevokeAccountTokensRequest {
        org_id: org.id.clone(),
        account_id: account.id.clone(),
        ..Default::default()
    };
    server.operator.tokens().revoke_account_tokens(tokens).await.unwrap();
    let delete = pb::DeleteAccountRequest { org_id: org.id, account_id: account.id, ..Default::default() };
    server.operator.accounts().delete_account(delete).await.unwrap();
    let kept = async || {
        let query = sqlx::query_scalar::<_, i64>("select count(*) from token_keys");
        query.fetch_one(&server.database().pool()).await.unwrap()
    };
    assert_eq!(kept().await, 1);
    server.state.clock.advance(std::time::Duration::from_secs(31 * 24 * 3_600));
    countersign::jobs::purge(&server.state).await.unwrap();
    assert_eq!(kept().await, 0);
}

#[tokio::test]
async fn a_request_that_is_repeated_is_answered_as_before() {
    let World { server, org, account, .. } = World::new().await;
    let signer = Signer::ed25519();
    let request = pb::CreateTokenRequest {
        request_id: "6f0a2c9e-6f3e-4f9e-9d0a-0d1a0b0c0d0e".into(),
        ..key_for(&org.id, &account.id, &signer)
    };
    let first = server.operator.tokens().create_token(request.clone()).await.unwrap().into_inner();
    let again = server.operator.tokens().create_token(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = pb::CreateTokenRequest { public_jwk: Signer::p256().jwk().to_string(), ..request };
    let answer = server.operator.tokens().create_token(other).await;
    refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED");
}

/// A row that others wrote opens nothing, whatever they copied from where.
#[tokio::test]
async fn a_planted_key_opens_nothing() {
    let world = World::new().await;
    let (server, token) = (&world.server, &world.token);
    let (thief, own) = (Signer::ed25519(), Signer::ed25519());
    let own_token = server.key_token(&world.org.id, &world.account.id, &own).await;
    let jwt = world.with_jwt(&world.signer).await;
    jwt.caller().await.unwrap();
    let pool = server.database().pool();
    let row = |id: &str| countersign::domain::values::ids::TokenId::parse(id).unwrap().uuid();
    let thief_token = server.key_token(&world.org.id, &world.account.id, &thief).await;
    for planted in [
        // The key alone, as if somebody had rotated it; and with the seal of the row where it is from.
        "update token_secrets t set public_jwk = s.public_jwk from token_secrets s
         where t.token_id = $1 and s.token_id = $2",
        "update token_secrets t set public_jwk = s.public_jwk, sealed = s.sealed from token_secrets s
         where t.token_id = $1 and s.token_id = $2",
    ] {
        sqlx::query(planted).bind(row(&token.id)).bind(row(&thief_token.id)).execute(&pool).await.unwrap();
        // What is cached is not asked again: another node loads it.
        let node = server.beside(LIMITS).await;
        for signer in [&thief, &world.signer] {
            let answer = node.anonymous().exchange_assertion(&signer.assertion(server, &token.id)).await;
            refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
        }
        // Nor does a JWT of before work that the key was exchanged for.
        refused(node.client(jwt.token()).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
        node.anonymous().exchange_assertion(&own.assertion(server, &own_token.id)).await.unwrap();
        // The administrator rotates it, which makes it good again.
        let next = Signer::p256();
        let request = pb::RotateTokenRequest {
            public_jwk: next.jwk().to_string(),
            ..rotate_token(&world.org.id, &token.id, Some(0))
        };
        node.operator.tokens().rotate_token(request).await.unwrap();
        node.anonymous().exchange_assertion(&next.assertion(server, &token.id)).await.unwrap();
        let remove = "delete from token_secrets where token_id = $1 and public_jwk like '%P-256%'";
        sqlx::query(remove).bind(row(&token.id)).execute(&pool).await.unwrap();
        let restore = "update token_secrets set expire_time = null where token_id = $1";
        sqlx::query(restore).bind(row(&token.id)).execute(&pool).await.unwrap();
    }
}
