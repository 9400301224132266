//! Permissions and the system roles.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use super::ids::RoleId;
use super::names::Invalid;

/// One permission, `noun.verb`: one of Countersign's own, or one of an application.
///
/// Copies share its string.
#[derive(Clone)]
pub struct Permission(Name);

#[derive(Clone)]
enum Name {
    Own(&'static str),
    Application(Arc<str>),
}

macro_rules! own_permissions {
    ($($constant:ident $name:literal $description:literal;)*) => {
        impl Permission {
            $(#[doc = concat!("`", $name, "`")] pub const $constant: Permission = Permission(Name::Own($name));)*

            /// All of Countersign's own permissions, including those of the platform.
            pub const OWN: &[Permission] = &[$(Permission::$constant),*];

            /// What each of [`OWN`](Self::OWN) allows, in a sentence, in the same order.
            pub const DESCRIPTIONS: &[&str] = &[$($description),*];
        }
    };
}

own_permissions! {
    ACCOUNTS_IMPERSONATE "accounts.impersonate" "Act as a service account of the org, for at most 15 minutes.";
    ACCOUNTS_READ "accounts.read" "Read accounts, members and grants, and what could be granted.";
    ACCOUNTS_WRITE "accounts.write" "Create, change, deactivate, delete and clone accounts; grant and revoke access; remove guests.";
    EVENTS_READ "events.read" "Read the org's audit log.";
    FEDERATION_READ "federation.read" "Read issuers, federation rules, and what was presented to them.";
    FEDERATION_WRITE "federation.write" "Create, change and delete issuers and federation rules.";
    INVITATIONS_READ "invitations.read" "Read invitations.";
    INVITATIONS_WRITE "invitations.write" "Send, resend and revoke invitations.";
    ORGS_READ "orgs.read" "Read the org, which every member may do without it.";
    ORGS_WRITE "orgs.write" "Change the org's name and its token policy.";
    PLATFORM_ACCOUNTS "platform.accounts" "Act as an owner in every org, and convert accounts.";
    PLATFORM_KEYS "platform.keys" "List, rotate and revoke signing keys.";
    PLATFORM_ORGS "platform.orgs" "Create, suspend, resume, delete and undelete orgs.";
    PLATFORM_VERIFY "platform.verify" "Introspect tokens of every org.";
    RESOURCES_READ "resources.read" "Read the org's resources.";
    RESOURCES_WRITE "resources.write" "Create, change and delete the org's resources.";
    ROLES_READ "roles.read" "Read roles.";
    ROLES_WRITE "roles.write" "Create, change and delete the org's custom roles.";
    TOKENS_INTROSPECT "tokens.introspect" "Introspect tokens of the org.";
    TOKENS_READ "tokens.read" "Read and explain tokens of other accounts.";
    TOKENS_WRITE "tokens.write" "Create, change, rotate, reassign and revoke tokens of other accounts.";
}

impl Permission {
    /// Validates a permission: `[a-z][a-z0-9_]{0,30}\.[a-z][a-z0-9_]{0,30}`.
    ///
    /// The nouns of Countersign's own permissions are reserved: with one of them only the existing
    /// permissions are accepted.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Some(own) = Self::OWN.iter().find(|own| own.as_str() == text) {
            return Ok(own.clone());
        }
        let (noun, verb) = text.split_once('.').unwrap_or(("", ""));
        if !is_word(noun) || !is_word(verb) {
            return Err(Invalid(
                "must be a permission such as invoices.read: [a-z][a-z0-9_]{0,30} twice, joined by `.`",
            ));
        }
        if Self::OWN.iter().any(|own| own.noun() == noun) {
            return Err(Invalid("is not a permission: its noun is reserved for Countersign"));
        }
        Ok(Self(Name::Application(text.into())))
    }

    fn noun(&self) -> &str {
        self.as_str().split_once('.').map_or("", |(noun, _)| noun)
    }

    /// The checked string.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Own(name) => name,
            Name::Application(name) => name,
        }
    }

    /// Whether it is an application's, and not one of Countersign's own.
    pub fn is_application(&self) -> bool {
        matches!(self.0, Name::Application(_))
    }

    /// Whether it is a permission of the platform, which is held only in the system org.
    pub fn is_platform(&self) -> bool {
        self.noun() == "platform"
    }
}

