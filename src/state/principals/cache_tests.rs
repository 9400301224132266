//! The cache: what a change drops, what is stored, and how loads and changes meet.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::cache::{Cache, ENTRY_WEIGHT};
use super::entry::{Key, Known, concerning, concerns};
use super::shared::PLACE;
use crate::domain::access::credential::tests::credential;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::subject::Subject;
use crate::state::locks::lock;

/// A cache with room for this many entries without grants, and for what they share.
pub(super) fn cache_for(entries: usize) -> Cache {
    let known = of(1, 1, 1, &[]);
    let member = known.member();
    let shared = member.held.weight() + member.held.sets_weight() + member.rules.weight() + 3 * PLACE;
    Cache::new(entries * (ENTRY_WEIGHT + known.weight()) + shared)
}

/// What an entry weighs that shares nothing.
pub(super) fn alone(known: &Known) -> usize {
    let held = &known.member().held;
    ENTRY_WEIGHT + known.weight() + held.weight() + held.sets_weight() + 2 * PLACE
}

pub(super) fn of(id: u128, account: u128, org: u128, grants: &[(&str, &str)]) -> Known {
    let mut credential = credential(grants);
    credential.credential_id = TokenId::from_u128(id).into();
    credential.account.account_id = AccountId::from_u128(account);
    credential.account.org_id = OrgId::from_u128(org);
    credential.account.home_org_id = OrgId::from_u128(org);
    Known::Credential(Arc::new(credential))
}

pub(super) fn guest(account: u128, org: u128, home: u128, grants: &[(&str, &str)]) -> Known {
    let mut member = credential(grants).account;
    member.account_id = AccountId::from_u128(account);
    member.org_id = OrgId::from_u128(org);
    member.home_org_id = OrgId::from_u128(home);
    Known::Member(Arc::new(member))
}

pub(super) fn token(id: u128) -> Key {
    Key::Token(TokenId::from_u128(id))
}

pub(super) fn member(org: u128, account: u128) -> Key {
    Key::Member(OrgId::from_u128(org), AccountId::from_u128(account))
}

/// Puts it in as it would be loaded.
pub(super) fn put(cache: &Cache, known: &Known) -> bool {
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
    let key = known.key();
    let flight = cache.join(key);
    let kept = cache.keep(key, &flight, Some(known), Instant::now());
    cache.leave(key, flight.clone());
    kept
}

pub(super) fn has(cache: &Cache, id: u128) -> bool {
    cache.get(token(id)).is_some()
}

/// The ids of the tokens that are cached, of so many.
pub(super) fn cached(cache: &Cache, ids: u128) -> Vec<u128> {
    // Not by `get`, which is a use.
    let all: BTreeSet<Key> = cache.all().iter().map(|(_, known)| known.key()).collect();
    (0..ids).filter(|id| all.contains(&token(*id))).collect()
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

/// Two numbers of which the subjects have the same hash in this cache.
fn colliding(cache: &Cache, subject: impl Fn(u128) -> Subject) -> (u128, u128) {
    let index = lock(&cache.index);
    let mut seen = HashMap::new();
    (1..).find_map(|id| seen.insert(index.hash(subject(id)), id).map(|other| (other, id))).unwrap()
}

#[test]
fn ids_with_the_same_hash_are_told_apart() {
    let account: fn(u128) -> Subject = |id| AccountId::from_u128(id).into();
    let org: fn(u128) -> Subject = |id| OrgId::from_u128(id).into();
    let owners: fn(u128) -> Subject = |id| Subject::Owners(OrgId::from_u128(id));
    for subject in [account, org, owners] {
        let cache = cache_for(100);
        let (one, other) = colliding(&cache, subject);
        for (id, of_id) in [(1, one), (2, one), (3, other), (4, other)] {
            assert!(put(&cache, &of(id, of_id, of_id, &[("owner", "a")])));
        }
        cache.invalidate(&[TokenId::from_u128(4).into(), subject(one)]);
        assert_eq!(cached(&cache, 10), [3], "{}", subject(one));
        cache.invalidate(&[subject(other)]);
        assert!(lock(&cache.index).is_empty());
    }
}

/// What happens to a cache.
#[derive(Clone, Debug)]
enum Step {
    PutToken { id: u128, account: u128, org: u128, owns: bool },
    PutGuest { account: u128, org: u128, home: u128, owns: bool },
    Get(Key),
    Invalidate(Subject),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = || (0..100_u128, 0..30_u128, 0..10_u128, 0..10_u128, prop::bool::weighted(0.2));
    let subject = numbers().prop_flat_map(|(id, account, org, ..)| {
        prop_oneof![
            Just(TokenId::from_u128(id).into()),
            Just(AccountId::from_u128(account).into()),
            Just(OrgId::from_u128(org).into()),
            Just(Subject::Owners(OrgId::from_u128(org))),
        ]
    });
    prop_oneof![
        400 => numbers().prop_map(|(id, account, org, _, owns)| Step::PutToken { id, account, org, owns }),
        200 => numbers().prop_map(|(_, account, org, home, owns)| Step::PutGuest { account, org, home, owns }),
        200 => numbers().prop_map(|(id, ..)| Step::Get(token(id))),
        100 => subject.prop_map(Step::Invalidate),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_set_and_the_index_say_the_same(
        steps in prop::collection::vec(step(), 0..1_000),
        entries in prop_oneof![Just(100), Just(1_000)],
    ) {
        let cache = cache_for(entries);
        // What a cache without a limit has.
        let mut model: HashMap<Key, Known> = HashMap::new();
        let grants = |owns: bool| if owns { &[("owner", "a")][..] } else { &[] };
        for step in steps {
            let known = match step {
                Step::PutToken { id, account, org, owns } => of(id, account, org, grants(owns)),
                Step::PutGuest { account, org, home, owns } => guest(account, org, home, grants(owns)),
                Step::Get(key) => {
                    assert!(cache.get(key).is_none_or(|found| found.known.key() == key));
                    continue;
                }
                Step::Invalidate(subject) => {
                    cache.invalidate(&[subject]);
                    model.retain(|key, known| !concerns(subject, *key, known.member()));
                    continue;
                }
                Step::Clear => {
                    cache.clear();
                    model.clear();
                    continue;
                }
            };
            assert!(put(&cache, &known));
            model.insert(known.key(), known);
            assert!(cache.weight() <= cache.capacity);
        }
        let all = cache.all();
        let index = lock(&cache.index);
        let mut dependent = BTreeSet::new();
        for (slot, known) in &all {
            assert_eq!(index.slots.get(*slot).map(Known::key), Some(known.key()));
            let subjects = |known: &Known| concerning(known.member()).collect::<Vec<_>>();
            assert_eq!(subjects(known), subjects(&model[&known.key()]));
            dependent.extend(subjects(known).into_iter().map(|subject| (index.hash(subject), *slot)));
        }
        assert_eq!((index.slots.len(), &index.dependent), (all.len(), &dependent));
        drop(index);
        if cache.evictions.get() == 0 {
            assert_eq!(all.len(), model.len());
        }
        cache.invalidate(&(0..10).map(|org| OrgId::from_u128(org).into()).collect::<Vec<_>>());
        assert!(lock(&cache.index).is_empty());
        assert_eq!((cache.len(), cache.weight()), (0, 0));
    }
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
        assert!(lock(&cache.index).is_empty());
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
