//! Rights against their definition, and what looking at them costs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::rights::{HeldGrant, HeldGrants, PassingOn, Rights, may_pass_on};
use super::steps;
use crate::domain::values::permissions::{Permission, PermissionSet, Right};
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::Reason;

const PERMISSIONS: [&str; 6] =
    ["invoices.read", "invoices.write", "x.y", "tokens.write", "orgs.write", "accounts.read"];
const NODES: [&str; 8] = ["*", "a", "a/b", "a/b/c", "a/x", "ab", "a-b", "d"];

fn permission(text: &str) -> Permission {
    Permission::parse(text).unwrap()
}

fn node(text: &str) -> Node {
    Node::parse(text).unwrap()
}

fn path(text: &str) -> ResourcePath {
    ResourcePath::parse(text).unwrap()
}

/// Rights by their definition: every grant is checked, and nothing is computed before.
#[derive(Clone, Debug)]
enum Defined {
    Grants(Vec<HeldGrant>),
    Within(Vec<Permission>, Vec<ResourcePath>),
    Both(Box<Defined>, Box<Defined>),
    Either(Box<Defined>, Box<Defined>),
}

impl Defined {
    fn cover(&self, permission: &Permission, node: &Node) -> bool {
        match self {
            Self::Grants(grants) => grants.iter().any(|grant| {
                let carried = match &grant.right {
                    Right::System(role) => {
                        role.permissions().any(|own| own == permission)
                            || (role.carries_applications() && permission.is_application())
                    }
                    Right::Custom(_) => grant.role_permissions.contains(permission),
                    Right::Permission(one) => one == permission,
                };
                carried && grant.node.covers(node)
            }),
            Self::Within(scopes, paths) => {
                (scopes.is_empty() || scopes.contains(permission))
                    && (paths.is_empty() || paths.iter().any(|path| Node::Path(path.clone()).covers(node)))
            }
            Self::Both(a, b) => a.cover(permission, node) && b.cover(permission, node),
            Self::Either(a, b) => a.cover(permission, node) || b.cover(permission, node),
        }
    }

    /// The same, computed.
    fn computed(&self) -> Rights {
        match self {
            Self::Grants(grants) => HeldGrants::new(grants.clone()).rights().clone(),
            Self::Within(scopes, paths) => Rights::within(scopes, paths),
            Self::Both(a, b) => match &**b {
                Self::Within(scopes, paths) => a.computed().narrowed(scopes, paths),
                _ => a.computed().meet(&b.computed()),
            },
            Self::Either(a, b) => a.computed().join(&b.computed()),
        }
    }
}

fn any_grant() -> impl Strategy<Value = HeldGrant> {
    let roles = ["owner", "manager", "auditor", "member"].map(|role| (role.to_owned(), Vec::new()));
    let custom = prop::sample::subsequence(PERMISSIONS.to_vec(), 0..4);
    let custom = (1..4u8, custom).prop_map(|(n, carried)| (format!("role_{n:026}"), carried));
    let single = prop::sample::select(PERMISSIONS.to_vec()).prop_map(|one| (one.to_owned(), Vec::new()));
    let right = prop_oneof![1 => prop::sample::select(roles.to_vec()), 2 => custom, 3 => single];
    (right, prop::sample::select(NODES.to_vec())).prop_map(|((right, carried), on)| HeldGrant {
        right: Right::parse(&right).unwrap(),
        node: node(on),
        role_permissions: carried.into_iter().map(permission).collect(),
    })
}

fn any_rights() -> impl Strategy<Value = Defined> {
    // Also so many sets that they are indexed.
    let grants = prop_oneof![3 => prop::collection::vec(any_grant(), 0..6), 1 => prop::collection::vec(any_grant(), 20..40)];
    let scopes = prop::sample::subsequence(PERMISSIONS.to_vec(), 0..4);
    let paths = prop::sample::subsequence(NODES[1..].to_vec(), 0..3);
    let within = (scopes, paths).prop_map(|(scopes, paths)| {
        Defined::Within(scopes.into_iter().map(permission).collect(), paths.into_iter().map(path).collect())
    });
    let leaf = prop_oneof![4 => grants.prop_map(Defined::Grants), 1 => within];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let pair = (inner.clone(), inner).prop_map(|(a, b)| (Box::new(a), Box::new(b)));
        (pair, any::<bool>()).prop_map(
            |((a, b), both)| {
                if both { Defined::Both(a, b) } else { Defined::Either(a, b) }
            },
        )
    })
}

