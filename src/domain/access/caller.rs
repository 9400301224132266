//! Who is calling, with what, and what that may do.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::credential::Credential;
use super::impersonation::Impersonation;
use super::member::Member;
use super::presentation::{Presentation, PresentedAt};
use super::rights::{HeldGrant, Missing, Rights, may_pass_on, may_take_over};
use super::roles::{CustomRole, may_define, may_redefine};
use crate::domain::accounts::cloning::{Divided, divide};
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, SessionId, TokenId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::names::Audience;
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::{Error, Precondition, Reason, Result};

/// Where a call comes from.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// The address at the other end of the connection.
    pub address: Option<IpAddr>,
    /// The page that calls, as its browser says.
    pub page: BrowserOrigin,
    /// Names the call in answers, events and logs.
    pub request_id: String,
}

/// What the `origin` header of a connection says.
#[derive(Clone, Debug, Default)]
pub enum BrowserOrigin {
    /// There is none: whoever calls is no page.
    #[default]
    None,
    Web(WebOrigin),
    /// Something that is no web origin, such as `null`.
    Other,
}

impl RequestContext {
    /// Where a credential is shown that somebody else speaks for: as the fields of the
    /// request say, except that a connection's own `origin` header alone counts.
    ///
    /// # Errors
    /// `ORIGIN_MISMATCH` where header and field differ.
    pub fn shown_at(&self, origin: Option<WebOrigin>, address: Option<IpAddr>) -> Result<PresentedAt> {
        let origin = match (&self.page, origin) {
            (BrowserOrigin::None, field) => field,
            (BrowserOrigin::Other, None) => None,
            (BrowserOrigin::Web(page), None) => Some(page.clone()),
            (BrowserOrigin::Web(page), Some(field)) if *page == field => Some(field),
            _ => return Err(Reason::OriginMismatch.into()),
        };
        Ok(PresentedAt { origin, address })
    }
}

/// What a caller has authenticated by.
pub enum AuthenticatedBy {
    /// The text of the token or session itself.
    Text,
    /// A JWT made from it.
    AccessToken {
        /// What it carries, where that is less than the token.
        narrowed_to: Option<Rights>,
        /// Whose place it puts the caller in, if anybody's.
        impersonation: Option<Impersonation>,
        /// Whole seconds since 1970.
        expires_at: i64,
    },
}

/// An authenticated caller: a good credential, with its rights as they are now.
#[derive(Clone)]
pub struct Caller {
    /// The credential. Under impersonation it is the administrator's.
    credential: Arc<Credential>,
    impersonation: Option<Impersonation>,
    rights: Rights,
    /// It has shown the credential itself, and no JWT made from it.
    by_text: bool,
    /// What its JWT carries, where that is less than the token it was made from. That of an
    /// impersonation carries all that it was made for.
    narrowed_to: Option<Rights>,
    /// When the JWT ends.
    expires_at: Option<i64>,
    pub context: RequestContext,
}

impl Caller {
    /// A caller by this bearer. A JWT is never more than its token is now, nor from elsewhere.
    ///
    /// # Errors
    /// `TOKEN_INVALID` or `ACCESS_TOKEN_INVALID` for what comes from a publishable token:
    /// those open nothing of this API, from wherever. `PURPOSE_MISMATCH` for a token with
    /// a purpose, since this API names none; `ADDRESS_NOT_ALLOWED`.
    pub fn new(
        credential: Arc<Credential>,
        bearer: AuthenticatedBy,
        context: RequestContext,
    ) -> Result<Self> {
        if credential.kind == TokenKind::Publishable {
            let reason = match bearer {
                AuthenticatedBy::Text => Reason::TokenInvalid,
                AuthenticatedBy::AccessToken { .. } => Reason::AccessTokenInvalid,
            };
            return Err(Error::with_message(reason, "a publishable token opens nothing of this API"));
        }
        credential.admit(&Presentation { address: context.address, ..Presentation::default() })?;
        let by_text = matches!(bearer, AuthenticatedBy::Text);
        let (mut narrowed_to, impersonation, expires_at) = match bearer {
            AuthenticatedBy::Text => (None, None, None),
            AuthenticatedBy::AccessToken { narrowed_to, impersonation, expires_at } => {
                (narrowed_to, impersonation, Some(expires_at))
            }
        };
        let rights = match (&impersonation, &mut narrowed_to) {
            (Some(impersonation), carried) => impersonation.rights(&carried.take().unwrap_or_default()),
            (None, Some(carried)) => credential.effective_rights().meet(carried),
            (None, None) => credential.effective_rights(),
        };
        Ok(Self { credential, impersonation, rights, by_text, narrowed_to, expires_at, context })
    }

