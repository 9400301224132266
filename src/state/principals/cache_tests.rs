//! The cache: what a change drops, what is stored, and what it may take.

use std::sync::Arc;
use std::time::Instant;

use super::cache::{Cache, ENTRY_WEIGHT, FEW_REMOVED, MAX_MISSING, MISSING_PART, MISSING_WEIGHT};
use super::entry::{Key, Known};
use super::index::lock;
use super::shared::PLACE;
use crate::domain::access::credential::Credential;
use crate::domain::access::credential::tests::credential;
use crate::domain::access::member::Member;
use crate::domain::tokens::policy::{Ceilings, TokenPolicy};
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::subject::Subject;

/// A cache with room for this many entries without grants, and for what they share.
fn cache_for(entries: usize) -> Cache {
    let known = of(1, 1, 1, &[]);
    let member = known.member();
    let shared = member.held.weight() + member.rules.weight() + 2 * PLACE;
    Cache::new(entries * (ENTRY_WEIGHT + known.weight()) + shared)
}

/// What an entry weighs that shares nothing.
fn alone(known: &Known) -> usize {
    ENTRY_WEIGHT + known.weight() + known.member().held.weight() + PLACE
}

fn of(id: u128, account: u128, org: u128, grants: &[(&str, &str)]) -> Known {
    let mut credential = credential(grants);
    credential.credential_id = TokenId::from_u128(id).into();
    credential.account.account_id = AccountId::from_u128(account);
    credential.account.org_id = OrgId::from_u128(org);
    credential.account.home_org_id = OrgId::from_u128(org);
    Known::Credential(Arc::new(credential))
}

fn guest(account: u128, org: u128, home: u128, grants: &[(&str, &str)]) -> Known {
    let mut member = credential(grants).account;
    member.account_id = AccountId::from_u128(account);
    member.org_id = OrgId::from_u128(org);
    member.home_org_id = OrgId::from_u128(home);
    Known::Member(Arc::new(member))
}

fn token(id: u128) -> Key {
    Key::Token(TokenId::from_u128(id))
}

fn member(org: u128, account: u128) -> Key {
    Key::Member(OrgId::from_u128(org), AccountId::from_u128(account))
}

fn key_of(known: &Known) -> Key {
    match known {
        Known::Credential(credential) => credential.credential_id.into(),
        Known::Member(member) => Key::Member(member.org_id, member.account_id),
    }
}

/// Puts it in as it would be loaded.
fn put(cache: &Cache, known: &Known) -> bool {
    let known = match known {
        Known::Credential(credential) => {
            let mut credential = credential.as_ref().clone();
            cache.share(&mut credential.account);
            Known::Credential(Arc::new(credential))
        }
        Known::Member(member) => {
            let mut member = member.as_ref().clone();
            cache.share(&mut member);
            Known::Member(Arc::new(member))
        }
    };
    let key = key_of(&known);
    let flight = cache.join(key);
    let kept = cache.keep(key, &flight, Some(known), Instant::now());
    cache.leave(key, flight.clone());
    kept
}

fn has(cache: &Cache, id: u128) -> bool {
    cache.get(token(id)).is_some()
}