fn is_word(word: &str) -> bool {
    (1..=31).contains(&word.len())
        && word.as_bytes()[0].is_ascii_lowercase()
        && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl PartialEq for Permission {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Permission {}

impl PartialOrd for Permission {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Permission {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Permission {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Permissions, sorted, each once.
///
/// Copies share the list: a role that is granted on a thousand resources is one list in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PermissionSet(Arc<[Permission]>);

impl PermissionSet {
    /// Whether it holds the permission.
    pub fn has(&self, permission: &Permission) -> bool {
        self.0.binary_search(permission).is_ok()
    }

    /// Whether both are one list in memory, which is cheaper to find out than whether they are equal.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The bytes that the list takes, with the names of permissions of applications.
    pub fn weight(&self) -> usize {
        let names = self.0.iter().filter(|permission| permission.is_application());
        // An `Arc` counts its owners beside what it holds.
        let names = names.map(|permission| permission.as_str().len() + 2 * size_of::<usize>());
        size_of_val(&*self.0) + 2 * size_of::<usize>() + names.sum::<usize>()
    }
}

impl FromIterator<Permission> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut all: Vec<_> = permissions.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

impl Deref for PermissionSet {
    type Target = [Permission];

    fn deref(&self) -> &[Permission] {
        &self.0
    }
}

/// The roles that every org has and that cannot be changed. The id of each is its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SystemRole {
    /// Everything in its org, including application permissions; never `platform.*`.
    Owner,
    /// What an owner has, without `orgs.write`, `accounts.impersonate`, `federation.write` and application
    /// permissions.
    Manager,
    /// Every `.read` of Countersign's own.
    Auditor,
    /// The account itself and the org's name; every membership includes it without a grant.
    Member,
}

impl SystemRole {
    pub const ALL: [SystemRole; 4] = [Self::Owner, Self::Manager, Self::Auditor, Self::Member];

    /// Its id, here and in the `roles` of a JWT.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Manager => "manager",
            Self::Auditor => "auditor",
            Self::Member => "member",
        }
    }

    /// The permissions of Countersign's own that it includes.
    pub fn permissions(self) -> impl Iterator<Item = &'static Permission> {
        Permission::OWN.iter().filter(move |permission| match self {
            Self::Owner => !permission.is_platform(),
            Self::Manager => {
                !permission.is_platform()
                    && **permission != Permission::ORGS_WRITE
                    && **permission != Permission::ACCOUNTS_IMPERSONATE
                    && **permission != Permission::FEDERATION_WRITE
            }
            Self::Auditor => permission.as_str().ends_with(".read"),
            Self::Member => false,
        })
    }

    /// The same as a set, which all holders of the role share.
    pub fn permission_set(self) -> PermissionSet {
        static SETS: LazyLock<[PermissionSet; 4]> =
            LazyLock::new(|| SystemRole::ALL.map(|role| role.permissions().cloned().collect()));
        SETS[self as usize].clone()
    }

    /// What it carries, in a sentence.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Owner => "Everything in the org, including every application permission; never platform.*.",
            Self::Manager => {
                "What owner carries, without orgs.write, accounts.impersonate, federation.write and application \
                 permissions."
            }
            Self::Auditor => "Every .read permission of Countersign's own.",
            Self::Member => "Oneself and the org's name. Every account has it in its org, without a grant.",
        }
    }

    /// Whether it carries this permission.
    pub fn carries(self, permission: &Permission) -> bool {
        match permission.is_application() {
            true => self.carries_applications(),
            false => self.permissions().any(|carried| carried == permission),
        }
    }

    /// Whether it includes every application permission, named yet or not.
    pub fn carries_applications(self) -> bool {
        self == Self::Owner
    }
}

/// What a grant gives: a role or one permission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    System(SystemRole),
    Custom(RoleId),
    Permission(Permission),
}

impl Right {
    /// Parses the id of a role: a system role's name, or `role_…`.
    pub fn parse_role(text: &str) -> Result<Self, Invalid> {
        if let Some(role) = SystemRole::ALL.into_iter().find(|role| role.id() == text) {
            return Ok(Self::System(role));
        }
        let wrong = Invalid("must be owner, manager, auditor, member, or a role_… id");
        RoleId::parse(text).map(Self::Custom).map_err(|_| wrong)
    }

    /// Parses either kind from the text form that the database stores.
    ///
    /// Permissions contain a dot, role ids do not.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.contains('.') {
            Permission::parse(text).map(Self::Permission)
        } else {
            Self::parse_role(text)
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(role) => f.write_str(role.id()),
            Self::Custom(id) => id.fmt(f),
            Self::Permission(permission) => permission.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_checked() {
        for good in [
            "invoices.read",
            "a.b",
            "x1_.y_2",
            "tokens.write",
            "platform.keys",
            &format!("{0}.{0}", "a".repeat(31)),
        ] {
            assert_eq!(Permission::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "a",
            "a.",
            ".b",
            "a.b.c",
            "A.b",
            "a.B",
            "1a.b",
            "a b.c",
            "é.b",
            "*",
            "invoices.*",
            "tokens.reed",
            "platform.all",
            "federation.delete",
            "accounts.delete",
            &format!("{}.a", "a".repeat(32)),
        ] {
            assert!(Permission::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn system_roles_carry_what_the_model_says() {
        let names = |role: SystemRole| role.permissions().map(|p| p.as_str()).collect::<Vec<_>>();
        assert_eq!(names(SystemRole::Owner).len(), Permission::OWN.len() - 4);
        assert_eq!(names(SystemRole::Manager).len(), names(SystemRole::Owner).len() - 3);
        assert_eq!(
            names(SystemRole::Auditor),
            [
                "accounts.read",
                "events.read",
                "federation.read",
                "invitations.read",
                "orgs.read",
                "resources.read",
                "roles.read",
                "tokens.read"
            ]
        );
        assert!(names(SystemRole::Member).is_empty());
    }

    #[test]
    fn rights_round_trip_through_their_text() {
        for text in ["owner", "member", "invoices.read", "tokens.write", "role_00000000000000000000000007"] {
            assert_eq!(Right::parse(text).unwrap().to_string(), text);
        }
        assert!(Right::parse("root").is_err() && Right::parse_role("invoices.read").is_err());
    }
}
