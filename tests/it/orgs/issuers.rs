//! Issuers of an org: what they may be, and who may change them.

use countersign::commands::keys;
use countersign::config::{FederationSettings, ServerLimits};
use countersign::crypto::seal::MasterKeys;
use countersign::db::federation::{issuers, rules};
use countersign::domain::federation::ceiling::{Ceiling, CeilingEntry};
use countersign::domain::values::ids::{IssuerId, OrgId, RuleId};
use countersign::grpc::pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::federation::{KEY_SET, allow_federation, issuer, issuer_of, rule, rule_for};
use crate::harness::{Client, LIMITS, TestServer, read_keys, refused, token_for, violated};

async fn create(client: &Client, issuer: pb::Issuer) -> Result<pb::CreateIssuerResponse, Status> {
    let request = pb::CreateIssuerRequest { issuer: Some(issuer), ..Default::default() };
    Ok(client.orgs().create_issuer(request).await?.into_inner())
}

async fn get(client: &Client, issuer_id: &str) -> Result<pb::Issuer, Status> {
    let request = pb::GetIssuerRequest { issuer_id: issuer_id.into(), ..Default::default() };
    Ok(client.orgs().get_issuer(request).await?.into_inner().issuer.unwrap())
}

async fn update(client: &Client, issuer: pb::Issuer, mask: &[&str]) -> Result<pb::Issuer, Status> {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = pb::UpdateIssuerRequest { issuer: Some(issuer), update_mask, ..Default::default() };
    Ok(client.orgs().update_issuer(request).await?.into_inner().issuer.unwrap())
}

async fn delete(client: &Client, issuer_id: &str, etag: &str) -> Result<(), Status> {
    let request =
        pb::DeleteIssuerRequest { issuer_id: issuer_id.into(), etag: etag.into(), ..Default::default() };
    client.orgs().delete_issuer(request).await.map(drop)
}

async fn version(server: &TestServer, issuer_id: &str) -> i64 {
    let sql = "select version from issuers where issuer_id = $1";
    let id = IssuerId::parse(issuer_id).unwrap().uuid();
    sqlx::query_scalar(sql).bind(id).fetch_one(&server.state.db).await.unwrap()
}

