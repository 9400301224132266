//! What a caller may do in one org.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::caller::Caller;
use super::grant_transfer::{Divided, divide};
use super::rights::{HeldGrant, Missing, Rights, is_owner, may_pass_on, may_take_over};
use super::roles::{CustomRole, may_define, may_redefine};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::names::Audience;
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Precondition, Reason, Result};

impl Caller {
    /// The caller in the org that a request names; none = its own. A credential acts
    /// in its own org alone; operators act in any, as its owner.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` for another org, whether it exists or not.
    pub(crate) fn acting_in(&self, org: Option<OrgId>) -> Result<Acting<'_>> {
        let org_id = org.unwrap_or(self.home());
        match self.rights().in_org(self.home(), org_id) {
            Some(rights) => Ok(Acting { caller: Cow::Borrowed(self), org_id, rights }),
            None => Err(Error::not_found("org", org_id)),
        }
    }

    /// The caller in its own org, as [`acting_in`](Self::acting_in) gives it.
    pub(crate) fn acting_at_home(self) -> Acting<'static> {
        let (org_id, rights) = (self.home(), self.rights().clone());
        Acting { caller: Cow::Owned(self), org_id, rights: Cow::Owned(rights) }
    }

    /// Whether the caller may verify the credentials of this org, and is believed in
    /// what it says of the client that presents them.
    pub(crate) fn may_verify(&self, org_id: OrgId) -> bool {
        let in_org = self.acting_in(Some(org_id));
        self.holds_platform(&Permission::PLATFORM_VERIFY)
            || in_org.is_ok_and(|acting| acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org).is_ok())
    }
}

/// A caller in one org.
pub struct Acting<'a> {
    pub caller: Cow<'a, Caller>,
    pub org_id: OrgId,
    rights: Cow<'a, Rights>,
}

