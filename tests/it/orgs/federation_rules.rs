//! Federation rules: what they may be, which callers may make, change and stop them, and where they count as tokens.

use countersign::config::{FederationSettings, ServerLimits};
use countersign::domain::federation::ceiling::{Ceiling, CeilingEntry};
use countersign::grpc::pb;
use pb::federation_rule::SubjectMatch;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::federation::{allow_federation, issuer, issuer_of, rule, rule_for};
use crate::harness::{Client, LIMITS, Org, PASSWORD, TestServer, by_id, refused, token_for, violated};

const EXCEEDS: &str = "TARGET_EXCEEDS_CALLER";
const MISSING: &str = "PERMISSION_MISSING";

async fn create(
    client: &Client,
    rule: pb::FederationRule,
) -> Result<pb::CreateFederationRuleResponse, Status> {
    let request = pb::CreateFederationRuleRequest { rule: Some(rule), ..Default::default() };
    Ok(client.orgs().create_federation_rule(request).await?.into_inner())
}

async fn get(client: &Client, rule_id: &str) -> Result<pb::FederationRule, Status> {
    let request = pb::GetFederationRuleRequest { rule_id: rule_id.into(), ..Default::default() };
    Ok(client.orgs().get_federation_rule(request).await?.into_inner().rule.unwrap())
}

async fn update(
    client: &Client,
    rule: pb::FederationRule,
    mask: &[&str],
) -> Result<pb::FederationRule, Status> {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = pb::UpdateFederationRuleRequest { rule: Some(rule), update_mask, ..Default::default() };
    Ok(client.orgs().update_federation_rule(request).await?.into_inner().rule.unwrap())
}

async fn delete(client: &Client, rule_id: &str) -> Result<(), Status> {
    let request = pb::DeleteFederationRuleRequest { rule_id: rule_id.into(), ..Default::default() };
    client.orgs().delete_federation_rule(request).await.map(drop)
}

