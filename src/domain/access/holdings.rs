//! Grants, compiled: which sets of permissions are held on which nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::sets::{HeldSet, Sets, Wanted};
use super::steps;
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::resources::{Node, ResourcePath};

/// A grant as it is held: the right, the node, and the present permissions of a custom role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldGrant {
    pub right: Right,
    pub node: Node,
    /// The permissions of a custom role, shared by its grants; empty for any other right.
    pub role_permissions: PermissionSet,
}

impl HeldGrant {
    /// Whether it gives the permission on the node.
    pub fn gives(&self, permission: &Permission, node: &Node) -> bool {
        let carries = match &self.right {
            Right::System(role) => role.carries(permission),
            Right::Custom(_) => self.role_permissions.has(permission),
            Right::Permission(one) => one == permission,
        };
        carries && self.node.covers(node)
    }
}

/// Where each of some sets of permissions is held: on a node, and on everything below it.
///
/// What grants expand to, a thousand grants of a role of a thousand permissions, never exists in
/// memory. A set is the list of a role, shared by all its grants; a node has the numbers of the sets
/// that are held on it. So the size is that of the grants and the distinct roles added up, and a
/// permission is found on a node in the depth of its path, however many grants there are.
///
/// Copies share both parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holdings {
    sets: Arc<Sets>,
    /// The nodes beside the whole org, sorted, each with the numbers of its sets, sorted.
    nodes: Arc<[(Node, Box<[u32]>)]>,
}

/// The sets that are held on a node: those from above it, and those on the node itself.
pub(super) struct SetsAt<'a> {
    pub above: Vec<&'a [u32]>,
    pub here: &'a [u32],
}

