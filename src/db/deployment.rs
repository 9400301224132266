//! `deployment`: the one row about the deployment itself.

use sqlx::PgExecutor;

use crate::error::Result;

/// The recorded issuer; none before the first `bootstrap` or `serve`.
pub async fn find_issuer(db: impl PgExecutor<'_>) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!("select issuer from deployment").fetch_one(db).await?)
}

/// Records the issuer where none is recorded yet. Of two at once the first one counts.
pub async fn record_issuer(db: impl PgExecutor<'_>, issuer: &str) -> Result<()> {
    let query = sqlx::query!("update deployment set issuer = $1 where issuer is null", issuer);
    query.execute(db).await?;
    Ok(())
}

/// Replaces the issuer.
pub async fn replace_issuer(db: impl PgExecutor<'_>, issuer: &str) -> Result<()> {
    sqlx::query!("update deployment set issuer = $1", issuer).execute(db).await?;
    Ok(())
}
