//! `GetInvitation` and `AcceptInvitation`: called by the holder of the code.

use super::invitations::asked;
use crate::domain::access::caller::Caller;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::invitations;
use crate::flows::invitations::{Accepting, SignUp, sign_in_first};
use crate::grpc::accounts::messages::account as account_message;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn get_invitation(
    state: &State,
    call: &Call,
    request: pb::GetInvitationRequest,
) -> Result<pb::GetInvitationResponse> {
    let shown = invitations::look(state, &request.code, &call.context).await?;
    Ok(pb::GetInvitationResponse {
        org_display_name: shown.org_display_name,
        email: shown.email.to_string(),
        needs_sign_up: shown.needs_sign_up,
    })
}

pub async fn accept_invitation(
    state: &State,
    call: &Call,
    request: pb::AcceptInvitationRequest,
) -> Result<pb::AcceptInvitationResponse> {
    let shown = invitations::look(state, &request.code, &call.context).await?;
    let caller = if call.has_bearer() { Some(call.authenticate(state).await?) } else { None };
    let accepted = match caller {
        None if !shown.needs_sign_up => return Err(sign_in_first()),
        None => {
            let new = SignUp::check(&request.given_name, &request.family_name, &request.password)?;
            invitations::accept(state, &shown, &Accepting::New(&new), &call.context).await?
        }
        Some(caller) => {
            let accepting = signed_in(&caller)?;
            if shown.needs_sign_up {
                return Err(Reason::InvitationEmailMismatch.into());
            }
            refuse_sign_up(&request)?;
            invitations::accept(state, &shown, &accepting, &call.context).await?
        }
    };
    Ok(pb::AcceptInvitationResponse {
        account: Some(account_message(&accepted.account)?),
        dropped_grants: accepted.dropped.iter().map(|grant| asked(&grant.right, &grant.node)).collect(),
    })
}

/// The signed-in caller. A token cannot accept: it was created for less than its account may do.
fn signed_in(caller: &Caller) -> Result<Accepting<'_>> {
    if caller.session().is_none() || caller.is_narrowed() || caller.actor_id().is_some() {
        let message =
            "only a session, or a JWT made from one that carries all its rights, accepts an invitation";
        return Err(Error::with_message(Reason::PermissionMissing, message));
    }
    Ok(Accepting::Caller(caller))
}

/// Refuses names and a password for an existing account, which other calls change.
fn refuse_sign_up(request: &pb::AcceptInvitationRequest) -> Result<()> {
    let mut violations = Violations::default();
    let given = [
        ("given_name", &request.given_name),
        ("family_name", &request.family_name),
        ("password", &request.password),
    ];
    for (field, text) in given {
        if !text.is_empty() {
            violations.add(field, "must be absent: the address has an account");
        }
    }
    violations.finish()
}
