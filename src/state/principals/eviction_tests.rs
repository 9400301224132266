//! The cache: what it may take, and what goes first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::cache::{Cache, MAX_MISSING, MISSING_PART, MISSING_WEIGHT};
use super::cache_tests::{alone, cache_for, cached, has, member, of, put, token};
use crate::domain::values::ids::{OrgId, TokenId};
use crate::state::locks::lock;

#[test]
fn slots_are_used_again() {
    let cache = cache_for(100);
    for id in 0..1_000 {
        // Loaded again, and dropped and loaded again.
        assert!(put(&cache, &of(1, 1, 1, &[])));
        cache.invalidate(&[TokenId::from_u128(1).into()]);
        assert!(put(&cache, &of(1, 1, 1, &[])) && put(&cache, &of(2, 2, id, &[])));
        cache.invalidate(&[OrgId::from_u128(id).into()]);
    }
    assert!(lock(&cache.index).slots.places() <= 2);
    // Evicted: while one is put in, there is one more.
    for id in 0..1_000 {
        assert!(put(&cache, &of(id, id, 1, &[])));
    }
    assert_eq!((cache.len(), lock(&cache.index).slots.places()), (100, 101));
}

#[test]
fn what_was_not_used_goes_before_what_came_later() {
    for used in [0, 10, 39] {
        for hand in [0, 1, 17, 39] {
            let cache = cache_for(40);
            for id in 0..40 + hand {
                put(&cache, &of(id, id, 1, &[]));
            }
            // Slots are freed before and behind the hand, and taken by others.
            let mut old = cached(&cache, 100);
            old.sort_by_key(|id| id * 37 % 41);
            for id in old.drain(..9) {
                cache.invalidate(&[TokenId::from_u128(id).into()]);
            }
            for id in 100..109 {
                put(&cache, &of(id, id, 1, &[]));
            }
            let unused = old.split_off(old.len().min(used));
            for id in &old {
                assert!(has(&cache, *id));
            }
            // As many more as were not used: they push out these, and none of the others.
            for id in (200..).take(unused.len()) {
                put(&cache, &of(id, id, 1, &[]));
            }
            let left = cached(&cache, 300);
            assert!(unused.iter().all(|id| !left.contains(id)), "{used} {hand}: {left:?}, {unused:?}");
            assert_eq!(left.len(), 40, "{used} {hand}");
        }
    }
}

#[test]
fn something_is_evicted_where_all_is_used_all_the_time() {
    let cache = cache_for(40);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                (0..1_000).for_each(|id| _ = has(&cache, id));
            }
        });
        for id in 0..1_000 {
            put(&cache, &of(id, id, 1, &[]));
            assert!(cache.len() <= 40);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(cache.evictions.get(), 960);
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
    assert!(index.slots.len() == 0 && index.dependent.is_empty());
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
