//! Grants, compiled: which sets of permissions are held on which nodes.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::resources::{Node, ResourcePath};

/// From this many sets on, a permission is found in an index, and not in each set in turn.
const MANY_SETS: usize = 9;

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
#[derive(Debug)]
pub(super) struct Holdings {
    /// Each is held on some node.
    sets: Box<[HeldSet]>,
    /// Sorted by node, each with the numbers of its sets, sorted.
    nodes: Arc<[(Node, Box<[u32]>)]>,
    /// The numbers of the sets that carry every application permission.
    with_applications: Box<[u32]>,
    /// The numbers of the sets that name a permission, where there are many.
    index: Option<HashMap<Permission, Vec<u32>>>,
}

impl PartialEq for Holdings {
    fn eq(&self, other: &Self) -> bool {
        // The rest follows from these.
        self.sets == other.sets && self.nodes == other.nodes
    }
}

impl Eq for Holdings {}

impl Hash for Holdings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sets.hash(state);
        self.nodes.hash(state);
    }
}

/// What a grant carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HeldSet {
    permissions: PermissionSet,
    /// Also every application permission, named or not.
    applications: bool,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    Permission(&'a Permission),
    /// Every permission of applications, also those that nothing names yet.
    EveryApplication,
}

/// The sets that are held on a node: those from above it, and those on the node itself.
pub(super) struct SetsAt<'a> {
    pub above: Vec<&'a [u32]>,
    pub here: &'a [u32],
}

impl Holdings {
    /// What grants give.
    pub(super) fn of_grants<'a>(grants: impl IntoIterator<Item = &'a HeldGrant>) -> Self {
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

    fn build(sets: Vec<HeldSet>, nodes: BTreeMap<Node, Vec<u32>>) -> Self {
        let sorted = |(node, mut numbers): (Node, Vec<u32>)| {
            numbers.sort_unstable();
            numbers.dedup();
            (node, numbers.into())
        };
        Self::of_sets(sets, nodes.into_iter().map(sorted).collect())
    }

    fn of_sets(sets: Vec<HeldSet>, nodes: Arc<[(Node, Box<[u32]>)]>) -> Self {
        let numbered = || (0..).zip(&sets);
        let with_applications = numbered().filter(|(_, set)| set.applications).map(|(n, _)| n).collect();
        let index = (sets.len() >= MANY_SETS).then(|| {
            let mut index: HashMap<Permission, Vec<u32>> = HashMap::new();
            for (number, set) in numbered() {
                set.permissions.iter().for_each(|p| index.entry(p.clone()).or_default().push(number));
            }
            index
        });
        Self { sets: sets.into(), nodes, with_applications, index }
    }

    /// The same, within a credential's lists; an empty list limits nothing.
    pub(super) fn narrowed(&self, scopes: &[Permission], resources: &[ResourcePath]) -> Self {
        let kept = |(n, set): (u32, &HeldSet)| {
            if scopes.is_empty() {
                return set.clone();
            }
            let named = scopes.iter().filter(|scope| self.set_has(n, Wanted::Permission(scope)));
            HeldSet { permissions: named.cloned().collect(), applications: false }
        };
        let mut sets: Vec<_> = (0..).zip(&self.sets).map(kept).collect();
        if resources.is_empty() {
            return Self::of_sets(sets, self.nodes.clone());
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
        let empty = HeldSet { permissions: PermissionSet::default(), applications: false };
        let held = order.into_iter().map(|n| std::mem::replace(&mut sets[n as usize], empty.clone()));
        Self::build(held.collect(), nodes)
    }

    /// Whether it is held on the node or on one above it.
    pub(super) fn cover(&self, wanted: Wanted<'_>, node: &Node) -> bool {
        node.lineage().any(|path| self.any_has(self.numbers(path), wanted))
    }

    /// Whether it is held on any node.
    pub(super) fn hold_somewhere(&self, wanted: Wanted<'_>) -> bool {
        match (&self.index, wanted) {
            (Some(index), Wanted::Permission(permission)) => {
                let by_role = permission.is_application() && !self.with_applications.is_empty();
                by_role || index.contains_key(permission)
            }
            _ => (0..self.sets.len()).any(|n| self.set_has(n as u32, wanted)),
        }
    }

    /// The nodes that have a set of their own.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(|(node, _)| node)
    }

    /// The nodes on which it is held, each by a set of its own.
    pub(super) fn nodes_with(&self, wanted: Wanted<'_>) -> impl Iterator<Item = &Node> {
        let with = self.nodes.iter().filter(move |(_, numbers)| self.any_has(numbers, wanted));
        with.map(|(node, _)| node)
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
        if let (Some(index), Wanted::Permission(permission)) = (&self.index, wanted) {
            let with = index.get(permission).map_or(&[][..], Vec::as_slice);
            return meet(numbers, with)
                || (permission.is_application() && meet(numbers, &self.with_applications));
        }
        numbers.iter().any(|n| self.set_has(*n, wanted))
    }

    /// The permissions that the set names.
    pub(super) fn named(&self, number: u32) -> &PermissionSet {
        &self.sets[number as usize].permissions
    }

    fn set_has(&self, number: u32, wanted: Wanted<'_>) -> bool {
        work::count(1);
        let set = &self.sets[number as usize];
        match wanted {
            Wanted::EveryApplication => set.applications,
            Wanted::Permission(one) => (set.applications && one.is_application()) || set.permissions.has(one),
        }
    }

    /// The numbers of the sets that the node itself has.
    fn numbers(&self, path: Option<&str>) -> &[u32] {
        work::count(1);
        let found = self.nodes.binary_search_by(|(node, _)| node.path().map(ResourcePath::as_str).cmp(&path));
        found.map_or(&[], |at| &self.nodes[at].1)
    }

    /// The bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        let sets = self.sets.iter().map(|set| size_of_val(set) + set.permissions.weight());
        let path = |node: &Node| node.path().map_or(0, |path| path.as_str().len() + 2 * size_of::<usize>());
        let nodes =
            self.nodes.iter().map(|entry| size_of_val(entry) + size_of_val(&*entry.1) + path(&entry.0));
        let indexed = |numbers: &Vec<u32>| 64 + size_of_val(numbers.as_slice());
        let index = self.index.iter().flat_map(HashMap::values).map(indexed);
        size_of::<Self>() + sets.sum::<usize>() + nodes.sum::<usize>() + index.sum::<usize>()
    }
}

/// Whether two sorted lists have a number in common.
fn meet(a: &[u32], b: &[u32]) -> bool {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    work::count(few.len());
    few.iter().any(|number| many.binary_search(number).is_ok())
}

/// The steps that look-ups take, counted in tests.
pub(super) mod work {
    #[cfg(test)]
    thread_local! {
        static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    #[cfg_attr(not(test), expect(unused_variables, reason = "counted in tests alone"))]
    pub(crate) fn count(steps: usize) {
        #[cfg(test)]
        STEPS.with(|all| all.set(all.get() + steps));
    }

    /// The steps that the work takes on this thread.
    #[cfg(test)]
    pub(crate) fn of<T>(work: impl FnOnce() -> T) -> usize {
        STEPS.set(0);
        work();
        STEPS.get()
    }
}
