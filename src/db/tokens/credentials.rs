//! `credentials`: tokens and sessions alike.

use sqlx::PgConnection;

use crate::db::sign_in::sessions;
use crate::db::tokens;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::error::Result;

/// Keeps the credential that makes a token from being revoked or ended until the transaction
/// ends: whoever does it then finds what it made.
///
/// # Errors
/// `TOKEN_REVOKED` when it was.
pub async fn hold_live(tx: &mut PgConnection, org_id: OrgId, id: CredentialId) -> Result<()> {
    match id {
        CredentialId::Token(id) => tokens::hold_live(tx, org_id, id).await,
        CredentialId::Session(id) => sessions::hold_live(tx, org_id, id).await,
    }
}
