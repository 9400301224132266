//! The claims of an access token that follow from what its credential holds. They are put together once, for
//! all tokens of all accounts that hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::Serialize;

use super::access_token::{Detail, GRANT_DETAIL, MAX_LEN};
use super::rights::Rights;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::error::Reason;

/// These claims, encoded, with the places of those that are read.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried {
    json: Box<str>,
    scope: Range<u32>,
    /// Where the list of details begins, up to the end; none without details.
    details: Option<u32>,
}

/// These claims, in the order in which they are written.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<&'a [Box<str>]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_details: Vec<Detail>,
}

impl Carried {
    /// The claims of a token with these rights, which names these roles.
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE`.
    pub(crate) fn new(rights: &Rights, roles: Option<&[Box<str>]>) -> Result<Self, Reason> {
        Ok(Self::written(listed(rights)?, roles))
    }

    /// The claims of a token with the permissions of applications among these rights.
    ///
    /// # Errors
    /// `SCOPE_TOO_WIDE`.
    pub(crate) fn of_applications(rights: &Rights) -> Result<Self, Reason> {
        let (mut scope, mut on_paths) = listed(rights)?;
        scope.retain(|permission| permission.is_application());
        for permissions in on_paths.values_mut() {
            permissions.retain(|permission| permission.is_application());
        }
        on_paths.retain(|_, permissions| !permissions.is_empty());
        Ok(Self::written((scope, on_paths), None))
    }

    fn written((scope, on_paths): Listed, roles: Option<&[Box<str>]>) -> Self {
        let scope = joined(&scope);
        let details = on_paths.iter().map(|(path, permissions)| Detail {
            kind: GRANT_DETAIL.to_owned(),
            identifier: path.to_string(),
            actions: permissions.iter().map(Permission::to_string).collect(),
        });
        let written = Written { scope: &scope, roles, authorization_details: details.collect() };
        let json = serde_json::to_string(&written).expect("strings and numbers are JSON");
        let members = json.strip_prefix('{').and_then(|json| json.strip_suffix('}')).expect("an object");
        // Names of permissions and roles are written without escapes.
        let after = |name: &str| members.find(name).map(|begin| (begin + name.len()) as u32);
        let begin = after("\"scope\":\"").unwrap_or_default();
        let details = after("\"authorization_details\":");
        Self { scope: begin..begin + scope.len() as u32, details, json: members.into() }
    }

    /// The permissions on the whole org: the claim `scope`.
    pub fn scope(&self) -> &str {
        &self.json[self.scope.start as usize..self.scope.end as usize]
    }

    /// The permissions on single resources: the claim `authorization_details`.
    pub fn details(&self) -> Vec<Detail> {
        let Some(begin) = self.details else { return Vec::new() };
        serde_json::from_str(&self.json[begin as usize..]).expect("it was written here")
    }

    /// The members of a JSON object, without its braces; empty where there are none.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.json.len()
    }
}

/// Permissions as a claim `scope` has them (RFC 8693, section 4.2).
fn joined(scope: &BTreeSet<Permission>) -> String {
    let length = scope.iter().map(|permission| permission.as_str().len() + 1).sum();
    let mut text = String::with_capacity(length);
    for permission in scope {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(permission.as_str());
    }
    text
}

type Listed = (BTreeSet<Permission>, BTreeMap<ResourcePath, BTreeSet<Permission>>);

/// The permissions that an access token lists: those on the whole org, and those on single resources.
///
/// Names that make the token too large are not put together: what fits is little, and the rights of an
/// account may be a thousand roles on a thousand resources. The signer measures the rest.
///
/// # Errors
/// `SCOPE_TOO_WIDE`.
fn listed(given: &Rights) -> Result<Listed, Reason> {
    // Three bytes of claims are four of the token.
    const ROOM: usize = MAX_LEN / 4 * 3;
    let named = BTreeSet::new();
    let scope = given.on_org(&named);
    let length = scope.iter().map(|permission| permission.as_str().len() + 1).sum::<usize>();
    let room = ROOM.checked_sub(length).ok_or(Reason::ScopeTooWide)?;
    let on_paths = given.on_paths(&named, room).ok_or(Reason::ScopeTooWide)?;
    Ok((scope, on_paths))
}

#[cfg(test)]
impl Carried {
    /// The rights that a verifier reads from these claims.
    pub(super) fn rights(&self) -> Rights {
        use crate::domain::values::resources::Node;

        let permission = |text: &str| Permission::parse(text).unwrap();
        let details = self.details();
        let on_org = self.scope().split_ascii_whitespace().map(|scope| (permission(scope), Node::Org));
        let on_paths = details.iter().flat_map(|detail| {
            let node = Node::Path(ResourcePath::parse(&detail.identifier).unwrap());
            detail.actions.iter().map(move |action| (permission(action), node.clone()))
        });
        Rights::of_pairs(on_org.chain(on_paths))
    }
}
