//! The rules of delegation together: a small model of an org, in which one caller makes
//! whatever calls it likes with whatever credentials it has come by. Each call is guarded
//! by the functions that its handler calls. Nobody ever gets more than the caller had.
//!
//! What others do meanwhile, other orgs and their guests, and the passing of time are not in it.

pub mod accounts;
pub mod calls;
pub mod roles;
pub mod strategies;
pub mod tokens;
pub mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::delegation::calls::Call;
use super::delegation::strategies::{attempt, world};
use super::delegation::world::World;
use super::rights::Rights;
use super::roles::{CustomRole, may_hold};
use crate::domain::values::resources::Node;
use crate::error::Result;

/// What the rules promise of the world as it was and as it is.
fn holds(before: &World, now: &World, closure: &Rights) -> Result<(), TestCaseError> {
    for (credential, caller) in now.usable() {
        let acting = caller.acting_in(None).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let beyond = acting.rights().beyond(closure);
        prop_assert!(beyond.is_empty(), "{credential:?} can do {beyond:?}");
    }
    // What others give to an account later is out of reach for a credential that was narrower.
    for token in &now.tokens {
        let Some(bound) = &token.bound else { continue };
        let beyond = Rights::within(&token.lists.scopes, &token.lists.resources).beyond(&bound.limits);
        let managed = !token.may_manage_tokens || bound.gives_management;
        prop_assert!(beyond.is_empty() && managed, "{token:?} exceeds its maker");
    }
    // A role that exceeds its maker lies in wait for whoever may grant it.
    let everywhere = |role: &CustomRole| {
        Rights::of_pairs(role.permissions.iter().map(|permission| (permission.clone(), Node::Org)))
    };
    for (id, role) in &now.roles {
        let had = before.roles.get(id).map(everywhere).unwrap_or_default();
        let gained = everywhere(role).beyond(&had.join(closure.clone()));
        prop_assert!(gained.is_empty(), "{id} has gained {gained:?}");
    }
    for (n, account) in now.accounts.iter().enumerate() {
        let had = if n < before.accounts.len() { before.rights_of(n) } else { Rights::default() };
        let gained = now.rights_of(n).beyond(&had.join(closure.clone()));
        prop_assert!(gained.is_empty(), "account {n} has gained {gained:?}");
        // The kinds of a role are looked at where it is given, and nowhere else.
        prop_assert!(account.grants.iter().all(|(right, _)| may_hold(account.kind, right, &now.roles)));
    }
    Ok(())
}

/// All that the caller can do, with everything that it has.
fn closure(world: &World) -> Result<Rights> {
    world.usable().into_iter().try_fold(Rights::default(), |all, (_, caller)| {
        Ok(all.join(caller.acting_in(None)?.rights().clone()))
    })
}

#[test]
fn no_sequence_of_calls_yields_more_than_the_caller_had() {
    let seen: RefCell<BTreeMap<(&str, bool), u32>> = RefCell::default();
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let sequences = (world(), prop::collection::vec(attempt(), 1..40));
    let outcome = TestRunner::new(config).run(&sequences, |(before, attempts)| {
        let closure = closure(&before).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let mut now = before.clone();
        for attempt in &attempts {
            let allowed = now.carry_out(attempt).is_ok();
            *seen.borrow_mut().entry((attempt.call.name(), allowed)).or_default() += 1;
            // What is refused changes nothing.
            if allowed {
                holds(&before, &now, &closure)?;
            }
        }
        Ok(())
    });
    outcome.unwrap();
    // Each call was allowed and refused often enough for this to mean something.
    let seen = seen.into_inner();
    let rare: Vec<_> = seen.iter().filter(|(_, times)| **times < 10).collect();
    assert!(seen.len() == 2 * Call::KINDS && rare.is_empty(), "{seen:?}");
}
