//! The authenticated caller: the credential that it presented, and the rights of that credential.

use std::sync::Arc;

use time::OffsetDateTime;

use super::credential::Credential;
use super::impersonation::Impersonation;
use super::member::Member;
use super::missing::permission_missing;
use super::presentation::Presentation;
use super::request_context::RequestContext;
use super::rights::Rights;
use super::standing::Standing;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::domain::values::ids::{AccountId, CredentialId, OrgId, SYSTEM_ORG, SessionId};
use crate::domain::values::kinds::TokenKind;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};

/// How a caller has authenticated.
pub enum AuthenticatedBy {
    /// With the token string of the token or session itself.
    TokenString {
        /// The number of the secret that matched.
        secret: Option<i32>,
    },
    /// With a JWT made from it.
    AccessToken {
        /// The number of the secret that it was exchanged for; none for a session.
        secret: Option<i32>,
        /// The rights that the JWT carries, if fewer than those of the token.
        narrowed_to: Option<Rights>,
        /// The account that the caller impersonates with the JWT, if any.
        impersonation: Option<Impersonation>,
        /// When the JWT expires, in whole seconds since 1970.
        expires_at: i64,
        /// The certificate that the JWT is bound to, if any.
        bound_to: Option<Sha256Digest>,
    },
}

/// An authenticated caller: a valid credential, with its rights as they are now.
#[derive(Clone)]
pub struct Caller {
    /// The credential; under impersonation, the administrator's.
    credential: Arc<Credential>,
    impersonation: Option<Impersonation>,
    rights: Rights,
    /// Whether it presented the credential itself, and not a JWT made from it.
    by_token_string: bool,
    /// The number of the secret that was presented, or that its JWT was exchanged for.
    secret: Option<i32>,
    /// The rights that its JWT carries, if fewer than those of the token that it was made from.
    ///
    /// None under impersonation: such a JWT carries everything that it was made for.
    narrowed_to: Option<Rights>,
    /// When the JWT expires, in whole seconds since 1970.
    expires_at: Option<i64>,
    /// The certificate that the JWT is bound to, if any.
    bound_to: Option<Sha256Digest>,
    /// Its token's audiences lack the issuer: it is a bearer for what concerns the token itself, alone.
    only_itself: bool,
    pub context: Arc<RequestContext>,
}

impl Caller {
    /// Makes the caller from a credential and the way in which it authenticated.
    ///
    /// A JWT never has more rights than its token has now, and works only from where the token
    /// does.
    ///
    /// # Errors
    /// - `TOKEN_INVALID` or `ACCESS_TOKEN_INVALID` for a publishable token or a JWT made from one:
    ///   they authenticate no call to this API, wherever they come from.
    /// - `PURPOSE_MISMATCH` for a token with a purpose, since this API names none.
    /// - `ADDRESS_NOT_ALLOWED`.
    /// - `CLIENT_CERTIFICATE_NOT_ALLOWED`, also for a JWT that is bound to another certificate than the
    ///   connection's.
    pub(crate) fn new(
        credential: Arc<Credential>,
        bearer: AuthenticatedBy,
        context: Arc<RequestContext>,
    ) -> Result<Self> {
        if credential.kind == TokenKind::Publishable {
            let reason = match bearer {
                AuthenticatedBy::TokenString { .. } => Reason::TokenInvalid,
                AuthenticatedBy::AccessToken { .. } => Reason::AccessTokenInvalid,
            };
            return Err(Error::with_message(reason, "a publishable token cannot be used with this API"));
        }
        let certificate = context.presented_certificate();
        credential.admit(&Presentation {
            address: context.address.compared(),
            certificate,
            ..Presentation::default()
        })?;
        let by_token_string = matches!(bearer, AuthenticatedBy::TokenString { .. });
        let (secret, mut narrowed_to, impersonation, expires_at, bound_to) = match bearer {
            AuthenticatedBy::TokenString { secret } => (secret, None, None, None, None),
            AuthenticatedBy::AccessToken { secret, narrowed_to, impersonation, expires_at, bound_to } => {
                (secret, narrowed_to, impersonation, Some(expires_at), bound_to)
            }
        };
        if bound_to.is_some() && certificate.thumbprint() != bound_to {
            return Err(Reason::ClientCertificateNotAllowed.into());
        }
        let rights = match (&impersonation, &mut narrowed_to) {
            (Some(impersonation), carried) => impersonation.rights(&carried.take().unwrap_or_default()),
            (None, Some(carried)) => credential.effective_rights().meet(carried),
            (None, None) => credential.effective_rights().clone(),
        };
        let only_itself = false;
        Ok(Self {
            credential,
            impersonation,
            rights,
            by_token_string,
            secret,
            narrowed_to,
            expires_at,
            bound_to,
            only_itself,
            context,
        })
    }

