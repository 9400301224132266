//! Signs an access token as it was decided.

use serde::Serialize;
use uuid::Uuid;

use crate::domain::access::access_token::{Act, Audiences, Confirmation};
use crate::domain::access::exchange::Decision;
use crate::error::{Error, Result};
use crate::state::State;

/// The claims that are those of one token, in the order in which they are written.
#[derive(Serialize)]
struct Written<'a> {
    iss: &'a str,
    aud: Audiences,
    exp: i64,
    iat: i64,
    nbf: i64,
    jti: String,
    /// The number of the token's secret that it was made with; none of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Act>,
}

/// The JWT of a decision. `act` is the account that impersonates the subject, if one does.
///
/// # Errors
/// `SCOPE_TOO_WIDE`.
pub(super) fn sign(state: &State, decision: Decision, jti: Uuid, act: Option<Act>) -> Result<String> {
    let signer = &state.keyring.signer;
    let written = Written {
        iss: signer.issuer(),
        aud: decision.audiences.into(),
        exp: decision.expires_at,
        iat: decision.issued_at,
        nbf: decision.issued_at,
        jti: jti.to_string(),
        secret: decision.secret,
        cnf: decision.bound_to.map(Confirmation::from),
        act,
    };
    let carried = decision.carried.json();
    // Its own claims take less than 300 bytes, unless it is for many audiences.
    let mut json = Vec::with_capacity(300 + carried.len());
    serde_json::to_writer(&mut json, &written).map_err(Error::internal)?;
    json.pop();
    json.push(b',');
    json.extend_from_slice(carried.as_bytes());
    json.push(b'}');
    signer.sign(&json)
}
