//! What an account or a credential may do, and who may pass it on.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::values::ids::{OrgId, SYSTEM_ORG};
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::{Node, Nodes, ResourcePath};
use crate::error::{Error, Precondition, Reason};

/// A grant as it is held: what, where, and what a custom role carries now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldGrant {
    pub right: Right,
    pub node: Node,
    /// The permissions of a custom role; empty for anything else.
    pub role_permissions: Vec<Permission>,
}

/// A set of rights: permissions, each on some nodes and all below them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    named: BTreeMap<Permission, Nodes>,
    /// Where every application permission is held, whether anything names it yet or not.
    applications: Nodes,
}

impl Rights {
    /// What a set of grants gives.
    pub fn of_grants<'a>(grants: impl IntoIterator<Item = &'a HeldGrant>) -> Self {
        let mut rights = Self::default();
        for grant in grants {
            match &grant.right {
                Right::System(role) => rights.add_role(*role, &grant.node),
                Right::Permission(permission) => rights.add(permission.clone(), grant.node.clone()),
                Right::Custom(_) => {
                    let carried = grant.role_permissions.iter();
                    carried.for_each(|permission| rights.add(permission.clone(), grant.node.clone()));
                }
            }
        }
        rights
    }

    /// What an owner of an org holds.
    pub fn of_owner() -> Self {
        let mut rights = Self::default();
        rights.add_role(SystemRole::Owner, &Node::Org);
        rights
    }

    /// Exactly these permissions on exactly these nodes.
    pub fn of_pairs(pairs: impl IntoIterator<Item = (Permission, Node)>) -> Self {
        let mut rights = Self::default();
        pairs.into_iter().for_each(|(permission, node)| rights.add(permission, node));
        rights
    }

    /// The rights that a credential's lists leave open; an empty list limits nothing.
    pub(super) fn within(scopes: &[Permission], resources: &[ResourcePath]) -> Self {
        let nodes: Nodes = if resources.is_empty() {
            [Node::Org].into_iter().collect()
        } else {
            resources.iter().cloned().map(Node::Path).collect()
        };
        let permissions = if scopes.is_empty() { Permission::OWN } else { scopes };
        Self {
            named: permissions.iter().map(|permission| (permission.clone(), nodes.clone())).collect(),
            applications: if scopes.is_empty() { nodes } else { Nodes::default() },
        }
    }

    fn add(&mut self, permission: Permission, node: Node) {
        self.named.entry(permission).or_default().insert(node);
    }

    fn add_role(&mut self, role: SystemRole, node: &Node) {
        role.permissions().for_each(|permission| self.add(permission.clone(), node.clone()));
        if role.carries_applications() {
            self.applications.insert(node.clone());
        }
    }

    /// Whether the permission is held on the node or above it.
    pub fn cover(&self, permission: &Permission, node: &Node) -> bool {
        let named = self.named.get(permission).is_some_and(|nodes| nodes.cover(node));
        named || (permission.is_application() && self.applications.cover(node))
    }

    /// Whether the permission is held anywhere.
    pub fn hold_somewhere(&self, permission: &Permission) -> bool {
        self.named.contains_key(permission) || (permission.is_application() && !self.applications.is_empty())
    }

    /// What either set holds.
    pub fn join(mut self, other: Rights) -> Rights {
        for (permission, nodes) in other.named {
            let held = self.named.entry(permission).or_default();
            nodes.iter().for_each(|node| held.insert(node.clone()));
        }
        other.applications.iter().for_each(|node| self.applications.insert(node.clone()));
        self
    }

    /// What both sets hold.
    pub fn meet(&self, other: &Rights) -> Rights {
        let mut met =
            Rights { applications: self.applications.meet(&other.applications), ..Rights::default() };
        for permission in self.named.keys().chain(other.named.keys()) {
            let nodes = self.nodes(permission).meet(&other.nodes(permission));
            // What `applications` says already is not said again.
            if nodes.iter().any(|node| !permission.is_application() || !met.applications.cover(node)) {
                met.named.insert(permission.clone(), nodes);
            }
        }
        met
    }

    /// What these rights, of a credential of the org `home`, are worth in this one.
    ///
    /// A credential acts in its own org alone, operators in any, as its owner. None where it
    /// cannot act at all.
    pub(super) fn in_org(&self, home: OrgId, org_id: OrgId) -> Option<Cow<'_, Rights>> {
        let is_operator = home == SYSTEM_ORG && self.cover(&Permission::PLATFORM_ACCOUNTS, &Node::Org);
        match (org_id == home, is_operator) {
            (true, false) => Some(Cow::Borrowed(self)),
            (true, true) => Some(Cow::Owned(self.clone().join(Rights::of_owner()))),
            (false, true) => Some(Cow::Owned(Rights::of_owner())),
            (false, false) => None,
        }
    }

    fn nodes(&self, permission: &Permission) -> Nodes {
        let named = self.named.get(permission).into_iter().flat_map(Nodes::iter);
        let applications = self.applications.iter().filter(|_| permission.is_application());
        named.chain(applications).cloned().collect()
    }

    /// What is left of these rights under a credential's lists.
    pub fn narrowed(&self, scopes: &[Permission], resources: &[ResourcePath]) -> Rights {
        self.meet(&Self::within(scopes, resources))
    }

    /// What this set holds and `holder` does not: empty when `holder` covers it.
    pub fn beyond(&self, holder: &Rights) -> Vec<Missing> {
        let named = self
            .named
            .iter()
            .flat_map(|(permission, nodes)| nodes.iter().map(move |node| (permission, node)));
        let missing = named.filter(|(permission, node)| !holder.cover(permission, node));
        let named = missing
            .map(|(permission, node)| Missing { permission: permission.to_string(), node: node.clone() });
        let applications = self.applications.iter().filter(|node| !holder.applications.cover(node));
        let every =
            |node: &Node| Missing { permission: "every application permission".into(), node: node.clone() };
        named.chain(applications.map(every)).collect()
    }

    /// The permissions held on the whole org, sorted. Where every application
    /// permission is held, those are listed that the org names.
    pub fn on_org(&self, named_by_org: &BTreeSet<Permission>) -> BTreeSet<Permission> {
        let named =
            self.named.iter().filter(|(_, nodes)| nodes.cover(&Node::Org)).map(|(permission, _)| permission);
        let everything = self.applications.cover(&Node::Org);
        let applications = named_by_org.iter().filter(|p| everything && p.is_application());
        named.chain(applications).cloned().collect()
    }

    /// The permissions held on single resources and not on the whole org, by path.
    pub fn on_paths(
        &self,
        named_by_org: &BTreeSet<Permission>,
    ) -> BTreeMap<ResourcePath, BTreeSet<Permission>> {
        let mut paths: BTreeMap<ResourcePath, BTreeSet<Permission>> = BTreeMap::new();
        let named = self.named.keys();
        let applications =
            named_by_org.iter().filter(|p| p.is_application() && !self.applications.is_empty());
        for permission in named.chain(applications) {
            for path in self.nodes(permission).iter().filter_map(Node::path) {
                paths.entry(path.clone()).or_default().insert(permission.clone());
            }
        }
        paths
    }
}