    /// Refuses a credential whose list of audiences lacks this issuer, but for a call that concerns the
    /// token itself (`about_itself`), which its token string alone may make.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `ACCESS_TOKEN_INVALID` for a JWT.
    pub(crate) fn for_issuer(mut self, issuer: &str, about_itself: bool) -> Result<Self> {
        self.only_itself = !self.credential.is_for(issuer);
        match (self.only_itself, self.by_token_string) {
            (false, _) => Ok(self),
            (true, true) if about_itself => Ok(self),
            (true, by_token_string) => {
                let reason = if by_token_string { Reason::TokenInvalid } else { Reason::AccessTokenInvalid };
                let message = "the token's allowed_audiences lack this issuer: it can rotate and revoke itself, \
                               and call GetCaller";
                Err(Error::with_message(reason, message))
            }
        }
    }

    /// Whether its calls may concern its own token alone.
    pub(super) fn is_only_for_itself(&self) -> bool {
        self.only_itself
    }

    /// The account that the caller acts as, in the org in which it acts.
    fn member(&self) -> &Member {
        self.impersonation.as_ref().map_or(&self.credential.account, |impersonation| &impersonation.target)
    }

    pub(crate) fn account_id(&self) -> AccountId {
        self.member().account_id
    }

    /// The username of that account.
    pub(crate) fn username(&self) -> &str {
        &self.member().username
    }

    /// The account that impersonates the caller's account; none without impersonation.
    pub(crate) fn actor_id(&self) -> Option<AccountId> {
        self.impersonation.as_ref().map(|_| self.credential.account.account_id)
    }

    /// The token or session behind the call; under impersonation, the administrator's.
    pub(crate) fn credential_id(&self) -> CredentialId {
        self.credential.credential_id
    }

    /// The org that stores the credential.
    ///
    /// For a session this is the home org of its account, wherever it acts.
    pub(crate) fn credential_org(&self) -> OrgId {
        match self.credential.credential_id {
            CredentialId::Token(_) | CredentialId::Rule(_) => self.credential.account.org_id,
            CredentialId::Session(_) => self.credential.account.home_org_id,
        }
    }

