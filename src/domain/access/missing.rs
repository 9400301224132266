//! Rights that are missing, and the refusals that name them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Precondition, Reason, Result};

/// How many of them its message names.
const NAMED: usize = 3;

/// The rights that one holder has and another lacks: empty if the other one covers it.
///
/// Nodes on which the same rights are missing share the list of them.
#[derive(Debug, Default)]
pub struct MissingRights {
    on_nodes: Vec<(Node, Arc<NodeRights>)>,
    /// How many they are.
    total: usize,
    /// There may be more that were not searched for.
    is_cut: bool,
}

/// What is held on a node and not above it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NodeRights {
    /// Sorted, each once.
    pub permissions: Vec<Permission>,
    pub every_application: bool,
}

impl NodeRights {
    pub(super) fn is_empty(&self) -> bool {
        self.permissions.is_empty() && !self.every_application
    }

    fn len(&self) -> usize {
        self.permissions.len() + usize::from(self.every_application)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let every = self.every_application.then_some("every application permission");
        self.permissions.iter().map(Permission::as_str).chain(every)
    }
}

impl MissingRights {
    /// How many missing rights the details of a refusal list.
    pub(super) const LISTED: usize = 100;

    pub(super) fn add(&mut self, node: &Node, rights: &Arc<NodeRights>) {
        self.total += rights.len();
        self.on_nodes.push((node.clone(), rights.clone()));
    }

    /// There may be more: nothing is known to be covered.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.on_nodes.is_empty() && !self.is_cut
    }

    /// Whether all that is missing was found.
    pub fn are_all(&self) -> bool {
        !self.is_cut
    }

    /// The permissions, whatever they are missing on.
    pub fn permissions(&self) -> BTreeSet<String> {
        let mut lists: Vec<_> = self.on_nodes.iter().map(|(_, rights)| rights).collect();
        // Neighbours share their list most often.
        lists.dedup_by(|a, b| Arc::ptr_eq(a, b));
        lists.into_iter().flat_map(|rights| rights.names()).map(str::to_owned).collect()
    }

    /// Refuses if anything is missing.
    ///
    /// # Errors
    /// The given reason. Its message names the first 3, its details the first 100.
    pub fn refuse(&self, reason: Reason) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let each = || {
            let pairs =
                self.on_nodes.iter().flat_map(|(node, rights)| rights.names().map(move |name| (name, node)));
            pairs.map(|(name, node)| format!("{name} on {node}"))
        };
        let named: Vec<_> = each().take(NAMED).collect();
        let message = match (self.total.saturating_sub(NAMED), self.is_cut) {
            _ if named.is_empty() => format!("{}: too many rights to compare", reason.message()),
            (0, false) => format!("{}: missing {}", reason.message(), named.join(", ")),
            (more, false) => format!("{}: missing {} and {more} more", reason.message(), named.join(", ")),
            (more, true) => {
                format!("{}: missing {} and at least {more} more", reason.message(), named.join(", "))
            }
        };
        Err(Error::with_message(reason, message).with_preconditions(each().take(Self::LISTED).map(
            |subject| Precondition { kind: "PERMISSION", subject, description: "it is not held".into() },
        )))
    }
}

/// The error that names the one permission that a call needs.
pub(super) fn permission_missing(permission: &Permission, node: &Node) -> Error {
    Error::with_message(Reason::PermissionMissing, format!("the caller needs {permission} on {node}"))
        .with_metadata("permission", permission.as_str())
        .with_metadata("resource", node.to_string())
}