    /// The account that the caller acts as, where it acts.
    fn member(&self) -> &Member {
        self.impersonation.as_ref().map_or(&self.credential.member, |impersonation| &impersonation.target)
    }

    pub fn account_id(&self) -> AccountId {
        self.member().account_id
    }

    /// Who acts as that account by impersonation; none where it acts itself.
    pub fn actor_id(&self) -> Option<AccountId> {
        self.impersonation.as_ref().map(|_| self.credential.account_id)
    }

    /// The token or session behind the call. Under impersonation it is the administrator's.
    pub fn credential_id(&self) -> CredentialId {
        self.credential.credential_id
    }

    /// The org that the credential is kept in: a session's is the home of its account, wherever it acts.
    pub fn credential_org(&self) -> OrgId {
        match self.credential.credential_id {
            CredentialId::Token(_) => self.credential.org_id,
            CredentialId::Session(_) => self.credential.home_org_id,
        }
    }

    /// The session behind the call, if it is one, whether its text was shown or a JWT made from it.
    pub fn session(&self) -> Option<SessionId> {
        match self.credential.credential_id {
            CredentialId::Token(_) => None,
            CredentialId::Session(id) => Some(id),
        }
    }

    /// Whether a password login stands behind the call itself: the text of a session.
    pub fn has_signed_in(&self) -> bool {
        self.by_text && self.session().is_some()
    }

    /// The session that may act in this org, too, if its account is a member there. A JWT made
    /// from it acts in its own org alone, as every other; and so does an operator, who is one in any.
    pub fn may_travel(&self, org_id: OrgId) -> Option<&Credential> {
        let travels = self.has_signed_in() && !self.is_operator() && org_id != self.home();
        travels.then_some(&*self.credential)
    }

    /// The same caller in another org, as this credential of its session.
    ///
    /// # Errors
    /// What [`new`](Self::new) says.
    pub fn within(&self, credential: Arc<Credential>) -> Result<Self> {
        Self::new(credential, AuthenticatedBy::Text, self.context.clone())
    }

    /// The org that the credential acts in.
    pub fn home(&self) -> OrgId {
        self.member().org_id
    }

    /// When what was shown ends, in whole seconds since 1970; none where it has no end.
    pub fn ends_at(&self) -> Option<i64> {
        let credential = self.credential.expire_time.map(OffsetDateTime::unix_timestamp);
        credential.into_iter().chain(self.expires_at).min()
    }

    /// The credential behind the call.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Refuses a JWT that carries less than its token.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming what it lacks.
    pub fn require_whole_credential(&self) -> Result<()> {
        let Some(carried) = &self.narrowed_to else { return Ok(()) };
        Missing::refuse(Reason::TargetExceedsCaller, &self.credential.effective_rights().beyond(carried))
    }

    /// The org that its account is kept in.
    pub fn account_home(&self) -> OrgId {
        self.member().home_org_id
    }

    /// Whether the credential has scopes or resources, or its JWT carries less than it.
    pub fn is_narrowed(&self) -> bool {
        self.credential.restrictions.narrow_rights() || self.narrowed_to.is_some()
    }

    /// Whether the caller may verify the credentials of this org, and is believed in
    /// what it says of whoever shows them.
    pub fn may_verify(&self, org_id: OrgId) -> bool {
        let in_org = self.acting_in(Some(org_id));
        self.holds_platform(&Permission::PLATFORM_VERIFY)
            || in_org.is_ok_and(|acting| acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org).is_ok())
    }

    /// The permissions that the credential holds on the whole of its org, sorted.
    pub fn permissions(&self) -> Vec<String> {
        self.rights.on_org(&self.member().named_by_org).iter().map(Permission::to_string).collect()
    }

    /// A platform administrator: holds `platform.accounts` in the system org.
    pub fn is_operator(&self) -> bool {
        self.holds_platform(&Permission::PLATFORM_ACCOUNTS)
    }

    /// Whether it holds this permission of the platform.
    pub fn holds_platform(&self, permission: &Permission) -> bool {
        self.home() == SYSTEM_ORG && self.rights.cover(permission, &Node::Org)
    }

    /// Whether it holds the permission anywhere at all: what closes an RPC to those
    /// who never could, before the message is looked at.
    pub fn holds_somewhere(&self, permission: &Permission) -> bool {
        self.rights.hold_somewhere(permission)
            || (self.is_operator() && Rights::of_owner().hold_somewhere(permission))
    }

    /// Requires a permission of the platform.
    pub fn require_platform(&self, permission: &Permission) -> Result<()> {
        if self.holds_platform(permission) { Ok(()) } else { Err(missing(permission, &Node::Org)) }
    }

    /// The caller in the org that a request names; none = its own. A credential acts
    /// in its own org alone; operators act in any, as its owner.
    ///
    /// # Errors
    /// `RESOURCE_NOT_FOUND` for another org, whether it exists or not.
    pub fn acting_in(&self, org: Option<OrgId>) -> Result<Acting<'_>> {
        let org_id = org.unwrap_or(self.home());
        match rights_in(self.home(), &self.rights, org_id) {
            Some(rights) => Ok(Acting { caller: Cow::Borrowed(self), org_id, rights }),
            None => Err(Error::not_found("org", org_id)),
        }
    }

    /// The caller in its own org, as [`acting_in`](Self::acting_in) gives it.
    pub fn acting_at_home(self) -> Acting<'static> {
        let (org_id, rights) = (self.home(), self.rights.clone());
        Acting { caller: Cow::Owned(self), org_id, rights: Cow::Owned(rights) }
    }
}

