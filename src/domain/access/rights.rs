//! The rights of an account or a credential, and who may pass them on.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{ControlFlow, Deref};
use std::sync::{Arc, LazyLock};

use super::alternatives::Alternatives;
pub use super::holdings::HeldGrant;
use super::holdings::{Holdings, SetsAt};
use super::missing::{MissingRights, NodeRights};
use super::sets::{Sets, Wanted};
use super::visited::Visited;
use crate::domain::values::ids::{OrgId, SYSTEM_ORG};
use crate::domain::values::permissions::{Permission, PermissionSet, Right, SystemRole};
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Reason};

/// The grants of an account in an org, with the rights that they give.
///
/// The rights are computed here and nowhere else: once, where the grants are loaded. What asks for
/// rights, an exchange, a check of access or of delegation, gets these.
#[derive(Clone, Debug, Default)]
pub struct HeldGrants {
    grants: Arc<[HeldGrant]>,
    rights: Rights,
}

impl HeldGrants {
    /// The grants as they were loaded.
    pub fn new(grants: Vec<HeldGrant>) -> Self {
        Self { rights: Rights::of_grants(&grants), grants: grants.into() }
    }

    /// The rights that they give.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The bytes that they take.
    pub fn weight(&self) -> usize {
        // The lists of roles are counted with the rights, which share them.
        let sets = self.rights.sets().map_or(0, |sets| sets.weight());
        size_of_val(&*self.grants) + self.rights.weight() + sets
    }
}

impl Deref for HeldGrants {
    type Target = [HeldGrant];

    fn deref(&self) -> &[HeldGrant] {
        &self.grants
    }
}

impl PartialEq for HeldGrants {
    fn eq(&self, other: &Self) -> bool {
        self.grants == other.grants
    }
}

impl Eq for HeldGrants {}

/// How many names are visited for the list of an access token. What fits into it is far less.
const MOST_LISTED: usize = 25_000;
/// How many names are visited to compare two sets of rights: 25 ms.
///
/// All roles of an org together name fewer, which an owner covers on nodes that are not within each other.
const MOST_COMPARED: usize = 100_000;

/// A set of rights: permissions, each on some nodes and everything below them.
///
/// It holds what one of its alternatives holds, and an alternative holds what all of its parts
/// hold. So rights that limit each other (an account's, a JWT's, an administrator's) are held
/// together, which costs the same however many they are; nothing is multiplied out.
///
/// Copies share their parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights(Alternatives);

/// The sets that are held on a node, for each part of each alternative.
type RightsAt<'a> = Vec<Vec<SetsAt<'a>>>;

impl From<Holdings> for Rights {
    fn from(holdings: Holdings) -> Self {
        Self(holdings.into())
    }
}

impl Rights {
    /// The sets of permissions that an account's grants give, which others may share.
    pub fn sets(&self) -> Option<&Arc<Sets>> {
        self.0.sets()
    }

    /// The same, to be replaced by equal ones.
    pub(super) fn sets_mut(&mut self) -> Option<&mut Arc<Sets>> {
        self.0.sets_mut()
    }

