//! `RequestPasswordReset` and `ResetPassword`: called by the owner of the mailbox.

use crate::domain::values::names::Email;
use crate::error::{Error, Result};
use crate::flows::password_reset;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn request_password_reset(
    state: &State,
    call: &Call,
    request: pb::RequestPasswordResetRequest,
) -> Result<pb::RequestPasswordResetResponse> {
    let email = Email::parse(&request.email).map_err(|wrong| Error::invalid("email", wrong.to_string()))?;
    password_reset::request(state, &call.context, &email).await?;
    Ok(pb::RequestPasswordResetResponse {})
}

pub async fn reset_password(
    state: &State,
    call: &Call,
    request: pb::ResetPasswordRequest,
) -> Result<pb::ResetPasswordResponse> {
    password_reset::reset(state, &call.context, &request.code, &request.new_password).await?;
    Ok(pb::ResetPasswordResponse {})
}
