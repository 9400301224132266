//! What was presented to rules, where tenants do their worst, and what a change of a rule makes of it.

use countersign::domain::values::ids::{OrgId, RuleId};
use countersign::grpc::pb;
use pb::federation_rule::SubjectMatch;
use serde_json::{Value, json};

use super::{SUBJECT, World, allow_federation, changed, create_issuer, create_rule, exchange, rule_for};
use crate::harness::{Client, Org};

async fn listed(owner: &Client, rule_id: &str) -> Vec<pb::Presentation> {
    let request =
        pb::ListPresentationsRequest { rule_id: rule_id.into(), page_size: 200, ..Default::default() };
    owner.orgs().list_presentations(request).await.unwrap().into_inner().presentations
}

/// Another org that trusts the issuer of the world, with a rule.
async fn beside(world: &World, rule: impl FnOnce(&mut pb::FederationRule)) -> (Org, String) {
    let org = world.server.org().await;
    allow_federation(&org.owner).await;
    let (account, _) = world.server.account(&org.id, "deployer", &[]).await;
    let issuer = pb::Issuer {
        kind: pb::IssuerKind::Oidc.into(),
        issuer: world.live.url.clone(),
        ..Default::default()
    };
    let issuer_id = create_issuer(&org.owner, issuer).await.unwrap();
    let mut message = rule_for(&issuer_id, &account.id);
    rule(&mut message);
    let rule_id = create_rule(&org.owner, message).await.unwrap();
    (org, rule_id)
}

#[tokio::test]
async fn what_one_org_makes_of_it_takes_nothing_from_the_others() {
    let world = World::new().await;
    // The longest name of a check that there is, beside the longest subject.
    let (other, other_rule) = beside(&world, |rule| {
        rule.subject_match = None;
        let path = (0..8).map(|n| format!("{}{n}", "/".repeat(254))).collect();
        rule.claims = vec![pb::ClaimMatch { path, values: vec!["v".into()], ..Default::default() }];
    })
    .await;
    let anonymous = world.server.anonymous();
    let long: String = (0..255).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
    let odd = world.signed(&world.claims(json!({"sub": long})));
    exchange(&anonymous, &other_rule, &odd).await.unwrap_err();
    world.access_token().await;
    world.server.state.presentations.flush().await.unwrap();
    let of_other = listed(&other.owner, &other_rule).await;
    assert_eq!((of_other.len(), of_other[0].subject.as_str()), (1, long.as_str()));
    assert!(of_other[0].failed_check.starts_with("claims/~1~1") && of_other[0].failed_check.len() <= 255);
    assert_eq!(listed(&world.org.owner, &world.rule_id).await.len(), 1);

    // Whatever the database has against what one org has: that of others is written.
    let org_id = OrgId::parse(&other.id).unwrap().uuid();
    let refuse =
        format!("alter table presentations add constraint not_it check (org_id <> '{org_id}') not valid");
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse)).execute(&world.server.state.db).await.unwrap();
    exchange(&anonymous, &other_rule, &odd).await.unwrap_err();
    world.access_token().await;
    world.server.state.presentations.flush().await.unwrap_err();
    assert_eq!(listed(&world.org.owner, &world.rule_id).await[0].count, 2);
    assert_eq!(listed(&other.owner, &other_rule).await[0].count, 1);
}

#[tokio::test]
async fn a_rule_keeps_the_latest_thousand_that_passed_and_hundred_that_did_not() {
    let world = World::with(
        |_| {},
        |rule| rule.subject_match = Some(SubjectMatch::SubjectPrefix("system:serviceaccount:".into())),
    )
    .await;
    let (org_id, rule_id) =
        (OrgId::parse(&world.org.id).unwrap().uuid(), RuleId::parse(&world.rule_id).unwrap().uuid());
    let now = world.server.state.clock.now();
    let fill = async |outcome: &str, failed: &str, count: i32| {
        let sql = "insert into presentations (org_id, rule_id, outcome, subject, failed_check, audiences, claims, count,
                                              first_time, last_time)
                   select $1, $2, $3, 'old-' || n, $4, '{}', '{}', 1, $5 - interval '1 day' - n * interval '1 s',
                          $5 - interval '1 day' - n * interval '1 s' from generate_series(1, $6) n
                   on conflict do nothing";
        let query =
            sqlx::query(sql).bind(org_id).bind(rule_id).bind(outcome).bind(failed).bind(now).bind(count);
        query.execute(&world.server.state.db).await.unwrap();
    };
    let kept = async || {
        let sql =
            "select outcome, count(*), count(*) filter (where subject not like 'old-%') from presentations
                   group by outcome order by outcome";
        sqlx::query_as::<_, (String, i64, i64)>(sql).fetch_all(&world.server.state.db).await.unwrap()
    };
    let present = async |subject: &str| {
        let _ = world.exchange(&world.signed(&world.claims(json!({"sub": subject})))).await;
        world.server.state.presentations.flush().await.unwrap();
    };
    fill("PASSED", "", 1_090).await;
    fill("REFUSED", "subject", 100).await;
    present("system:serviceaccount:prod:one").await;
    present("stranger").await;
    let row = |outcome: &str, all, new| (outcome.to_owned(), all, new);
    // A tenth more stays, so that nothing is deleted one by one.
    assert_eq!(kept().await, [row("PASSED", 1_091, 1), row("REFUSED", 101, 1)]);
    fill("PASSED", "", 1_200).await;
    fill("REFUSED", "subject", 120).await;
    // One that is known already is no reason to look.
    world.server.state.clock.advance(std::time::Duration::from_secs(1));
    present("system:serviceaccount:prod:one").await;
    assert_eq!(kept().await[0], row("PASSED", 1_201, 1));
    present("system:serviceaccount:prod:two").await;
    assert_eq!(kept().await, [row("PASSED", 1_000, 2), row("REFUSED", 100, 1)]);
    // The latest ones.
    let oldest: String = sqlx::query_scalar(
        "select subject from presentations where outcome = 'PASSED' order by last_time limit 1",
    )
    .fetch_one(&world.server.state.db)
    .await
    .unwrap();
    assert_eq!(oldest, "old-998");
}