#[test]
fn a_change_drops_what_it_names_and_nothing_else() {
    let all = || {
        let cache = cache_for(100);
        for credential in
            [of(1, 10, 100, &[]), of(2, 10, 100, &[]), of(3, 11, 100, &[("owner", "a")]), of(4, 12, 101, &[])]
        {
            assert!(put(&cache, &credential));
        }
        cache
    };
    for (subject, left) in [
        (TokenId::from_u128(1).into(), vec![2, 3, 4]),
        (AccountId::from_u128(10).into(), vec![3, 4]),
        (OrgId::from_u128(100).into(), vec![4]),
        (Subject::Owners(OrgId::from_u128(100)), vec![1, 2, 4]),
        (Subject::Keys, vec![1, 2, 3, 4]),
    ] {
        let cache = all();
        cache.invalidate(&[subject]);
        let kept: Vec<u128> = (1..=4).filter(|token| has(&cache, *token)).collect();
        assert_eq!(kept, left, "{subject}");
    }
    let cache = all();
    cache.clear();
    assert_eq!(cache.len(), 0);
}

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
fn what_is_loaded_again_stands_in_the_queue_once() {
    let cache = cache_for(100);
    for _ in 0..1_000 {
        assert!(put(&cache, &of(1, 1, 1, &[])));
    }
    assert_eq!(lock(&cache.index).order.len(), 1);
    // Also where it was dropped in between: then as often as there are entries, and a few times more.
    for _ in 0..1_000 {
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        assert!(put(&cache, &of(1, 1, 1, &[])));
    }
    assert!(lock(&cache.index).order.len() <= 2 + FEW_REMOVED);
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

#[test]
fn a_reading_that_a_change_crosses_is_not_kept() {
    for subject in
        [TokenId::from_u128(1).into(), AccountId::from_u128(10).into(), OrgId::from_u128(100).into()]
    {
        let cache = cache_for(100);
        let (key, found) = (token(1), of(1, 10, 100, &[]));
        let flight = cache.join(key);
        flight.start();
        cache.invalidate(&[subject]);
        assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
        assert!(!has(&cache, 1));
        // The next read began after it.
        flight.start();
        cache.invalidate(&[TokenId::from_u128(2).into()]);
        assert!(cache.keep(key, &flight, Some(found), Instant::now()));
    }
    // A token that is created while it is found missing.
    let cache = cache_for(100);
    let key = token(1);
    let flight = cache.join(key);
    flight.start();
    cache.invalidate(&[TokenId::from_u128(1).into()]);
    assert!(!cache.keep(key, &flight, None, Instant::now()));
    flight.start();
    assert!(cache.keep(key, &flight, None, Instant::now()) && cache.is_missing(key));
    cache.invalidate(&[TokenId::from_u128(1).into()]);
    assert!(!cache.is_missing(key));
}

#[test]
fn nobody_joins_a_reading_that_is_done() {
    let cache = cache_for(100);
    let (key, found) = (token(1), of(1, 10, 100, &[]));
    let flight = cache.join(key);
    assert!(Arc::ptr_eq(&flight, &cache.join(key)));
    assert!(cache.keep(key, &flight, Some(found), Instant::now()));
    // Later changes are not in it.
    cache.invalidate(&[TokenId::from_u128(1).into()]);
    let next = cache.join(key);
    assert!(!Arc::ptr_eq(&flight, &next));
    cache.leave(key, flight.clone());
    assert!(Arc::ptr_eq(&next, &cache.join(key)), "each leaves its own");
}

#[test]
fn a_reading_of_the_former_database_is_read_again_and_hears_of_changes() {
    let cache = cache_for(100);
    let (key, found) = (token(1), of(1, 10, 100, &[]));
    let flight = cache.join(key);
    flight.start();
    cache.clear();
    assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
    flight.start();
    cache.invalidate(&[TokenId::from_u128(1).into()]);
    assert!(!cache.keep(key, &flight, Some(found.clone()), Instant::now()));
    flight.start();
    assert!(cache.keep(key, &flight, Some(found), Instant::now()));
}

#[test]
fn it_is_bounded_and_keeps_what_is_used() {
    let cache = cache_for(40);
    for token in 0..40 {
        put(&cache, &of(token, token, 1, &[]));
    }
    assert!(has(&cache, 0));
    for token in 40..45 {
        put(&cache, &of(token, token, 1, &[]));
    }
    assert_eq!(cache.len(), 40);
    assert!(has(&cache, 0) && !has(&cache, 1) && has(&cache, 44));
    // Missing ids take their part, and push out entries.
    for id in 0..20_001 {
        let flight = cache.join(token(id));
        assert!(cache.keep(token(id), &flight, None, Instant::now()));
    }
    assert!(cache.weight() <= cache.capacity && cache.len() < 40);
    assert!(cache.missing.len() * MISSING_WEIGHT <= cache.capacity / MISSING_PART);
    let cache = Cache::new(1 << 30);
    for id in 0..20_001 {
        cache.remember_missing(&mut lock(&cache.index), token(id));
    }
    assert!(cache.missing.len() <= MAX_MISSING);
    for id in 0..20_001 {
        cache.remember_missing(&mut lock(&cache.index), member(1, id));
    }
    assert!(lock(&cache.index).missing.len() <= MAX_MISSING && cache.missing.len() <= MAX_MISSING);
    for token in 100..200 {
        put(&cache, &of(token, token, 1, &[]));
        cache.invalidate(&[OrgId::from_u128(1).into()]);
    }
    let index = lock(&cache.index);
    assert!(index.order.len() <= 2 * FEW_REMOVED && index.accounts.is_empty() && index.orgs.is_empty());
    assert_eq!((index.weight, index.held.weight(), index.rules.weight()), (0, 0, 0));
}

#[test]
fn it_is_bounded_by_what_entries_hold_and_not_by_their_number() {
    // Others than those of any other account.
    let large = |id: u128| {
        let names: Vec<String> = (0..100).map(|n| format!("noun{id}_{n}.read")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), "*")).collect();
        of(id, id, 1, &many)
    };
    let small = of(1, 1, 1, &[]);
    assert!(alone(&large(2)) > 10 * alone(&small));
    let cache = Cache::new(20 * alone(&large(1_000)));
    for id in 0..1_000 {
        put(&cache, &if id % 2 == 0 { of(id, id, 1, &[]) } else { large(id) });
        assert!(cache.weight() <= cache.capacity);
    }
    let held = cache.len();
    assert!((20..60).contains(&held), "{held}");
    // What would take too much of it is loaded again each time, and takes nothing.
    let cache = cache_for(30);
    assert!(put(&cache, &small) && put(&cache, &large(2)));
    assert!(has(&cache, 1) && !has(&cache, 2));
    // Also where it was small before.
    assert!(put(&cache, &large(1)));
    assert!(!has(&cache, 1) && cache.weight() == 0);
}

