//! Credentials of every kind: tokens, sessions and federation rules.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::db::federation::rules;
use crate::db::sign_in::sessions;
use crate::db::tokens;
use crate::domain::access::standing::StoredCredential;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::error::Result;

/// Keeps the credential of a caller from being changed or revoked until the transaction ends.
///
/// A transaction that revokes or ends it afterwards finds what the caller has created. None if there is
/// no such credential any more.
pub async fn hold(
    tx: &mut PgConnection,
    org_id: OrgId,
    id: CredentialId,
) -> Result<Option<StoredCredential>> {
    match id {
        CredentialId::Token(id) => tokens::hold(tx, org_id, id).await,
        CredentialId::Session(id) => sessions::hold(tx, org_id, id).await,
        CredentialId::Rule(id) => rules::hold(tx, org_id, id).await,
    }
}

/// Which of these ids a token, a session or an emailed code has.
///
/// Two reads, because a sharded engine does not read a distributed table together with a local one.
pub async fn find_existing(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let credentials =
        sqlx::query_scalar!("select credential_id from credentials where credential_id = any($1)", ids);
    let mut found = credentials.fetch_all(&mut *db).await?;
    let codes = sqlx::query_scalar!("select code_id from codes where code_id = any($1)", ids);
    found.extend(codes.fetch_all(db).await?);
    Ok(found)
}
