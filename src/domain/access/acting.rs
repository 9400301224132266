//! What a caller may do in one org.

use std::borrow::Cow;

use time::OffsetDateTime;

use super::caller::Caller;
use super::grant_transfer::{Divided, divide};
use super::missing::permission_missing;
use super::rights::{HeldGrant, HeldGrants, Rights, is_owner, may_pass_on, may_take_over};
use super::roles::{CustomRole, may_define, may_redefine};
use super::work::Work;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, TokenId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Precondition, Reason, Result};

impl Caller {
    /// The caller in the org that a request names; without one, in its own org.
    ///
    /// A credential acts only in its own org. Operators act in any org, with the rights of an
    /// owner.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` for another org, whether it exists or not.
    pub(crate) fn acting_in(&self, org: Option<OrgId>) -> Result<Acting<'_>> {
        let org_id = org.unwrap_or(self.home());
        let changes = matches!(self.context.work, Work::Changes | Work::Stops);
        let must_name_org = org.is_none() && changes && self.is_operator();
        match self.rights().in_org(self.home(), org_id) {
            Some(rights) => Ok(Acting { caller: Cow::Borrowed(self), org_id, rights, must_name_org }),
            None => Err(Error::not_found("org", org_id)),
        }
    }

    /// The caller in its own org; the same result as [`acting_in`](Self::acting_in) without an org.
    pub(crate) fn acting_at_home(self) -> Acting<'static> {
        let (org_id, rights) = (self.home(), self.rights().clone());
        Acting { caller: Cow::Owned(self), org_id, rights: Cow::Owned(rights), must_name_org: false }
    }

    /// Whether the caller may verify credentials of this org.
    ///
    /// If so, what it says about the client that presents them is trusted.
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
    /// Whether it is an operator's call that changes something and names no org: what it needs a right
    /// for is refused.
    must_name_org: bool,
}