/// The subjects and checks that a changed rule would stop, and start.
async fn tried(world: &World, rule: pb::FederationRule, path: &str) -> [Vec<(String, String)>; 2] {
    world.server.state.presentations.flush().await.unwrap();
    let rule = pb::FederationRule { id: world.rule_id.clone(), ..rule };
    let request = pb::UpdateFederationRuleRequest {
        rule: Some(rule),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.into()] }),
        validate_only: true,
        ..Default::default()
    };
    let tried = world.org.owner.orgs().update_federation_rule(request).await.unwrap().into_inner();
    [tried.would_stop, tried.would_start]
        .map(|list| list.into_iter().map(|one| (one.subject, one.failed_check)).collect())
}

fn contains(path: &str, value: &str, contains: bool) -> pb::ClaimMatch {
    pb::ClaimMatch { path: vec![path.into()], values: vec![value.into()], contains, ..Default::default() }
}

#[tokio::test]
async fn a_trial_says_what_the_exchange_would_also_of_large_and_nameless_jwts() {
    let world = World::with(
        |_| {},
        |rule| {
            rule.subject_match = None;
            rule.claims = vec![contains("groups", "g99", true)];
        },
    )
    .await;
    let groups: Vec<String> = (0..100).map(|n| format!("g{n}")).collect();
    let many: Value =
        (0..100).map(|n| (format!("a{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let with = |changes: Value| {
        let mut claims = world.claims(many.clone());
        claims["groups"] = json!(groups);
        world.signed(&changed(&claims, &changes))
    };
    world.exchange(&with(json!({}))).await.unwrap();
    world.exchange(&with(json!({"sub": null, "groups": ["g99", "nameless"]}))).await.unwrap();
    world.exchange(&with(json!({"groups": ["g1"]}))).await.unwrap_err();
    let pair = |subject: &str, check: &str| (subject.to_owned(), check.to_owned());
    // What does not concern them changes nothing for them.
    let lifetime = pb::FederationRule {
        access_token_lifetime: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(tried(&world, lifetime, "access_token_lifetime").await, [vec![], vec![]]);
    let claims = |value: &str| pb::FederationRule {
        claims: vec![contains("groups", value, true)],
        ..Default::default()
    };
    let [stopped, started] = tried(&world, claims("others"), "claims").await;
    assert_eq!(stopped, [pair("", "claims/groups"), pair(SUBJECT, "claims/groups")]);
    assert_eq!(started, []);
    let [stopped, started] = tried(&world, claims("g1"), "claims").await;
    assert_eq!(stopped, [pair("", "claims/groups")]);
    assert_eq!(started, [pair(SUBJECT, "claims/groups")]);
    let disabled = pb::FederationRule { disabled: Some(true), ..Default::default() };
    assert_eq!(tried(&world, disabled.clone(), "disabled").await[0].len(), 2);
    // Of a rule that is disabled nothing stops, and enabling it starts what passes.
    world.update_rule(disabled.clone(), &["disabled"]).await.unwrap();
    assert_eq!(tried(&world, disabled, "disabled").await, [vec![], vec![]]);
    let enabled = pb::FederationRule { disabled: Some(false), ..Default::default() };
    let [stopped, started] = tried(&world, enabled, "disabled").await;
    assert_eq!((stopped.len(), started.len()), (0, 2));
}