proptest! {
    #[test]
    fn what_is_computed_is_what_is_defined(a in any_rights(), b in any_rights()) {
        let (held, other) = (a.computed(), b.computed());
        let everything = || PERMISSIONS.iter().map(|text| permission(text));
        let mut beyond = false;
        for permission in everything() {
            let mut somewhere = false;
            for on in NODES {
                let covers = a.cover(&permission, &node(on));
                prop_assert_eq!(held.cover(&permission, &node(on)), covers, "{:?} on {}", permission, on);
                somewhere |= covers;
                beyond |= covers && !b.cover(&permission, &node(on));
            }
            prop_assert_eq!(held.hold_somewhere(&permission), somewhere, "{:?}", permission);
        }
        // These are not all permissions: what is beyond in others is beyond all the same.
        if beyond {
            prop_assert!(!held.beyond(&other).is_empty());
        }
        prop_assert!(held.beyond(&held).is_empty());
        prop_assert!(held.beyond(&held.clone().join(&other)).is_empty());
        prop_assert!(held.meet(&other).beyond(&other).is_empty());
        if held.beyond(&other).is_empty() {
            prop_assert!(!beyond);
            prop_assert!(held.beyond(&held.meet(&other)).is_empty(), "all of it is in both");
        }
    }

    #[test]
    fn what_is_listed_is_held_where_it_is_listed_and_not_above(rights in any_rights()) {
        let named: BTreeSet<Permission> = PERMISSIONS.iter().map(|text| permission(text)).collect();
        let held = rights.computed();
        let (on_org, on_paths) = (held.on_org(&named), held.on_paths(&named, usize::MAX).unwrap());
        for permission in &named {
            prop_assert_eq!(on_org.contains(permission), rights.cover(permission, &Node::Org));
            for on in NODES.into_iter().skip(1) {
                let listed = on_paths.get(&path(on)).is_some_and(|listed| listed.contains(permission));
                let above = on.rsplit_once('/').map_or(Node::Org, |(above, _)| node(above));
                let begins = rights.cover(permission, &node(on)) && !rights.cover(permission, &above);
                prop_assert_eq!(listed, begins, "{:?} on {}", permission, on);
            }
        }
    }

    #[test]
    fn a_grant_passes_on_as_it_would_alone(grants in prop::collection::vec(any_grant(), 0..20), caller in any_rights()) {
        let caller = caller.computed();
        let mut passing_on = PassingOn::by(&caller);
        for grant in &grants {
            prop_assert_eq!(passing_on.covers(grant), may_pass_on(&caller, [grant]).is_ok());
        }
    }
}

/// An account with one role of `permissions` permissions, granted on each of `nodes` resources.
fn one_role(permissions: usize, nodes: usize) -> HeldGrants {
    let carried: PermissionSet = (0..permissions).map(|n| permission(&format!("noun{n}.read"))).collect();
    let role = Right::parse("role_00000000000000000000000007").unwrap();
    let grant = |n| HeldGrant {
        right: role.clone(),
        node: node(&format!("customers/c{n}")),
        role_permissions: carried.clone(),
    };
    HeldGrants::new((0..nodes).map(grant).collect())
}

/// An account with `roles` roles of `permissions` permissions each, no two the same, all on one node.
fn many_roles(roles: u128, permissions: usize) -> HeldGrants {
    let grant = |role: u128| HeldGrant {
        right: Right::Custom(crate::domain::values::ids::RoleId::from_u128(role)),
        node: Node::Org,
        role_permissions: (0..permissions).map(|n| permission(&format!("r{role}.p{n}"))).collect(),
    };
    HeldGrants::new((0..roles).map(grant).collect())
}

#[test]
fn a_check_costs_the_depth_of_the_path_however_many_grants_there_are() {
    let deep = node("customers/c7/x/y");
    let steps = |held: &HeldGrants, asked: &str| {
        steps::of(|| held.rights().cover(&permission(asked), &deep))
            + steps::of(|| held.rights().hold_somewhere(&permission(asked)))
    };
    let (few, many) = (one_role(100, 250), one_role(100, 2_000));
    for asked in ["noun5.read", "other.read"] {
        assert!(steps(&many, asked) <= steps(&few, asked), "{asked}");
        assert!(steps(&many, asked) < 20);
    }
    let (few, many) = (many_roles(20, 10), many_roles(1_000, 10));
    for asked in ["r5.p5", "other.read"] {
        assert!(steps(&many, asked) <= steps(&few, asked) && steps(&many, asked) < 20, "{asked}");
    }
}

#[test]
fn what_grants_expand_to_is_never_in_memory_and_is_compared_once() {
    // Four times as many grants of a role, ten times as many permissions in it: added, not multiplied.
    let (grants, permissions) = (one_role(100, 1_000).weight(), one_role(1_000, 250).weight());
    assert!(one_role(1_000, 1_000).weight() < grants + permissions);

    let (small, large) = (one_role(1_000, 250), one_role(1_000, 2_000));
    let work_of = |held: &HeldGrants, work: &dyn Fn(&Rights)| steps::of(|| work(held.rights()));
    let manager = many_roles(1, 1);
    let scopes: Vec<_> = (0..100).map(|n| permission(&format!("noun{n}.read"))).collect();
    type Work<'a> = (&'static str, &'a dyn Fn(&Rights));
    let works: [Work<'_>; 6] = [
        ("beyond itself", &|held| assert!(held.beyond(held).is_empty())),
        ("beyond another", &|held| assert!(held.beyond(manager.rights()).refuse(Reason::Conflict).is_err())),
        ("meet", &|held| assert!(held.meet(held).hold_somewhere(&permission("noun5.read")))),
        ("narrowed", &|held| {
            assert!(held.narrowed(&scopes, &[path("customers")]).hold_somewhere(&scopes[5]))
        }),
        ("listed", &|held| assert!(held.on_paths(&BTreeSet::new(), 3_072).is_none())),
        ("on the org", &|held| assert!(held.on_org(&BTreeSet::new()).is_empty())),
    ];
    for (name, work) in works {
        let (small, large) = (work_of(&small, work), work_of(&large, work));
        // 8 times as many grants: at most 8 times the steps, and none for each pair of a grant and a
        // permission, of which there are two millions.
        assert!(large <= 8 * small.max(1) && large < 60_000, "{name}: {small} {large}");
    }
    let mut passing_on = PassingOn::by(manager.rights());
    let steps = steps::of(|| large.iter().filter(|grant| passing_on.covers(grant)).count());
    assert!(steps < 60_000, "{steps}");
}

