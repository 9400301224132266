//! Custom roles of an org: what they carry, who may hold them, and who may make and change them.

use std::collections::BTreeMap;

use super::rights::Rights;
use crate::domain::values::ids::RoleId;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Invalid};
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::references::looks_like_id;
use crate::domain::values::resources::Node;
use crate::error::{Reason, Result};

/// Custom roles by their ids.
pub type Roles = BTreeMap<RoleId, CustomRole>;

/// What a custom role carries, and the kinds of account that may hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomRole {
    pub permissions: PermissionSet,
    /// Empty means all kinds.
    pub account_kinds: Vec<AccountKind>,
}

impl CustomRole {
    /// A role with both lists sorted and without duplicates.
    pub fn new(permissions: PermissionSet, mut account_kinds: Vec<AccountKind>) -> Self {
        account_kinds.sort();
        account_kinds.dedup();
        Self { permissions, account_kinds }
    }

    /// Whether accounts of this kind may hold it.
    pub fn is_for(&self, kind: AccountKind) -> bool {
        self.account_kinds.is_empty() || self.account_kinds.contains(&kind)
    }

    /// The permissions that it carries and `other` does not.
    pub fn permissions_beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Permission> {
        self.permissions.iter().filter(|permission| !other.permissions.has(permission))
    }

    /// The kinds of account that may hold it and may not hold `other`.
    pub fn kinds_beyond(&self, other: &Self) -> Vec<AccountKind> {
        AccountKind::ALL.into_iter().filter(|kind| self.is_for(*kind) && !other.is_for(*kind)).collect()
    }
}

/// Whether an account of this kind may hold the right.
///
/// The holder of a role is always of a kind that the role is for, so that a change of the kinds
/// alone neither gives nor takes any rights.
pub fn may_hold(kind: AccountKind, right: &Right, roles: &Roles) -> bool {
    match right {
        Right::Custom(id) => roles.get(id).is_none_or(|role| role.is_for(kind)),
        Right::System(_) | Right::Permission(_) => true,
    }
}

/// Validates the name of a custom role: as an account's name, and not that of a system role.
///
/// # Errors
/// The sentence that follows the field's name.
pub fn parse_name(text: &str) -> Result<AccountName, Invalid> {
    let name = AccountName::parse(text)?;
    if SystemRole::ALL.iter().any(|role| role.id() == name.key()) {
        return Err(Invalid("is the name of a system role"));
    }
    if looks_like_id(text) {
        return Err(Invalid("must not look like an id, such as role_…"));
    }
    Ok(name)
}

/// Refuses to make a role that carries more than the caller holds on the whole org.
///
/// A role can be granted anywhere, and an account passes on only what it holds.
///
/// # Errors
/// `GRANT_EXCEEDS_CALLER`, with what the caller lacks.
pub fn may_define(caller: &Rights, role: &CustomRole) -> Result<()> {
    on_org(caller, Reason::GrantExceedsCaller, role.permissions.iter())
}

/// Refuses to change a role beyond what the caller holds on the whole org.
///
/// Widening a role gives rights to every account that holds it, so the added permissions must be
/// held. Widening it to another kind of account counts as making a new role for that kind. A role with
/// permissions of the platform makes operators: no caller that holds less may change it.
///
/// # Errors
/// `TARGET_EXCEEDS_CALLER` for the platform permissions that it has already, `GRANT_EXCEEDS_CALLER`
/// for what is added; each with what the caller lacks.
pub fn may_redefine(caller: &Rights, before: &CustomRole, after: &CustomRole) -> Result<()> {
    let platform = before.permissions.iter().filter(|permission| permission.is_platform());
    on_org(caller, Reason::TargetExceedsCaller, platform)?;
    if after.kinds_beyond(before).is_empty() {
        on_org(caller, Reason::GrantExceedsCaller, after.permissions_beyond(before))
    } else {
        may_define(caller, after)
    }
}

fn on_org<'a>(
    caller: &Rights,
    reason: Reason,
    permissions: impl IntoIterator<Item = &'a Permission>,
) -> Result<()> {
    let pairs = permissions.into_iter().map(|permission| (permission.clone(), Node::Org));
    Rights::of_pairs(pairs).refuse_beyond(caller, reason)
}

#[cfg(test)]
mod tests {
    use AccountKind::{ServiceAccount, User};

    use super::*;

