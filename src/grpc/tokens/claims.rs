//! Signs an access token as it was decided.

use std::fmt::Display;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::domain::access::access_token::{Act, Confirmation};
use crate::domain::access::exchange::{Audiences, Decision};
use crate::domain::values::ids::{AccountId, CredentialId, OrgId};
use crate::error::{Error, Result};
use crate::state::State;

/// The claims that are those of one token, in the order in which they are written.
#[derive(Serialize)]
struct Written<'a> {
    iss: &'a str,
    aud: Audiences<'a>,
    exp: i64,
    iat: i64,
    nbf: i64,
    #[serde(serialize_with = "shown")]
    jti: Uuid,
    #[serde(serialize_with = "shown")]
    sub: AccountId,
    #[serde(serialize_with = "shown")]
    client_id: CredentialId,
    #[serde(serialize_with = "shown")]
    org: OrgId,
    account_kind: &'a str,
    token_kind: &'a str,
    org_ver: i64,
    acct_ver: i64,
    /// The number of the token's secret that it was made with; none of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<i32>,
    /// The version of the rule that it was made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_ver: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Act>,
}

fn shown<S: Serializer>(value: &impl Display, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The JWT of a decision. `act` is the account that impersonates the subject, if one does.
///
/// # Errors
/// `SCOPE_TOO_WIDE`.
pub(super) fn sign(state: &State, decision: Decision<'_>, jti: Uuid, act: Option<Act>) -> Result<String> {
    let signer = &state.keyring.signer;
    let for_whom = decision.speaks_for;
    let written = Written {
        iss: signer.issuer(),
        aud: decision.audiences,
        exp: decision.expires_at,
        iat: decision.issued_at,
        nbf: decision.issued_at,
        jti,
        sub: for_whom.account_id,
        client_id: for_whom.credential_id,
        org: for_whom.org_id,
        account_kind: for_whom.account_kind.name(),
        token_kind: for_whom.token_kind.name(),
        org_ver: for_whom.org_version,
        acct_ver: for_whom.account_version,
        secret: decision.secret,
        rule_ver: decision.rule_version,
        cnf: decision.bound_to.map(Confirmation::from),
        act,
    };
    let carried = decision.carried.json();
    // Its own claims take less than 500 bytes, unless it is for many audiences.
    let mut json = Vec::with_capacity(500 + carried.len());
    serde_json::to_writer(&mut json, &written).map_err(Error::internal)?;
    if !carried.is_empty() {
        json.pop();
        json.push(b',');
        json.extend_from_slice(carried.as_bytes());
        json.push(b'}');
    }
    signer.sign(&json)
}