impl Holdings {
    /// What grants give. Their order says nothing: the same grants are equal.
    pub(super) fn of_grants<'a>(grants: impl IntoIterator<Item = &'a HeldGrant>) -> Self {
        let mut grants: Vec<_> = grants.into_iter().collect();
        grants.sort_by(|one, other| (&one.right, &one.node).cmp(&(&other.right, &other.node)));
        let (mut sets, mut numbers) = (Vec::new(), HashMap::new());
        let mut nodes: BTreeMap<Node, Vec<u32>> = BTreeMap::new();
        for grant in grants {
            let set = match &grant.right {
                Right::System(SystemRole::Member) => continue,
                Right::System(role) => {
                    HeldSet { permissions: role.permission_set(), applications: role.carries_applications() }
                }
                Right::Custom(_) => {
                    HeldSet { permissions: grant.role_permissions.clone(), applications: false }
                }
                Right::Permission(one) => {
                    HeldSet { permissions: [one.clone()].into_iter().collect(), applications: false }
                }
            };
            // One role has one list, unless the roles were read at different times.
            let number =
                *numbers.entry((&grant.right, grant.role_permissions.as_ptr())).or_insert_with(|| {
                    sets.push(set);
                    sets.len() as u32 - 1
                });
            nodes.entry(grant.node.clone()).or_default().push(number);
        }
        Self::build(sets, nodes)
    }

    /// Exactly these permissions on exactly these nodes.
    pub(super) fn of_pairs(pairs: impl IntoIterator<Item = (Permission, Node)>) -> Self {
        let mut by_node: BTreeMap<Node, Vec<Permission>> = BTreeMap::new();
        pairs.into_iter().for_each(|(permission, node)| by_node.entry(node).or_default().push(permission));
        let (mut sets, mut numbers) = (Vec::new(), HashMap::new());
        let number = |(node, permissions): (Node, Vec<Permission>)| {
            let permissions: PermissionSet = permissions.into_iter().collect();
            let number = *numbers.entry(permissions.clone()).or_insert_with(|| {
                sets.push(HeldSet { permissions, applications: false });
                sets.len() as u32 - 1
            });
            (node, vec![number])
        };
        let nodes = by_node.into_iter().map(number).collect();
        Self::build(sets, nodes)
    }

    /// What a credential's lists allow; an empty list limits nothing.
    pub(super) fn within(scopes: &[Permission], resources: &[ResourcePath]) -> Self {
        let permissions = if scopes.is_empty() { Permission::OWN } else { scopes };
        let permissions = permissions.iter().cloned().collect();
        let nodes = match resources {
            [] => BTreeMap::from([(Node::Org, vec![0])]),
            paths => paths.iter().map(|path| (Node::Path(path.clone()), vec![0])).collect(),
        };
        Self::build(vec![HeldSet { permissions, applications: scopes.is_empty() }], nodes)
    }

    fn build(sets: Vec<HeldSet>, mut nodes: BTreeMap<Node, Vec<u32>>) -> Self {
        let sorted = |mut numbers: Vec<u32>| -> Box<[u32]> {
            numbers.sort_unstable();
            numbers.dedup();
            numbers.into()
        };
        let on_org = sorted(nodes.remove(&Node::Org).unwrap_or_default());
        let nodes = nodes.into_iter().map(|(node, numbers)| (node, sorted(numbers))).collect();
        Self { sets: Sets::new(sets, on_org).into(), nodes }
    }

    /// The same, within a credential's lists; an empty list limits nothing.
    pub(super) fn narrowed(&self, scopes: &[Permission], resources: &[ResourcePath]) -> Self {
        let kept = |(n, set): (u32, &HeldSet)| {
            if scopes.is_empty() {
                return set.clone();
            }
            let named = scopes.iter().filter(|scope| self.sets.has(n, Wanted::Permission(scope)));
            HeldSet { permissions: named.cloned().collect(), applications: false }
        };
        let mut sets: Vec<_> = self.sets.iter().map(kept).collect();
        if resources.is_empty() {
            let sets = Sets::new(sets, self.sets.on_org().into());
            return Self { sets: sets.into(), nodes: self.nodes.clone() };
        }
        let paths: BTreeMap<&str, &ResourcePath> =
            resources.iter().map(|path| (path.as_str(), path)).collect();
        let inside = |node: &Node| node.lineage().flatten().any(|path| paths.contains_key(path));
        let mut nodes: BTreeMap<Node, Vec<u32>> = BTreeMap::new();
        for (node, numbers) in self.nodes.iter().filter(|(node, _)| inside(node)) {
            nodes.insert(node.clone(), numbers.to_vec());
        }
        for path in paths.into_values() {
            let node = Node::Path(path.clone());
            let SetsAt { above, here } = self.at(&node);
            let numbers = above.into_iter().chain([here]).flatten().copied().collect();
            nodes.insert(node, numbers);
        }
        // A set that is held on no node any more must not be found.
        let mut numbers = HashMap::new();
        let mut order = Vec::new();
        for number in nodes.values_mut().flatten() {
            *number = *numbers.entry(*number).or_insert_with(|| {
                order.push(*number);
                order.len() as u32 - 1
            });
        }
        let held = order.into_iter().map(|n| std::mem::take(&mut sets[n as usize]));
        Self::build(held.collect(), nodes)
    }

    /// Whether it is held on the node or on one above it.
    pub(super) fn cover(&self, wanted: Wanted<'_>, node: &Node) -> bool {
        node.lineage().any(|path| self.any_has(self.numbers(path), wanted))
    }

    /// Whether it is held on any node.
    pub(super) fn hold_somewhere(&self, wanted: Wanted<'_>) -> bool {
        self.sets.have(wanted)
    }

    /// The nodes that have a set of their own.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.each().map(|(node, _)| node)
    }

    /// The nodes on which it is held, each by a set of its own.
    pub(super) fn nodes_with(&self, wanted: Wanted<'_>) -> impl Iterator<Item = &Node> {
        self.each().filter(move |(_, numbers)| self.any_has(numbers, wanted)).map(|(node, _)| node)
    }

    /// Each node that has sets of its own, with their numbers.
    fn each(&self) -> impl Iterator<Item = (&Node, &[u32])> {
        let on_org = Some((&Node::Org, self.sets.on_org())).filter(|(_, numbers)| !numbers.is_empty());
        on_org.into_iter().chain(self.nodes.iter().map(|(node, numbers)| (node, &**numbers)))
    }

    /// The sets that are held on the node.
    pub(super) fn at(&self, node: &Node) -> SetsAt<'_> {
        let mut above: Vec<_> = node.lineage().map(|path| self.numbers(path)).collect();
        let here = above.pop().unwrap_or_default();
        above.retain(|numbers| !numbers.is_empty());
        SetsAt { above, here }
    }

    /// Whether one of these sets has it.
    pub(super) fn any_has(&self, numbers: &[u32], wanted: Wanted<'_>) -> bool {
        self.sets.any_has(numbers, wanted)
    }

    /// Its sets, which others may share.
    pub(super) fn sets(&self) -> &Arc<Sets> {
        &self.sets
    }

    /// Its sets, to be replaced by equal ones.
    pub(super) fn sets_mut(&mut self) -> &mut Arc<Sets> {
        &mut self.sets
    }

    /// The numbers of the sets that the node itself has.
    fn numbers(&self, path: Option<&str>) -> &[u32] {
        steps::count(1);
        let Some(path) = path else { return self.sets.on_org() };
        let found =
            self.nodes.binary_search_by_key(&Some(path), |(node, _)| node.path().map(ResourcePath::as_str));
        found.map_or(&[], |at| &self.nodes[at].1)
    }

    /// The bytes that it takes, without its sets.
    pub(super) fn weight(&self) -> usize {
        steps::count(self.nodes.len());
        let path = |node: &Node| node.path().map_or(0, |path| path.as_str().len() + 2 * size_of::<usize>());
        let nodes =
            self.nodes.iter().map(|entry| size_of_val(entry) + size_of_val(&*entry.1) + path(&entry.0));
        size_of::<Self>() + nodes.sum::<usize>()
    }
}
