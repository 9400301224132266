//! What is known of a JWT whose checks are explained.

use std::sync::Arc;

use super::authenticate::Authenticator;
use crate::domain::access::access_token::AccessToken;
use crate::domain::access::credential::Credential;
use crate::domain::values::client_address::ClientAddress;
use crate::error::{Code, Reason, Result};

/// A JWT of this issuer, with the credential that it was made from.
pub struct ExplainedAccessToken {
    pub token: AccessToken,
    pub credential: Arc<Credential>,
    /// Why it is refused now, if it is.
    pub refusal: Option<Reason>,
}

impl Authenticator {
    /// Explains a JWT: the reason for which its signature, issuer or times are refused, or the credential
    /// behind it; none where there is none.
    pub async fn explain_access_token(
        &self,
        jwt: &str,
    ) -> Result<Result<Option<ExplainedAccessToken>, Reason>> {
        let token = match self.keyring.signer.verify(jwt, self.clock.now()) {
            Ok(token) => token,
            Err(reason) => return Ok(Err(reason)),
        };
        // Others presented it to the caller: it is no failure of the caller's address.
        let from = ClientAddress::UNKNOWN;
        let refusal = match self.by_access_token(jwt, from).await {
            Ok(_) => None,
            Err(error) if error.reason().code() == Code::Unauthenticated => Some(error.reason()),
            Err(error) => return Err(error),
        };
        let found = self.principals.credential(token.credential_id, from).await?;
        Ok(Ok(found.map(|found| ExplainedAccessToken { token, credential: found.credential, refusal })))
    }
}