    /// The session behind the call, if any: presented by its token string or by a JWT made from it.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.credential.credential_id {
            CredentialId::Token(_) | CredentialId::Rule(_) => None,
            CredentialId::Session(id) => Some(id),
        }
    }

    /// Whether the call presents the token string of a session, and so comes from a password login.
    pub(crate) fn has_signed_in(&self) -> bool {
        self.by_token_string && self.session().is_some()
    }

    /// The session, if it may also act in this org as soon as its account is a member there.
    ///
    /// None for a JWT made from a session, which acts only in its own org as every JWT does, and
    /// for an operator, who is an operator in every org.
    pub(crate) fn may_travel(&self, org_id: OrgId) -> Option<&Credential> {
        let travels = self.has_signed_in() && !self.is_operator() && org_id != self.home();
        travels.then_some(&*self.credential)
    }

    /// The same caller in another org, with this credential of its session.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(crate) fn within(&self, credential: Arc<Credential>) -> Result<Self> {
        let bearer = AuthenticatedBy::TokenString { secret: self.secret };
        Self::new(credential, bearer, self.context.clone())
    }

    /// Whether the call presents the credential's own token string, and not a JWT made from it.
    pub(crate) fn by_token_string(&self) -> bool {
        self.by_token_string
    }

    /// What it is by now, for the transaction that it begins.
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            credential_org: self.credential_org(),
            credential_id: self.credential_id(),
            secret: self.secret,
            rule_version: self.credential.rule_version(),
            account: (&self.credential.account).into(),
            impersonated: self.impersonation.as_ref().map(|acts| (&*acts.target).into()),
            rights: self.by_token_string.then(|| self.rights.clone()),
        }
    }

    /// The number of the secret that was presented, or that its JWT was exchanged for.
    pub(crate) fn secret(&self) -> Option<i32> {
        self.secret
    }

    /// When the credential behind the call ends by the secret that was presented; none if it never does.
    pub(crate) fn credential_end(&self) -> Option<OffsetDateTime> {
        self.credential.end(self.secret)
    }

    /// The org that the credential acts in.
    pub(crate) fn home(&self) -> OrgId {
        self.member().org_id
    }

    /// When the presented credential expires, in whole seconds since 1970; none if it never does.
    pub(crate) fn expires_at(&self) -> Option<i64> {
        let credential = self.credential_end().map(OffsetDateTime::unix_timestamp);
        credential.into_iter().chain(self.expires_at).min()
    }

    /// The impersonation by which the caller acts, if any.
    pub(super) fn impersonation(&self) -> Option<&Impersonation> {
        self.impersonation.as_ref()
    }

    /// The rights that its JWT carries, if fewer than those of the token that it was made from.
    pub(super) fn narrowed_to(&self) -> Option<&Rights> {
        self.narrowed_to.as_ref()
    }

    /// The rights of the credential now, within what its JWT carries.
    pub(super) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// The credential behind the call.
    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Refuses a JWT that carries fewer rights than its token.
    ///
    /// # Errors
    /// `TARGET_EXCEEDS_CALLER`, naming what it lacks.
    pub(crate) fn require_whole_credential(&self) -> Result<()> {
        let Some(carried) = &self.narrowed_to else { return Ok(()) };
        self.credential.effective_rights().refuse_beyond(carried, Reason::TargetExceedsCaller)
    }

    /// Refuses what a federation rule gave: it acts as its account, and makes nothing that outlives it. `why`
    /// follows the rule.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`.
    pub(crate) fn refuse_rule(&self, why: &'static str) -> Result<()> {
        match self.credential.credential_id {
            CredentialId::Token(_) | CredentialId::Session(_) => Ok(()),
            CredentialId::Rule(_) => {
                let message = format!("a federation rule {why}");
                Err(Error::with_message(Reason::PermissionMissing, message))
            }
        }
    }

    /// The certificate that its JWT is bound to, if any.
    pub(super) fn bound_to(&self) -> Option<Sha256Digest> {
        self.bound_to
    }

    /// The certificate that a JWT which is made from this call is bound to, if any: that of the JWT, or
    /// the connection's where the credential works with some alone.
    pub(super) fn binds_to(&self) -> Option<Sha256Digest> {
        let by_credential = !self.credential.restrictions.certificates.is_empty();
        let own = || self.context.presented_certificate().thumbprint();
        self.bound_to.or_else(|| by_credential.then(own).flatten())
    }

    /// The home org of the account that the caller acts as.
    pub(crate) fn account_home(&self) -> OrgId {
        self.member().home_org_id
    }

    /// Whether the credential has scopes or resources, or its JWT carries less than it.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.credential.restrictions.narrow_rights() || self.narrowed_to.is_some()
    }

    /// The permissions that the credential holds on its whole org, sorted.
    pub(crate) fn permissions(&self) -> Vec<String> {
        self.rights.on_org(self.member().held.named_by_org()).iter().map(Permission::to_string).collect()
    }

    /// Whether it is a platform administrator: it holds `platform.accounts` in the system org.
    pub(crate) fn is_operator(&self) -> bool {
        self.holds_platform(&Permission::PLATFORM_ACCOUNTS)
    }

    /// Whether it holds this permission of the platform.
    pub(crate) fn holds_platform(&self, permission: &Permission) -> bool {
        self.home() == SYSTEM_ORG && self.rights.cover(permission, &Node::Org)
    }

    /// Whether it holds the permission on any node.
    ///
    /// This refuses an RPC to a caller that could never use it, before the message is read.
    pub(crate) fn holds_somewhere(&self, permission: &Permission) -> bool {
        self.rights.hold_somewhere(permission)
            || (self.is_operator() && Rights::of_owner().hold_somewhere(permission))
    }

    /// Requires a permission of the platform.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`, with the permission.
    pub(crate) fn require_platform(&self, permission: &Permission) -> Result<()> {
        if self.holds_platform(permission) { Ok(()) } else { Err(permission_missing(permission, &Node::Org)) }
    }
}