    /// The rights that a set of grants gives.
    pub(super) fn of_grants<'a>(grants: impl IntoIterator<Item = &'a HeldGrant>) -> Self {
        Holdings::of_grants(grants).into()
    }

    /// The rights of an owner of an org.
    pub fn of_owner() -> Self {
        static OWNER: LazyLock<Rights> = LazyLock::new(|| {
            let owner = HeldGrant {
                right: Right::System(SystemRole::Owner),
                node: Node::Org,
                role_permissions: PermissionSet::default(),
            };
            Rights::of_grants([&owner])
        });
        OWNER.clone()
    }

    /// Exactly these permissions on exactly these nodes.
    pub(super) fn of_pairs(pairs: impl IntoIterator<Item = (Permission, Node)>) -> Self {
        Holdings::of_pairs(pairs).into()
    }

    /// The rights that a credential's lists allow; an empty list limits nothing.
    pub(super) fn within(scopes: &[Permission], resources: &[ResourcePath]) -> Self {
        Holdings::within(scopes, resources).into()
    }

    /// Whether the permission is held on the node or on one above it.
    pub fn cover(&self, permission: &Permission, node: &Node) -> bool {
        let wanted = Wanted::Permission(permission);
        self.0.iter().any(|parts| parts.iter().all(|part| part.cover(wanted, node)))
    }

    /// Whether the permission is held on any node.
    pub fn hold_somewhere(&self, permission: &Permission) -> bool {
        let wanted = Wanted::Permission(permission);
        self.0.iter().any(|parts| match parts {
            [part] => part.hold_somewhere(wanted),
            parts if !parts.iter().all(|part| part.hold_somewhere(wanted)) => false,
            // Where all hold it, one of them begins to.
            parts => {
                let mut begins = parts.iter().flat_map(|part| part.nodes_with(wanted));
                begins.any(|node| parts.iter().all(|part| part.cover(wanted, node)))
            }
        })
    }

    /// The rights that are in either set.
    #[must_use]
    pub fn join(&self, other: &Rights) -> Rights {
        Self(self.0.iter().chain(other.0.iter()).map(Box::from).collect())
    }

    /// The rights that are in both sets.
    #[must_use]
    pub fn meet(&self, other: &Rights) -> Rights {
        let both = |a: &[Holdings], b: &[Holdings]| a.iter().chain(b).cloned().collect();
        Self(self.0.iter().flat_map(|a| other.0.iter().map(move |b| both(a, b))).collect())
    }

    /// The rights in the org `org_id` of a credential of the org `home` that has these rights.
    ///
    /// A credential acts only in its own org; an operator's acts in any org, with an owner's
    /// rights. None if it cannot act there at all.
    pub(super) fn in_org(&self, home: OrgId, org_id: OrgId) -> Option<Cow<'_, Rights>> {
        let is_operator = home == SYSTEM_ORG && self.cover(&Permission::PLATFORM_ACCOUNTS, &Node::Org);
        match (org_id == home, is_operator) {
            (true, false) => Some(Cow::Borrowed(self)),
            (true, true) => Some(Cow::Owned(self.join(&Rights::of_owner()))),
            (false, true) => Some(Cow::Owned(Rights::of_owner())),
            (false, false) => None,
        }
    }

    /// These rights, narrowed by a credential's lists.
    #[must_use]
    pub(super) fn narrowed(&self, scopes: &[Permission], resources: &[ResourcePath]) -> Rights {
        let narrow = |parts: &[Holdings]| {
            // What is in all parts is narrowed with one of them.
            let (first, others) = parts.split_first().expect("an alternative has a part");
            std::iter::once(first.narrowed(scopes, resources)).chain(others.iter().cloned()).collect()
        };
        Self(self.0.iter().map(narrow).collect())
    }

    /// The rights that this set holds and `holder` does not: empty if `holder` covers it.
    ///
    /// They are not all of them where too much would have to be compared
    /// ([`MissingRights::are_all`]).
    pub fn beyond(&self, holder: &Rights) -> MissingRights {
        self.beyond_until(holder, usize::MAX)
    }

    /// Refuses if this set holds more than `holder`.
    ///
    /// # Errors
    /// The given reason, with the first of what is missing. Also where too much would have to be
    /// compared.
    pub fn refuse_beyond(&self, holder: &Rights, reason: Reason) -> Result<(), Error> {
        self.beyond_until(holder, MissingRights::LISTED).refuse(reason)
    }

    /// What `holder` lacks, up to the node with which so many rights are found.
    fn beyond_until(&self, holder: &Rights, enough: usize) -> MissingRights {
        let mut missing = MissingRights::default();
        // An account is often compared with itself, or with another that has the same grants.
        if self.0.iter().all(|parts| holder.0.iter().any(|others| others == parts)) {
            return missing;
        }
        let mut visited = Visited::at_most(MOST_COMPARED);
        let seen = self.each_node(Some(holder), &BTreeSet::new(), &mut visited, |node, rights| {
            if missing.total() >= enough {
                missing.cut();
                return ControlFlow::Break(());
            }
            missing.add(node, rights);
            ControlFlow::Continue(())
        });
        if seen.is_none() {
            missing.cut();
        }
        missing
    }

    /// The permissions held on the whole org, sorted.
    ///
    /// If every application permission is held, those that the org names are listed.
    pub fn on_org(&self, named_by_org: &BTreeSet<Permission>) -> BTreeSet<Permission> {
        // One node, and no permission of an org's roles twice.
        let mut visited = Visited::at_most(usize::MAX);
        let rights = self.begin_at(&self.at(&Node::Org), None, named_by_org, &mut visited);
        rights.map_or_else(BTreeSet::new, |rights| rights.permissions.into_iter().collect())
    }

    /// The permissions held on single resources and not on the whole org, by path.
    ///
    /// None once the names of paths and permissions take more than `most` bytes, or too many names
    /// are held above: it is not worked out any further.
    pub fn on_paths(
        &self,
        named_by_org: &BTreeSet<Permission>,
        most: usize,
    ) -> Option<BTreeMap<ResourcePath, BTreeSet<Permission>>> {
        let (mut paths, mut length) = (BTreeMap::new(), 0);
        let mut visited = Visited::at_most(MOST_LISTED);
        let seen = self.each_node(None, named_by_org, &mut visited, |node, rights| {
            let (Node::Path(path), false) = (node, rights.permissions.is_empty()) else {
                return ControlFlow::Continue(());
            };
            length += path.as_str().len();
            length += rights.permissions.iter().map(|permission| permission.as_str().len()).sum::<usize>();
            if length > most {
                return ControlFlow::Break(());
            }
            paths.insert(path.clone(), rights.permissions.iter().cloned().collect());
            ControlFlow::Continue(())
        });
        seen.filter(|()| length <= most).map(|()| paths)
    }

    /// The bytes that they take, without their [sets](Self::sets).
    pub(super) fn weight(&self) -> usize {
        self.0.weight()
    }

    /// Visits each node on which something is held that is not held above it, nor by `holder`.
    ///
    /// Of a thousand nodes on which the same roles are held, what they carry is worked out once. None
    /// where too many names would have to be visited.
    fn each_node(
        &self,
        holder: Option<&Rights>,
        named_by_org: &BTreeSet<Permission>,
        visited: &mut Visited,
        mut visit: impl FnMut(&Node, &Arc<NodeRights>) -> ControlFlow<()>,
    ) -> Option<()> {
        let nodes: BTreeSet<&Node> = self.0.parts().flat_map(|part| part.nodes()).collect();
        let mut known: HashMap<Vec<u32>, Arc<NodeRights>> = HashMap::new();
        for node in nodes {
            let own = self.at(node);
            let others = holder.map(|holder| (holder, holder.at(node)));
            let mut key = Vec::new();
            number(&own, true, &mut key);
            others.iter().for_each(|(_, at)| number(at, true, &mut key));
            let rights = match known.entry(key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let others = others.as_ref().map(|(holder, at)| (*holder, at));
                    unknown.insert(self.begin_at(&own, others, named_by_org, visited)?.into())
                }
            };
            if !rights.is_empty() && visit(node, rights).is_break() {
                break;
            }
        }
        Some(())
    }

    /// What is held by the sets of a node, and neither by those above it nor by the other holder. None
    /// where too many names would have to be visited.
    fn begin_at(
        &self,
        own: &RightsAt<'_>,
        other: Option<(&Rights, &RightsAt<'_>)>,
        named_by_org: &BTreeSet<Permission>,
        visited: &mut Visited,
    ) -> Option<NodeRights> {
        let is_held = |wanted: Wanted<'_>| {
            self.hold_at(own, wanted, false)
                || other.is_some_and(|(holder, at)| holder.hold_at(at, wanted, true))
        };
        let begins = |wanted: Wanted<'_>| self.hold_at(own, wanted, true) && !is_held(wanted);
        let is_named = |permission: &Permission| is_held(Wanted::Permission(permission));
        let mut key = Vec::new();
        number(own, false, &mut key);
        other.iter().for_each(|(_, at)| number(at, true, &mut key));
        let held = visited.held(key);
        let others = other.map(|(holder, at)| (&holder.0, &**at));
        let mut named = BTreeSet::new();
        let mut with_applications = false;
        for (parts, sets) in self.0.iter().zip(own) {
            let pairs = || parts.iter().zip(sets);
            for (part, sets) in pairs() {
                visited.name(part, sets.here, held, is_named, others, &mut named)?;
            }
            if pairs().any(|(part, sets)| part.any_has(sets.here, Wanted::EveryApplication)) {
                with_applications = true;
                // What another part names above may be held from here on.
                for (part, sets) in pairs() {
                    for numbers in &sets.above {
                        visited.name(part, numbers, held, is_named, others, &mut named)?;
                    }
                }
            }
        }
        if with_applications && begins(Wanted::EveryApplication) {
            visited.count(named_by_org.len())?;
            named.extend(named_by_org.iter().filter(|permission| permission.is_application()));
        }
        let permissions = named.into_iter().filter(|permission| begins(Wanted::Permission(permission)));
        Some(NodeRights {
            permissions: permissions.cloned().collect(),
            every_application: with_applications && begins(Wanted::EveryApplication),
        })
    }

    /// The sets that are held on the node.
    fn at(&self, node: &Node) -> RightsAt<'_> {
        self.0.iter().map(|parts| parts.iter().map(|part| part.at(node)).collect()).collect()
    }

    /// Whether these sets of it hold what is wanted; without `here`, those from above the node.
    fn hold_at(&self, at: &RightsAt<'_>, wanted: Wanted<'_>, here: bool) -> bool {
        let has = |(part, sets): (&Holdings, &SetsAt<'_>)| {
            sets.above.iter().any(|numbers| part.any_has(numbers, wanted))
                || (here && part.any_has(sets.here, wanted))
        };
        self.0.iter().zip(at).any(|(parts, sets)| parts.iter().zip(sets).all(has))
    }
}