impl Acting<'_> {
    /// Requires a permission on a node or above it.
    pub(crate) fn require(&self, permission: &Permission, node: &Node) -> Result<()> {
        if self.rights.cover(permission, node) { Ok(()) } else { Err(Missing::permission(permission, node)) }
    }

    /// What the caller holds here.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Whether the account is the caller's own, or that of the administrator who impersonates it.
    /// No caller clones, stops or impersonates its own.
    pub(crate) fn is_self(&self, account_id: AccountId) -> bool {
        self.is_own(account_id) || self.caller.actor_id() == Some(account_id)
    }

    /// Whether it is what the caller acts as, here.
    fn is_own(&self, account_id: AccountId) -> bool {
        self.org_id == self.caller.home() && account_id == self.caller.account_id()
    }

    /// Whether the account is the caller's own, to read as oneself may. Under impersonation
    /// that counts where the administrator could read it by this permission.
    pub(crate) fn may_read_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        let impersonation = self.caller.impersonation();
        self.is_own(account_id) && impersonation.is_none_or(|as_target| as_target.allows(permission))
    }

    /// Whether the account is the caller's own, to change as oneself may: a credential
    /// with scopes or resources has rights of oneself for reading alone. Under impersonation
    /// they count where the administrator could make the change by this permission.
    pub(crate) fn may_change_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        self.is_own(account_id)
            && match self.caller.impersonation() {
                Some(impersonation) => impersonation.allows(permission),
                None => !self.caller.is_narrowed(),
            }
    }

    /// Refuses grants that carry more than the caller holds.
    pub(crate) fn may_pass_on<'g>(&self, grants: impl IntoIterator<Item = &'g HeldGrant>) -> Result<()> {
        may_pass_on(&self.rights, grants)
    }

    /// Whether the caller could give this.
    pub(crate) fn could_give(&self, grant: &HeldGrant) -> bool {
        self.could_give_on(&grant.node) && self.may_pass_on([grant]).is_ok()
    }

    /// Whether the caller could give anything on the node.
    pub(crate) fn could_give_on(&self, node: &Node) -> bool {
        self.rights.cover(&Permission::ACCOUNTS_WRITE, node)
    }

    /// Refuses a role that carries more than the caller holds on the whole org.
    pub(crate) fn may_define(&self, role: &CustomRole) -> Result<()> {
        may_define(&self.rights, role)
    }

    /// Refuses to widen a role by more than the caller holds on the whole org.
    pub(crate) fn may_redefine(&self, before: &CustomRole, after: &CustomRole) -> Result<()> {
        may_redefine(&self.rights, before, after)
    }

    /// Divides the grants of an account to be cloned: what the clone gets, what the caller
    /// may not pass on, and what the caller leaves out.
    pub(crate) fn divide<T>(
        &self,
        grants: Vec<(T, HeldGrant)>,
        is_excluded: impl Fn(&T) -> bool,
    ) -> Divided<(T, HeldGrant)> {
        divide(&self.rights, grants, is_excluded)
    }

    /// Refuses a target that can do more than the caller.
    pub(crate) fn may_take_over(&self, target: &Rights) -> Result<()> {
        may_take_over(&self.rights, target)
    }

    /// Refuses to stop an owner, or something of an owner's, unless the caller covers
    /// what that account can do. Anybody else may be stopped.
    pub(crate) fn may_stop(&self, target: &[HeldGrant]) -> Result<()> {
        if is_owner(self.org_id, target) { self.may_take_over(&Rights::of_grants(target)) } else { Ok(()) }
    }

    /// Whether the credential may create tokens at all.
    pub(crate) fn require_token_management(&self) -> Result<()> {
        if self.caller.credential().may_manage_tokens {
            return Ok(());
        }
        let message = "the credential may not manage tokens: it was created without may_manage_tokens";
        Err(Error::with_message(Reason::PermissionMissing, message))
    }

    /// What bounds a token that this credential makes, beside the rights of now: its
    /// own lists, which also bound what the account may come to hold later.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming what exceeds.
    pub(crate) fn may_make(&self, lists: &Restrictions, may_manage_tokens: bool) -> Result<()> {
        let Restrictions { scopes, resources, audiences, networks, .. } =
            &self.caller.credential().restrictions;
        let mut limits = Rights::within(scopes, resources);
        if let Some(carried) = self.caller.narrowed_to() {
            limits = limits.meet(carried);
        }
        let narrowed = self.caller.is_narrowed();
        if narrowed && lists.scopes.is_empty() && (!scopes.is_empty() || self.caller.narrowed_to().is_some())
        {
            return Err(exceeds(
                "CREDENTIAL",
                "scopes",
                "must be named: the credential that makes the token has some",
            ));
        }
        if narrowed {
            let asked = Rights::within(&lists.scopes, &lists.resources);
            Missing::refuse(Reason::TargetExceedsCaller, &asked.beyond(&limits))?;
        }
        let allowed = |audience: &Audience| audiences.is_empty() || audiences.contains(audience);
        if (lists.audiences.is_empty() && !audiences.is_empty()) || !lists.audiences.iter().all(allowed) {
            return Err(exceeds(
                "AUDIENCE",
                "allowed_audiences",
                "must be among those of the credential that makes the token",
            ));
        }
        let inside = |network: &Network| networks.iter().any(|own| own.covers(network));
        if !networks.is_empty() && (lists.networks.is_empty() || !lists.networks.iter().all(inside)) {
            return Err(exceeds(
                "NETWORK",
                "allowed_cidrs",
                "must lie within those of the credential that makes the token",
            ));
        }
        if may_manage_tokens && !self.is_unbound_operator() && !self.is_person_who_manages() {
            let why = "only an operator's token without scopes, itself with may_manage_tokens, gives it, \
                       or a session that holds tokens.write";
            return Err(exceeds("CREDENTIAL", "may_manage_tokens", why));
        }
        Ok(())
    }

    /// Whether the caller may make a token for this account at all.
    ///
    /// It may by permission; as the account's own, where the administrator who impersonates it has
    /// the permission; or as its own, where a password login stands behind the call.
    pub(crate) fn require_token_creation(&self, account_id: AccountId) -> Result<()> {
        let may = self.caller.actor_id().is_some() || self.caller.has_signed_in();
        let own = may && self.may_change_self(account_id, &Permission::TOKENS_WRITE);
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// Whether the caller may rotate a token of this account: by permission, or because it is
    /// its own. A credential that is narrowed has rights of oneself for reading only, and for
    /// rotating itself.
    pub(crate) fn require_rotation(&self, token_id: TokenId, account_id: AccountId) -> Result<()> {
        let itself = self.is_own(account_id) && self.caller.credential_id() == token_id.into();
        // What a login alone allows needs its text, as the making of a token does.
        let caller = &self.caller;
        let by_jwt = caller.actor_id().is_none() && caller.session().is_some() && !caller.has_signed_in();
        let own = itself || (!by_jwt && self.may_change_self(account_id, &Permission::TOKENS_WRITE));
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// When a token that this credential makes has to end at the latest; none where
    /// only the policy says.
    pub(crate) fn token_ceiling(&self) -> Option<OffsetDateTime> {
        let unbound = self.is_unbound_operator() || self.caller.session().is_some();
        if unbound { None } else { self.caller.credential().expire_time }
    }

    /// A session stands for its account, which is no token that passes on what it was given.
    fn is_person_who_manages(&self) -> bool {
        let manages = self.rights.cover(&Permission::TOKENS_WRITE, &Node::Org);
        let itself = self.caller.session().is_some() && self.caller.actor_id().is_none();
        manages && itself && !self.caller.is_narrowed()
    }

    /// An operator's token without scopes: a deployment's first lasting credentials come from one.
    fn is_unbound_operator(&self) -> bool {
        let unbound = !self.caller.is_narrowed() && self.caller.credential().may_manage_tokens;
        self.caller.is_operator() && unbound
    }
}

fn exceeds(kind: &'static str, subject: &str, why: &'static str) -> Error {
    let message = format!("{}: {subject} {why}", Reason::TargetExceedsCaller.message());
    let precondition = Precondition { kind, subject: subject.into(), description: why.into() };
    Error::with_message(Reason::TargetExceedsCaller, message).with_preconditions([precondition])
}
