//! The JWTs of platforms, with the rules that the templates in `docs/how-to/federation/` show: the claims are made up, and
//! their shapes are those that the platforms document.

use countersign::config::{FederationSettings, ServerLimits};
use countersign::domain::federation::ceiling::{Ceiling, CeilingEntry};
use countersign::domain::federation::issuer_name::IssuerName;
use countersign::domain::federation::shared_issuers;
use countersign::grpc::pb;
use pb::federation_rule::SubjectMatch;
use serde_json::{Value, json};
use tonic::Code;

use super::{allow_federation, changed, create_issuer, create_rule, exchange, rule_for};
use crate::harness::{LIMITS, Signer, TestServer, refused};

/// A platform: its issuer, the rule of its template, a JWT of a workload, and what a stranger's differs in.
struct Platform {
    issuer: &'static str,
    subject: Option<SubjectMatch>,
    claims: Vec<pb::ClaimMatch>,
    jwt: Value,
    /// `iat`, `nbf` and `exp` as it sets them, in seconds from when it makes the JWT.
    times: (Option<i64>, Option<i64>, i64),
    /// `max_assertion_lifetime` of its template.
    longest: Option<i64>,
    of_strangers: Vec<Value>,
}

fn claim(path: &[&str], value: &str) -> pb::ClaimMatch {
    pb::ClaimMatch {
        path: path.iter().map(ToString::to_string).collect(),
        values: vec![value.to_owned()],
        ..Default::default()
    }
}

fn exact(subject: &str) -> Option<SubjectMatch> {
    Some(SubjectMatch::Subject(subject.to_owned()))
}

