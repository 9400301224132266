//! `token_keys`: which token has a public key. No two active tokens of the deployment have the same one.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::crypto::public_keys::KeyPlace;
use crate::db::one_row;
use crate::domain::tokens::public_key::PublicKey;
use crate::domain::values::client_certificate::Sha256Digest;
use crate::error::{Error, Reason, Result};

/// How long a key counts as taken whose token is not found. On a sharded engine the token of a transaction may
/// be seen a moment after its key.
const SETTLED: Duration = Duration::minutes(1);

/// Claims a key for this place, where it is about to be stored.
///
/// Two transactions that claim the same key take turns: its row is the lock.
///
/// # Errors
/// `RESOURCE_EXISTS` if another place has it that is active, of whichever org. Nothing of that is named.
pub async fn claim(
    tx: &mut PgConnection,
    place: KeyPlace,
    key: &PublicKey,
    now: OffsetDateTime,
) -> Result<()> {
    let KeyPlace { org_id, token_id, number } = place;
    let thumbprint = key.thumbprint();
    let claim = sqlx::query!(
        "insert into token_keys (thumbprint, org_id, token_id, secret_number, claim_time)
         values ($1, $2, $3, $4, $5) on conflict do nothing",
        thumbprint.bytes(),
        org_id.uuid(),
        token_id.uuid(),
        number,
        now
    );
    if claim.execute(&mut *tx).await?.rows_affected() == 1 {
        return Ok(());
    }
    let before = sqlx::query!(
        "select org_id, token_id, secret_number, claim_time from token_keys where thumbprint = $1 for update",
        thumbprint.bytes()
    );
    if let Some(before) = before.fetch_optional(&mut *tx).await? {
        let place = (before.org_id, before.token_id, before.secret_number);
        if is_active(&mut *tx, place, now).await?.unwrap_or(before.claim_time > now - SETTLED) {
            let message =
                "another active token has this key, or this one has it already: make a pair for each";
            return Err(Error::with_message(Reason::ResourceExists, message));
        }
    }
    let take_over = sqlx::query!(
        "update token_keys set org_id = $2, token_id = $3, secret_number = $4, claim_time = $5
         where thumbprint = $1",
        thumbprint.bytes(),
        org_id.uuid(),
        token_id.uuid(),
        number,
        now
    );
    one_row(&take_over.execute(tx).await?, "taking over a key")
}

/// Whether this secret of a token authenticates, as far as its own life and that of the token decide; none if it
/// does not exist. What is not active any more never is again.
async fn is_active(
    tx: &mut PgConnection,
    (org_id, token_id, number): (Uuid, Uuid, i32),
    now: OffsetDateTime,
) -> Result<Option<bool>> {
    let query = sqlx::query_scalar!(
        r#"select (t.revoke_time is null and (t.expire_time is null or t.expire_time > $4)
                   and (s.expire_time is null or s.expire_time > $4)) as "is_active!"
           from tokens t join token_secrets s on s.org_id = $1 and s.token_id = t.token_id
           where t.org_id = $1 and t.token_id = $2 and s.secret_number = $3"#,
        org_id,
        token_id,
        number,
        now
    );
    Ok(query.fetch_optional(tx).await?)
}

/// Frees the keys of secrets that are deleted, each with its token and its hint, unless others have taken them.
pub async fn free(tx: &mut PgConnection, deleted: &[(Uuid, String)]) -> Result<()> {
    // The hint of a key is its thumbprint, that of a secret is a part of its string.
    let keys = deleted.iter().filter_map(|(token, hint)| Some((*token, Sha256Digest::parse(hint).ok()?)));
    let (tokens, thumbprints): (Vec<_>, Vec<_>) =
        keys.map(|(token, key)| (token, key.bytes().to_vec())).unzip();
    if thumbprints.is_empty() {
        return Ok(());
    }
    let query = sqlx::query!(
        "delete from token_keys where thumbprint = any($1) and token_id = any($2)",
        &thumbprints,
        &tokens
    );
    query.execute(tx).await?;
    Ok(())
}