/// Writes which sets these are, so that equal nodes are found; without `here`, those from above.
fn number(at: &RightsAt<'_>, here: bool, key: &mut Vec<u32>) {
    for sets in at.iter().flatten() {
        for numbers in sets.above.iter().chain(here.then_some(&sets.here)) {
            key.push(numbers.len() as u32);
            key.extend_from_slice(numbers);
        }
        key.push(u32::MAX);
    }
}

/// Whether single grants are covered by the rights of a caller.
///
/// Of many grants of a role, what it carries is compared once for nodes on which the caller holds the
/// same.
pub(super) struct PassingOn<'a> {
    caller: &'a Rights,
    known: HashMap<(Right, *const Permission, Vec<u32>), bool>,
}

impl<'a> PassingOn<'a> {
    pub(super) fn by(caller: &'a Rights) -> Self {
        Self { caller, known: HashMap::new() }
    }

    /// Whether the caller covers this grant.
    pub(super) fn covers(&mut self, grant: &HeldGrant) -> bool {
        let mut key = Vec::new();
        number(&self.caller.at(&grant.node), true, &mut key);
        let key = (grant.right.clone(), grant.role_permissions.as_ptr(), key);
        *self.known.entry(key).or_insert_with(|| may_pass_on(self.caller, [grant]).is_ok())
    }
}