/// One right that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub permission: String,
    pub node: Node,
}

impl Missing {
    /// The error that names the one permission that a call needs.
    pub(super) fn permission(permission: &Permission, node: &Node) -> Error {
        Error::with_message(Reason::PermissionMissing, format!("the caller needs {permission} on {node}"))
            .with_metadata("permission", permission.as_str())
            .with_metadata("resource", node.to_string())
    }

    /// The error that lists what is missing; none when nothing is.
    pub fn refuse(reason: Reason, missing: &[Missing]) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let listed: Vec<_> =
            missing.iter().take(3).map(|m| format!("{} on {}", m.permission, m.node)).collect();
        let more = if missing.len() > 3 { format!(" and {} more", missing.len() - 3) } else { String::new() };
        let message = format!("{}: missing {}{more}", reason.message(), listed.join(", "));
        Err(Error::with_message(reason, message).with_preconditions(missing.iter().take(100).map(|m| {
            Precondition {
                kind: "PERMISSION",
                subject: format!("{} on {}", m.permission, m.node),
                description: "it is not held".into(),
            }
        })))
    }
}

/// Whether an account with these grants is an owner of the org: `owner` on the whole
/// of it, or in the system org `platform.accounts`, which is what an operator is,
/// by whatever grant.
pub fn is_owner(org_id: OrgId, grants: &[HeldGrant]) -> bool {
    let owning = owning_right(org_id);
    grants.iter().any(|grant| {
        let by_role = grant.role_permissions.iter().any(|permission| permission.as_str() == owning);
        grant.node == Node::Org && (by_role || grant.right.to_string() == owning)
    })
}

/// The right that makes an owner in this org, as the database keeps it.
pub fn owning_right(org_id: OrgId) -> &'static str {
    if org_id == SYSTEM_ORG { "platform.accounts" } else { "owner" }
}

/// Nobody passes on what they do not hold: every permission that the grants carry
/// must be held on the grant's resource or above it.
pub fn may_pass_on<'a>(
    caller: &Rights,
    grants: impl IntoIterator<Item = &'a HeldGrant>,
) -> Result<(), Error> {
    Missing::refuse(Reason::GrantExceedsCaller, &Rights::of_grants(grants).beyond(caller))
}

