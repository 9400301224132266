//! What is behind a token: everything that an exchange, an introspection and an
//! authenticated call need, as it was read together.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::ids::{AccountId, OrgId, TokenId};
use super::names::Audience;
use super::permissions::{Permission, Right, SystemRole};
use super::resources::{Node, ResourcePath};
use super::rights::{HeldGrant, Rights};
use crate::error::Reason;

/// What an account is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    User,
    ServiceAccount,
}

impl AccountKind {
    pub const ALL: [AccountKind; 2] = [Self::User, Self::ServiceAccount];

    /// Its name in the database, in a JWT and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "USER",
            Self::ServiceAccount => "SERVICE_ACCOUNT",
        }
    }

    /// The reverse of [`name`](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a token was limited to when it was made. Empty lists limit nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    pub scopes: Vec<Permission>,
    pub resources: Vec<ResourcePath>,
    pub audiences: Vec<Audience>,
}

impl Restrictions {
    /// Whether the rights of the account are narrowed.
    pub fn narrow_rights(&self) -> bool {
        !self.scopes.is_empty() || !self.resources.is_empty()
    }
}

/// One secret of a token: what is kept instead of its text.
#[derive(Clone)]
pub struct SecretRecord {
    pub mac: Vec<u8>,
    pub pepper: i32,
}

/// A token with its account, org and grants.
pub struct Principal {
    pub token_id: TokenId,
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub account_kind: AccountKind,
    pub username: String,
    pub secrets: Vec<SecretRecord>,
    pub restrictions: Restrictions,
    pub may_manage_tokens: bool,
    pub create_time: OffsetDateTime,
    pub expire_time: Option<OffsetDateTime>,
    pub revoked: bool,
    pub account_stopped: bool,
    pub org_stopped: bool,
    /// Raised by what narrows the rights of the whole org.
    pub org_version: i64,
    /// Raised by what narrows the rights of the account.
    pub account_version: i64,
    pub grants: Vec<HeldGrant>,
    /// The application permissions that roles and grants of the org name; filled where an owner's list needs them.
    pub named_by_org: BTreeSet<Permission>,
}

impl Principal {
    /// What the account holds in the org, whatever credential it uses.
    pub fn account_rights(&self) -> Rights {
        Rights::of_grants(&self.grants)
    }

    /// What the token can do now: the account's rights within the token's lists.
    /// The one answer for exchange, introspection and access alike.
    pub fn effective_rights(&self) -> Rights {
        let Restrictions { scopes, resources, .. } = &self.restrictions;
        if self.restrictions.narrow_rights() {
            self.account_rights().narrowed(scopes, resources)
        } else {
            self.account_rights()
        }
    }

    /// The ids of the roles that the account holds on the whole org; `member` always.
    pub fn roles(&self) -> Vec<String> {
        let roles =
            self.grants.iter().filter(|grant| grant.node == Node::Org).filter_map(|grant| {
                match &grant.right {
                    Right::Permission(_) => None,
                    role => Some(role.to_string()),
                }
            });
        let all: BTreeSet<_> = roles.chain([SystemRole::Member.id().to_owned()]).collect();
        all.into_iter().collect()
    }

    /// Whether the token works at all now. Asked only after its secret matched, or a
    /// JWT made from it verified, so that the true reason may be told.
    pub fn check(&self, now: OffsetDateTime) -> Result<(), Reason> {
        if self.revoked {
            Err(Reason::TokenRevoked)
        } else if self.org_stopped {
            Err(Reason::OrgSuspended)
        } else if self.account_stopped {
            Err(Reason::AccountDeactivated)
        } else if self.expire_time.is_some_and(|end| end <= now) {
            Err(Reason::TokenExpired)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    /// A good token of a service account with these grants.
    pub(crate) fn principal(grants: &[(&str, &str)]) -> Principal {
        Principal {
            token_id: TokenId::from_u128(3),
            org_id: OrgId::from_u128(1),
            account_id: AccountId::from_u128(2),
            account_kind: AccountKind::ServiceAccount,
            username: "bot@demo.localhost".into(),
            secrets: Vec::new(),
            restrictions: Restrictions::default(),
            may_manage_tokens: false,
            create_time: now(),
            expire_time: Some(now() + time::Duration::days(1)),
            revoked: false,
            account_stopped: false,
            org_stopped: false,
            org_version: 1,
            account_version: 4,
            grants: grants
                .iter()
                .map(|(right, node)| HeldGrant {
                    right: Right::parse(right).unwrap(),
                    node: Node::parse(node).unwrap(),
                    role_permissions: Vec::new(),
                })
                .collect(),
            named_by_org: BTreeSet::new(),
        }
    }

    #[test]
    fn a_token_works_until_something_stops_it() {
        let end = now() + time::Duration::days(1);
        type Case = (fn(&mut Principal), Result<(), Reason>);
        let cases: [Case; 6] = [
            (|_| (), Ok(())),
            (|p| p.revoked = true, Err(Reason::TokenRevoked)),
            (|p| p.org_stopped = true, Err(Reason::OrgSuspended)),
            (|p| p.account_stopped = true, Err(Reason::AccountDeactivated)),
            (|p| p.expire_time = Some(now()), Err(Reason::TokenExpired)),
            (|p| p.expire_time = None, Ok(())),
        ];
        for (change, expected) in cases {
            let mut principal = principal(&[]);
            change(&mut principal);
            assert_eq!(principal.check(now()), expected);
        }
        assert_eq!(principal(&[]).check(end), Err(Reason::TokenExpired));
    }

    #[test]
    fn roles_are_those_on_the_whole_org() {
        let held = principal(&[("manager", "*"), ("owner", "a"), ("invoices.read", "*")]);
        assert_eq!(held.roles(), ["manager", "member"]);
    }
}