/// What the rights of a credential of the org `home` are worth in another one, or there:
/// a credential acts in its own org alone, operators in any, as its owner. None where it
/// cannot act at all.
pub(super) fn rights_in(home: OrgId, rights: &Rights, org_id: OrgId) -> Option<Cow<'_, Rights>> {
    let is_operator = home == SYSTEM_ORG && rights.cover(&Permission::PLATFORM_ACCOUNTS, &Node::Org);
    match (org_id == home, is_operator) {
        (true, false) => Some(Cow::Borrowed(rights)),
        (true, true) => Some(Cow::Owned(rights.clone().join(Rights::of_owner()))),
        (false, true) => Some(Cow::Owned(Rights::of_owner())),
        (false, false) => None,
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
    pub fn require(&self, permission: &Permission, node: &Node) -> Result<()> {
        if self.rights.cover(permission, node) { Ok(()) } else { Err(missing(permission, node)) }
    }

    /// What the caller holds here.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Whether the account is the caller's own: also that of whoever impersonates it. Nobody
    /// clones, stops or impersonates it.
    pub fn is_self(&self, account_id: AccountId) -> bool {
        self.is_own(account_id) || self.caller.actor_id() == Some(account_id)
    }

    /// Whether it is what the caller acts as, here.
    fn is_own(&self, account_id: AccountId) -> bool {
        self.org_id == self.caller.home() && account_id == self.caller.account_id()
    }

    /// Whether the account is the caller's own, to read as oneself may. Under impersonation
    /// that counts where the administrator could read it by this permission.
    pub fn may_read_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        let impersonation = self.caller.impersonation.as_ref();
        self.is_own(account_id) && impersonation.is_none_or(|as_target| as_target.allows(permission))
    }

    /// Whether the account is the caller's own, to change as oneself may: a credential
    /// with scopes or resources has rights of oneself for reading alone. Under impersonation
    /// they count where the administrator could make the change by this permission.
    pub fn may_change_self(&self, account_id: AccountId, permission: &Permission) -> bool {
        self.is_own(account_id)
            && match &self.caller.impersonation {
                Some(impersonation) => impersonation.allows(permission),
                None => !self.caller.is_narrowed(),
            }
    }

    /// Refuses grants that carry more than the caller holds.
    pub fn may_pass_on<'g>(&self, grants: impl IntoIterator<Item = &'g HeldGrant>) -> Result<()> {
        may_pass_on(&self.rights, grants)
    }

    /// Whether the caller could give this.
    pub fn could_give(&self, grant: &HeldGrant) -> bool {
        self.could_give_on(&grant.node) && self.may_pass_on([grant]).is_ok()
    }

    /// Whether the caller could give anything on the node.
    pub fn could_give_on(&self, node: &Node) -> bool {
        self.rights.cover(&Permission::ACCOUNTS_WRITE, node)
    }

    /// Refuses a role that carries more than the caller holds on the whole org.
    pub fn may_define(&self, role: &CustomRole) -> Result<()> {
        may_define(&self.rights, role)
    }

    /// Refuses to widen a role by more than the caller holds on the whole org.
    pub fn may_redefine(&self, before: &CustomRole, after: &CustomRole) -> Result<()> {
        may_redefine(&self.rights, before, after)
    }

    /// Divides the grants of an account to be cloned: what the clone gets, what the caller
    /// may not pass on, and what the caller leaves out.
    pub fn divide<T>(
        &self,
        grants: Vec<(T, HeldGrant)>,
        is_excluded: impl Fn(&T) -> bool,
    ) -> Divided<(T, HeldGrant)> {
        divide(&self.rights, grants, is_excluded)
    }

    /// Refuses a target that can do more than the caller.
    pub fn may_take_over(&self, target: &Rights) -> Result<()> {
        may_take_over(&self.rights, target)
    }

    /// Refuses to stop an owner, or something of an owner's, unless the caller covers
    /// what that account can do. Anybody else may be stopped.
    pub fn may_stop(&self, target: &[HeldGrant]) -> Result<()> {
        if is_owner(self.org_id, target) { self.may_take_over(&Rights::of_grants(target)) } else { Ok(()) }
    }

    /// Whether the credential may create tokens at all.
    pub fn require_token_management(&self) -> Result<()> {
        if self.caller.credential.may_manage_tokens {
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
    pub fn may_make(&self, lists: &Restrictions, may_manage_tokens: bool) -> Result<()> {
        let Restrictions { scopes, resources, audiences, networks, .. } =
            &self.caller.credential.restrictions;
        let mut limits = Rights::within(scopes, resources);
        if let Some(carried) = &self.caller.narrowed_to {
            limits = limits.meet(carried);
        }
        let narrowed = self.caller.is_narrowed();
        if narrowed && lists.scopes.is_empty() && (!scopes.is_empty() || self.caller.narrowed_to.is_some()) {
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

    /// Whether the caller may make a token for this account at all: by permission; as the
    /// account's own, whoever impersonates it having the permission; or because it is its own and
    /// a password login stands behind the call.
    pub fn require_token_creation(&self, account_id: AccountId) -> Result<()> {
        let may = self.caller.actor_id().is_some() || self.caller.has_signed_in();
        let own = may && self.may_change_self(account_id, &Permission::TOKENS_WRITE);
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// Whether the caller may rotate a token of this account: by permission, or because it is
    /// its own. A credential that is narrowed has rights of oneself for reading only, and for
    /// rotating itself.
    pub fn require_rotation(&self, token_id: TokenId, account_id: AccountId) -> Result<()> {
        let itself = self.is_own(account_id) && self.caller.credential_id() == token_id.into();
        // What a login alone allows needs its text, as the making of a token does.
        let caller = &self.caller;
        let by_jwt = caller.actor_id().is_none() && caller.session().is_some() && !caller.has_signed_in();
        let own = itself || (!by_jwt && self.may_change_self(account_id, &Permission::TOKENS_WRITE));
        if own { Ok(()) } else { self.require(&Permission::TOKENS_WRITE, &Node::Org) }
    }

    /// When a token that this credential makes has to end at the latest; none where
    /// only the policy says.
    pub fn token_ceiling(&self) -> Option<OffsetDateTime> {
        let unbound = self.is_unbound_operator() || self.caller.session().is_some();
        if unbound { None } else { self.caller.credential.expire_time }
    }

    /// A session stands for its account, which is no token that passes on what it was given.
    fn is_person_who_manages(&self) -> bool {
        let manages = self.rights.cover(&Permission::TOKENS_WRITE, &Node::Org);
        let itself = self.caller.session().is_some() && self.caller.actor_id().is_none();
        manages && itself && !self.caller.is_narrowed()
    }

    /// An operator's token without scopes: a deployment's first lasting credentials come from one.
    fn is_unbound_operator(&self) -> bool {
        let unbound = !self.caller.is_narrowed() && self.caller.credential.may_manage_tokens;
        self.caller.is_operator() && unbound
    }
}

/// Whether an account with these grants is an owner of the org: `owner` on the whole
/// of it, or in the system org `platform.accounts`, which is what an operator is,
/// by whatever grant.
pub fn is_owner(org_id: OrgId, grants: &[HeldGrant]) -> bool {
    let owning = owning_right(org_id);
    grants.iter().any(|grant| {
        let by_role = grant.role_permissions.iter().any(|permission| permission.as_str() == owning);
        grant.node == Node::Org && (by_role || grant.right.to_string() == owning)
    })
}

/// The right that makes an owner in this org, as the database keeps it.
pub fn owning_right(org_id: OrgId) -> &'static str {
    if org_id == SYSTEM_ORG { "platform.accounts" } else { "owner" }
}

fn missing(permission: &Permission, node: &Node) -> Error {
    Error::with_message(Reason::PermissionMissing, format!("the caller needs {permission} on {node}"))
        .with_metadata("permission", permission.as_str())
        .with_metadata("resource", node.to_string())
}

fn exceeds(kind: &'static str, subject: &str, why: &'static str) -> Error {
    let message = format!("{}: {subject} {why}", Reason::TargetExceedsCaller.message());
    let precondition = Precondition { kind, subject: subject.into(), description: why.into() };
    Error::with_message(Reason::TargetExceedsCaller, message).with_preconditions([precondition])
}
