//! The calls that a caller attempts, and the credential behind each.

use super::world::{Bound, ModelCredential, Pick, PresentedAs, World, certificate, refuse};
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::Rights;
use crate::domain::access::roles::CustomRole;
use crate::domain::accounts::lifecycle;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::resources::Node;
use crate::error::Result;

/// A call with the credential number `by` of those that the caller has.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub by: usize,
    pub presented_as: PresentedAs,
    pub call: Call,
}

/// A call of the API.
///
/// `mine` means that the caller chooses the password, or reads the mailbox.
#[derive(Clone, Debug)]
pub enum Call {
    CreateAccount {
        kind: AccountKind,
        grants: Vec<(Pick, Node)>,
        deactivated: bool,
        mine: bool,
    },
    CloneAccount {
        source: usize,
        deactivated: bool,
        mine: bool,
    },
    GrantAccess {
        account: usize,
        right: Pick,
        node: Node,
    },
    RevokeAccess {
        account: usize,
        grant: usize,
    },
    ChangeLifecycle {
        account: usize,
        transition: lifecycle::AccountTransition,
    },
    SetPassword {
        account: usize,
    },
    ConvertAccount {
        account: usize,
        mine: bool,
    },
    UpdateUsername {
        account: usize,
        mine: bool,
    },
    Impersonate {
        account: usize,
    },
    CreateInvitation {
        grants: Vec<(Pick, Node)>,
    },
    ResendInvitation {
        invitation: usize,
    },
    AcceptInvitation {
        invitation: usize,
    },
    CreateRole {
        terms: CustomRole,
    },
    UpdateRole {
        role: usize,
        terms: CustomRole,
    },
    DeleteRole {
        role: usize,
    },
    CreateToken {
        account: usize,
        lists: Restrictions,
        may_manage_tokens: bool,
    },
    UpdateToken {
        token: usize,
        lists: Restrictions,
    },
    /// The token string is exchanged for a JWT, which is not thrown away.
    Exchange,
    /// With these many days of another lifetime, if any.
    RotateToken {
        token: usize,
        ttl: Option<u32>,
    },
    ReassignToken {
        token: usize,
        account: usize,
        allow_narrowing: bool,
    },
    CreateIssuer,
    /// The keys are the caller's from then on.
    UpdateIssuer {
        issuer: usize,
    },
    /// For a workload of the caller's.
    CreateRule {
        issuer: usize,
        account: usize,
        lists: Restrictions,
    },
    /// It is for a workload of the caller's from then on, and enabled.
    UpdateRule {
        rule: usize,
        lists: Restrictions,
    },
    DisableRule {
        rule: usize,
    },
}

impl Call {
    /// The number of different names.
    pub const KINDS: usize = 29;

    pub fn name(&self) -> &'static str {
        match self {
            Call::CreateAccount { .. } => "create account",
            Call::CloneAccount { .. } => "clone account",
            Call::GrantAccess { .. } => "grant access",
            Call::RevokeAccess { .. } => "revoke access",
            Call::ChangeLifecycle { transition, .. } => transition.event(),
            Call::SetPassword { .. } => "set password",
            Call::ConvertAccount { .. } => "convert account",
            Call::UpdateUsername { .. } => "update username",
            Call::Impersonate { .. } => "impersonate",
            Call::CreateInvitation { .. } => "create invitation",
            Call::ResendInvitation { .. } => "resend invitation",
            Call::AcceptInvitation { .. } => "accept invitation",
            Call::CreateRole { .. } => "create role",
            Call::UpdateRole { .. } => "update role",
            Call::DeleteRole { .. } => "delete role",
            Call::CreateToken { .. } => "create token",
            Call::UpdateToken { .. } => "update token",
            Call::Exchange => "exchange",
            Call::RotateToken { ttl: None, .. } => "rotate token",
            Call::RotateToken { ttl: Some(_), .. } => "renew token",
            Call::ReassignToken { .. } => "reassign token",
            Call::CreateIssuer => "create issuer",
            Call::UpdateIssuer { .. } => "update issuer",
            Call::CreateRule { .. } => "create rule",
            Call::UpdateRule { .. } => "update rule",
            Call::DisableRule { .. } => "disable rule",
        }
    }
}

/// The caller of a call, with its credential.
pub struct By<'a> {
    pub acting: Acting<'a>,
    pub credential: ModelCredential,
    pub presented_as: &'a PresentedAs,
}

impl By<'_> {
    /// The limits of the tokens that come from this credential.
    pub fn bound(&self) -> Bound {
        let caller = &self.acting.caller;
        let Restrictions { scopes, resources, certificates, .. } = &*caller.credential().restrictions;
        let mut limits = Rights::within(scopes, resources);
        let narrowed = caller.actor_id().is_none() && !matches!(self.credential, ModelCredential::Jwt(_));
        if let (PresentedAs::NarrowJwt(lists), true) = (self.presented_as, narrowed) {
            limits = limits.meet(&Rights::within(&lists.scopes, &lists.resources));
        }
        let is_session = caller.session().is_some() && caller.actor_id().is_none();
        let is_session = is_session && caller.credential().tied_to.is_none();
        Bound {
            limits,
            gives_management: is_session || caller.is_operator(),
            until: self.acting.token_ceiling(),
            certificates: match certificates.is_empty() || caller.by_token_string() {
                true => certificates.clone(),
                false => vec![AllowedCertificate::Thumbprint(certificate().thumbprint)],
            },
        }
    }
}

impl World {
    /// Applies the call to the model, if it is allowed.
    pub fn carry_out(&mut self, attempt: &Attempt) -> Result<()> {
        let usable = self.usable();
        let Some((credential, _)) = usable.get(attempt.by % usable.len().max(1)) else { return refuse() };
        let caller = self.caller(*credential, &attempt.presented_as)?;
        let by = By {
            acting: caller.acting_in(Some(caller.home()))?,
            credential: *credential,
            presented_as: &attempt.presented_as,
        };
        match &attempt.call {
            Call::CreateAccount { .. } | Call::CloneAccount { .. } => self.create(&by, &attempt.call),
            Call::GrantAccess { .. } | Call::RevokeAccess { .. } => self.change_grants(&by, &attempt.call),
            Call::ChangeLifecycle { account, transition } => {
                self.change_lifecycle(&by, *account, *transition)
            }
            Call::SetPassword { .. }
            | Call::ConvertAccount { .. }
            | Call::UpdateUsername { .. }
            | Call::Impersonate { .. } => self.take_over(&by, &attempt.call),
            Call::CreateInvitation { .. } | Call::ResendInvitation { .. } | Call::AcceptInvitation { .. } => {
                self.invite(&by, &attempt.call)
            }
            Call::CreateRole { .. } | Call::UpdateRole { .. } | Call::DeleteRole { .. } => {
                self.change_roles(&by, &attempt.call)
            }
            Call::Exchange => self.exchange(&by),
            Call::CreateIssuer
            | Call::UpdateIssuer { .. }
            | Call::CreateRule { .. }
            | Call::UpdateRule { .. }
            | Call::DisableRule { .. } => self.federate(&by, &attempt.call),
            Call::CreateToken { .. }
            | Call::UpdateToken { .. }
            | Call::RotateToken { .. }
            | Call::ReassignToken { .. } => self.change_tokens(&by, &attempt.call),
        }
    }
}
