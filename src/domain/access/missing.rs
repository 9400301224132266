//! Rights that are missing, and the refusals that name them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Precondition, Reason, Result};

/// How many missing rights the details of a refusal list.
const LISTED: usize = 100;
/// How many of them its message names.
const NAMED: usize = 3;

/// The rights that one holder has and another lacks: empty if the other one covers it.
///
/// Nodes on which the same rights are missing share the list of them.
#[derive(Debug, Default)]
pub struct MissingRights(Vec<(Node, Arc<NodeRights>)>);

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
    pub(super) fn add(&mut self, node: &Node, rights: &Arc<NodeRights>) {
        self.0.push((node.clone(), rights.clone()));
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The permissions, whatever they are missing on.
    pub fn permissions(&self) -> BTreeSet<String> {
        let mut lists: Vec<_> = self.0.iter().map(|(_, rights)| rights).collect();
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
        let total: usize = self.0.iter().map(|(_, rights)| rights.len()).sum();
        let each = || {
            let pairs = self.0.iter().flat_map(|(node, rights)| rights.names().map(move |name| (name, node)));
            pairs.map(|(name, node)| format!("{name} on {node}"))
        };
        let named: Vec<_> = each().take(NAMED).collect();
        let more = if total > NAMED { format!(" and {} more", total - NAMED) } else { String::new() };
        let message = format!("{}: missing {}{more}", reason.message(), named.join(", "));
        Err(Error::with_message(reason, message).with_preconditions(each().take(LISTED).map(|subject| {
            Precondition { kind: "PERMISSION", subject, description: "it is not held".into() }
        })))
    }
}

/// The error that names the one permission that a call needs.
pub(super) fn permission_missing(permission: &Permission, node: &Node) -> Error {
    Error::with_message(Reason::PermissionMissing, format!("the caller needs {permission} on {node}"))
        .with_metadata("permission", permission.as_str())
        .with_metadata("resource", node.to_string())
}
