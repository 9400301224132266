//! What a caller tries, and who stands behind it.

use super::world::{Bound, ModelCredential, Pick, PresentedAs, World, refuse};
use crate::domain::access::acting::Acting;
use crate::domain::access::rights::Rights;
use crate::domain::access::roles::CustomRole;
use crate::domain::accounts::lifecycle;
use crate::domain::tokens::restrictions::Restrictions;
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::resources::Node;
use crate::error::Result;

/// A call with the `by`-th of the credentials that the caller has.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub by: usize,
    pub shown: PresentedAs,
    pub call: Call,
}

/// What is `mine` is a password that the caller gives, or a mailbox that it reads.
#[derive(Clone, Debug)]
pub enum Call {
    CreateAccount { kind: AccountKind, grants: Vec<(Pick, Node)>, deactivated: bool, mine: bool },
    CloneAccount { source: usize, deactivated: bool, mine: bool },
    GrantAccess { account: usize, right: Pick, node: Node },
    RevokeAccess { account: usize, grant: usize },
    Live { account: usize, step: lifecycle::AccountTransition },
    SetPassword { account: usize },
    ConvertAccount { account: usize, mine: bool },
    UpdateUsername { account: usize, mine: bool },
    Impersonate { account: usize },
    CreateInvitation { grants: Vec<(Pick, Node)> },
    ResendInvitation { invitation: usize },
    AcceptInvitation { invitation: usize },
    CreateRole { terms: CustomRole },
    UpdateRole { role: usize, terms: CustomRole },
    DeleteRole { role: usize },
    CreateToken { account: usize, lists: Restrictions, may_manage_tokens: bool },
    UpdateToken { token: usize, lists: Restrictions },
    RotateToken { token: usize },
    ReassignToken { token: usize, account: usize, allow_narrowing: bool },
}

impl Call {
    /// How many names there are.
    pub const KINDS: usize = 22;

    pub fn name(&self) -> &'static str {
        match self {
            Call::CreateAccount { .. } => "create account",
            Call::CloneAccount { .. } => "clone account",
            Call::GrantAccess { .. } => "grant access",
            Call::RevokeAccess { .. } => "revoke access",
            Call::Live { step, .. } => step.event(),
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
            Call::RotateToken { .. } => "rotate token",
            Call::ReassignToken { .. } => "reassign token",
        }
    }
}

/// Whoever makes a call, with what.
pub struct By<'a> {
    pub acting: Acting<'a>,
    pub credential: ModelCredential,
    shown: &'a PresentedAs,
}

impl By<'_> {
    /// What bounds the tokens that come from this credential.
    pub fn bound(&self) -> Bound {
        let caller = &self.acting.caller;
        let Restrictions { scopes, resources, .. } = &caller.credential().restrictions;
        let mut limits = Rights::within(scopes, resources);
        if let (PresentedAs::NarrowJwt(lists), None) = (self.shown, caller.actor_id()) {
            limits = limits.meet(&Rights::within(&lists.scopes, &lists.resources));
        }
        let is_session = caller.session().is_some() && caller.actor_id().is_none();
        Bound { limits, gives_management: is_session || caller.is_operator() }
    }
}

impl World {
    /// Carries the call out, if it is allowed.
    pub fn carry_out(&mut self, attempt: &Attempt) -> Result<()> {
        let usable = self.usable();
        let Some((credential, _)) = usable.get(attempt.by % usable.len().max(1)) else { return refuse() };
        let caller = self.caller(*credential, &attempt.shown)?;
        let by = By { acting: caller.acting_in(None)?, credential: *credential, shown: &attempt.shown };
        match &attempt.call {
            Call::CreateAccount { .. } | Call::CloneAccount { .. } => self.create(&by, &attempt.call),
            Call::GrantAccess { .. } | Call::RevokeAccess { .. } => self.change_grants(&by, &attempt.call),
            Call::Live { account, step } => self.live(&by, *account, *step),
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
            Call::CreateToken { .. }
            | Call::UpdateToken { .. }
            | Call::RotateToken { .. }
            | Call::ReassignToken { .. } => self.change_tokens(&by, &attempt.call),
        }
    }
}
