//! What attackers do to JWTs, each as a bearer and to introspection. The forgeries are
//! signed with the issuer's own key where that makes them stronger.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine as _};
use countersign::crypto::seal::SealPurpose;
use countersign::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::{LIMITS, Org, TestServer, refused};

/// A server, and its own signing key known to the attacker.
struct Attack {
    server: TestServer,
    org: Org,
    pair: Ed25519KeyPair,
    jwk: String,
    header: Value,
    claims: Value,
}

impl Attack {
    async fn new() -> Self {
        let server = TestServer::start().await;
        let org = server.org().await;
        let query = "select kid, sealed from signing_keys";
        let (kid, sealed): (String, Vec<u8>) =
            sqlx::query_as(query).fetch_one(&server.state.db).await.unwrap();
        let record = server.state.keyring.master.open(SealPurpose::SigningKey, &kid, &sealed).unwrap();
        let record: Value = serde_json::from_slice(&record).unwrap();
        let pkcs8 = BASE64URL.decode(record["private"].as_str().unwrap()).unwrap();
        let good = org.owner.exchange().await.unwrap().access_token;
        let mut parts = good.split('.').map(|part| {
            BASE64URL.decode(part).ok().and_then(|part| serde_json::from_slice::<Value>(&part).ok())
        });
        Self {
            pair: Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap(),
            jwk: record["jwk"].to_string(),
            header: parts.next().flatten().unwrap(),
            claims: parts.next().flatten().unwrap(),
            server,
            org,
        }
    }

    /// A JWT of these JSON strings, signed with the issuer's key.
    fn forge(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        format!("{signed}.{}", BASE64URL.encode(self.pair.sign(signed.as_bytes())))
    }

    fn with_header(&self, member: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[member] = value;
        self.forge(&header.to_string(), &self.claims.to_string())
    }

    fn with_claim(&self, claim: &str, value: Value) -> String {
        let mut claims = self.claims.clone();
        claims[claim] = value;
        self.forge(&self.header.to_string(), &claims.to_string())
    }

    async fn is_active(&self, jwt: &str) -> bool {
        let request = pb::IntrospectTokenRequest { token_text: jwt.into(), ..Default::default() };
        self.org.owner.tokens().introspect_token(request).await.unwrap().into_inner().active
    }

