//! Invitations: where one is in its life, how many are sent, and what is given when one is
//! accepted.

use time::{Duration, OffsetDateTime};

use crate::domain::access::rights::{HeldGrant, Rights};
use crate::domain::access::roles::{Roles, may_hold};
use crate::domain::accounts::cloning::{Divided, divide};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::Right;
use crate::domain::values::resources::ResourcePath;

/// How many an org may send…
pub const MAX_SENT: i64 = 100;
/// …within this long, those sent again included.
pub const SENT_WITHIN: Duration = Duration::hours(24);
/// How long one is kept after it could last have been accepted.
pub const KEPT: Duration = Duration::days(90);

/// Where an invitation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    Pending,
    Accepted,
    Revoked,
    Expired,
}

impl InvitationState {
    /// Its state at this time. Only one that nothing has ended expires.
    pub fn of(accepted: bool, revoked: bool, expire_time: OffsetDateTime, now: OffsetDateTime) -> Self {
        match (accepted, revoked, expire_time <= now) {
            (true, ..) => Self::Accepted,
            (_, true, _) => Self::Revoked,
            (.., true) => Self::Expired,
            _ => Self::Pending,
        }
    }

    /// Its name where it is searched for.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Accepted => "ACCEPTED",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// What becomes of the grants of an invitation, each in the order in which they were asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub given: Vec<HeldGrant>,
    pub dropped: Vec<HeldGrant>,
}

/// Nobody passes on what they do not hold, when an invitation is sent and when it is
/// accepted: a user gets what whoever sent it could give now. `roles` and `paths` are those
/// that are still there of what is `invited` with.
pub fn receive(sender: &Rights, invited: Vec<HeldGrant>, roles: &Roles, paths: &[String]) -> Received {
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
    use crate::domain::values::permissions::Permission;
    use crate::domain::values::resources::Node;

    #[test]
    fn the_first_state_that_applies() {
        use InvitationState::{Accepted, Expired, Pending, Revoked};
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        for (accepted, revoked, now, expected) in [
            (false, false, 9, Pending),
            (false, false, 10, Expired),
            (true, false, 9, Accepted),
            (true, false, 11, Accepted),
            (false, true, 9, Revoked),
            (false, true, 11, Revoked),
        ] {
            assert_eq!(InvitationState::of(accepted, revoked, at(10), at(now)), expected);
        }
    }

    const ROLES: u128 = 4;

    fn any_grant() -> impl Strategy<Value = HeldGrant> {
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
            role_permissions: Vec::new(),
        })
    }

    /// Roles that are there, one in three not for users.
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
            invited in prop::collection::vec(any_grant(), 0..8),
            sender in prop::collection::vec(any_grant(), 0..5),
            roles in any_roles(),
            there in prop::collection::vec(prop_oneof![Just("a"), Just("a/b"), Just("ab")], 0..3),
        ) {
            let there: Vec<String> = there.into_iter().map(str::to_owned).collect();
            let (invited, sender) = (opened(invited, &roles), Rights::of_grants(&opened(sender, &roles)));
            let Received { given, dropped } = receive(&sender, invited.clone(), &roles, &there);
            // Nothing is lost, nothing is new, and both are in the order of the invitation.
            let (mut gave, mut left) = (given.iter().peekable(), dropped.iter().peekable());
            for grant in &invited {
                let next = if gave.peek() == Some(&grant) { gave.next() } else { left.next() };
                prop_assert_eq!(next, Some(grant));
            }
            prop_assert!(gave.next().is_none() && left.next().is_none());
            // What is given is covered, and holds on something that is there.
            prop_assert!(Rights::of_grants(&given).beyond(&sender).is_empty());
            for grant in &given {
                prop_assert!(grant.node.path().is_none_or(|path| there.iter().any(|found| found == path.as_str())));
                if let Right::Custom(id) = &grant.right {
                    prop_assert!(roles.get(id).is_some_and(|role| role.is_for(AccountKind::User)));
                }
            }
            // What is covered, and there, is given.
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
