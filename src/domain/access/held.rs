//! What an account holds in an org, and what follows from it, worked out once.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use super::carried::Carried;
use super::rights::{HeldGrant, Rights};
use super::sets::Sets;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::permissions::{Permission, Right, SystemRole};
use crate::domain::values::resources::Node;
use crate::error::Reason;

/// What an account holds in an org, or a credential whose lists narrow that.
///
/// Nothing in it names the account, so that all accounts with the same grants can share one.
#[derive(Debug)]
pub struct Held {
    rights: Rights,
    /// The ids of the roles that are held on the whole org, sorted; none of a narrowed credential, which
    /// may do less than its roles say.
    roles: Option<Arc<Vec<Box<str>>>>,
    /// Of an account that owns the org or a node of it: the application permissions that roles and grants of the
    /// org name, where its list of permissions needs them.
    named_by_org: Option<Arc<BTreeSet<Permission>>>,
    /// The claims of its access tokens where nothing less is asked for; none where they would be too long.
    carried: OnceLock<Option<Arc<Carried>>>,
    /// Of what is compared: worked out once, and not under the lock of the cache.
    hash: u64,
    /// The bytes that it takes, once its claims are known.
    weight: OnceLock<usize>,
}

impl Held {
    /// What these grants give in an org that names these permissions.
    pub fn new(grants: Vec<HeldGrant>, named_by_org: BTreeSet<Permission>) -> Self {
        let named_by_org = owns_something(&grants).then(|| named_by_org.into());
        Self::of(Rights::of_grants(&grants), Some(roles(&grants)), named_by_org)
    }

    /// What a credential of the account holds whose lists narrow it.
    pub(super) fn narrowed(&self, lists: &Restrictions) -> Self {
        let rights = self.rights.narrowed(&lists.scopes, &lists.resources);
        Self::of(rights, None, self.named_by_org.clone())
    }

    fn of(
        rights: Rights,
        roles: Option<Arc<Vec<Box<str>>>>,
        named_by_org: Option<Arc<BTreeSet<Permission>>>,
    ) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = HASHER.hash_one((&rights, &roles, &named_by_org));
        let (carried, weight) = (OnceLock::new(), OnceLock::new());
        Self { rights, roles, named_by_org, carried, hash, weight }
    }

    /// The rights.
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The sets of permissions of its rights, which others may share.
    pub(crate) fn sets(&self) -> Option<&Arc<Sets>> {
        self.rights.sets()
    }

    /// The same, to be replaced by equal ones.
    pub(crate) fn sets_mut(&mut self) -> Option<&mut Arc<Sets>> {
        self.rights.sets_mut()
    }

    /// Whether the account owns the org or a node of it: its list of permissions depends on what the org
    /// names.
    pub fn owns_something(&self) -> bool {
        self.named_by_org.is_some()
    }

    /// The permissions of applications that an owner's list has.
    pub fn named_by_org(&self) -> &BTreeSet<Permission> {
        static NONE: BTreeSet<Permission> = BTreeSet::new();
        self.named_by_org.as_deref().unwrap_or(&NONE)
    }

    /// Works out the claims of access tokens, before it is kept: what it takes is known from then on.
    pub(crate) fn prepare(&self) {
        let _ = self.carried();
        self.weight.get_or_init(|| self.weigh());
    }

    /// The claims of an access token where nothing less is asked for.
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE`.
    pub(super) fn carried(&self) -> Result<&Arc<Carried>, Reason> {
        let roles = || self.roles.as_deref().map(Vec::as_slice);
        // There is no other error.
        let carried = || Carried::new(&self.rights, roles()).ok().map(Arc::new);
        self.carried.get_or_init(carried).as_ref().ok_or(Reason::ScopeTooWide)
    }

    /// The bytes that its [sets](Self::sets) take.
    pub(crate) fn sets_weight(&self) -> usize {
        self.sets().map_or(0, |sets| sets.weight())
    }

    /// The bytes that it takes, without its [sets](Self::sets).
    pub(crate) fn weight(&self) -> usize {
        self.weight.get().copied().unwrap_or_else(|| self.weigh())
    }

    fn weigh(&self) -> usize {
        let text = |text: &str| size_of::<Box<str>>() + text.len();
        let roles = self.roles.iter().filter(|roles| !Arc::ptr_eq(roles, &MEMBER));
        let roles = roles.map(|roles| roles.iter().map(|role| text(role)).sum::<usize>());
        let named = self
            .named_by_org()
            .iter()
            .map(|permission| size_of::<Permission>() + 2 * size_of::<usize>() + permission.as_str().len());
        let carried = self.carried.get().and_then(Option::as_ref).map_or(0, |carried| carried.weight());
        size_of::<Self>() + self.rights.weight() + roles.sum::<usize>() + named.sum::<usize>() + carried
    }
}

/// Equal where the same is held. The account that holds it does not count.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.roles == other.roles
            && self.named_by_org == other.named_by_org
            && self.rights == other.rights
    }
}

impl Eq for Held {}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Whether these grants make an account an owner of the org or of a node of it.
pub fn owns_something(grants: &[HeldGrant]) -> bool {
    grants.iter().any(|grant| grant.right == Right::System(SystemRole::Owner))
}

/// The roles of accounts that have none on the whole org: one list for all of them.
static MEMBER: LazyLock<Arc<Vec<Box<str>>>> =
    LazyLock::new(|| Arc::new(vec![SystemRole::Member.id().into()]));

/// The ids of the roles on the whole org; `member` always.
fn roles(grants: &[HeldGrant]) -> Arc<Vec<Box<str>>> {
    let on_org = grants.iter().filter(|grant| grant.node == Node::Org);
    let roles = on_org.filter_map(|grant| match &grant.right {
        Right::Permission(_) => None,
        role => Some(role.to_string()),
    });
    let all: BTreeSet<String> = roles.chain([SystemRole::Member.id().to_owned()]).collect();
    if all.len() == 1 {
        MEMBER.clone()
    } else {
        Arc::new(all.into_iter().map(String::into_boxed_str).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::access::credential::tests::held;
    use crate::domain::access::steps;

    #[test]
    fn roles_are_those_on_the_whole_org() {
        let held = held(&[("manager", "*"), ("owner", "a"), ("invoices.read", "*")]);
        assert_eq!(held.roles.unwrap().iter().map(|role| &**role).collect::<Vec<_>>(), ["manager", "member"]);
    }

    #[test]
    fn what_it_takes_is_worked_out_before_it_is_cached() {
        let paths: Vec<String> = (0..1_000).map(|n| format!("a/{n}")).collect();
        let held = held(&paths.iter().map(|path| ("invoices.read", path.as_str())).collect::<Vec<_>>());
        assert!(steps::of(|| assert!(held.weight() > 50_000)) >= 1_000);
        held.prepare();
        assert_eq!(steps::of(|| assert!(held.weight() > held.sets_weight())), 0);
    }

    #[test]
    fn the_order_of_grants_does_not_matter() {
        let grants = [("manager", "*"), ("owner", "a"), ("invoices.read", "*"), ("invoices.write", "a/b")];
        let all = held(&grants);
        for turn in 1..grants.len() {
            let mut turned = grants;
            turned.rotate_left(turn);
            assert_eq!(held(&turned), all);
        }
        for fewer in 0..grants.len() {
            let mut others = grants.to_vec();
            others.remove(fewer);
            assert_ne!(held(&others), all);
        }
    }
}