    /// Refused as a bearer, not active, and never exchanged.
    async fn fails(&self, what: &str, jwt: &str) {
        eprintln!("{what}");
        // A bearer of two dots with anything between them; a header cannot carry control characters.
        refused(self.server.client(jwt).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_INVALID");
        assert!(!self.is_active(jwt).await, "{what} is active");
        let request = pb::ExchangeTokenRequest { subject_token: Some(jwt.into()), ..Default::default() };
        let exchanged = self.server.anonymous().tokens().exchange_token(request).await;
        refused(exchanged, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    }
}

#[tokio::test]
async fn a_forgery_of_the_attackers_own_is_what_the_issuer_signs() {
    let attack = Attack::new().await;
    // Otherwise the refusals below would prove nothing.
    let same = attack.forge(&attack.header.to_string(), &attack.claims.to_string());
    attack.server.client(same.clone()).caller().await.unwrap();
    assert!(attack.is_active(&same).await);
}

#[tokio::test]
async fn no_algorithm_but_the_keys_own() {
    let attack = Attack::new().await;
    let header = |alg: &str| {
        let mut header = attack.header.clone();
        header["alg"] = json!(alg);
        BASE64URL.encode(header.to_string())
    };
    let claims = BASE64URL.encode(attack.claims.to_string());
    for alg in ["none", "None", "NONE", "nOnE"] {
        let unsigned = format!("{}.{claims}.", header(alg));
        attack.fails(alg, &unsigned).await;
        let signature = attack.with_header("alg", json!(alg));
        attack.fails(alg, &signature).await;
    }
    // HMAC with the public parts of the key: its bytes, its JWK, its place in the key set.
    let public = attack.pair.public_key().as_ref();
    let jwks = attack.server.state.keyring.signer.jwks_json();
    let x = BASE64URL.encode(public);
    for (alg, hash) in
        [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
    {
        for secret in [public, attack.jwk.as_bytes(), jwks.as_bytes(), x.as_bytes(), b""] {
            let signed = format!("{}.{claims}", header(alg));
            let mac = hmac::sign(&hmac::Key::new(hash, secret), signed.as_bytes());
            attack.fails(alg, &format!("{signed}.{}", BASE64URL.encode(mac.as_ref()))).await;
        }
    }
    for alg in ["ES256", "RS256", "PS256", "Ed25519", "eddsa", "EdDSA ", ""] {
        attack.fails(alg, &attack.with_header("alg", json!(alg))).await;
    }
    attack.fails("alg of another type", &attack.with_header("alg", json!(["EdDSA"]))).await;
}

#[tokio::test]
async fn no_key_but_the_issuers_own() {
    let attack = Attack::new().await;
    let other = Attack::new().await;
    // Another issuer's JWT; its key under our kid; our key under its kid.
    let theirs = other.org.owner.exchange().await.unwrap().access_token;
    attack.fails("another issuer's", &theirs).await;
    let (header, claims) = (attack.header.to_string(), attack.claims.to_string());
    attack.fails("another issuer's key", &other.forge(&header, &claims)).await;
    attack.fails("another issuer's kid", &attack.with_header("kid", other.header["kid"].clone())).await;
    let own = other.forge(&other.header.to_string(), &claims);
    attack.fails("their kid and key for our claims", &own).await;
    for kid in [json!(""), json!("../../dev/null"), json!("' or '1'='1"), json!(null), json!(1)] {
        attack.fails("a kid that is none", &attack.with_header("kid", kid)).await;
    }
    // A key that comes with the JWT.
    let jwk: Value = serde_json::from_str(&other.jwk).unwrap();
    for (member, value) in [
        ("jku", json!(format!("{}/.well-known/jwks.json", other.server.endpoint))),
        ("x5u", json!("https://evil.example/cert.pem")),
        ("jwk", jwk),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("x")),
    ] {
        let mut header = attack.header.clone();
        header[member] = value.clone();
        attack.fails(member, &other.forge(&header.to_string(), &claims)).await;
        // Not even beside a good signature.
        attack.fails(member, &attack.with_header(member, value)).await;
    }
}

#[tokio::test]
async fn no_header_but_ours() {
    let attack = Attack::new().await;
    for typ in ["JWT", "at+JWT", "application/at+jwt", "id_token+jwt", "logout+jwt", "secevent+jwt", ""] {
        attack.fails("typ", &attack.with_header("typ", json!(typ))).await;
    }
    for crit in [json!(["exp"]), json!(["b64"]), json!(["unknown"]), json!([]), json!("exp")] {
        attack.fails("crit", &attack.with_header("crit", crit)).await;
    }
    attack.fails("b64", &attack.with_header("b64", json!(false))).await;
    attack.fails("zip", &attack.with_header("zip", json!("DEF"))).await;
    attack.fails("cty", &attack.with_header("cty", json!("JWT"))).await;
    let (header, claims) = (attack.header.to_string(), attack.claims.to_string());
    for member in ["typ", "alg", "kid"] {
        let mut without = attack.header.clone();
        without.as_object_mut().unwrap().remove(member);
        attack.fails("a member is missing", &attack.forge(&without.to_string(), &claims)).await;
        let twice = header.replacen('{', &format!(r#"{{"{member}":{},"#, attack.header[member]), 1);
        attack.fails("a member stands twice", &attack.forge(&twice, &claims)).await;
    }
    attack.fails("no object", &attack.forge("[]", &claims)).await;
    attack.fails("not JSON", &attack.forge("{", &claims)).await;
}

#[tokio::test]
async fn no_time_audience_or_issuer_but_those_of_now_and_here() {
    let attack = Attack::new().await;
    let now = attack.server.state.clock.now().unix_timestamp();
    for (claim, value) in [
        ("exp", json!(now - 1)),
        ("exp", json!(now)),
        ("exp", json!(0)),
        ("exp", json!(-1)),
        ("exp", json!("9999999999")),
        ("exp", json!(9e99)),
        ("exp", json!(u64::MAX)),
        // Beyond what the clocks of two nodes may differ.
        ("nbf", json!(now + 3_600)),
        ("nbf", json!(i64::MAX)),
        ("iat", json!(now + 3_600)),
        ("iat", json!(i64::MAX)),
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", attack.server.endpoint))),
        ("iss", json!([attack.server.endpoint.as_str()])),
    ] {
        attack.fails(&format!("{claim} {value}"), &attack.with_claim(claim, value)).await;
    }
    // For another audience, only or among others: not for our API. A service of that audience may
    // introspect it, and gets the audience.
    let endpoint = attack.server.endpoint.clone();
    for aud in [json!("https://billing.example"), json!([endpoint, "https://billing.example"]), json!([])] {
        let jwt = attack.with_claim("aud", aud);
        refused(
            attack.server.client(jwt.clone()).caller().await,
            Code::Unauthenticated,
            "ACCESS_TOKEN_INVALID",
        );
        let request = pb::IntrospectTokenRequest {
            token_text: jwt,
            audience: "https://payroll.example".into(),
            ..Default::default()
        };
        let answer = attack.org.owner.tokens().introspect_token(request).await.unwrap().into_inner();
        assert_eq!(answer, pb::IntrospectTokenResponse::default());
    }
}

#[tokio::test]
async fn no_claims_but_whole_ones() {
    let attack = Attack::new().await;
    let (header, claims) = (attack.header.to_string(), attack.claims.to_string());
    let required: Vec<_> = attack.claims.as_object().unwrap().keys().cloned().collect();
    for claim in required.iter().filter(|claim| *claim != "roles") {
        let twice = claims.replacen('{', &format!(r#"{{"{claim}":{},"#, attack.claims[claim]), 1);
        attack.fails(&format!("{claim} twice"), &attack.forge(&header, &twice)).await;
        // Neither is there where it would be empty.
        if !["authorization_details", "scope"].contains(&claim.as_str()) {
            let mut without = attack.claims.clone();
            without.as_object_mut().unwrap().remove(claim);
            attack.fails(&format!("no {claim}"), &attack.forge(&header, &without.to_string())).await;
        }
    }
    // The id of another, or none, in the place of the subject, the org, the token.
    let other = attack.server.org().await;
    for (claim, value) in [
        ("sub", json!(other.owner_id)),
        ("org", json!(other.id)),
        ("client_id", json!("tok_00000000000000000000000000")),
        ("client_id", json!(attack.org.owner_id)),
        ("sub", json!("' or '1'='1")),
        ("scope", json!("not a permission!")),
        ("org_ver", json!("1")),
    ] {
        let mut claims = attack.claims.clone();
        claims[claim] = value.clone();
        // With `roles`, the carried rights are not checked: without, they are.
        claims.as_object_mut().unwrap().remove("roles");
        attack.fails(&format!("{claim} {value}"), &attack.forge(&header, &claims.to_string())).await;
    }
    for text in ["", "null", "[]", "{}", "{", "\u{feff}{}"] {
        attack.fails("no claims", &attack.forge(&header, text)).await;
    }
}

#[tokio::test]
async fn a_forged_claim_gives_no_right_that_the_token_lacks() {
    let attack = Attack::new().await;
    let (_, bot) = attack.server.account(&attack.org.id, "bot", &[("invoices.read", "*")]).await;
    let claims = crate::harness::claims(&bot.exchange().await.unwrap().access_token);
    let mut wide = claims.clone();
    wide["scope"] = json!("invoices.read accounts.write orgs.write platform.keys");
    wide.as_object_mut().unwrap().remove("roles");
    let mut owner = claims.clone();
    owner["roles"] = json!(["owner"]);
    for claims in [wide, owner] {
        let caller = attack.server.client(attack.forge(&attack.header.to_string(), &claims.to_string()));
        assert_eq!(caller.caller().await.unwrap().permissions, ["invoices.read"]);
        let rotate = caller.tokens().rotate_signing_key(pb::RotateSigningKeyRequest::default()).await;
        refused(rotate, Code::PermissionDenied, "PERMISSION_MISSING");
    }
}

#[tokio::test]
async fn no_actor_but_the_one_whose_credential_it_is() {
    let attack = Attack::new().await;
    let org = &attack.org;
    let (bot, client) = attack.server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let (second, _) = attack.server.account(&org.id, "second", &[("x.y", "*"), ("p.q", "*")]).await;
    let request = pb::CreateUserRequest { email: "ada@example.org".into(), ..Default::default() };
    let user = org.owner.accounts().create_user(request).await.unwrap().into_inner().account.unwrap();
    let other = attack.server.org().await;
    let good = crate::harness::claims(&org.owner.impersonate(&bot.id).await.unwrap());
    let header = attack.header.to_string();
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(claim),
            value => claims.as_object_mut().unwrap().insert(claim.to_owned(), value),
        };
        attack.forge(&header, &claims.to_string())
    };
    attack.server.client(with("jti", json!("x"))).caller().await.unwrap();
    let bots_own = client.caller().await.unwrap().credential_id;
    for (claim, value) in [
        ("act", json!(null)),
        ("act", json!({"sub": second.id})),
        ("act", json!({"sub": bot.id})),
        ("act", json!({"sub": other.owner_id})),
        ("act", json!({"sub": "somebody"})),
        ("act", json!({"sub": org.owner_id, "act": {"sub": second.id}})),
        ("act", json!({"sub": org.owner_id, "iss": "x"})),
        ("act", json!({})),
        ("act", json!(org.owner_id)),
        ("act", json!([{"sub": org.owner_id}])),
        ("roles", json!(["member"])),
        // Nothing of it could be compared, or not all.
        ("cnf", json!({})),
        ("cnf", json!({"jkt": "x"})),
        ("cnf", json!({"x5t#S256": "x"})),
        ("cnf", json!({"x5t#S256": "A".repeat(43), "jkt": "x"})),
        ("cnf", json!("A".repeat(43))),
        ("client_id", json!(bots_own)),
        ("sub", json!([bot.id.as_str()])),
        ("sub", json!(org.owner_id)),
        ("sub", json!(user.id)),
        ("sub", json!(other.owner_id)),
        ("sub", json!("acct_00000000000000000000000000")),
    ] {
        attack.fails(&format!("{claim} {value}"), &with(claim, value)).await;
    }
    let text = good.to_string();
    let (act, null) = (format!(r#"{{"act":{},"#, good["act"]), r#"{"act":null,"#);
    for twice in [act.as_str(), null] {
        attack.fails("act twice", &attack.forge(&header, &text.replacen('{', twice, 1))).await;
    }
    attack.fails("act null", &attack.forge(&header, &text.replace(&good["act"].to_string(), "null"))).await;
    // Another org than the credential acts in: impersonation is not allowed there.
    let elsewhere = json!({"sub": other.owner_id, "org": other.id});
    let mut claims = good.clone();
    claims.as_object_mut().unwrap().extend(elsewhere.as_object().unwrap().clone());
    let elsewhere = attack.forge(&header, &claims.to_string());
    refused(
        attack.server.client(elsewhere.clone()).caller().await,
        Code::Unauthenticated,
        "ACCESS_TOKEN_STALE",
    );
    assert!(!attack.is_active(&elsewhere).await);
    // An actor in a JWT that has none.
    for act in [&second.id, &org.owner_id] {
        let mut claims = attack.claims.clone();
        claims["act"] = json!({"sub": act});
        attack.fails("act beside roles", &attack.forge(&header, &claims.to_string())).await;
        claims.as_object_mut().unwrap().remove("roles");
        attack.fails("act of the credential's own", &attack.forge(&header, &claims.to_string())).await;
    }
    // Whatever it carries, and whichever accounts it names, it holds what both hold.
    let mut wide = good.clone();
    wide["scope"] = json!("x.y p.q accounts.write orgs.write tokens.write");
    let caller = attack.server.client(attack.forge(&header, &wide.to_string()));
    assert_eq!(caller.caller().await.unwrap().permissions, ["x.y"]);
    wide["sub"] = json!(second.id);
    let caller = attack.server.client(attack.forge(&header, &wide.to_string()));
    assert_eq!(caller.caller().await.unwrap().permissions, ["p.q", "x.y"]);
}

#[tokio::test]
async fn no_shape_but_three_parts_of_a_bounded_size() {
    let attack = Attack::new().await;
    let good = attack.forge(&attack.header.to_string(), &attack.claims.to_string());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for (what, jwt) in [
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{good}.x.y")),
        ("dots", "..".to_owned()),
        ("padding", format!("{good}=")),
        ("another alphabet", format!("{signed}.{}", signature.replace(['-', '_'], "+"))),
        ("a signature of zeros", format!("{signed}.{}", BASE64URL.encode([0; 64]))),
        ("a longer signature", format!("{good}AAAA")),
        ("a signature cut", good[..good.len() - 2].to_owned()),
        ("a part of nothing", format!(".{}", good.split_once('.').unwrap().1)),
        ("above 4 KiB", attack.with_claim("scope", json!("invoices.read ".repeat(300)))),
    ] {
        // With all characters of the right alphabet it would be the good one.
        if jwt != good {
            attack.fails(what, &jwt).await;
        }
    }
    // 1 MB: no header carries it, and a message within the limit is refused without being read.
    let large = format!("{}.{}", "a".repeat(500_000), "b".repeat(500_000));
    assert!(!attack.is_active(&large).await);
    let padded = attack.with_claim("jti", json!("j".repeat(700_000)));
    assert!(padded.len() < LIMITS.max_message_size && !attack.is_active(&padded).await);
    assert!(attack.server.client(large.clone()).caller().await.is_err());
    let request = pb::ExchangeTokenRequest { subject_token: Some(large), ..Default::default() };
    let exchanged = attack.server.anonymous().tokens().exchange_token(request).await;
    refused(exchanged, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    // It goes on unaffected.
    attack.server.client(good).caller().await.unwrap();
}

#[tokio::test]
async fn a_jwt_is_no_subject_however_it_comes() {
    let attack = Attack::new().await;
    let good = attack.org.owner.exchange().await.unwrap().access_token;
    let by_field = pb::ExchangeTokenRequest { subject_token: Some(good.clone()), ..Default::default() };
    let by_bearer = pb::ExchangeTokenRequest::default();
    for (client, request) in [
        (attack.server.anonymous(), by_field.clone()),
        (attack.server.client(good.clone()), by_bearer),
        (attack.server.client(good), by_field),
    ] {
        let exchanged = client.tokens().exchange_token(request).await;
        refused(exchanged, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    }
}