fn platforms() -> Vec<Platform> {
    vec![
        // Kubernetes: a projected service account token.
        Platform {
            issuer: "https://oidc.cluster.example/id/1A2B",
            subject: exact("system:serviceaccount:prod:deployer"),
            claims: vec![claim(&["kubernetes.io", "namespace"], "prod")],
            jwt: json!({
                "sub": "system:serviceaccount:prod:deployer", "jti": "b1b8c3d4-0000-4000-8000-000000000001",
                "kubernetes.io": {
                    "namespace": "prod",
                    "node": {"name": "node-1", "uid": "6d9e1b1e-0000-4000-8000-000000000002"},
                    "pod": {"name": "deployer-7c9", "uid": "f0c2a1de-0000-4000-8000-000000000003"},
                    "serviceaccount": {"name": "deployer", "uid": "0d2c6a3b-0000-4000-8000-000000000004"},
                },
            }),
            times: (Some(0), Some(0), 600),
            longest: None,
            of_strangers: vec![
                json!({"sub": "system:serviceaccount:staging:deployer"}),
                json!({"kubernetes.io": {"namespace": "staging"}}),
            ],
        },
        // GitHub Actions, with the ids in `sub` and as claims.
        Platform {
            issuer: "https://token.actions.githubusercontent.com",
            subject: None,
            claims: vec![
                claim(&["repository_owner_id"], "1234567"),
                claim(&["repository_id"], "89101112"),
                claim(&["ref"], "refs/heads/main"),
                claim(&["event_name"], "push"),
            ],
            jwt: json!({
                "sub": "repo:acme@1234567/app@89101112:ref:refs/heads/main", "repository": "acme/app",
                "repository_id": "89101112", "repository_owner": "acme", "repository_owner_id": "1234567",
                "ref": "refs/heads/main", "ref_type": "branch", "event_name": "push", "actor": "octo", "actor_id": "42",
                "workflow": "deploy", "job_workflow_ref": "acme/app/.github/workflows/deploy.yml@refs/heads/main",
                "runner_environment": "github-hosted", "run_id": "1", "run_attempt": "1", "sha": "0a1b",
                "repository_visibility": "private",
            }),
            times: (Some(0), Some(-600), 300),
            longest: None,
            of_strangers: vec![
                json!({"repository_owner_id": "7654321"}),
                json!({"repository_id": "1", "repository": "acme/app"}),
                json!({"ref": "refs/pull/1/merge"}),
                json!({"event_name": "pull_request_target"}),
            ],
        },
        // GitLab: an `id_tokens` entry of a job.
        Platform {
            issuer: "https://gitlab.com",
            subject: None,
            claims: vec![
                claim(&["project_id"], "22"),
                claim(&["ref_protected"], "true"),
                claim(&["environment"], "production"),
            ],
            jwt: json!({
                "sub": "project_path:acme/app:ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": "acme",
                "project_id": "22", "project_path": "acme/app", "user_id": "1", "user_login": "sam", "ref": "main",
                "ref_type": "branch", "ref_protected": "true", "environment": "production", "job_id": "302",
                "pipeline_source": "push",
            }),
            // As long as the job may take, which is an hour where nothing else is set.
            times: (Some(0), Some(-5), 3_600),
            longest: None,
            of_strangers: vec![
                json!({"project_id": "23", "project_path": "acme/app"}),
                json!({"ref_protected": true}),
                json!({"ref_protected": "false"}),
            ],
        },
        // AWS: `GetWebIdentityToken`.
        Platform {
            issuer: "https://a1b2c3d4-5678-90ab-cdef-111122223333.tokens.sts.global.api.aws",
            subject: exact("arn:aws:iam::123456789012:role/deployer"),
            claims: vec![claim(&["https://sts.amazonaws.com/", "aws_account"], "123456789012")],
            jwt: json!({
                "sub": "arn:aws:iam::123456789012:role/deployer", "jti": "e4f5",
                "https://sts.amazonaws.com/": {
                    "aws_account": "123456789012", "org_id": "o-abc1234567", "source_region": "eu-central-1",
                    "principal_id": "arn:aws:iam::123456789012:role/deployer",
                },
            }),
            times: (Some(0), None, 300),
            longest: None,
            of_strangers: vec![
                json!({"sub": "arn:aws:iam::210987654321:role/deployer"}),
                json!({"https://sts.amazonaws.com/": {"aws_account": "210987654321"}}),
            ],
        },
        // Google: the identity token of an instance; `sub` is the number of the service account.
        Platform {
            issuer: "https://accounts.google.com",
            subject: exact("112233445566778899000"),
            claims: vec![pb::ClaimMatch {
                path: vec!["email_verified".into()],
                flag: Some(true),
                ..Default::default()
            }],
            jwt: json!({
                "sub": "112233445566778899000", "azp": "112233445566778899000", "email_verified": true,
                "email": "deployer@acme.iam.gserviceaccount.com",
                "google": {"compute_engine": {
                    "project_id": "acme", "project_number": 123456789, "zone": "europe-west1-b", "instance_id": "1",
                    "instance_name": "vm", "instance_creation_timestamp": 1, "instance_confidentiality": 0,
                }},
            }),
            times: (Some(0), None, 3_600),
            longest: None,
            of_strangers: vec![
                json!({"sub": "998877665544332211000"}),
                json!({"email_verified": "true"}),
                json!({"email_verified": false}),
            ],
        },
        // Azure: the access token of a managed identity (version 2.0).
        Platform {
            issuer: "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
            subject: None,
            claims: vec![claim(&["oid"], "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"), claim(&["idtyp"], "app")],
            jwt: json!({
                "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "oid": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
                "tid": "11111111-2222-3333-4444-555555555555", "azp": "99999999-8888-7777-6666-555555555555",
                "azpacr": "2", "idtyp": "app", "ver": "2.0", "rh": "0.A", "uti": "u",
            }),
            // It dates them back by five minutes.
            times: (Some(-300), Some(-300), 86_400),
            longest: Some(86_400),
            of_strangers: vec![
                json!({"oid": "ffffffff-bbbb-cccc-dddd-eeeeeeeeeeee"}),
                json!({"idtyp": "user"}),
                json!({"iss": "https://login.microsoftonline.com/66666666-2222-3333-4444-555555555555/v2.0"}),
            ],
        },
        // SPIRE: a JWT-SVID, without `iss`.
        Platform {
            issuer: "spiffe://prod.example",
            subject: Some(SubjectMatch::SubjectPrefix("spiffe://prod.example/ns/web/".to_owned())),
            claims: vec![],
            jwt: json!({"iss": null, "sub": "spiffe://prod.example/ns/web/sa/deployer"}),
            times: (Some(0), None, 300),
            longest: None,
            of_strangers: vec![
                json!({"sub": "spiffe://prod.example/ns/db/sa/deployer"}),
                json!({"sub": "spiffe://staging.example/ns/web/sa/deployer"}),
            ],
        },
    ]
}

