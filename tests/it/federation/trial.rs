//! What `validate_only` says before an issuer is made, or a rule is changed.

use countersign::grpc::pb;
use pb::federation_rule::SubjectMatch;
use serde_json::json;
use tonic::Code;

use super::{SUBJECT, World};
use crate::harness::{Manners, refused, until};

#[tokio::test]
async fn a_changed_rule_is_tried_with_what_was_presented() {
    let world = World::with(
        |_| {},
        |rule| {
            rule.subject_match = Some(SubjectMatch::SubjectPrefix("system:serviceaccount:prod:".into()));
        },
    )
    .await;
    let by = |sub: &str, branch: &str| world.signed(&world.claims(json!({"sub": sub, "ref": branch})));
    for (sub, branch) in [(SUBJECT, "main"), ("system:serviceaccount:prod:other", "main")] {
        world.exchange(&by(sub, branch)).await.unwrap();
    }
    world.exchange(&by("system:serviceaccount:staging:deployer", "main")).await.unwrap_err();
    world.exchange(&by("workload", "main")).await.unwrap_err();
    world.server.state.presentations.flush().await.unwrap();

    let attempt = async |rule: pb::FederationRule, paths: &[&str]| {
        let rule = pb::FederationRule { id: world.rule_id.clone(), ..rule };
        let paths = paths.iter().map(ToString::to_string).collect();
        let request = pb::UpdateFederationRuleRequest {
            rule: Some(rule),
            update_mask: Some(prost_types::FieldMask { paths }),
            validate_only: true,
            ..Default::default()
        };
        let tried = world.org.owner.orgs().update_federation_rule(request).await.unwrap().into_inner();
        let listed = |list: Vec<pb::Presentation>| -> Vec<(String, String)> {
            list.into_iter().map(|one| (one.subject, one.failed_check)).collect()
        };
        (listed(tried.would_stop), listed(tried.would_start))
    };
    let pair = |subject: &str, check: &str| (subject.to_owned(), check.to_owned());
    let subject =
        |subject: SubjectMatch| pb::FederationRule { subject_match: Some(subject), ..Default::default() };

    let exact = attempt(subject(SubjectMatch::Subject(SUBJECT.into())), &["subject"]).await;
    assert_eq!(exact, (vec![pair("system:serviceaccount:prod:other", "subject")], vec![]));
    let wider = SubjectMatch::SubjectPrefix("system:serviceaccount:".into());
    let wider = attempt(subject(wider), &["subject_prefix"]).await;
    assert_eq!(wider, (vec![], vec![pair("system:serviceaccount:staging:deployer", "subject")]));
    let branch =
        pb::ClaimMatch { path: vec!["ref".into()], values: vec!["release".into()], ..Default::default() };
    let with_claim = pb::FederationRule { claims: vec![branch], ..Default::default() };
    let (stopped, started) = attempt(with_claim, &["claims"]).await;
    assert_eq!((stopped.len(), started.len()), (2, 0));
    assert!(stopped.iter().all(|(_, check)| check == "claims/ref"), "{stopped:?}");
    let audiences =
        pb::FederationRule { audiences: vec!["https://other.example".into()], ..Default::default() };
    let (stopped, _) = attempt(audiences, &["audiences"]).await;
    assert!(stopped.len() == 2 && stopped.iter().all(|(_, check)| check == "aud"), "{stopped:?}");
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    assert_eq!(attempt(disabled, &["disabled"]).await.0.len(), 2);
    // One that is too long to be recorded passes by its prefix as before, and is listed where that is not known.
    let long = format!("system:serviceaccount:prod:{}", "x".repeat(256));
    world.exchange(&by(&long, "main")).await.unwrap();
    world.server.state.presentations.flush().await.unwrap();
    let longest = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let shorter = pb::FederationRule { access_token_lifetime: longest, ..Default::default() };
    assert_eq!(attempt(shorter, &["access_token_lifetime"]).await, (vec![], vec![]));
    let other = SubjectMatch::SubjectPrefix("system:serviceaccount:test:".into());
    let (stopped, _) = attempt(subject(other), &["subject_prefix"]).await;
    assert_eq!((stopped.len(), &stopped[0]), (3, &pair("", "subject")));
    // Nothing has changed by it.
    assert!(!world.get_rule().await.disabled());
    world.exchange(&world.assertion()).await.unwrap();
    // What it answers with asks for the right to read.
    let (_, writer) = world.server.account(&world.org.id, "writer", &[("federation.write", "*")]).await;
    let request = pb::UpdateFederationRuleRequest {
        rule: Some(pb::FederationRule {
            id: world.rule_id.clone(),
            disabled: Some(true),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    let denied = writer.orgs().update_federation_rule(request).await;
    refused(denied, Code::PermissionDenied, "PERMISSION_MISSING");
}

#[tokio::test]
async fn an_issuer_is_fetched_before_it_is_made() {
    let world = World::new().await;
    let other = world.server.org().await;
    super::allow_federation(&other.owner).await;
    let attempt = async || {
        let issuer = pb::Issuer {
            kind: pb::IssuerKind::Oidc.into(),
            issuer: world.live.url.clone(),
            ..Default::default()
        };
        let request =
            pb::CreateIssuerRequest { issuer: Some(issuer), validate_only: true, ..Default::default() };
        other.owner.orgs().create_issuer(request).await.map(tonic::Response::into_inner)
    };
    let tried = attempt().await.unwrap();
    let issuer = tried.issuer.unwrap();
    assert_eq!((issuer.key_ids, issuer.jwks_uri), (vec!["1".to_owned()], format!("{}/jwks", world.live.url)));
    assert!(issuer.fetch_time.is_some() && issuer.fetch_error.is_empty());
    assert_eq!(tried.warnings, [], "it has keys for EdDSA alone, and no other algorithm was named");

    let secret = json!({"kty": "oct", "k": "AA"});
    world.live.publish_jwks(vec![secret.clone(), json!({"kty": "RSA", "use": "enc"}), secret]);
    let tried = attempt().await.unwrap();
    let said: Vec<_> = tried.warnings.iter().map(|warning| warning.description.as_str()).collect();
    // A line for each reason.
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said.iter().any(|said| said.starts_with("has 2 keys") && said.contains("private or symmetric")),
        "{said:?}"
    );
    assert!(said.iter().any(|said| said.contains("no key that can be used")), "{said:?}");
    let own = serde_json::to_value(world.server.state.keyring.signer.jwks()).unwrap();
    world.live.publish_jwks(own.as_array().unwrap().clone());
    refused(attempt().await, Code::InvalidArgument, "SUBJECT_NOT_EXCHANGEABLE");
    world.live.behave(Manners::OfAnother);
    assert_eq!(attempt().await.unwrap().issuer.unwrap().fetch_error, "ISSUER_MISMATCH");

    // A minute has five of one host that only try an issuer.
    for _ in 0..10 {
        attempt().await.unwrap();
    }
    assert_eq!(attempt().await.unwrap().issuer.unwrap().fetch_error, "TOO_OFTEN");
    world.live.behave(Manners::Good);
    world.live.publish(&[("1", &world.signer)]);
    // They take nothing from the exchanges of other orgs, whose first fetch it is.
    world.access_token().await;
    assert_eq!(attempt().await.unwrap().issuer.unwrap().fetch_error, "TOO_OFTEN");
    world.server.state.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(attempt().await.unwrap().issuer.unwrap().fetch_error, "");

    // A change is tried in the same way; nothing of it is stored.
    let issuer =
        pb::Issuer { id: world.issuer_id.clone(), algorithms: vec!["ES256".into()], ..Default::default() };
    let request = pb::UpdateIssuerRequest {
        issuer: Some(issuer),
        update_mask: Some(prost_types::FieldMask { paths: vec!["algorithms".into()] }),
        validate_only: true,
        ..Default::default()
    };
    let tried = world.org.owner.orgs().update_issuer(request).await.unwrap().into_inner();
    assert_eq!(tried.issuer.unwrap().key_ids, Vec::<String>::new());
    assert!(!tried.warnings.is_empty());
    world.exchange(&world.assertion()).await.unwrap();
    until(async || world.get_issuer().await.key_ids == ["1"]).await;
}