async fn rule_versions(server: &TestServer) -> Vec<i64> {
    let sql = "select version from federation_rules order by rule_id";
    sqlx::query_scalar(sql).fetch_all(&server.state.db).await.unwrap()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn admitting(issuers: &[&str]) -> ServerLimits {
    let listed = issuers.iter().map(|issuer| CeilingEntry::parse(issuer).unwrap()).collect();
    ServerLimits {
        federation: FederationSettings { ceiling: Ceiling::new(listed), ..FederationSettings::OFF },
        ..LIMITS
    }
}

#[tokio::test]
async fn an_issuer_is_created_changed_and_deleted() {
    let server = TestServer::start().await;
    let org = server.org().await;
    allow_federation(&server, &org.id).await;
    let owner = server.client(server.managing_token_of(&org).await);

    let tried =
        pb::CreateIssuerRequest { issuer: Some(issuer_of("a")), validate_only: true, ..Default::default() };
    let tried = owner.orgs().create_issuer(tried).await.unwrap().into_inner().issuer.unwrap();
    refused(get(&owner, &tried.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    let made = create(&owner, issuer_of("a")).await.unwrap();
    assert_eq!(made.warnings, []);
    let made = made.issuer.unwrap();
    assert_eq!((made.org_id.as_str(), made.kind()), (org.id.as_str(), pb::IssuerKind::Jwks));
    assert_eq!((made.jwks.as_str(), &made.key_ids[..]), (KEY_SET, &["one".to_owned()][..]));
    assert_eq!(made.algorithms, ["EdDSA", "ES256", "RS256"]);
    assert_eq!(made.max_assertion_lifetime, seconds(3_600));
    assert_eq!((made.single_use_jti, made.shared, made.bundle_uri.clone()), (Some(false), Some(false), None));
    assert_eq!(get(&owner, &made.id).await.unwrap(), made);
    refused(create(&owner, issuer_of("a")).await, Code::AlreadyExists, "RESOURCE_EXISTS");

    // A replay answers as the first call did.
    let request_id = uuid::Uuid::from_u128(7).to_string();
    let once = |path: &str| pb::CreateIssuerRequest {
        issuer: Some(issuer_of(path)),
        request_id: request_id.clone(),
        ..Default::default()
    };
    let first = owner.orgs().create_issuer(once("b")).await.unwrap().into_inner();
    assert_eq!(owner.orgs().create_issuer(once("b")).await.unwrap().into_inner(), first);
    refused(owner.orgs().create_issuer(once("c")).await, Code::InvalidArgument, "REQUEST_ID_REUSED");

    let change = pb::Issuer {
        id: made.id.clone(),
        etag: made.etag.clone(),
        single_use_jti: Some(true),
        max_assertion_lifetime: seconds(600),
        algorithms: vec!["EdDSA".into()],
        display_name: Some("Cluster".into()),
        ..Default::default()
    };
    let changed = update(&owner, change.clone(), &[]).await.unwrap();
    assert_eq!((changed.single_use_jti, changed.algorithms.len()), (Some(true), 1));
    assert_eq!(
        (changed.max_assertion_lifetime, changed.display_name.as_deref()),
        (seconds(600), Some("Cluster"))
    );
    assert_ne!(changed.etag, made.etag);
    assert_eq!(version(&server, &made.id).await, 2);
    refused(update(&owner, change.clone(), &[]).await, Code::Aborted, "ETAG_MISMATCH");
    // What is set already changes nothing, and a name alone nothing that JWTs depend on.
    let same = update(&owner, pb::Issuer { etag: String::new(), ..change }, &[]).await.unwrap();
    assert_eq!(same.etag, changed.etag);
    let named = pb::Issuer { id: made.id.clone(), display_name: Some(String::new()), ..Default::default() };
    assert_eq!(update(&owner, named, &["display_name"]).await.unwrap().display_name, None);
    assert_eq!(version(&server, &made.id).await, 2);

    for (wrong, fields) in [
        (
            pb::Issuer { kind: pb::IssuerKind::Oidc.into(), shared: Some(true), ..Default::default() },
            "issuer.kind",
        ),
        (
            pb::Issuer { issuer: "https://localhost:1/b".into(), shared: Some(true), ..Default::default() },
            "issuer.issuer",
        ),
        (pb::Issuer { jwks: "{}".into(), ..Default::default() }, "issuer.jwks"),
        (
            pb::Issuer { bundle_uri: Some("https://localhost:1/".into()), ..Default::default() },
            "issuer.bundle_uri",
        ),
    ] {
        let refusal = update(&owner, pb::Issuer { id: made.id.clone(), ..wrong }, &[]).await;
        assert_eq!(violated(&refused(refusal, Code::InvalidArgument, "INVALID_FIELD")), [fields]);
    }

    let symmetric =
        pb::Issuer { id: made.id.clone(), algorithms: vec!["HS256".into()], ..Default::default() };
    let refusal = refused(update(&owner, symmetric, &[]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert!(violated(&refusal).contains(&"issuer.algorithms[0]".to_owned()));

    let (account, _) = server.account(&org.id, "deployer", &[]).await;
    let named = rule(&server, &org.id, rule_for(&made.id, &account.id)).await;
    let in_use = refused(delete(&owner, &made.id, "").await, Code::FailedPrecondition, "RESOURCE_IN_USE");
    let listed = in_use.get_details_precondition_failure().unwrap().violations;
    assert_eq!((listed[0].r#type.as_str(), &listed[0].subject), ("FEDERATION_RULE", &named.id));
    let gone = pb::DeleteFederationRuleRequest { rule_id: named.id, ..Default::default() };
    owner.orgs().delete_federation_rule(gone).await.unwrap();
    refused(delete(&owner, &made.id, &made.etag).await, Code::Aborted, "ETAG_MISMATCH");
    delete(&owner, &made.id, "").await.unwrap();
    refused(get(&owner, &made.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(delete(&owner, &made.id, "").await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn an_issuer_is_what_the_deployment_and_the_policy_admit() {
    let off = TestServer::with_limits(ServerLimits { federation: FederationSettings::OFF, ..LIMITS }).await;
    let org = off.org().await;
    allow_federation(&off, &org.id).await;
    let wrong = |refusal| {
        let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["issuer.issuer"]);
        refusal.message().to_owned()
    };
    let owner = off.client(off.managing_token_of(&org).await);
    assert!(wrong(create(&owner, issuer_of("a")).await).contains("federation is off"));

    let server = TestServer::with_limits(admitting(&["https://one.example", "https://*.two.example"])).await;
    let org = server.org().await;
    let owner = server.client(server.managing_token_of(&org).await);
    let named = |name: &str| pb::Issuer { issuer: name.into(), ..issuer_of("") };
    // The policy of an org allows none by default.
    assert!(wrong(create(&owner, named("https://one.example")).await).contains("does not allow federation"));
    allow_federation(&server, &org.id).await;
    for not in
        ["https://one.example/", "https://a.b.two.example", "https://three.example", "https://localhost:8443"]
    {
        assert!(wrong(create(&owner, named(not)).await).contains("admits"), "{not}");
    }
    let policy =
        pb::TokenPolicy { allowed_issuers: vec!["https://a.two.example".into()], ..Default::default() };
    let request = pb::UpdateTokenPolicyRequest { policy: Some(policy), ..Default::default() };
    owner.orgs().update_token_policy(request).await.unwrap();
    assert!(wrong(create(&owner, named("https://one.example")).await).contains("token policy"));
    create(&owner, named("https://a.two.example")).await.unwrap();
}

#[tokio::test]
async fn this_deployment_is_no_issuer() {
    let server = TestServer::start().await;
    let org = server.org().await;
    allow_federation(&server, &org.id).await;
    let owner = server.client(server.managing_token_of(&org).await);
    let own = server.state.keyring.signer.jwks_json();
    let refusal = create(&owner, pb::Issuer { jwks: own.clone(), ..issuer_of("a") }).await;
    refused(refusal, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    let made = create(&owner, issuer_of("a")).await.unwrap().issuer.unwrap();
    let refusal = update(&owner, pb::Issuer { id: made.id, jwks: own, ..Default::default() }, &[]).await;
    refused(refusal, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
}

#[tokio::test]
async fn bad_issuers_are_refused_by_the_field() {
    let server = TestServer::start().await;
    let org = server.org().await;
    allow_federation(&server, &org.id).await;
    let owner = server.client(server.managing_token_of(&org).await);
    let good = || issuer_of("a");
    let secret = KEY_SET.replace("\"crv\"", "\"d\":\"AA\",\"crv\"");
    let spiffe = || pb::Issuer {
        kind: pb::IssuerKind::Spiffe.into(),
        issuer: "spiffe://localhost".into(),
        jwks: String::new(),
        bundle_uri: Some("https://localhost:1/bundle".into()),
        ..good()
    };
    for (issuer, fields) in [
        (pb::Issuer::default(), &["issuer.kind"][..]),
        (pb::Issuer { kind: 9, ..good() }, &["issuer.kind"]),
        (pb::Issuer { issuer: String::new(), ..good() }, &["issuer.issuer"]),
        (pb::Issuer { issuer: "http://localhost:8443".into(), ..good() }, &["issuer.issuer"]),
        (pb::Issuer { jwks: String::new(), ..good() }, &["issuer.jwks"]),
        (pb::Issuer { jwks: secret, ..good() }, &["issuer.jwks"]),
        (pb::Issuer { kind: pb::IssuerKind::Oidc.into(), ..good() }, &["issuer.jwks"]),
        (pb::Issuer { max_assertion_lifetime: seconds(0), ..good() }, &["issuer.max_assertion_lifetime"]),
        (
            pb::Issuer { max_assertion_lifetime: seconds(86_401), ..good() },
            &["issuer.max_assertion_lifetime"],
        ),
        (pb::Issuer { max_assertion_lifetime: seconds(-1), ..good() }, &["issuer.max_assertion_lifetime"]),
        (pb::Issuer { display_name: Some("a://b".into()), ..good() }, &["issuer.display_name"]),
        (pb::Issuer { issuer: "https://localhost:1".into(), ..spiffe() }, &["issuer.issuer"]),
        (
            pb::Issuer { bundle_uri: Some("https://other.example/".into()), ..spiffe() },
            &["issuer.bundle_uri"],
        ),
    ] {
        let refusal = refused(create(&owner, issuer.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields, "{issuer:?}");
    }
    let made = create(&owner, spiffe()).await.unwrap().issuer.unwrap();
    assert_eq!(made.bundle_uri.as_deref(), Some("https://localhost:1/bundle"));
    // From a bundle that is fetched to one that is stored.
    let keys = KEY_SET.replace("\"crv\"", "\"use\":\"jwt-svid\",\"crv\"");
    let inline = pb::Issuer { id: made.id, jwks: keys, ..Default::default() };
    let changed = update(&owner, inline, &["jwks", "bundle_uri"]).await.unwrap();
    assert_eq!((changed.bundle_uri, changed.key_ids.len()), (None, 1));
}

/// An issuer is the credential of every rule that names it.
#[tokio::test]
async fn a_change_of_an_issuer_asks_for_every_rule_of_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = issuer(&server, &org.id, "a").await;
    let (weak, _) = server.account(&org.id, "weak", &[("x.y", "*")]).await;
    let (strong, _) = server.account(&org.id, "strong", &[("accounts.write", "*")]).await;
    rule(&server, &org.id, rule_for(&made.id, &weak.id)).await;
    let beyond = pb::FederationRule { disabled: Some(true), ..rule_for(&made.id, &strong.id) };
    let beyond = rule(&server, &org.id, beyond).await;

    let grants = [("federation.read", "*"), ("federation.write", "*"), ("x.y", "*")];
    let (keeper, _) = server.account(&org.id, "keeper", &grants).await;
    let keeper = server.client(server.managing_token(&org.id, &keeper.id).await);
    let swap = |id: &str| pb::Issuer {
        id: id.to_owned(),
        jwks: KEY_SET.replace("one", "two"),
        ..Default::default()
    };
    for change in [
        swap(&made.id),
        pb::Issuer { id: made.id.clone(), display_name: Some("Mine".into()), ..Default::default() },
        pb::Issuer { id: made.id.clone(), max_assertion_lifetime: seconds(86_400), ..Default::default() },
    ] {
        let refusal = update(&keeper, change, &[]).await;
        let refusal = refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
        let listed = refusal.get_details_precondition_failure().unwrap().violations;
        let listed: Vec<_> = listed.iter().map(|one| one.subject.as_str()).collect();
        assert_eq!(listed, [beyond.id.as_str()]);
    }
    assert_eq!(rule_versions(&server).await, [1, 1]);
    let gone =
        pb::DeleteFederationRuleRequest { rule_id: beyond.id, org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().delete_federation_rule(gone).await.unwrap();
    assert_eq!(update(&keeper, swap(&made.id), &[]).await.unwrap().key_ids, ["two"]);
    // What its rules gave before is stale.
    assert_eq!(rule_versions(&server).await, [2]);

    // A token that may not manage tokens changes none, nor one that ends before the rules do.
    let plain = server.operator.tokens().create_token(token_for(&org.id, &org.owner_id)).await.unwrap();
    let plain = server.client(plain.into_inner().secret);
    let back = || pb::Issuer { id: made.id.clone(), jwks: KEY_SET.into(), ..Default::default() };
    refused(update(&plain, back(), &[]).await, Code::PermissionDenied, "PERMISSION_MISSING");
    let short = pb::CreateTokenRequest {
        may_manage_tokens: true,
        expiration: Some(pb::create_token_request::Expiration::Ttl(seconds(3_600).unwrap())),
        ..token_for(&org.id, &org.owner_id)
    };
    let short = server.operator.tokens().create_token(short).await.unwrap().into_inner().secret;
    let refusal = update(&server.client(short), back(), &[]).await;
    refused(refusal, Code::PermissionDenied, "TARGET_EXCEEDS_CALLER");
}

#[tokio::test]
async fn an_issuer_becomes_shared_only_when_its_rules_name_an_owner() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = issuer(&server, &org.id, "a").await;
    let (account, _) = server.account(&org.id, "deployer", &[]).await;
    let by_prefix = pb::FederationRule {
        subject_match: Some(pb::federation_rule::SubjectMatch::SubjectPrefix("team:a/".into())),
        ..rule_for(&made.id, &account.id)
    };
    let by_prefix = rule(&server, &org.id, by_prefix).await;
    let owner = server.client(server.managing_token_of(&org).await);
    let share = || pb::Issuer { id: made.id.clone(), shared: Some(true), ..Default::default() };
    let refusal = refused(update(&owner, share(), &[]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["issuer.shared"]);
    let gone = pb::DeleteFederationRuleRequest { rule_id: by_prefix.id, ..Default::default() };
    owner.orgs().delete_federation_rule(gone).await.unwrap();
    let exact =
        pb::CreateFederationRuleRequest { rule: Some(rule_for(&made.id, &account.id)), ..Default::default() };
    owner.orgs().create_federation_rule(exact).await.unwrap();
    update(&owner, share(), &[]).await.unwrap();
}

#[tokio::test]
async fn an_org_has_a_hundred_issuers() {
    let server = TestServer::start().await;
    let org = server.org().await;
    issuer(&server, &org.id, "first").await;
    let many = "insert into issuers (org_id, issuer_id, kind, issuer, jwks, algorithms, max_assertion_lifetime,
                                     single_use_jti, shared, sealed, makers, version, revision, create_time, update_time)
                select org_id, gen_random_uuid(), kind, issuer || n, jwks, algorithms, max_assertion_lifetime,
                       single_use_jti, shared, sealed, makers, version, revision, create_time, update_time
                from issuers, generate_series(1, 98) as n";
    sqlx::query(many).execute(&server.state.db).await.unwrap();
    let owner = server.client(server.managing_token_of(&org).await);
    create(&owner, issuer_of("hundredth")).await.unwrap();
    refused(create(&owner, issuer_of("next")).await, Code::FailedPrecondition, "LIMIT_REACHED");
}

/// A row that was written past the server opens nothing, whichever master key is the current one.
#[tokio::test]
async fn issuers_and_rules_are_sealed() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = issuer(&server, &org.id, "a").await;
    let (account, _) = server.account(&org.id, "deployer", &[]).await;
    let made_rule = rule(&server, &org.id, rule_for(&made.id, &account.id)).await;
    let db = &server.state.db;
    let org_id = OrgId::parse(&org.id).unwrap();
    let (issuer_id, rule_id) = (IssuerId::parse(&made.id).unwrap(), RuleId::parse(&made_rule.id).unwrap());
    let are_ours = async |master: &MasterKeys| {
        let issuer = issuers::find(db, org_id, issuer_id).await.unwrap().unwrap();
        let rule = rules::find(db, org_id, rule_id).await.unwrap().unwrap();
        let read = (issuer.issuer().unwrap(), rule.rule().unwrap());
        (issuer.is_ours(master, &read.0), rule.is_ours(master, &read.1))
    };
    assert_eq!(are_ours(&server.state.keyring.master).await, (true, true));
    let new = MasterKeys::new_file().replacen("1:", "new:", 1);
    let both = read_keys(&format!("{new}{}", server.master_key_file()));
    keys::reseal(db, &both, &server.state.clock, |_| ()).await.unwrap();
    assert_eq!(are_ours(&read_keys(&new)).await, (true, true));
    assert_eq!(are_ours(&server.state.keyring.master).await, (false, false));

    let planted = "update federation_rules set subject = 'mallory'";
    sqlx::query(planted).execute(db).await.unwrap();
    assert_eq!(are_ours(&both).await, (true, false));
    sqlx::query("update issuers set single_use_jti = true").execute(db).await.unwrap();
    assert_eq!(are_ours(&both).await, (false, false));
}