#[tokio::test]
async fn each_platform_is_taken_by_its_template_and_its_strangers_are_not() {
    let mut ceiling = Vec::new();
    for platform in platforms() {
        ceiling.push(CeilingEntry::parse(platform.issuer).unwrap());
    }
    let federation = FederationSettings { ceiling: Ceiling::new(ceiling), networks: Vec::new(), ca: None };
    let server = TestServer::at_standing_time(ServerLimits { federation, ..LIMITS }).await;
    let org = server.org().await;
    allow_federation(&org.owner).await;
    let (account, _) = server.account(&org.id, "deployer", &[("invoices.read", "*")]).await;
    let signer = Signer::p256();
    let audience = server.endpoint.clone();
    for platform in platforms() {
        let is_spiffe = platform.issuer.starts_with("spiffe://");
        let kind = if is_spiffe { pb::IssuerKind::Spiffe } else { pb::IssuerKind::Jwks };
        let jwk =
            changed(&signer.jwk(), &json!({"kid": "1", "use": if is_spiffe { "jwt-svid" } else { "sig" }}));
        let issuer = pb::Issuer {
            kind: kind.into(),
            issuer: platform.issuer.into(),
            jwks: json!({"keys": [jwk]}).to_string(),
            max_assertion_lifetime: platform
                .longest
                .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            ..Default::default()
        };
        let issuer_id = create_issuer(&org.owner, issuer).await.unwrap();
        let rule = pb::FederationRule {
            audiences: vec![audience.clone()],
            subject_match: platform.subject.clone(),
            claims: platform.claims.clone(),
            ..rule_for(&issuer_id, &account.id)
        };
        let rule_id = create_rule(&org.owner, rule).await.expect(platform.issuer);
        let at = server.state.clock.now().unix_timestamp();
        let (iat, nbf, exp) = platform.times;
        let every = json!({
            "iss": platform.issuer, "aud": [audience], "iat": iat.map(|iat| at + iat), "nbf": nbf.map(|nbf| at + nbf),
            "exp": at + exp,
        });
        // Null stands for none.
        let every = changed(&json!({}), &every);
        let good = changed(&every, &platform.jwt);
        let header = json!({"alg": "ES256", "kid": "1", "typ": "JWT"});
        let by = server.anonymous();
        exchange(&by, &rule_id, &signer.sign(&header, &good)).await.expect(platform.issuer);
        for stranger in &platform.of_strangers {
            let other = signer.sign(&header, &changed(&good, stranger));
            refused(exchange(&by, &rule_id, &other).await, Code::Unauthenticated, "TOKEN_INVALID");
        }
        // As long as it says, and no longer.
        let late = signer
            .sign(&header, &changed(&good, &json!({"exp": at + platform.longest.unwrap_or(3_600) + 61})));
        refused(exchange(&by, &rule_id, &late).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
}

/// What the table of shared issuers names is there in a JWT of the platform, as a text: a rule can match it.
#[test]
fn each_claim_that_pins_an_owner_can_be_matched() {
    for platform in platforms() {
        let name = IssuerName::parse(platform.issuer).unwrap();
        let Some(shared) = shared_issuers::find(&name) else { continue };
        let found = |path: &[&str]| path.iter().try_fold(&platform.jwt, |within, name| within.get(name));
        let mut of_use = 0;
        for owner in shared.owners {
            if let Some(value) = found(owner.path) {
                assert!(value.is_string(), "{}: {:?}", shared.title, owner.path);
                of_use += 1;
            }
        }
        assert!(of_use > 0, "{}", shared.title);
    }
}
