//! What a narrowing of the system org means in every org.

use sqlx::PgConnection;

use crate::domain::values::ids::{OrgId, SYSTEM_ORG};
use crate::error::Result;

/// Increments the versions of all members where the org is that of the operators: they act in every org, in which
/// verifiers know the version of the account that acts, and not that of its org.
pub(super) async fn raise(tx: &mut PgConnection, org_id: OrgId) -> Result<()> {
    if org_id == SYSTEM_ORG {
        let query =
            sqlx::query!("update memberships set version = version + 1 where org_id = $1", org_id.uuid());
        query.execute(tx).await?;
    }
    Ok(())
}
