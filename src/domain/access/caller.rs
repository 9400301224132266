//! The authenticated caller: which credential it presented, and what that may do.

use std::sync::Arc;

use time::OffsetDateTime;

use super::credential::Credential;
use super::impersonation::Impersonation;
use super::member::Member;
use super::presentation::Presentation;
use super::request_context::RequestContext;
use super::rights::{Missing, Rights};
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, SessionId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

/// What a caller has authenticated by.
pub enum AuthenticatedBy {
    /// The token string of the token or session itself.
    Text,
    /// A JWT made from it.
    AccessToken {
        /// What it carries, where that is less than the token.
        narrowed_to: Option<Rights>,
        /// The account that it puts the caller in the place of, if one.
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
    /// It presented the credential itself, and no JWT made from it.
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
    pub(crate) fn new(
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
        self.impersonation.as_ref().map_or(&self.credential.account, |impersonation| &impersonation.target)
    }

    pub(crate) fn account_id(&self) -> AccountId {
        self.member().account_id
    }

    /// The account that acts as that one by impersonation; none where it acts itself.
    pub(crate) fn actor_id(&self) -> Option<AccountId> {
        self.impersonation.as_ref().map(|_| self.credential.account.account_id)
    }

    /// The token or session behind the call. Under impersonation it is the administrator's.
    pub(crate) fn credential_id(&self) -> CredentialId {
        self.credential.credential_id
    }

    /// The org that stores the credential: a session's is the home of its account, wherever it acts.
    pub(crate) fn credential_org(&self) -> OrgId {
        match self.credential.credential_id {
            CredentialId::Token(_) => self.credential.account.org_id,
            CredentialId::Session(_) => self.credential.account.home_org_id,
        }
    }

    /// The session behind the call, if it is one, by its token string or by a JWT made from it.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.credential.credential_id {
            CredentialId::Token(_) => None,
            CredentialId::Session(id) => Some(id),
        }
    }

    /// Whether a password login stands behind the call itself: the token string of a session.
    pub(crate) fn has_signed_in(&self) -> bool {
        self.by_text && self.session().is_some()
    }

    /// The session that may act in this org, too, if its account is a member there. A JWT made
    /// from it acts in its own org alone, as every other; and so does an operator, who is one in any.
    pub(crate) fn may_travel(&self, org_id: OrgId) -> Option<&Credential> {
        let travels = self.has_signed_in() && !self.is_operator() && org_id != self.home();
        travels.then_some(&*self.credential)
    }

    /// The same caller in another org, as this credential of its session.
    ///
    /// # Errors
    /// What [`new`](Self::new) says.
    pub(crate) fn within(&self, credential: Arc<Credential>) -> Result<Self> {
        Self::new(credential, AuthenticatedBy::Text, self.context.clone())
    }

    /// The org that the credential acts in.
    pub(crate) fn home(&self) -> OrgId {
        self.member().org_id
    }

    /// When what was presented expires, in whole seconds since 1970; none where it never does.
    pub(crate) fn ends_at(&self) -> Option<i64> {
        let credential = self.credential.expire_time.map(OffsetDateTime::unix_timestamp);
        credential.into_iter().chain(self.expires_at).min()
    }

    /// The impersonation that the caller acts by, if it does.
    pub(super) fn impersonation(&self) -> Option<&Impersonation> {
        self.impersonation.as_ref()
    }

    /// What its JWT carries, where that is less than the token it was made from.
    pub(super) fn narrowed_to(&self) -> Option<&Rights> {
        self.narrowed_to.as_ref()
    }

    /// What the credential can do now, within what its JWT carries.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The credential behind the call.
    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Refuses a JWT that carries less than its token.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming what it lacks.
    pub(crate) fn require_whole_credential(&self) -> Result<()> {
        let Some(carried) = &self.narrowed_to else { return Ok(()) };
        Missing::refuse(Reason::TargetExceedsCaller, &self.credential.effective_rights().beyond(carried))
    }

    /// The home org of its account.
    pub(crate) fn account_home(&self) -> OrgId {
        self.member().home_org_id
    }

    /// Whether the credential has scopes or resources, or its JWT carries less than it.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.credential.restrictions.narrow_rights() || self.narrowed_to.is_some()
    }

    /// The permissions that the credential holds on the whole of its org, sorted.
    pub(crate) fn permissions(&self) -> Vec<String> {
        self.rights.on_org(&self.member().named_by_org).iter().map(Permission::to_string).collect()
    }

    /// A platform administrator: holds `platform.accounts` in the system org.
    pub(crate) fn is_operator(&self) -> bool {
        self.holds_platform(&Permission::PLATFORM_ACCOUNTS)
    }

    /// Whether it holds this permission of the platform.
    pub(crate) fn holds_platform(&self, permission: &Permission) -> bool {
        self.home() == SYSTEM_ORG && self.rights.cover(permission, &Node::Org)
    }

    /// Whether it holds the permission anywhere at all: what closes an RPC to those
    /// who never could, before the message is read.
    pub(crate) fn holds_somewhere(&self, permission: &Permission) -> bool {
        self.rights.hold_somewhere(permission)
            || (self.is_operator() && Rights::of_owner().hold_somewhere(permission))
    }

    /// Requires a permission of the platform.
    pub(crate) fn require_platform(&self, permission: &Permission) -> Result<()> {
        if self.holds_platform(permission) {
            Ok(())
        } else {
            Err(Missing::permission(permission, &Node::Org))
        }
    }
}