impl Acting<'_> {
    /// Requires a permission on the node or on one above it.
    ///
    /// # Errors
    /// - `PERMISSION_MISSING`, with the permission and the resource.
    /// - `INVALID_FIELD` where an operator changes something by a right, and names no org.
    pub(crate) fn require(&self, permission: &Permission, node: &Node) -> Result<()> {
        self.require_any_right()?;
        if self.rights.cover(permission, node) { Ok(()) } else { Err(permission_missing(permission, node)) }
    }

    /// Requires a permission on any node: for a call whose node is not known before it is loaded.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn require_somewhere(&self, permission: &Permission) -> Result<()> {
        self.require_any_right()?;
        if self.rights.hold_somewhere(permission) {
            Ok(())
        } else {
            Err(permission_missing(permission, &Node::Org))
        }
    }

    /// What every right has to pass: the credential is for this API, and an operator names the org.
    fn require_any_right(&self) -> Result<()> {
        if self.caller.is_only_for_itself() {
            let message = "the token's allowed_audiences lack this issuer: it may concern itself alone";
            return Err(Error::with_message(Reason::PermissionMissing, message));
        }
        let why = "is required: a platform administrator names the org of what is changed";
        if self.must_name_org { Err(Error::invalid("org_id", why)) } else { Ok(()) }
    }

    /// The account that a request names, where no look-up is needed; else an id that no account has.
    ///
    /// It is for the rights over oneself: by its id, or by its username.
    pub(crate) fn before_look_up(&self, named: &AccountRef) -> AccountId {
        match named {
            AccountRef::Id(id) => *id,
            AccountRef::Username(own) if self.caller.username() == own.as_str() => self.caller.account_id(),
            AccountRef::Username(_) => AccountId::from_u128(0),
        }
    }

    /// The rights of the caller in this org.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Whether the account is the caller's own, or that of the administrator who impersonates it.
    ///
    /// A caller can neither clone, nor deactivate or delete, nor impersonate this account.
    pub(crate) fn is_self(&self, account_id: AccountId) -> bool {
        self.is_own(account_id) || self.caller.actor_id() == Some(account_id)
    }

    /// Whether it is the account that the caller acts as, in this org.
    fn is_own(&self, account_id: AccountId) -> bool {
        self.org_id == self.caller.home() && account_id == self.caller.account_id()
    }

    /// Whether the account is the caller's own, and the caller may read it as its owner.
    ///
    /// Under impersonation this applies only if the administrator could read it with this
    /// permission.
    pub(crate) fn may_read_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        let impersonation = self.caller.impersonation();
        !self.caller.is_only_for_itself()
            && self.is_own(account_id)
            && impersonation.is_none_or(|as_target| as_target.allows(permission))
    }

    /// Requires that the caller may read the account with this name: its own, or any by the permission.
    /// Returns whether it is its own.
    ///
    /// # Errors
    /// Those of [`require`](Self::require).
    pub(crate) fn require_reading(
        &self,
        named: Option<&AccountRef>,
        permission: &Permission,
    ) -> Result<bool> {
        let own = named.is_some_and(|named| self.may_read_self(self.before_look_up(named), permission));
        if !own {
            self.require(permission, &Node::Org)?;
        }
        Ok(own)
    }

    /// Whether the account is the caller's own, and the caller may change it as its owner.
    ///
    /// A credential with scopes or resources has the rights over its own account for reading only.
    /// Under impersonation they apply only if the administrator could make the change with this
    /// permission.
    pub(crate) fn may_change_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        !self.caller.is_only_for_itself()
            && self.is_own(account_id)
            && match self.caller.impersonation() {
                Some(impersonation) => impersonation.allows(permission),
                None => !self.caller.is_narrowed(),
            }
    }

    /// Refuses grants that carry more than the caller holds.
    ///
    /// # Errors
    /// `GRANT_EXCEEDS_CALLER`, with what the caller lacks.
    pub(crate) fn may_pass_on<'g>(&self, grants: impl IntoIterator<Item = &'g HeldGrant>) -> Result<()> {
        may_pass_on(&self.rights, grants)
    }

    /// Whether the caller could grant this.
    pub(crate) fn could_give(&self, grant: &HeldGrant) -> bool {
        self.could_give_on(&grant.node) && self.may_pass_on([grant]).is_ok()
    }

    /// Whether the caller could grant anything on the node.
    pub(crate) fn could_give_on(&self, node: &Node) -> bool {
        self.rights.cover(&Permission::ACCOUNTS_WRITE, node)
    }

    /// Refuses a role that carries more than the caller holds on the whole org.
    ///
    /// # Errors
    /// `GRANT_EXCEEDS_CALLER`, with what the caller lacks.
    pub(crate) fn may_define(&self, role: &CustomRole) -> Result<()> {
        may_define(&self.rights, role)
    }

    /// Refuses to widen a role by more than the caller holds on the whole org.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER` or `GRANT_EXCEEDS_CALLER`, with what the caller lacks.
    pub(crate) fn may_redefine(&self, before: &CustomRole, after: &CustomRole) -> Result<()> {
        may_redefine(&self.rights, before, after)
    }

    /// Divides the grants of an account to be cloned.
    ///
    /// The result lists what the clone gets, what the caller may not pass on, and what the caller
    /// excludes.
    pub(crate) fn divide<T>(
        &self,
        grants: Vec<(T, HeldGrant)>,
        is_excluded: impl Fn(&T) -> bool,
    ) -> Divided<(T, HeldGrant)> {
        divide(&self.rights, grants, is_excluded)
    }

    /// Refuses a target that can do more than the caller.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, with what the caller lacks.
    pub(crate) fn may_take_over(&self, target: &Rights) -> Result<()> {
        may_take_over(&self.rights, target)
    }

    /// Refuses to deactivate an owner or revoke what belongs to one, unless the caller covers it.
    ///
    /// The caller must cover all rights of that account. For any other account nothing is required.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, with what the caller lacks.
    pub(crate) fn may_stop(&self, target: &HeldGrants) -> Result<()> {
        if is_owner(self.org_id, target) { self.may_take_over(target.rights()) } else { Ok(()) }
    }

    /// Requires that the credential may create tokens at all.
    ///
    /// # Errors
    /// `PERMISSION_MISSING` if it was created without `may_manage_tokens`.
    pub(crate) fn require_token_management(&self) -> Result<()> {
        if self.caller.credential().may_manage_tokens {
            return Ok(());
        }
        let message = "the credential may not manage tokens: it was created without may_manage_tokens";
        Err(Error::with_message(Reason::PermissionMissing, message))
    }

    /// Refuses a new token that is wider than the credential that makes it.
    ///
    /// This limit applies beside the present rights of the account: the credential's own lists also
    /// bound what the account may come to hold later.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming what exceeds the limit.
    pub(crate) fn may_make(&self, lists: &Restrictions, may_manage_tokens: bool) -> Result<()> {
        let Restrictions { scopes, resources, .. } = &*self.caller.credential().restrictions;
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
                "is required: the credential that creates the token is restricted",
            ));
        }
        if narrowed {
            let asked = Rights::within(&lists.scopes, &lists.resources);
            asked.refuse_beyond(&limits, Reason::TargetExceedsCaller)?;
        }
        self.stays_within_places(lists)?;
        if may_manage_tokens && !self.is_unbound_operator() && !self.is_person_who_manages() {
            let why = "only an operator's token without scopes, itself with may_manage_tokens, gives it, \
                       or a session that holds tokens.write";
            return Err(exceeds("CREDENTIAL", "may_manage_tokens", why));
        }
        Ok(())
    }

    /// Requires what [`CreateToken`](Self::require_token_management) requires, of a credential that no list
    /// restricts: a password is restricted by none.
    ///
    /// Returns the token with which the password ends: the caller's, unless that is a session or belongs
    /// to an operator who is not bound.
    ///
    /// # Errors
    /// - `PERMISSION_MISSING` under impersonation, or without `may_manage_tokens`.
    /// - `TARGET_EXCEEDS_CALLER`, naming the restriction.
    pub(crate) fn may_give_password(&self) -> Result<Option<TokenId>> {
        if self.caller.actor_id().is_some() {
            let message = "an impersonation does not set a password: it would outlive the impersonation";
            return Err(Error::with_message(Reason::PermissionMissing, message));
        }
        self.require_token_management()?;
        if self.caller.is_narrowed() {
            return Err(exceeds(
                "CREDENTIAL",
                "password",
                "must be set by a credential without scopes and resources, or a JWT that carries all its rights",
            ));
        }
        self.refuse_restricted_to_places()?;
        let credential = self.caller.credential();
        Ok(match (credential.credential_id, &credential.tied_to) {
            (CredentialId::Session(_), tied_to) => tied_to.as_ref().map(|tied_to| tied_to.token_id),
            (CredentialId::Token(_), _) if self.is_unbound_operator() => None,
            (CredentialId::Token(token_id), _) => Some(token_id),
            // It never manages tokens.
            (CredentialId::Rule(_), _) => {
                return Err(permission_missing(&Permission::TOKENS_WRITE, &Node::Org));
            }
        })
    }

    /// Requires that the caller may have a code sent to a mailbox of its choice, whose reader signs in
    /// where it likes.
    ///
    /// # Errors
    /// - `PERMISSION_MISSING` for what a federation rule gave.
    /// - `TARGET_EXCEEDS_CALLER` for a credential with networks, audiences or certificates, or a JWT that carries
    ///   less than its credential.
    pub(crate) fn may_send_code(&self) -> Result<()> {
        self.caller.refuse_rule("makes neither users nor invitations")?;
        self.refuse_restricted_to_places()?;
        self.caller.require_whole_credential()
    }

    /// Requires that the caller may make a token for this account at all.
    ///
    /// There are three ways: by permission; as the account's own caller under impersonation, where
    /// the administrator who impersonates it has the permission; or as the account's own caller, if
    /// it authenticated with a session from a password login.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn require_token_creation(&self, account_id: AccountId) -> Result<()> {
        let may = self.caller.actor_id().is_some() || self.caller.has_signed_in();
        let own = may && self.may_change_self(account_id, &Permission::TOKENS_WRITE);
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// Requires that the caller may rotate a token of this account, by permission or as its own.
    ///
    /// A narrowed credential has rights over its own account for reading only, and for rotating
    /// itself.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn require_rotation(&self, token_id: TokenId, account_id: AccountId) -> Result<()> {
        let is_credential = self.caller.credential_id() == token_id.into();
        if is_credential && !self.caller.by_token_string() {
            // It is handed to services, and would take the token away from its owner.
            let message = "a JWT does not rotate the token that it was made from: use the token itself";
            return Err(Error::with_message(Reason::PermissionMissing, message));
        }
        let itself = self.is_own(account_id) && is_credential;
        // Where a login is the only reason, the session's own token string is required, as for
        // making a token.
        let caller = &self.caller;
        let by_jwt = caller.actor_id().is_none() && caller.session().is_some() && !caller.has_signed_in();
        let own = itself || (!by_jwt && self.may_change_self(account_id, &Permission::TOKENS_WRITE));
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// Whether it is the token that the caller presents, itself.
    pub(crate) fn presents(&self, token_id: TokenId) -> bool {
        // Not by a JWT, which is handed to services.
        self.caller.actor_id().is_none()
            && self.caller.by_token_string()
            && self.caller.credential_id() == token_id.into()
    }

    /// Refuses a caller that has the secret which retires: a rotation leaves the token to the one that
    /// has the new secret.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn may_finish_rotation(&self, token_id: TokenId, retiring: i32) -> Result<()> {
        if self.caller.credential_id() != token_id.into() || self.caller.secret() != Some(retiring) {
            return Ok(());
        }
        let message = "the retiring secret does not finish its own rotation: use the new one";
        Err(Error::with_message(Reason::PermissionMissing, message))
    }

    /// Requires that the caller may revoke a token of this account, by permission or as its own.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn require_revocation(&self, account_id: Option<AccountId>) -> Result<()> {
        if account_id.is_some_and(|account_id| self.may_change_self(account_id, &Permission::TOKENS_WRITE)) {
            return Ok(());
        }
        self.require(&Permission::TOKENS_WRITE, &Node::Org)
    }

    /// The latest time at which a token made with this credential may expire.
    ///
    /// None where only the policy limits it.
    pub(crate) fn token_ceiling(&self) -> Option<OffsetDateTime> {
        let credential = self.caller.credential();
        match (credential.credential_id, &credential.tied_to) {
            (CredentialId::Session(_), tied_to) => tied_to.as_ref().and_then(|tied_to| tied_to.expire_time),
            (CredentialId::Token(_), _) if self.is_unbound_operator() => None,
            (CredentialId::Token(_) | CredentialId::Rule(_), _) => credential.expire_time(),
        }
    }

    /// Whether it is a session that may manage tokens.
    ///
    /// A session acts as its account; it is not a token that passes on the rights that it was
    /// given.
    fn is_person_who_manages(&self) -> bool {
        let manages = self.rights.cover(&Permission::TOKENS_WRITE, &Node::Org);
        let itself = self.caller.session().is_some() && self.caller.actor_id().is_none();
        // That of a password which a token gave is no more than the token.
        let itself = itself && self.caller.credential().tied_to.is_none();
        manages && itself && !self.caller.is_narrowed()
    }

    /// Whether it is an operator's token without scopes that may manage tokens.
    ///
    /// The first long-lived credentials of a deployment are made with one.
    fn is_unbound_operator(&self) -> bool {
        let unbound = !self.caller.is_narrowed() && self.caller.credential().may_manage_tokens;
        self.caller.is_operator() && unbound
    }
}

pub(super) fn exceeds(kind: &'static str, subject: &str, why: &'static str) -> Error {
    let message = format!("{}: {subject} {why}", Reason::TargetExceedsCaller.message());
    let precondition = Precondition { kind, subject: subject.into(), description: why.into() };
    Error::with_message(Reason::TargetExceedsCaller, message).with_preconditions([precondition])
}
