//! What a request names where ids are asked for: an id, or a name that is looked up.

use std::fmt;

use super::ids::{AccountId, OrgId, RoleId};
use super::names::{AccountName, Email, Invalid, Slug};
use super::permissions::{Permission, Right, SystemRole};

/// An org: its id or its slug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrgRef {
    Id(OrgId),
    Slug(Slug),
}

impl OrgRef {
    /// Parses either. A slug has no `_`, and so is never taken for an id.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = Invalid("must be an id of the form org_ and 26 characters, or a slug");
        match OrgId::parse(text) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => Slug::parse(text).map(Self::Slug).map_err(|_| wrong),
        }
    }
}

impl fmt::Display for OrgRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Slug(slug) => slug.fmt(f),
        }
    }
}

/// An account: its id or its username.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountRef {
    Id(AccountId),
    Username(Email),
}

impl AccountRef {
    /// Parses either. A username has an `@`, which no id has.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = Invalid("must be an id of the form acct_ and 26 characters, or a username");
        match AccountId::parse(text) {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) if text.contains('@') => Email::parse(text).map(Self::Username),
            Err(_) => Err(wrong),
        }
    }
}

impl fmt::Display for AccountRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Username(username) => username.fmt(f),
        }
    }
}

/// A role: a system role, or the id or the name of a custom one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleRef {
    System(SystemRole),
    Id(RoleId),
    Name(AccountName),
}

impl RoleRef {
    /// Parses any of them. System roles come first, ignoring case, as no custom role has their names.
    ///
    /// What looks like an id is one: no role has such a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = Invalid("must be owner, manager, auditor, member, a role_… id, or the name of a role");
        if let Some(role) = SystemRole::ALL.into_iter().find(|role| role.id().eq_ignore_ascii_case(text)) {
            return Ok(Self::System(role));
        }
        if looks_like_id(text) {
            return RoleId::parse(text).map(Self::Id).map_err(|_| wrong);
        }
        AccountName::parse(text).map(Self::Name).map_err(|_| wrong)
    }
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(role) => f.write_str(role.id()),
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Whether the name of a role would be taken for an id: of a role, or of another kind of thing.
pub fn looks_like_id(name: &str) -> bool {
    let Some((prefix, digits)) = name.split_once('_') else { return false };
    let is_prefix = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_uuid = digits.len() == 26 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    prefix.eq_ignore_ascii_case(RoleId::PREFIX) || (is_prefix && is_uuid)
}

/// What a grant gives, as a request names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RightRef {
    Role(RoleRef),
    Permission(Permission),
}

impl From<Right> for RightRef {
    fn from(right: Right) -> Self {
        match right {
            Right::System(role) => Self::Role(RoleRef::System(role)),
            Right::Custom(id) => Self::Role(RoleRef::Id(id)),
            Right::Permission(permission) => Self::Permission(permission),
        }
    }
}

impl fmt::Display for RightRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role(role) => role.fmt(f),
            Self::Permission(permission) => permission.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_told_apart() {
        const ID: &str = "00000000000000000000000007";
        assert_eq!(OrgRef::parse(&format!("org_{ID}")), Ok(OrgRef::Id(OrgId::from_u128(7))));
        assert!(matches!(OrgRef::parse("acme"), Ok(OrgRef::Slug(_))));
        assert_eq!(AccountRef::parse(&format!("acct_{ID}")), Ok(AccountRef::Id(AccountId::from_u128(7))));
        assert_eq!(AccountRef::parse("Bot@Acme.example").unwrap().to_string(), "bot@acme.example");
        assert_eq!(RoleRef::parse("Owner"), Ok(RoleRef::System(SystemRole::Owner)));
        assert_eq!(RoleRef::parse(&format!("role_{ID}")), Ok(RoleRef::Id(RoleId::from_u128(7))));
        assert_eq!(RoleRef::parse("Billing").unwrap().to_string(), "Billing");
        for wrong in ["", "org_", "org_x", "Acme", "a", "a_b"] {
            assert!(OrgRef::parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "bot", "acct_x", "@", "a@", "bot @acme.example"] {
            assert!(AccountRef::parse(wrong).is_err(), "{wrong:?}");
        }
        let foreign = format!("acct_{ID}");
        for wrong in ["", "role_x", "ROLE_", "a b", "invoices.read", "bot@acme.example", foreign.as_str()] {
            assert!(RoleRef::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
