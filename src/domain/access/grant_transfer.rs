//! Which grants pass from one account to another: to a clone, and by an invitation.

use super::rights::{HeldGrant, PassingOn, Rights};
use super::roles::{Roles, may_hold};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Right;
use crate::domain::values::resources::ResourcePath;

/// The grants of the source of a clone, each in one of the three lists.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Divided<T> {
    /// The grants that the clone gets.
    pub given: Vec<T>,
    /// The grants that the caller may not pass on.
    pub dropped: Vec<T>,
    /// The grants that the caller excluded.
    pub excluded: Vec<T>,
}

/// Divides the source's grants into excluded, dropped and given ones.
///
/// The caller's exclusions come first, then what the caller may not pass on; the rest is given.
pub(crate) fn divide<T>(
    caller: &Rights,
    grants: Vec<(T, HeldGrant)>,
    is_excluded: impl Fn(&T) -> bool,
) -> Divided<(T, HeldGrant)> {
    let mut passing_on = PassingOn::by(caller);
    let mut divided = Divided { given: Vec::new(), dropped: Vec::new(), excluded: Vec::new() };
    for (grant, held) in grants {
        let part = if is_excluded(&grant) {
            &mut divided.excluded
        } else if passing_on.covers(&held) {
            &mut divided.given
        } else {
            &mut divided.dropped
        };
        part.push((grant, held));
    }
    divided
}

/// The result for the grants of an invitation, each list in the order of the invitation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub given: Vec<HeldGrant>,
    pub dropped: Vec<HeldGrant>,
}