    fn role(permissions: &[&str], kinds: &[AccountKind]) -> CustomRole {
        let permissions = permissions.iter().map(|text| Permission::parse(text).unwrap()).collect();
        CustomRole::new(permissions, kinds.to_vec())
    }

    fn rights(held: &[(&str, &str)]) -> Rights {
        let pair = |(permission, node): &(&str, &str)| {
            (Permission::parse(permission).unwrap(), Node::parse(node).unwrap())
        };
        Rights::of_pairs(held.iter().map(pair))
    }

    fn outcome(result: Result<()>) -> Option<Reason> {
        result.err().map(|error| error.reason())
    }

    #[test]
    fn names_are_those_of_accounts_and_no_system_roles() {
        assert!(parse_name("Billing-2").is_ok() && parse_name("owners").is_ok());
        for bad in ["", "owner", "Owner", "MEMBER", "auditor", "manager", "a b", "a.b", &"x".repeat(64)] {
            assert!(parse_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_role_is_for_its_kinds_and_without_any_for_all() {
        let bots = role(&["x.y"], &[ServiceAccount, ServiceAccount]);
        assert_eq!(bots.account_kinds, [ServiceAccount]);
        assert!(bots.is_for(ServiceAccount) && !bots.is_for(User));
        let all = role(&["x.y", "a.b", "x.y"], &[]);
        assert_eq!(all.permissions.len(), 2);
        assert_eq!(all.kinds_beyond(&bots), [User]);
        assert_eq!(bots.kinds_beyond(&all), []);
        assert_eq!(role(&[], &[User, ServiceAccount]).kinds_beyond(&all), [], "all kinds, named or not");
        let id = RoleId::from_u128(1);
        let roles = Roles::from([(id, bots)]);
        assert!(!may_hold(User, &Right::Custom(id), &roles));
        assert!(may_hold(ServiceAccount, &Right::Custom(id), &roles));
        for text in ["owner", "x.y"] {
            assert!(may_hold(User, &Right::parse(text).unwrap(), &roles));
        }
    }

    #[test]
    fn the_maker_of_a_role_holds_all_of_it_on_the_whole_org() {
        let caller = rights(&[("x.y", "*"), ("a.b", "customers")]);
        assert_eq!(outcome(may_define(&caller, &role(&["x.y"], &[]))), None);
        let exceeds = Some(Reason::GrantExceedsCaller);
        assert_eq!(outcome(may_define(&caller, &role(&["x.y", "a.b"], &[]))), exceeds);
        assert_eq!(outcome(may_define(&caller, &role(&["tokens.write"], &[]))), exceeds);
        assert_eq!(outcome(may_define(&Rights::of_owner(), &role(&["any.thing", "orgs.write"], &[]))), None);
        assert_eq!(outcome(may_define(&Rights::of_owner(), &role(&["platform.keys"], &[]))), exceeds);
    }

    #[test]
    fn a_caller_that_widens_a_role_holds_what_is_added() {
        let caller = rights(&[("x.y", "*")]);
        let before = role(&["orgs.write", "x.z"], &[ServiceAccount]);
        let exceeds = Some(Reason::GrantExceedsCaller);
        for (permissions, kinds, expected) in [
            (&["orgs.write", "x.z"][..], &[ServiceAccount][..], None),
            (&["orgs.write", "x.z", "x.y"], &[ServiceAccount], None),
            (&["x.z"], &[ServiceAccount], None),
            (&["x.z", "tokens.write"], &[ServiceAccount], exceeds),
            // Adding another kind counts as making a new role.
            (&["orgs.write", "x.z"], &[], exceeds),
            (&["orgs.write", "x.z"], &[User, ServiceAccount], exceeds),
            (&["x.y"], &[], None),
        ] {
            let after = role(permissions, kinds);
            assert_eq!(outcome(may_redefine(&caller, &before, &after)), expected, "{after:?}");
        }
        // A caller that holds less cannot take away what makes operators.
        let operators = role(&["platform.accounts"], &[]);
        let exceeds = Some(Reason::TargetExceedsCaller);
        assert_eq!(outcome(may_redefine(&Rights::of_owner(), &operators, &role(&["x.y"], &[]))), exceeds);
        let operator = Rights::of_owner().join(&rights(&[("platform.accounts", "*")]));
        assert_eq!(outcome(may_redefine(&operator, &operators, &role(&["x.y"], &[]))), None);
    }
}