/// Nobody takes over what exceeds them: the caller must cover what the target can do.
pub fn may_take_over(caller: &Rights, target: &Rights) -> Result<(), Error> {
    Missing::refuse(Reason::TargetExceedsCaller, &target.beyond(caller))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(text: &str) -> Permission {
        Permission::parse(text).unwrap()
    }

    fn node(text: &str) -> Node {
        Node::parse(text).unwrap()
    }

    fn grant(right: &str, on: &str) -> HeldGrant {
        HeldGrant { right: Right::parse(right).unwrap(), node: node(on), role_permissions: Vec::new() }
    }

    fn rights(grants: &[(&str, &str)]) -> Rights {
        Rights::of_grants(&grants.iter().map(|(right, on)| grant(right, on)).collect::<Vec<_>>())
    }

    #[test]
    fn a_right_holds_on_its_node_and_below() {
        let held = rights(&[("invoices.read", "subscriptions/yuno")]);
        assert!(held.cover(&permission("invoices.read"), &node("subscriptions/yuno/perimeters/emea")));
        assert!(!held.cover(&permission("invoices.read"), &node("subscriptions/yuno2")));
        assert!(!held.cover(&permission("invoices.read"), &Node::Org));
        assert!(!held.cover(&permission("invoices.write"), &node("subscriptions/yuno")));
    }

    #[test]
    fn an_owner_holds_what_nothing_names_yet_and_nothing_of_the_platform() {
        let owner = Rights::of_owner();
        assert!(owner.cover(&permission("anything.new"), &node("a/b")));
        assert!(!owner.cover(&Permission::PLATFORM_ORGS, &Node::Org));
        assert_eq!(rights(&[("owner", "*")]), owner);
        assert!(may_pass_on(&owner, &[grant("owner", "*"), grant("member", "*"), grant("x.y", "a")]).is_ok());
        let refused = may_pass_on(&rights(&[("manager", "*")]), &[grant("owner", "*")]).unwrap_err();
        assert_eq!(refused.reason(), Reason::GrantExceedsCaller);
        assert_eq!(refused.into_parts().preconditions.len(), 3);
    }

    #[test]
    fn lists_narrow_and_never_widen() {
        let owner = Rights::of_owner();
        let narrow = owner.narrowed(&[permission("invoices.read"), Permission::ACCOUNTS_READ], &[]);
        assert!(narrow.cover(&permission("invoices.read"), &Node::Org));
        assert!(!narrow.cover(&permission("invoices.write"), &Node::Org));
        assert!(!narrow.cover(&Permission::ACCOUNTS_WRITE, &Node::Org));
        let on_a = owner.narrowed(&[], &[ResourcePath::parse("a").unwrap()]);
        assert!(on_a.cover(&permission("x.y"), &node("a/b")) && !on_a.cover(&permission("x.y"), &Node::Org));
        assert!(!on_a.cover(&Permission::PLATFORM_ORGS, &node("a")));
        assert_eq!(on_a.beyond(&owner), []);
    }

    #[test]
    fn lists_show_what_the_org_names() {
        let known = BTreeSet::from([permission("invoices.read")]);
        let owner = Rights::of_owner();
        assert!(owner.on_org(&known).contains(&permission("invoices.read")));
        assert_eq!(owner.on_org(&known).len(), SystemRole::Owner.permissions().count() + 1);
        let on_a = rights(&[("owner", "a"), ("invoices.write", "a/b")]);
        assert!(on_a.on_org(&known).is_empty());
        let paths = on_a.on_paths(&known);
        assert!(paths[&ResourcePath::parse("a").unwrap()].contains(&permission("invoices.read")));
        // Held on `a` already, as everything is.
        assert!(!paths.contains_key(&ResourcePath::parse("a/b").unwrap()));
    }

    fn any_rights() -> impl Strategy<Value = Rights> {
        let right = prop_oneof![
            Just("owner"),
            Just("manager"),
            Just("auditor"),
            Just("member"),
            Just("invoices.read"),
            Just("invoices.write"),
            Just("tokens.write"),
        ];
        let on = prop_oneof![Just("*"), Just("a"), Just("a/b"), Just("a/b/c"), Just("ab"), Just("d")];
        prop::collection::vec((right, on), 0..6).prop_map(|grants| rights(&grants))
    }

    proptest! {
        #[test]
        fn a_meeting_is_covered_by_both_and_keeps_what_both_cover(a in any_rights(), b in any_rights()) {
            let met = a.meet(&b);
            prop_assert!(met.beyond(&a).is_empty() && met.beyond(&b).is_empty());
            for permission in [permission("invoices.read"), permission("other.verb"), Permission::TOKENS_WRITE] {
                for on in ["*", "a", "a/b", "a/b/c", "ab", "d", "a/x"] {
                    let both = a.cover(&permission, &node(on)) && b.cover(&permission, &node(on));
                    prop_assert_eq!(met.cover(&permission, &node(on)), both);
                }
            }
        }

        #[test]
        fn covering_is_transitive_and_reflexive(a in any_rights(), b in any_rights(), c in any_rights()) {
            prop_assert!(a.beyond(&a).is_empty());
            if a.beyond(&b).is_empty() && b.beyond(&c).is_empty() {
                prop_assert!(a.beyond(&c).is_empty());
            }
        }
    }
}