/// Divides the grants of an invitation when it is accepted: a user gets what its sender holds now.
///
/// An account passes on only what it holds, both when an invitation is sent and when it is
/// accepted. `roles` and `paths` are those named in `invited` that still exist.
pub(crate) fn receive(sender: &Rights, invited: Vec<HeldGrant>, roles: &Roles, paths: &[String]) -> Received {
    let is_there = |grant: &HeldGrant| {
        let role = !matches!(&grant.right, Right::Custom(id) if !roles.contains_key(id));
        let path = |path: &ResourcePath| paths.iter().any(|found| found == path.as_str());
        role && may_hold(AccountKind::User, &grant.right, roles) && grant.node.path().is_none_or(path)
    };
    let numbered = invited.into_iter().enumerate();
    let marked = numbered.map(|(place, grant)| ((place, is_there(&grant)), grant)).collect();
    let Divided { given, mut dropped, excluded } = divide(sender, marked, |(_, there)| !there);
    dropped.extend(excluded);
    dropped.sort_by_key(|((place, _), _)| *place);
    let grants = |part: Vec<(_, HeldGrant)>| part.into_iter().map(|(_, grant)| grant).collect();
    Received { given: grants(given), dropped: grants(dropped) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::access::roles::CustomRole;
    use crate::domain::values::ids::RoleId;
    use crate::domain::values::permissions::{Permission, PermissionSet};
    use crate::domain::values::resources::Node;

    fn any_source_grant() -> impl Strategy<Value = HeldGrant> {
        let right = prop_oneof![
            Just("owner"),
            Just("manager"),
            Just("auditor"),
            Just("member"),
            Just("role_00000000000000000000000007"),
            Just("invoices.read"),
            Just("tokens.write"),
        ];
        let on = prop_oneof![Just("*"), Just("a"), Just("a/b"), Just("ab")];
        let carried = prop::collection::vec(
            prop_oneof![Just("invoices.write"), Just("accounts.read"), Just("reports.read")],
            0..3,
        );
        (right, on, carried).prop_map(|(right, on, carried)| {
            let right = Right::parse(right).unwrap();
            let custom = matches!(right, Right::Custom(_));
            let carried = carried.into_iter().filter(|_| custom);
            HeldGrant {
                right,
                node: Node::parse(on).unwrap(),
                role_permissions: carried.map(|text| Permission::parse(text).unwrap()).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn dropped_given_and_excluded_are_the_sources(
            source in prop::collection::vec(any_source_grant(), 0..8),
            caller in prop::collection::vec(any_source_grant(), 0..5),
            excluded in any::<u8>(),
        ) {
            let caller = Rights::of_grants(&caller);
            let numbered: Vec<_> = source.iter().cloned().enumerate().collect();
            let is_excluded = |number: &usize| excluded & (1 << number) != 0;
            let Divided { given, dropped, excluded } = divide(&caller, numbered.clone(), is_excluded);
            // Each is in exactly one of the three lists, and nothing else is.
            let mut all: Vec<_> = [&given, &dropped, &excluded].into_iter().flatten().cloned().collect();
            all.sort_by_key(|(number, _)| *number);
            prop_assert_eq!(all, numbered);
            prop_assert!(excluded.iter().all(|(number, _)| is_excluded(number)));
            prop_assert!(!given.iter().chain(&dropped).any(|(number, _)| is_excluded(number)));
            // The clone holds nothing outside the caller's rights, and everything inside them that
            // was not excluded.
            let held = Rights::of_grants(given.iter().map(|(_, grant)| grant));
            prop_assert!(held.beyond(&caller).is_empty());
            for (_, grant) in &dropped {
                prop_assert!(!Rights::of_grants([grant]).beyond(&caller).is_empty());
            }
        }
    }

    const ROLES: u128 = 4;

    fn any_invited_grant() -> impl Strategy<Value = HeldGrant> {
        let right = prop_oneof![
            Just(Right::parse("owner").unwrap()),
            Just(Right::parse("manager").unwrap()),
            Just(Right::parse("auditor").unwrap()),
            Just(Right::parse("invoices.read").unwrap()),
            Just(Right::parse("tokens.write").unwrap()),
            (0..ROLES).prop_map(|id| Right::Custom(RoleId::from_u128(id))),
        ];
        let on = prop_oneof![Just("*"), Just("a"), Just("a/b"), Just("ab")];
        (right, on).prop_map(|(right, on)| HeldGrant {
            right,
            node: Node::parse(on).unwrap(),
            role_permissions: PermissionSet::default(),
        })
    }

    /// Roles that exist; one in three is not for users.
    fn any_roles() -> impl Strategy<Value = Roles> {
        let permission = prop_oneof![Just("invoices.write"), Just("accounts.read")];
        let kinds =
            prop_oneof![Just(vec![]), Just(vec![AccountKind::User]), Just(vec![AccountKind::ServiceAccount])];
        let role = (prop::collection::vec(permission, 0..2), kinds).prop_map(|(permissions, kinds)| {
            let permissions = permissions.into_iter().map(|text| Permission::parse(text).unwrap());
            CustomRole::new(permissions.collect(), kinds)
        });
        prop::collection::btree_map((0..ROLES).prop_map(RoleId::from_u128), role, 0..4)
    }

    fn opened(grants: Vec<HeldGrant>, roles: &Roles) -> Vec<HeldGrant> {
        let open = |grant: HeldGrant| match &grant.right {
            Right::Custom(id) => {
                let role_permissions = roles.get(id).map(|role| role.permissions.clone()).unwrap_or_default();
                HeldGrant { role_permissions, ..grant }
            }
            _ => grant,
        };
        grants.into_iter().map(open).collect()
    }

    proptest! {
        #[test]
        fn given_and_dropped_are_what_was_invited_with(
            invited in prop::collection::vec(any_invited_grant(), 0..8),
            sender in prop::collection::vec(any_invited_grant(), 0..5),
            roles in any_roles(),
            there in prop::collection::vec(prop_oneof![Just("a"), Just("a/b"), Just("ab")], 0..3),
        ) {
            let there: Vec<String> = there.into_iter().map(str::to_owned).collect();
            let (invited, sender) = (opened(invited, &roles), Rights::of_grants(&opened(sender, &roles)));
            let Received { given, dropped } = receive(&sender, invited.clone(), &roles, &there);
            // Nothing is lost, nothing is new, and both lists are in the order of the invitation.
            let (mut gave, mut left) = (given.iter().peekable(), dropped.iter().peekable());
            for grant in &invited {
                let next = if gave.peek() == Some(&grant) { gave.next() } else { left.next() };
                prop_assert_eq!(next, Some(grant));
            }
            prop_assert!(gave.next().is_none() && left.next().is_none());
            // What is given is covered, and holds on something that exists.
            prop_assert!(Rights::of_grants(&given).beyond(&sender).is_empty());
            for grant in &given {
                prop_assert!(grant.node.path().is_none_or(|path| there.iter().any(|found| found == path.as_str())));
                if let Right::Custom(id) = &grant.right {
                    prop_assert!(roles.get(id).is_some_and(|role| role.is_for(AccountKind::User)));
                }
            }
            // What is covered, and exists, is given.
            for grant in &dropped {
                let covered = Rights::of_grants([grant]).beyond(&sender).is_empty();
                let gone = grant.node.path().is_some_and(|path| !there.iter().any(|found| found == path.as_str()));
                let unfit = matches!(&grant.right, Right::Custom(id)
                    if !roles.get(id).is_some_and(|role| role.is_for(AccountKind::User)));
                prop_assert!(!covered || gone || unfit, "{:?}", grant);
            }
        }
    }
}
