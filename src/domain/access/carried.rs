//! The claims of an access token that follow from what its credential holds. They are put together once, for
//! all tokens of all accounts that hold the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::access_token::{Detail, GRANT_DETAIL, MAX_LEN};
use super::rights::Rights;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::error::Reason;

/// These claims, as the members of a JSON object. Names of permissions, roles and paths are written without escapes.
#[derive(Debug, PartialEq, Eq)]
pub struct Carried(Box<str>);

/// An element of `authorization_details`.
#[derive(Clone, Copy)]
pub struct CarriedDetail<'a> {
    pub kind: &'a str,
    pub identifier: &'a str,
    /// As they are written, without the brackets.
    actions: &'a str,
}

impl<'a> CarriedDetail<'a> {
    /// The permissions on the resource.
    pub fn actions(self) -> impl Iterator<Item = &'a str> + Clone {
        // What stands between every other pair of quotes is a comma.
        self.actions.split('"').skip(1).step_by(2)
    }
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
        Self(members.into())
    }

    /// The permissions on the whole org: the claim `scope`.
    pub fn scope(&self) -> &str {
        self.parts().0
    }

    /// The permissions on single resources: the claim `authorization_details`.
    ///
    /// It is read by its form, which is always that of [`Written`]: a parser of JSON took 3 % of an introspection.
    pub fn details(&self) -> impl Iterator<Item = CarriedDetail<'_>> {
        let mut rest = self.parts().1;
        std::iter::from_fn(move || {
            let (kind, after) = rest.strip_prefix("{\"type\":\"")?.split_once('"')?;
            let (identifier, after) = after.strip_prefix(",\"identifier\":\"")?.split_once('"')?;
            let (actions, after) = after.strip_prefix(",\"actions\":[")?.split_once("]}")?;
            rest = after.strip_prefix(',').unwrap_or(after);
            Some(CarriedDetail { kind, identifier, actions })
        })
    }

    /// The scope, and the list of details without its opening bracket.
    fn parts(&self) -> (&str, &str) {
        fn member(rest: &str) -> &str {
            rest.strip_prefix(',').unwrap_or(rest)
        }
        let scope = self.0.strip_prefix("\"scope\":\"").and_then(|rest| rest.split_once('"'));
        let (scope, rest) = scope.unwrap_or(("", &self.0));
        let roles = member(rest).strip_prefix("\"roles\":[").and_then(|rest| rest.split_once(']'));
        let rest = roles.map_or(rest, |(_, rest)| rest);
        (scope, member(rest).strip_prefix("\"authorization_details\":[").unwrap_or_default())
    }

    /// The members of a JSON object, without its braces; empty where there are none.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// The bytes that it takes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<usize>() + self.0.len()
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
        let on_org = self.scope().split_ascii_whitespace().map(|scope| (permission(scope), Node::Org));
        let on_paths = self.details().flat_map(|detail| {
            let node = Node::Path(ResourcePath::parse(detail.identifier).unwrap());
            detail.actions().map(move |action| (permission(action), node.clone()))
        });
        Rights::of_pairs(on_org.chain(on_paths))
    }
}

#[cfg(test)]
mod tests {
    use super::super::credential::tests::held;
    use super::*;

    #[test]
    fn what_is_written_is_read_by_its_form() {
        for grants in [
            &[][..],
            &[("invoices.read", "*")],
            &[("manager", "*"), ("invoices.read", "*"), ("invoices.write", "*")],
            &[("invoices.read", "a/b-1_c")],
            &[("manager", "a"), ("invoices.read", "*"), ("invoices.write", "b/c"), ("invoices.read", "d")],
        ] {
            let account = held(grants);
            for roles in [None, Some(&["manager".into(), "member".into()][..]), Some(&[])] {
                let carried = Carried::new(account.rights(), roles).unwrap();
                let json: serde_json::Value =
                    serde_json::from_str(&format!("{{{}}}", carried.json())).unwrap();
                assert_eq!(json["scope"].as_str().unwrap_or_default(), carried.scope());
                let read = carried.details().map(|detail| {
                    let actions: Vec<_> = detail.actions().collect();
                    serde_json::json!({"type": detail.kind, "identifier": detail.identifier, "actions": actions})
                });
                let written = json["authorization_details"].as_array().cloned().unwrap_or_default();
                assert_eq!(read.collect::<Vec<_>>(), written, "{}", carried.json());
            }
        }
    }
}
