//! `RequestPasswordReset` and `ResetPassword`: for whoever has the mailbox.

use crate::domain::names::Email;
use crate::error::{Error, Result};
use crate::grpc::auth::Call;
use crate::grpc::pb;
use crate::resets;
use crate::state::State;

pub async fn request(
    state: &State,
    call: &Call,
    request: pb::RequestPasswordResetRequest,
) -> Result<pb::RequestPasswordResetResponse> {
    let email = Email::parse(&request.email).map_err(|wrong| Error::invalid("email", wrong.to_string()))?;
    resets::request(state, &call.origin, &email).await?;
    Ok(pb::RequestPasswordResetResponse {})
}

pub async fn reset(
    state: &State,
    call: &Call,
    request: pb::ResetPasswordRequest,
) -> Result<pb::ResetPasswordResponse> {
    resets::reset(state, &call.origin, &request.code, &request.new_password).await?;
    Ok(pb::ResetPasswordResponse {})
}