async fn list(client: &Client, request: pb::ListFederationRulesRequest) -> Vec<String> {
    let rules = client.orgs().list_federation_rules(request).await.unwrap().into_inner().rules;
    rules.into_iter().map(|rule| rule.id).collect()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn claim(path: &[&str], values: &[&str]) -> pb::ClaimMatch {
    pb::ClaimMatch { path: texts(path), values: texts(values), ..Default::default() }
}

fn prefix(prefix: &str) -> Option<SubjectMatch> {
    Some(SubjectMatch::SubjectPrefix(prefix.to_owned()))
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn listed(refusal: &Status) -> Vec<(String, String)> {
    let violations = refusal.get_details_precondition_failure().unwrap().violations;
    violations.into_iter().map(|one| (one.r#type, one.subject)).collect()
}

/// An org with an issuer and a service account.
struct World {
    server: TestServer,
    org: Org,
    issuer_id: String,
    account: pb::Account,
}

impl World {
    async fn new() -> Self {
        Self::with(LIMITS).await
    }

    async fn with(limits: ServerLimits) -> Self {
        let server = TestServer::with_limits(limits).await;
        let org = server.org().await;
        allow_federation(&server, &org.id).await;
        let issuer_id = issuer(&server, &org.id, "a").await.id;
        let (account, _) = server.account(&org.id, "deployer", &[("x.y", "*")]).await;
        Self { server, org, issuer_id, account }
    }

    fn rule(&self) -> pb::FederationRule {
        rule_for(&self.issuer_id, &self.account.id)
    }

    /// A token of the org's owner, limited as the request says, that may manage tokens.
    async fn owner_with(&self, request: pb::CreateTokenRequest) -> Client {
        let request = pb::CreateTokenRequest {
            org_id: self.org.id.clone(),
            account_id: self.org.owner_id.clone(),
            may_manage_tokens: true,
            ..request
        };
        let made = self.server.operator.tokens().create_token(request).await.unwrap().into_inner();
        self.server.client(made.secret)
    }

    /// An account that may federate, with these rights besides.
    async fn federator(&self, name: &str, grants: &[(&str, &str)]) -> Client {
        let grants = [grants, &[("federation.read", "*"), ("federation.write", "*")]].concat();
        self.server.account(&self.org.id, name, &grants).await.1
    }

    async fn events(&self) -> Vec<(String, Vec<String>)> {
        let sql =
            "select type, resource_ids from events where type like 'federation_rule.%' order by event_id";
        sqlx::query_as(sql).fetch_all(&self.server.state.db).await.unwrap()
    }

    async fn versions(&self) -> Vec<i64> {
        let sql = "select version from federation_rules order by rule_id";
        sqlx::query_scalar(sql).fetch_all(&self.server.state.db).await.unwrap()
    }
}

#[tokio::test]
async fn a_rule_is_created_changed_and_deleted() {
    let world = World::new().await;
    let (server, owner) = (&world.server, &world.org.owner);
    server.resources(&world.org.id, &["a/b"]).await;
    let full = pb::FederationRule {
        account_id: world.account.username.clone(),
        subject_match: prefix("team:deploy/"),
        claims: vec![
            claim(&["kubernetes.io", "namespace"], &["prod", "staging"]),
            pb::ClaimMatch { path: texts(&["trusted"]), flag: Some(true), ..Default::default() },
            pb::ClaimMatch { contains: true, ..claim(&["groups"], &["deployers"]) },
        ],
        scopes: texts(&["x.y"]),
        resources: texts(&["a"]),
        allowed_audiences: texts(&["https://api.example", "https://other.example"]),
        allowed_cidrs: texts(&["192.0.2.0/24"]),
        access_token_lifetime: seconds(120),
        display_name: Some("Deployer".into()),
        ..world.rule()
    };
    let tried = pb::CreateFederationRuleRequest {
        rule: Some(full.clone()),
        validate_only: true,
        ..Default::default()
    };
    let tried = owner.orgs().create_federation_rule(tried).await.unwrap().into_inner().rule.unwrap();
    refused(get(owner, &tried.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    let made = create(owner, full.clone()).await.unwrap();
    assert_eq!((made.warnings, made.first_seen_permissions), (vec![], vec![]));
    let made = made.rule.unwrap();
    assert_eq!(made.account_id, world.account.id);
    let echoed = pb::FederationRule {
        id: made.id.clone(),
        org_id: world.org.id.clone(),
        account_id: made.account_id.clone(),
        expire_time: made.expire_time,
        disabled: Some(false),
        r#use: Some(pb::FederationRuleUse::default()),
        state: pb::TokenState::Active.into(),
        create_time: made.create_time,
        update_time: made.update_time,
        etag: "1".into(),
        ..full.clone()
    };
    assert_eq!(made, echoed);
    assert!(made.expire_time.is_some());
    assert_eq!(get(owner, &made.id).await.unwrap(), made);

    let request_id = uuid::Uuid::from_u128(7).to_string();
    let once = pb::CreateFederationRuleRequest { rule: Some(world.rule()), request_id, ..Default::default() };
    let second = owner.orgs().create_federation_rule(once.clone()).await.unwrap().into_inner();
    assert_eq!(owner.orgs().create_federation_rule(once).await.unwrap().into_inner(), second);
    let second = second.rule.unwrap().id;
    let all = || pb::ListFederationRulesRequest::default();
    assert_eq!(list(owner, all()).await, [made.id.clone(), second.clone()]);
    let of = pb::ListFederationRulesRequest { account_id: world.account.username.clone(), ..all() };
    assert_eq!(list(owner, of).await.len(), 2);
    let other = issuer(server, &world.org.id, "b").await.id;
    assert_eq!(list(owner, pb::ListFederationRulesRequest { issuer_id: other, ..all() }).await, [""; 0]);

    // What is believed may change, and what it gives narrows.
    let narrow = pb::FederationRule {
        id: made.id.clone(),
        audiences: texts(&["https://id2.example"]),
        subject_match: Some(SubjectMatch::Subject("team:deploy/web".into())),
        claims: vec![claim(&["environment"], &["prod"])],
        resources: texts(&["a/b"]),
        allowed_audiences: texts(&["https://api.example"]),
        allowed_cidrs: texts(&["198.51.100.0/24"]),
        access_token_lifetime: seconds(3_600),
        ..Default::default()
    };
    let changed = update(owner, narrow.clone(), &[]).await.unwrap();
    assert_eq!((&changed.audiences, &changed.subject_match), (&narrow.audiences, &narrow.subject_match));
    assert_eq!((&changed.claims, &changed.resources), (&narrow.claims, &narrow.resources));
    assert_eq!((&changed.scopes, changed.display_name.as_deref()), (&full.scopes, Some("Deployer")));
    assert_eq!(world.versions().await, [2, 1]);
    assert_eq!(update(owner, narrow.clone(), &[]).await.unwrap().etag, changed.etag);
    let named = |name: &str| pb::FederationRule {
        id: made.id.clone(),
        display_name: Some(name.into()),
        ..Default::default()
    };
    assert_eq!(update(owner, named(""), &["display_name"]).await.unwrap().display_name, None);
    assert_eq!(world.versions().await, [2, 1]);
    let stale = pb::FederationRule { etag: made.etag.clone(), ..named("Other") };
    refused(update(owner, stale, &[]).await, Code::Aborted, "ETAG_MISMATCH");
    let tried = pb::UpdateFederationRuleRequest {
        rule: Some(named("Other")),
        validate_only: true,
        ..Default::default()
    };
    let tried = owner.orgs().update_federation_rule(tried).await.unwrap().into_inner().rule.unwrap();
    assert_eq!(tried.display_name.as_deref(), Some("Other"));
    assert_eq!(get(owner, &made.id).await.unwrap().display_name, None);

    // Before the end of the next token, which is made later.
    let mut later = changed.expire_time.unwrap();
    later.nanos += 1_000;
    for (wider, mask) in [
        (pb::FederationRule { scopes: texts(&["x.y", "x.z"]), ..Default::default() }, "scopes"),
        (pb::FederationRule::default(), "scopes"),
        (pb::FederationRule { resources: texts(&["a"]), ..Default::default() }, "resources"),
        (pb::FederationRule::default(), "resources"),
        (
            pb::FederationRule { allowed_audiences: texts(&["https://b.example"]), ..Default::default() },
            "allowed_audiences",
        ),
        (pb::FederationRule::default(), "allowed_audiences"),
        (pb::FederationRule::default(), "allowed_cidrs"),
    ] {
        let refusal = update(owner, pb::FederationRule { id: made.id.clone(), ..wider }, &[mask]).await;
        let refusal = refusal.unwrap_err();
        assert!(
            ["WIDENING_NOT_ALLOWED", "SCOPE_NOT_HELD"].contains(&crate::harness::reason(&refusal).as_str()),
            "{mask}: {refusal:?}"
        );
    }
    let longer = pb::FederationRule { id: made.id.clone(), expire_time: Some(later), ..Default::default() };
    let wide = world.owner_with(pb::CreateTokenRequest::default()).await;
    refused(update(&wide, longer, &[]).await, Code::InvalidArgument, "WIDENING_NOT_ALLOWED");
    for (wrong, field) in [
        (
            pb::FederationRule { issuer_id: "iss_01h455vb4pex5vsknk084sn02q".into(), ..named("x") },
            "rule.issuer_id",
        ),
        (pb::FederationRule { account_id: world.org.owner_id.clone(), ..named("x") }, "rule.account_id"),
    ] {
        let refusal = refused(update(owner, wrong, &[]).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
    }
    let without = pb::FederationRule { id: second.clone(), ..Default::default() };
    let refusal = refused(update(owner, without, &["subject"]).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["rule.subject"]);

    delete(owner, &second).await.unwrap();
    refused(get(owner, &second).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(delete(owner, &second).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let kinds: Vec<_> = world.events().await.into_iter().map(|(kind, _)| kind).collect();
    let expected = ["created", "created", "updated", "updated", "deleted"];
    assert_eq!(kinds, expected.map(|verb| format!("federation_rule.{verb}")));
}

#[tokio::test]
async fn bad_rules_are_refused_by_the_field() {
    let world = World::new().await;
    let owner = &world.org.owner;
    let expired = prost_types::Timestamp { seconds: 1, nanos: 0 };
    let far = prost_types::Timestamp { seconds: 253_000_000_000, nanos: 0 };
    let flagged = pb::ClaimMatch { flag: Some(true), ..claim(&["a"], &["b"]) };
    for (rule, fields) in [
        (pb::FederationRule { issuer_id: String::new(), ..world.rule() }, &["rule.issuer_id"][..]),
        (pb::FederationRule { account_id: String::new(), ..world.rule() }, &["rule.account_id"]),
        (pb::FederationRule { audiences: vec![], ..world.rule() }, &["rule.audiences"]),
        (pb::FederationRule { audiences: texts(&["a"; 33]), ..world.rule() }, &["rule.audiences"]),
        (pb::FederationRule { subject_match: None, ..world.rule() }, &["rule.subject"]),
        (pb::FederationRule { subject_match: prefix("repo:"), ..world.rule() }, &["rule.subject_prefix"]),
        (pb::FederationRule { subject_match: prefix("repo:acme"), ..world.rule() }, &["rule.subject_prefix"]),
        (
            pb::FederationRule { claims: vec![claim(&["sub"], &["a"])], ..world.rule() },
            &["rule.claims[0].path"],
        ),
        (pb::FederationRule { claims: vec![claim(&[], &["a"])], ..world.rule() }, &["rule.claims[0].path"]),
        (pb::FederationRule { claims: vec![claim(&["a"], &[])], ..world.rule() }, &["rule.claims[0].values"]),
        (pb::FederationRule { claims: vec![flagged], ..world.rule() }, &["rule.claims[0].flag"]),
        (pb::FederationRule { scopes: texts(&["x"]), ..world.rule() }, &["rule.scopes[0]"]),
        (pb::FederationRule { resources: texts(&["none"]), ..world.rule() }, &["rule.resources[0]"]),
        (
            pb::FederationRule { allowed_cidrs: texts(&["10.0.0.1/8"]), ..world.rule() },
            &["rule.allowed_cidrs[0]"],
        ),
        (
            pb::FederationRule { access_token_lifetime: seconds(9), ..world.rule() },
            &["rule.access_token_lifetime"],
        ),
        (
            pb::FederationRule { access_token_lifetime: seconds(3_601), ..world.rule() },
            &["rule.access_token_lifetime"],
        ),
        (pb::FederationRule { expire_time: Some(expired), ..world.rule() }, &["rule.expire_time"]),
    ] {
        let refusal = refused(create(owner, rule.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields, "{rule:?}");
    }
    let unknown = pb::FederationRule { issuer_id: "iss_01h455vb4pex5vsknk084sn02q".into(), ..world.rule() };
    refused(create(owner, unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let unheld = pb::FederationRule { scopes: texts(&["x.z"]), ..world.rule() };
    refused(create(owner, unheld).await, Code::PermissionDenied, "SCOPE_NOT_HELD");
    let endless = pb::FederationRule { expire_time: Some(far), ..world.rule() };
    refused(create(owner, endless).await, Code::PermissionDenied, EXCEEDS);
    let person = world.server.person(&world.org.id, "ann@example.org", &[]).await;
    let for_person = pb::FederationRule { account_id: person.id, ..world.rule() };
    refused(create(owner, for_person).await, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");
}

/// At an issuer that strangers share, a rule says whose workload it means.
#[tokio::test]
async fn rules_for_shared_issuers_pin_the_owner() {
    let listed = ["https://token.actions.githubusercontent.com", "https://*.wild.example"];
    let listed = listed.iter().map(|issuer| CeilingEntry::parse(issuer).unwrap()).collect();
    let ceiling = Ceiling::new(listed).with_this_machine();
    let federation = FederationSettings { ceiling, ..FederationSettings::OFF };
    let world = World::with(ServerLimits { federation, ..LIMITS }).await;
    let owner = &world.org.owner;
    let make = async |issuer: pb::Issuer| {
        let request = pb::CreateIssuerRequest { issuer: Some(issuer), ..Default::default() };
        owner.orgs().create_issuer(request).await.unwrap().into_inner().issuer.unwrap().id
    };
    let named = |name: &str| pb::Issuer { issuer: name.into(), ..issuer_of("") };
    let github = make(named("https://token.actions.githubusercontent.com")).await;
    let wild = make(named("https://a.wild.example")).await;
    let marked = make(pb::Issuer { shared: Some(true), ..issuer_of("marked") }).await;
    let of = |issuer_id: &str, subject_match, claims| pb::FederationRule {
        issuer_id: issuer_id.to_owned(),
        subject_match,
        claims,
        ..world.rule()
    };
    for (rule, why) in [
        (of(&github, prefix("repo:acme/"), vec![]), "repository_owner_id"),
        (of(&github, None, vec![claim(&["environment"], &["prod"])]), "repository_owner_id"),
        (of(&wild, None, vec![claim(&["role"], &["deploy"])]), "exact subject"),
        (of(&marked, prefix("team:a/"), vec![]), "exact subject"),
    ] {
        let refusal = refused(create(owner, rule).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["rule.claims"]);
        assert!(refusal.message().contains(why), "{}", refusal.message());
    }
    let exact = |subject: &str| Some(SubjectMatch::Subject(subject.to_owned()));
    let by_id = vec![claim(&["repository_owner_id"], &["42"])];
    for (rule, warned) in [
        (of(&github, prefix("repo:acme/"), by_id), &[][..]),
        (of(&github, exact("repo:acme/app:ref:refs/heads/main"), vec![]), &["rule.subject"]),
        (of(&github, exact("repo:acme@1/app@2:ref:refs/heads/main"), vec![]), &[]),
        (of(&github, None, vec![claim(&["repository"], &["acme/app"])]), &["rule.claims"]),
        (of(&wild, exact("a"), vec![]), &[]),
        (of(&marked, exact("a"), vec![]), &[]),
    ] {
        let made = create(owner, rule.clone()).await.unwrap();
        let fields: Vec<_> = made.warnings.iter().map(|warning| warning.field.as_str()).collect();
        assert_eq!(fields, warned, "{rule:?}");
    }
}

#[tokio::test]
async fn operators_need_an_exact_subject() {
    let server = TestServer::start().await;
    let system = server.operator.org_id().await;
    allow_federation(&server, &system).await;
    let (account, _) = server.account(&system, "robot", &[("platform.verify", "*")]).await;
    let made = issuer(&server, &system, "a").await;
    let by_claim = pb::FederationRule {
        subject_match: None,
        claims: vec![claim(&["role"], &["robot"])],
        ..rule_for(&made.id, &account.id)
    };
    let request = |rule| pb::CreateFederationRuleRequest {
        org_id: system.clone(),
        rule: Some(rule),
        ..Default::default()
    };
    let refusal = server.operator.orgs().create_federation_rule(request(by_claim)).await;
    let refusal = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
    // Nor is this machine among the issuers that are listed exactly.
    assert_eq!(violated(&refusal), ["rule.subject", "rule.issuer_id"]);
}

/// Making a rule is making a token: it never exceeds its maker.
#[tokio::test]
async fn a_rule_never_exceeds_its_maker() {
    let world = World::new().await;
    let server = &world.server;
    server.resources(&world.org.id, &["a", "b"]).await;
    let make = create;

    // The account's rights are covered.
    let weak = world.federator("weak", &[]).await;
    refused(make(&weak, world.rule()).await, Code::PermissionDenied, EXCEEDS);
    let covers = world.federator("covers", &[("x.y", "*")]).await;
    make(&covers, world.rule()).await.unwrap();
    let for_owner = pb::FederationRule { account_id: world.org.owner_id.clone(), ..world.rule() };
    refused(make(&covers, for_owner.clone()).await, Code::PermissionDenied, EXCEEDS);
    // Narrowed to what is covered it may be made.
    let narrowed = pb::FederationRule { scopes: texts(&["x.y"]), ..for_owner };
    make(&covers, narrowed).await.unwrap();

    // It needs a credential that may manage tokens, and is not made by an impersonation.
    let plain = server.operator.tokens().create_token(token_for(&world.org.id, &world.org.owner_id)).await;
    let plain = server.client(plain.unwrap().into_inner().secret);
    refused(make(&plain, world.rule()).await, Code::PermissionDenied, MISSING);
    let (second, _) = server.account(&world.org.id, "second", &[("owner", "*")]).await;
    let impersonated = world.org.owner.impersonating(&second.id).await;
    refused(make(&impersonated, world.rule()).await, Code::PermissionDenied, MISSING);

    // And it is restricted no less than what makes it.
    let scoped = world
        .owner_with(pb::CreateTokenRequest {
            scopes: texts(&["federation.write", "x.y"]),
            ..Default::default()
        })
        .await;
    refused(make(&scoped, world.rule()).await, Code::PermissionDenied, EXCEEDS);
    make(&scoped, pb::FederationRule { scopes: texts(&["x.y"]), ..world.rule() }).await.unwrap();
    let audience = world
        .owner_with(pb::CreateTokenRequest {
            allowed_audiences: vec![server.endpoint.clone(), "https://api.example".into()],
            ..Default::default()
        })
        .await;
    refused(make(&audience, world.rule()).await, Code::PermissionDenied, EXCEEDS);
    let within = pb::FederationRule { allowed_audiences: texts(&["https://api.example"]), ..world.rule() };
    make(&audience, within).await.unwrap();
    let network = world
        .owner_with(pb::CreateTokenRequest {
            allowed_cidrs: texts(&["127.0.0.0/8", "192.0.2.0/24"]),
            ..Default::default()
        })
        .await;
    refused(make(&network, world.rule()).await, Code::PermissionDenied, EXCEEDS);
    let within = pb::FederationRule { allowed_cidrs: texts(&["192.0.2.0/25"]), ..world.rule() };
    make(&network, within).await.unwrap();
    let short = world
        .owner_with(pb::CreateTokenRequest {
            expiration: Some(pb::create_token_request::Expiration::Ttl(seconds(3_600).unwrap())),
            ..Default::default()
        })
        .await;
    let later = server.state.clock.now().unix_timestamp() + 7_200;
    let later = prost_types::Timestamp { seconds: later, nanos: 0 };
    let longer = pb::FederationRule { expire_time: Some(later), ..world.rule() };
    refused(make(&short, longer).await, Code::PermissionDenied, EXCEEDS);
    // The default ends with its maker.
    let made = make(&short, world.rule()).await.unwrap().rule.unwrap();
    assert!(made.expire_time.unwrap().seconds <= server.state.clock.now().unix_timestamp() + 3_600);
}

/// What changes is asked for as if it were made anew; to disable it is to stop something.
#[tokio::test]
async fn changing_a_rule_is_making_it_and_disabling_is_not() {
    let world = World::new().await;
    let strong = world.federator("strong", &[("x.y", "*"), ("accounts.write", "*")]).await;
    let weak = world.federator("weak", &[]).await;
    let made = create(&strong, world.rule()).await.unwrap().rule.unwrap();
    let change = |rule: pb::FederationRule| pb::FederationRule { id: made.id.clone(), ..rule };
    let disabled = |disabled| change(pb::FederationRule { disabled: Some(disabled), ..Default::default() });
    for rule in [
        change(pb::FederationRule { audiences: texts(&["https://evil.example"]), ..Default::default() }),
        change(pb::FederationRule {
            subject_match: Some(SubjectMatch::Subject("mallory".into())),
            ..Default::default()
        }),
        change(pb::FederationRule { claims: vec![claim(&["a"], &["b"])], ..Default::default() }),
        change(pb::FederationRule { display_name: Some("Mine".into()), ..Default::default() }),
        change(pb::FederationRule {
            disabled: Some(true),
            subject_match: Some(SubjectMatch::Subject("mallory".into())),
            ..Default::default()
        }),
        disabled(false),
    ] {
        refused(update(&weak, rule, &[]).await, Code::PermissionDenied, EXCEEDS);
    }
    assert_eq!(update(&weak, disabled(true), &[]).await.unwrap().disabled, Some(true));
    assert_eq!(world.versions().await, [2]);
    refused(update(&weak, disabled(false), &[]).await, Code::PermissionDenied, EXCEEDS);
    assert_eq!(update(&strong, disabled(false), &[]).await.unwrap().disabled, Some(false));
    assert_eq!(world.versions().await, [3]);

    // What acts as an owner is stopped by callers that cover an owner.
    let for_owner = pb::FederationRule { account_id: world.org.owner_id.clone(), ..world.rule() };
    let of_owner = create(&world.org.owner, for_owner).await.unwrap().rule.unwrap();
    let stop = pb::FederationRule { id: of_owner.id.clone(), disabled: Some(true), ..Default::default() };
    refused(update(&weak, stop, &[]).await, Code::PermissionDenied, EXCEEDS);
    refused(delete(&weak, &of_owner.id).await, Code::PermissionDenied, EXCEEDS);
    delete(&weak, &made.id).await.unwrap();
}

/// Wherever the model says active token of an account, rules count.
#[tokio::test]
async fn rules_count_as_tokens_of_their_account() {
    let world = World::new().await;
    let (server, owner) = (&world.server, &world.org.owner);
    let made = create(owner, world.rule()).await.unwrap().rule.unwrap();
    let kept = create(owner, world.rule()).await.unwrap().rule.unwrap();
    for token in owner
        .tokens()
        .list_tokens(pb::ListTokensRequest { account_id: world.account.id.clone(), ..Default::default() })
        .await
        .unwrap()
        .into_inner()
        .tokens
    {
        owner.tokens().revoke_token(by_id("", &token.id)).await.unwrap();
    }
    let as_listed = |ids: &[&str]| -> Vec<(String, String)> {
        ids.iter().map(|id| ("FEDERATION_RULE".to_owned(), (*id).to_owned())).collect()
    };
    let delete_account =
        || pb::DeleteAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    let refusal = owner.accounts().delete_account(delete_account()).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    assert_eq!(listed(&refusal), as_listed(&[&made.id, &kept.id]));
    let convert = pb::ConvertAccountRequest {
        org_id: world.org.id.clone(),
        account_id: world.account.id.clone(),
        kind: pb::AccountKind::User.into(),
        reason: "a person after all".into(),
        identity: Some(pb::convert_account_request::Identity::Email("p@example.org".into())),
    };
    let refusal = server.operator.accounts().convert_account(convert).await;
    refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    let (to, _) = server.account(&world.org.id, "other", &[]).await;
    let reassign = pb::ReassignAccountTokensRequest {
        from_account_id: world.account.id.clone(),
        account_id: to.id.clone(),
        ..Default::default()
    };
    let refusal = owner.tokens().reassign_account_tokens(reassign).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "ACCOUNT_OWNS_TOKENS");
    assert_eq!(listed(&refusal), as_listed(&[&made.id, &kept.id]));

    let clone = pb::CloneAccountRequest {
        account_id: world.account.id.clone(),
        name: "clone".into(),
        ..Default::default()
    };
    let clone = owner.accounts().clone_account(clone).await.unwrap().into_inner().account.unwrap();
    let of_clone = pb::ListFederationRulesRequest { account_id: clone.id, ..Default::default() };
    assert_eq!(list(owner, of_clone).await, [""; 0]);

    // By id, with the right of tokens.
    let revoked = owner.tokens().revoke_token(by_id("", &made.id)).await.unwrap().into_inner();
    let rule = revoked.rule.unwrap();
    assert_eq!((revoked.token, rule.state()), (None, pb::TokenState::Revoked));
    assert!(rule.revoke_time.is_some());
    let back = pb::FederationRule { id: made.id.clone(), disabled: Some(false), ..Default::default() };
    refused(update(owner, back, &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let unknown = by_id("", "fed_01h455vb4pex5vsknk084sn02q");
    refused(owner.tokens().revoke_token(unknown).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    // Disabled ones are no obstacle, and go with the account.
    let off = pb::FederationRule { id: kept.id.clone(), disabled: Some(true), ..Default::default() };
    update(owner, off, &[]).await.unwrap();
    owner.accounts().delete_account(delete_account()).await.unwrap();
    let undelete = pb::UndeleteAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    owner.accounts().undelete_account(undelete).await.unwrap();

    let all = pb::RevokeAccountTokensRequest { account_id: world.account.id.clone(), ..Default::default() };
    let revoked = owner.tokens().revoke_account_tokens(all).await.unwrap().into_inner();
    assert_eq!(revoked.revoked_count, 1);
    assert_eq!(get(owner, &kept.id).await.unwrap().state(), pb::TokenState::Revoked);
}

/// A compromised credential takes with it what it made, changed, or could have made.
#[tokio::test]
async fn key_compromise_revokes_the_rules_of_a_maker() {
    let world = World::new().await;
    let owner = &world.org.owner;
    let makers = [
        world.federator("creator", &[("x.y", "*")]).await,
        world.federator("changer", &[("x.y", "*")]).await,
        world.federator("keeper", &[("x.y", "*")]).await,
        world.federator("stopper", &[]).await,
    ];
    let other_issuer = issuer(&world.server, &world.org.id, "b").await.id;
    let created = create(&makers[0], world.rule()).await.unwrap().rule.unwrap();
    let changed = create(&makers[2], world.rule()).await.unwrap().rule.unwrap();
    let change = |by: &'static str| pb::FederationRule {
        id: changed.id.clone(),
        audiences: texts(&[by]),
        ..Default::default()
    };
    // Also where another one changed it later.
    update(&world.owner_with(Default::default()).await, change("later"), &[]).await.unwrap();
    let of_other = pb::FederationRule { issuer_id: other_issuer.clone(), ..world.rule() };
    let of_issuer = create(&makers[0], of_other.clone()).await.unwrap().rule.unwrap();
    let untouched = create(owner, world.rule()).await.unwrap().rule.unwrap();
    let safe = create(owner, of_other).await.unwrap().rule.unwrap();
    let compromise = async |client: &Client| {
        let token_id = client.caller().await.unwrap().credential_id;
        let request =
            pb::RevokeTokenRequest { reason: pb::RevokeReason::KeyCompromise.into(), ..by_id("", &token_id) };
        owner.tokens().revoke_token(request).await.unwrap();
    };
    let states = async || {
        let mut states = Vec::new();
        for rule in [&created, &changed, &of_issuer, &untouched, &safe] {
            states.push(get(owner, &rule.id).await.unwrap().state());
        }
        states
    };
    use pb::TokenState::{Active, Revoked};
    compromise(&makers[3]).await;
    assert_eq!(states().await, [Active; 5]);
    compromise(&makers[2]).await;
    assert_eq!(states().await, [Active, Revoked, Active, Active, Active]);
    // A caller that changed an issuer could have acted by every rule of it.
    let keeper = world.owner_with(Default::default()).await;
    let swap = pb::Issuer {
        id: other_issuer,
        jwks: crate::harness::federation::KEY_SET.replace("one", "two"),
        ..Default::default()
    };
    let request = pb::UpdateIssuerRequest { issuer: Some(swap), ..Default::default() };
    keeper.orgs().update_issuer(request).await.unwrap();
    compromise(&keeper).await;
    assert_eq!(states().await, [Active, Revoked, Revoked, Active, Revoked]);
    compromise(&makers[0]).await;
    assert_eq!(states().await, [Revoked, Revoked, Revoked, Active, Revoked]);
    let revoked: Vec<_> =
        world.events().await.into_iter().filter(|(kind, _)| kind.ends_with("revoked")).collect();
    assert_eq!(revoked.len(), 3);
}

#[tokio::test]
async fn a_policy_stops_rules_and_lists_them() {
    let world = World::new().await;
    let owner = &world.org.owner;
    let made = create(owner, world.rule()).await.unwrap().rule.unwrap();
    let off = pb::FederationRule { disabled: Some(true), ..world.rule() };
    create(owner, off).await.unwrap();
    let change = async |by: &Client, policy: pb::TokenPolicy, validate_only: bool| {
        let request =
            pb::UpdateTokenPolicyRequest { policy: Some(policy), validate_only, ..Default::default() };
        by.orgs().update_token_policy(request).await.unwrap().into_inner()
    };
    let other = pb::TokenPolicy { allowed_issuers: texts(&["https://other.example"]), ..Default::default() };
    let none = pb::TokenPolicy { allow_federation: Some(false), ..Default::default() };
    for policy in [other.clone(), none.clone()] {
        let tried = change(owner, policy, true).await;
        let ids: Vec<_> = tried.affected_rules.iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!((ids, tried.affected_rule_count), (vec![made.id.as_str()], Some(1)));
        assert_eq!(tried.affected_rules[0].state(), pb::TokenState::Blocked);
        assert_eq!(tried.affected_count, Some(0));
        assert!(!tried.affected_rules[0].audiences.is_empty());
    }
    assert_eq!(get(owner, &made.id).await.unwrap().state(), pb::TokenState::Active);
    // Without `federation.read` no more than what it is.
    let (_, writer) = world.server.account(&world.org.id, "writer", &[("orgs.write", "*")]).await;
    let tried = change(&writer, other.clone(), true).await;
    assert_eq!(
        (tried.affected_rules[0].id.as_str(), &tried.affected_rules[0].audiences[..]),
        (made.id.as_str(), &[][..])
    );
    let changed = change(owner, none, false).await;
    assert_eq!(changed.policy.unwrap().allow_federation, Some(false));
    assert_eq!(get(owner, &made.id).await.unwrap().state(), pb::TokenState::Blocked);
    let refusal = refused(create(owner, world.rule()).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["rule.issuer_id"]);
    // It works again when the policy allows it again.
    let both = pb::TokenPolicy { allow_federation: Some(true), ..other };
    let policy = change(owner, both, false).await.policy.unwrap();
    assert_eq!(policy.allowed_issuers, ["https://other.example"]);
    let again = pb::UpdateTokenPolicyRequest {
        policy: Some(pb::TokenPolicy::default()),
        update_mask: Some(FieldMask { paths: texts(&["allowed_issuers"]) }),
        ..Default::default()
    };
    owner.orgs().update_token_policy(again).await.unwrap();
    assert_eq!(get(owner, &made.id).await.unwrap().state(), pb::TokenState::Active);
}

#[tokio::test]
async fn a_resource_that_a_rule_is_restricted_to_stays() {
    let world = World::new().await;
    world.server.resources(&world.org.id, &["a"]).await;
    let restricted = pb::FederationRule { resources: texts(&["a"]), ..world.rule() };
    let made = create(&world.org.owner, restricted).await.unwrap().rule.unwrap();
    let delete_it = || pb::DeleteResourceRequest { path: "a".into(), ..Default::default() };
    let refusal = world.org.owner.orgs().delete_resource(delete_it()).await;
    let refusal = refused(refusal, Code::FailedPrecondition, "RESOURCE_IN_USE");
    assert_eq!(listed(&refusal), [("FEDERATION_RULE".to_owned(), made.id.clone())]);
    delete(&world.org.owner, &made.id).await.unwrap();
    world.org.owner.orgs().delete_resource(delete_it()).await.unwrap();
}

#[tokio::test]
async fn accounts_and_orgs_have_so_many_rules() {
    let world = World::new().await;
    let owner = &world.org.owner;
    rule(&world.server, &world.org.id, world.rule()).await;
    let more = "insert into federation_rules
                select org_id, gen_random_uuid(), issuer_id, $2, audiences, subject, subject_prefix, claims, scopes,
                       resources, allowed_audiences, allowed_cidrs, access_token_lifetime, display_name, disabled, sealed,
                       makers, version, revision, create_time, update_time, expire_time, revoke_time, revoke_reason,
                       last_use_time, last_use_address, use_count
                from (select * from federation_rules limit 1) one, generate_series(1, $1)";
    let grow = async |n: i32, account_id: &str| {
        let account = countersign::domain::values::ids::AccountId::parse(account_id).unwrap().uuid();
        sqlx::query(more).bind(n).bind(account).execute(&world.server.state.db).await.unwrap();
    };
    grow(98, &world.account.id).await;
    create(owner, world.rule()).await.unwrap();
    refused(create(owner, world.rule()).await, Code::FailedPrecondition, "LIMIT_REACHED");
    let (other, _) = world.server.account(&world.org.id, "other", &[]).await;
    let for_other = || pb::FederationRule { account_id: other.id.clone(), ..world.rule() };
    create(owner, for_other()).await.unwrap();
    let (third, _) = world.server.account(&world.org.id, "third", &[]).await;
    grow(898, &third.id).await;
    create(owner, for_other()).await.unwrap();
    refused(create(owner, for_other()).await, Code::FailedPrecondition, "LIMIT_REACHED");
}

/// An account that is purged takes its rules with it.
#[tokio::test]
async fn rules_go_with_a_purged_account() {
    let world = World::new().await;
    let owner = &world.org.owner;
    let made = create(owner, world.rule()).await.unwrap().rule.unwrap();
    let all = pb::RevokeAccountTokensRequest { account_id: world.account.id.clone(), ..Default::default() };
    assert_eq!(owner.tokens().revoke_account_tokens(all).await.unwrap().into_inner().revoked_count, 2);
    let request = pb::DeleteAccountRequest { account_id: world.account.id.clone(), ..Default::default() };
    owner.accounts().delete_account(request).await.unwrap();
    let now = world.server.state.clock.now();
    let mut tx = world.server.database().pool().begin().await.unwrap();
    let account_id = countersign::domain::values::ids::AccountId::parse(&world.account.id).unwrap();
    let org_id = countersign::domain::values::ids::OrgId::parse(&world.org.id).unwrap();
    assert!(countersign::db::accounts::purge(&mut tx, org_id, account_id, now).await.unwrap());
    tx.commit().await.unwrap();
    refused(get(owner, &made.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let left = "select count(*) from credentials where account_id = $1";
    let left: i64 =
        sqlx::query_scalar(left).bind(account_id.uuid()).fetch_one(&world.server.state.db).await.unwrap();
    assert_eq!(left, 0);
}

/// What a session made is that of the credential which gave the password, once the session is swept.
#[tokio::test]
async fn a_swept_session_leaves_its_rules_to_what_made_its_password() {
    let world = World::new().await;
    let (server, owner) = (&world.server, &world.org.owner);
    let grants = [("federation.write", "*"), ("x.y", "*")];
    let robot = server.technical(&world.org.id, "robot", &grants).await;
    let password = pb::SetPasswordRequest {
        account_id: robot.id.clone(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    owner.accounts().set_password(password).await.unwrap();
    let session = server.session(&robot.username).await;
    let made = create(&session, world.rule()).await.unwrap().rule.unwrap();
    server.state.clock.advance(std::time::Duration::from_secs(200 * 24 * 3_600));
    let now = server.state.clock.now();
    countersign::db::sweep::sweep(&server.state.db, now).await.unwrap();
    let left = "select count(*) from sessions";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&server.state.db).await.unwrap(), 0);
    assert_eq!(get(owner, &made.id).await.unwrap().state(), pb::TokenState::Active);
    let token_id = owner.caller().await.unwrap().credential_id;
    let request =
        pb::RevokeTokenRequest { reason: pb::RevokeReason::KeyCompromise.into(), ..by_id("", &token_id) };
    owner.tokens().revoke_token(request).await.unwrap();
    let other = server.client(server.managing_token_of(&world.org).await);
    assert_eq!(get(&other, &made.id).await.unwrap().state(), pb::TokenState::Revoked);
}
