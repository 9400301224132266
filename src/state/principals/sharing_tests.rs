//! The cache: what entries share, and what it weighs.

use std::sync::Arc;

use super::cache::Cache;
use super::cache_tests::{cache_for, of, put};
use super::entry::Known;
use super::shared::PLACE;
use crate::domain::access::credential::Credential;
use crate::domain::access::credential::tests::credential;
use crate::domain::access::member::Member;
use crate::domain::federation::federated::Federated;
use crate::domain::federation::issuer::{Issuer, IssuerKind, Trust, TrustFields};
use crate::domain::federation::rule::{RuleMatch, SubjectMatch};
use crate::domain::tokens::policy::{Ceilings, TokenPolicy};
use crate::domain::values::ids::{IssuerId, OrgId, RuleId, TokenId};
use crate::domain::values::permissions::Permission;
use crate::error::Violations;
use crate::state::locks::lock;

#[test]
fn entries_share_what_they_hold_and_their_rules() {
    let cache = cache_for(100);
    let shared = |mut member: Member| {
        cache.share(&mut member);
        (member.held, member.rules)
    };
    let grants = [("owner", "a"), ("invoices.read", "*")];
    let one = Arc::new(Credential { account: credential(&grants).account, ..credential(&[]) });
    assert!(put(&cache, &Known::Credential(one.clone())));
    let (held, rules) = shared(credential(&grants).account);
    assert!(Arc::ptr_eq(&one.account.held, &held) && Arc::ptr_eq(&one.account.rules, &rules));
    let policy = TokenPolicy { allow_endless: true, ..TokenPolicy::default() };
    let ruled = Member { rules: Arc::new(policy.within(&Ceilings::default())), ..credential(&[]).account };
    let (held, rules) = shared(ruled);
    assert!(rules.endless && *held != *one.account.held, "others than these are its own");
    // They take their bytes once, and none after the last entry with them.
    let alone = cache.weight();
    let mut other = credential(&grants);
    other.credential_id = TokenId::from_u128(7).into();
    cache.share(&mut other.account);
    assert!(put(&cache, &Known::Credential(Arc::new(other))));
    assert!(cache.weight() < 2 * alone);
    cache.invalidate(&[one.account.account_id.into()]);
    assert_eq!(cache.weight(), 0);
}

#[test]
fn entries_share_the_sets_of_what_they_hold_on_other_resources() {
    let cache = cache_for(100);
    let on = |id: u128, path: &str| {
        let known = of(id, id, 1, &[("invoices.read", "*"), ("invoices.write", path)]);
        let Known::Credential(mut credential) = known else { unreachable!("a token") };
        cache.share(&mut Arc::get_mut(&mut credential).unwrap().account);
        credential
    };
    let one = on(1, "a");
    assert!(put(&cache, &Known::Credential(one.clone())));
    let alone = cache.weight();
    let other = on(2, "b");
    assert_ne!(other.account.held, one.account.held);
    assert!(Arc::ptr_eq(one.account.held.sets().unwrap(), other.account.held.sets().unwrap()));
    assert!(put(&cache, &Known::Credential(other)));
    let sets = one.account.held.sets_weight() + PLACE;
    let rules = one.account.rules.weight() + PLACE;
    assert_eq!(cache.weight(), 2 * alone - sets - rules);
    // The last one that has them takes them along.
    cache.invalidate(&[one.account.account_id.into()]);
    assert_eq!(cache.weight(), alone);
    cache.invalidate(&[OrgId::from_u128(1).into()]);
    assert_eq!(cache.weight(), 0);
    // Others on the whole org are others.
    assert!(put(&cache, &Known::Credential(one)));
    let on_org = of(3, 3, 1, &[("invoices.read", "a"), ("invoices.write", "*")]);
    let mut account = on_org.member().clone();
    cache.share(&mut account);
    assert!(Arc::ptr_eq(account.held.sets().unwrap(), on_org.member().held.sets().unwrap()));
}

/// A rule for an issuer with these keys.
fn rule_for(id: u128, jwks: &str) -> Credential {
    let mut violations = Violations::default();
    let fields = TrustFields { jwks, ..TrustFields::of(IssuerKind::Jwks, "https://a.example") };
    let trust = Trust::restore(&mut violations, &fields).unwrap();
    let subject = SubjectMatch::Exact("a".to_owned());
    let matches = RuleMatch::read(&mut violations, &["a".to_owned()], subject, Vec::new()).unwrap();
    let federated = Federated {
        issuer: Arc::new(Issuer::new(IssuerId::from_u128(1), trust)),
        issuer_version: 1,
        stored_keys: None,
        matches,
        version: 1,
        disabled: false,
        is_sealed: true,
        is_admitted: true,
        access_token_lifetime: None,
    };
    Credential {
        credential_id: RuleId::from_u128(id).into(),
        federated: Some(Box::new(federated)),
        ..credential(&[])
    }
}

#[test]
fn rules_for_one_issuer_share_it() {
    const LENGTH: usize = 200 << 10;
    let cache = Cache::new(64 << 20);
    let jwks = "x".repeat(LENGTH);
    let mut issuers = Vec::new();
    for n in 0..600 {
        let mut rule = rule_for(n, &jwks);
        let federated = rule.federated.as_mut().unwrap();
        cache.share_issuer(&mut federated.issuer);
        issuers.push(federated.issuer.clone());
        assert!(put(&cache, &Known::Credential(Arc::new(rule))));
    }
    assert!(issuers.iter().all(|issuer| Arc::ptr_eq(issuer, &issuers[0])));
    assert_eq!(cache.len(), 600);
    assert!((LENGTH..10 * LENGTH).contains(&cache.weight()), "{}", cache.weight());
    // One that was changed is another one, and none of it stays.
    let mut changed = rule_for(600, "y");
    cache.share_issuer(&mut changed.federated.as_mut().unwrap().issuer);
    assert!(put(&cache, &Known::Credential(Arc::new(changed))));
    cache.invalidate(&(0..=600).map(|n| RuleId::from_u128(n).into()).collect::<Vec<_>>());
    assert_eq!((cache.len(), cache.weight()), (0, 0));
}

#[test]
fn what_is_shared_weighs_the_same_whoever_loads_it_first() {
    let grants = [("invoices.read", "*"), ("invoices.write", "customers/acme")];
    let narrowed = || {
        let mut narrowed = credential(&grants);
        narrowed.credential_id = TokenId::from_u128(7).into();
        narrowed.restrictions.scopes = vec![Permission::parse("invoices.read").unwrap()];
        narrowed
    };
    let weigh = |credentials: [Credential; 2]| {
        let cache = cache_for(100);
        for mut credential in credentials {
            cache.share(&mut credential.account);
            credential.prepare();
            assert!(put(&cache, &Known::Credential(Arc::new(credential))));
        }
        lock(&cache.index).held.weight()
    };
    assert_eq!(weigh([narrowed(), credential(&grants)]), weigh([credential(&grants), narrowed()]));
}