/// Different roles that carry the same permissions, granted in distinct pairs on nodes; before them a role
/// with these permissions on the whole org, unless there is none.
fn pairs_of_roles(roles: u128, permissions: usize, nodes: usize, on_org: bool) -> HeldGrants {
    let grant = |role: u128, on: Node| HeldGrant {
        right: Right::Custom(crate::domain::values::ids::RoleId::from_u128(role)),
        node: on,
        // Each a list of its own, as they are loaded.
        role_permissions: PermissionSet::default(),
    };
    let lists: Vec<PermissionSet> = (0..roles)
        .map(|_| (0..permissions).map(|n| permission(&format!("noun{n}.read"))).collect())
        .collect();
    let pairs = (0..roles).flat_map(|a| (a + 1..roles).map(move |b| (a, b)));
    let mut grants: Vec<HeldGrant> = pairs
        .take(nodes)
        .enumerate()
        .flat_map(|(n, (a, b))| [a, b].map(|role| grant(role, node(&format!("customers/c{n}")))))
        .collect();
    for grant in &mut grants {
        let Right::Custom(id) = grant.right else { continue };
        grant.role_permissions = lists[id.uuid().as_u128() as usize].clone();
    }
    if on_org {
        let all = (0..permissions).map(|n| permission(&format!("noun{n}.read"))).collect();
        grants.push(HeldGrant { role_permissions: all, ..grant(roles, Node::Org) });
    }
    HeldGrants::new(grants)
}

#[test]
fn many_different_roles_are_visited_once_and_not_in_each_combination() {
    let none = BTreeSet::new();
    // As many as an org may have. All is held on the whole org: nothing begins on any node.
    let held = pairs_of_roles(19, 1_000, 171, true);
    let steps = steps::of(|| assert_eq!(held.rights().on_paths(&none, 3_072), Some(BTreeMap::new())));
    // 171 combinations of 2 000 names are more.
    assert!(steps < 150_000, "{steps}");
    // More of them than that are not visited to the end, and are too much for a token.
    let held = pairs_of_roles(100, 1_000, 500, true);
    let steps = steps::of(|| assert_eq!(held.rights().on_paths(&none, 3_072), None));
    assert!(steps < 150_000, "{steps}");

    // An owner covers it, and so does an account with the same roles, loaded at another time.
    let held = pairs_of_roles(20, 1_000, 190, false);
    let (fewer, again) = (pairs_of_roles(20, 1_000, 60, false), pairs_of_roles(20, 1_000, 60, false));
    for (held, holder) in [(&held, &Rights::of_owner()), (&fewer, fewer.rights()), (&fewer, again.rights())] {
        let steps = steps::of(|| assert!(held.rights().beyond(holder).is_empty()));
        assert!(steps < 300_000, "{steps}");
    }
    // One that lacks all of it is refused at the first of it.
    let other = many_roles(1, 1);
    let mut refusal = None;
    let steps = steps::of(|| {
        refusal = held.rights().refuse_beyond(other.rights(), Reason::TargetExceedsCaller).err();
    });
    assert!(steps < 30_000, "{steps}");
    let parts = refusal.unwrap().into_parts();
    assert_eq!(parts.preconditions.len(), 100);
    assert!(parts.message.contains("and at least 997 more"), "{}", parts.message);

    // What cannot be compared within bounds is refused, and never taken for covered: here each name is held
    // on each node, by other lists on each.
    let held = pairs_of_roles(40, 1_000, 500, false);
    let holder = pairs_of_roles(40, 1_001, 500, false);
    let mut refusal = None;
    let steps = steps::of(|| {
        refusal = held.rights().refuse_beyond(holder.rights(), Reason::TargetExceedsCaller).err();
    });
    assert!(steps < 1_000_000, "{steps}");
    let refusal = refusal.unwrap();
    assert_eq!(refusal.reason(), Reason::TargetExceedsCaller);
    assert!(refusal.into_parts().message.contains("too many rights to compare"));
    assert!(!held.rights().beyond(holder.rights()).is_empty());
}
