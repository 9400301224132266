//! Tests of all the delegation rules together, on a small model of an org.
//!
//! One caller makes any calls with any credentials that it has obtained. Each call is guarded by
//! the functions that its handler calls. No account ever gets more than the caller had.
//!
//! The model leaves out what other callers do meanwhile, other orgs and their guests, and the
//! passing of time: of lifetimes it holds that none outlasts what it was made by.

pub mod accounts;
pub mod calls;
pub mod federation;
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
use super::delegation::world::{ModelCredential, World};
use super::rights::Rights;
use super::roles::{CustomRole, may_hold};
use crate::domain::values::ids::TokenId;
use crate::domain::values::resources::Node;
use crate::error::Result;

/// The invariants between the model as it was before the calls and as it is now.
fn holds(before: &World, now: &World, closure: &Rights) -> Result<(), TestCaseError> {
    for (credential, caller) in now.usable() {
        let acting = caller.acting_in(None).map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        let beyond = acting.rights().beyond(closure);
        prop_assert!(beyond.is_empty(), "{credential:?} can do {beyond:?}");
    }
    // A credential that was narrower must not gain from what others grant to an account later.
    for token in &now.tokens {
        let Some(bound) = &token.bound else { continue };
        let beyond = Rights::within(&token.lists.scopes, &token.lists.resources).beyond(&bound.limits);
        let managed = !token.may_manage_tokens || bound.gives_management;
        let end = token.lifetime.expire_time;
        let lasts = bound.until.is_none_or(|until| end.is_some_and(|end| end <= until));
        let certificates = &token.lists.certificates;
        let works_with = bound.certificates.is_empty()
            || (!certificates.is_empty() && certificates.iter().all(|one| bound.certificates.contains(one)));
        prop_assert!(beyond.is_empty() && managed && lasts && works_with, "{token:?} exceeds its maker");
    }
    for rule in now.federation.iter().filter(|rule| now.acts_by(rule)) {
        let Some(bound) = &rule.bound else { continue };
        let beyond = Rights::within(&rule.lists.scopes, &rule.lists.resources).beyond(&bound.limits);
        let lasts = bound.until.is_none_or(|until| rule.expire_time <= until);
        prop_assert!(
            beyond.is_empty() && lasts && bound.certificates.is_empty(),
            "{rule:?} exceeds its maker"
        );
    }
    // A password that a token gave ends with it, and a JWT with the secret that it was exchanged for.
    for (credential, caller) in now.usable() {
        match credential {
            ModelCredential::Session(account) => {
                let tied_to = now.accounts[account].tied_to.map(|n| TokenId::from_u128(n as u128));
                prop_assert_eq!(
                    caller.credential().tied_to.as_ref().map(|tied_to| tied_to.token_id),
                    tied_to
                );
            }
            ModelCredential::Jwt(n) => {
                let jwt = now.jwts[n];
                prop_assert_eq!(jwt.secret, now.tokens[jwt.token].secret);
            }
            // A rule manages nothing, and needs what was given it.
            ModelCredential::Rule(_) => prop_assert!(!caller.credential().may_manage_tokens),
            ModelCredential::Token(_) | ModelCredential::Impersonation(_) => {}
        }
    }
    // A role that exceeds its maker would give too much as soon as another account grants it.
    let everywhere = |role: &CustomRole| {
        Rights::of_pairs(role.permissions.iter().map(|permission| (permission.clone(), Node::Org)))
    };
    for (id, role) in &now.roles {
        let had = before.roles.get(id).map(everywhere).unwrap_or_default();
        let gained = everywhere(role).beyond(&had.join(closure));
        prop_assert!(gained.is_empty(), "{id} has gained {gained:?}");
    }
    for (n, account) in now.accounts.iter().enumerate() {
        let had = if n < before.accounts.len() { before.rights_of(n) } else { Rights::default() };
        let gained = now.rights_of(n).beyond(&had.join(closure));
        prop_assert!(gained.is_empty(), "account {n} has gained {gained:?}");
        // The account kinds of a role are checked where it is granted, and nowhere else.
        prop_assert!(account.grants.iter().all(|(right, _)| may_hold(account.kind, right, &now.roles)));
    }
    Ok(())
}

/// All rights of the caller, over all its credentials.
fn closure(world: &World) -> Result<Rights> {
    world
        .usable()
        .into_iter()
        .try_fold(Rights::default(), |all, (_, caller)| Ok(all.join(caller.acting_in(None)?.rights())))
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
            // A refused call changes nothing.
            if allowed {
                holds(&before, &now, &closure)?;
            }
        }
        Ok(())
    });
    outcome.unwrap();
    // Each call was allowed and refused often enough for the test to mean something.
    let seen = seen.into_inner();
    let rare: Vec<_> = seen.iter().filter(|(_, times)| **times < 10).collect();
    assert!(seen.len() == 2 * Call::KINDS && rare.is_empty(), "{seen:?}");
}