#[test]
fn a_look_that_nobody_waits_for_any_more_is_forgotten() {
    let cache = cache_for(100);
    let key = token(7);
    let (one, two) = (cache.join(key), cache.join(key));
    assert!(Arc::ptr_eq(&one, &two));
    cache.leave(key, one);
    assert_eq!(lock(&cache.index).flights.len(), 1, "the other waits on");
    cache.leave(key, two);
    assert!(lock(&cache.index).flights.is_empty(), "both were given up before there was an outcome");
}

#[test]
fn what_is_known_of_a_guest_hangs_on_its_home_too() {
    let all = || {
        let cache = cache_for(100);
        for known in [
            of(1, 10, 100, &[]),
            guest(10, 100, 100, &[]),
            guest(10, 101, 100, &[("owner", "a")]),
            guest(11, 101, 101, &[]),
        ] {
            assert!(put(&cache, &known));
        }
        cache
    };
    let keys = [token(1), member(100, 10), member(101, 10), member(101, 11)];
    for (subject, left) in [
        (TokenId::from_u128(1).into(), vec![1, 2, 3]),
        (AccountId::from_u128(10).into(), vec![3]),
        (OrgId::from_u128(100).into(), vec![3]),
        (OrgId::from_u128(101).into(), vec![0, 1]),
        (Subject::Owners(OrgId::from_u128(101)), vec![0, 1, 3]),
        (Subject::Owners(OrgId::from_u128(100)), vec![0, 1, 2, 3]),
    ] {
        let cache = all();
        cache.invalidate(&[subject]);
        let kept: Vec<usize> = (0..4).filter(|key| cache.get(keys[*key]).is_some()).collect();
        assert_eq!(kept, left, "{subject}");
        cache.clear();
        let index = lock(&cache.index);
        assert!(index.accounts.is_empty() && index.orgs.is_empty());
    }
    // Overlapped by a change at home; found missing while it becomes a member, or soon after.
    let cache = cache_for(100);
    let (key, found) = (member(101, 10), guest(10, 101, 100, &[]));
    let flight = cache.join(key);
    flight.start();
    cache.invalidate(&[OrgId::from_u128(100).into()]);
    assert!(!cache.keep(key, &flight, Some(found), Instant::now()));
    let joins = AccountId::from_u128(10).into();
    flight.start();
    cache.invalidate(&[joins]);
    assert!(!cache.keep(key, &flight, None, Instant::now()));
    flight.start();
    assert!(cache.keep(key, &flight, None, Instant::now()) && cache.is_missing(key));
    cache.invalidate(&[joins]);
    assert!(!cache.is_missing(key) && lock(&cache.index).missing.is_empty());
}