/// Whether an account with these grants is an owner of the org.
///
/// An owner has `owner` on the whole org; in the system org it has `platform.accounts`, by whatever
/// grant, which makes it an operator.
pub fn is_owner(org_id: OrgId, grants: &[HeldGrant]) -> bool {
    grants.iter().filter(|grant| grant.node == Node::Org).any(|grant| match &grant.right {
        Right::System(role) => *role == SystemRole::Owner && org_id != SYSTEM_ORG,
        Right::Permission(one) => *one == Permission::PLATFORM_ACCOUNTS && org_id == SYSTEM_ORG,
        Right::Custom(_) => {
            org_id == SYSTEM_ORG && grant.role_permissions.has(&Permission::PLATFORM_ACCOUNTS)
        }
    })
}

/// The right that makes an account an owner of this org, as the database stores it.
pub fn owning_right(org_id: OrgId) -> &'static str {
    if org_id == SYSTEM_ORG { "platform.accounts" } else { "owner" }
}

/// Refuses grants that carry more than the caller holds.
///
/// An account passes on only what it holds: every permission that the grants carry must be held on
/// the grant's resource or above it.
///
/// # Errors
/// `GRANT_EXCEEDS_CALLER`, with what the caller lacks.
pub fn may_pass_on<'a>(
    caller: &Rights,
    grants: impl IntoIterator<Item = &'a HeldGrant>,
) -> Result<(), Error> {
    Rights::of_grants(grants).refuse_beyond(caller, Reason::GrantExceedsCaller)
}

/// Refuses to take over an account that can do more: the caller must cover the target's rights.
///
/// # Errors
/// `TARGET_EXCEEDS_CALLER`, with what the caller lacks.
pub fn may_take_over(caller: &Rights, target: &Rights) -> Result<(), Error> {
    target.refuse_beyond(caller, Reason::TargetExceedsCaller)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(text: &str) -> Permission {
        Permission::parse(text).unwrap()
    }

    fn node(text: &str) -> Node {
        Node::parse(text).unwrap()
    }

    fn grant(right: &str, on: &str) -> HeldGrant {
        HeldGrant {
            right: Right::parse(right).unwrap(),
            node: node(on),
            role_permissions: PermissionSet::default(),
        }
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
        assert_eq!(refused.into_parts().preconditions.len(), 4);
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
        assert!(on_a.beyond(&owner).is_empty());
    }

    #[test]
    fn lists_show_what_the_org_names() {
        let known = BTreeSet::from([permission("invoices.read")]);
        let owner = Rights::of_owner();
        assert!(owner.on_org(&known).contains(&permission("invoices.read")));
        assert_eq!(owner.on_org(&known).len(), SystemRole::Owner.permissions().count() + 1);
        let on_a = rights(&[("owner", "a"), ("invoices.write", "a/b")]);
        assert!(on_a.on_org(&known).is_empty());
        let paths = on_a.on_paths(&known, usize::MAX).unwrap();
        assert!(paths[&ResourcePath::parse("a").unwrap()].contains(&permission("invoices.read")));
        // Already held on `a`, as everything is.
        assert!(!paths.contains_key(&ResourcePath::parse("a/b").unwrap()));
    }
}
