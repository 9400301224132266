//! `peppers`, and the rows that name them.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::db::pool::Db;
use crate::db::{one_row, retrying};
use crate::domain::tokens::secrets::SecretRecord;
use crate::domain::values::ids::{OrgId, TokenId};
use crate::error::Result;

/// How long the newest pepper must exist before an older one is dropped. By then no node hashes a
/// new secret under the older one any more, even where notifications are slow.
const SETTLED: Duration = Duration::hours(1);

/// A secret whose token string was presented, to be re-hashed under the newest pepper.
pub struct Renewal {
    pub org_id: OrgId,
    pub token_id: TokenId,
    /// Its number among the token's secrets.
    pub number: i32,
    /// The stored hash before.
    pub before: [u8; 32],
    pub secret: SecretRecord,
}

/// Inserts a new pepper.
pub async fn insert(tx: &mut PgConnection, number: i32, sealed: &[u8], now: OffsetDateTime) -> Result<()> {
    let query = sqlx::query!(
        "insert into peppers (pepper_id, sealed, create_time) values ($1, $2, $3)",
        number,
        sealed,
        now
    );
    one_row(&query.execute(tx).await?, "keeping a pepper")
}

/// Stores the new hashes of many secrets, in one statement. One that was changed meanwhile stays
/// as it is.
pub async fn renew(db: &Db, renewals: &[Renewal]) -> Result<u64> {
    let orgs: Vec<Uuid> = renewals.iter().map(|renewal| renewal.org_id.uuid()).collect();
    let tokens: Vec<Uuid> = renewals.iter().map(|renewal| renewal.token_id.uuid()).collect();
    let numbers: Vec<i32> = renewals.iter().map(|renewal| renewal.number).collect();
    let before: Vec<Vec<u8>> = renewals.iter().map(|renewal| renewal.before.to_vec()).collect();
    let macs: Vec<Vec<u8>> = renewals.iter().map(|renewal| renewal.secret.mac.to_vec()).collect();
    let peppers: Vec<i32> = renewals.iter().map(|renewal| renewal.secret.pepper).collect();
    retrying(|| async {
        let query = sqlx::query!(
            "update token_secrets s set mac = n.mac, pepper_id = n.pepper_id
             from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::bytea[], $5::bytea[], $6::integer[])
                  as n (org_id, token_id, secret_number, before, mac, pepper_id)
             where s.org_id = n.org_id and s.token_id = n.token_id and s.secret_number = n.secret_number
               and s.mac = n.before",
            &orgs,
            &tokens,
            &numbers,
            &before,
            &macs,
            &peppers
        );
        Ok(query.execute(db).await?.rows_affected())
    })
    .await
}

/// The peppers that are older than the newest one and that no active token's secret, no active
/// session and no active code names.
///
/// Three reads, because a sharded engine does not join distributed tables with local ones. No new row names
/// an older pepper, so that one that a read finds unused remains so.
pub async fn find_unused(db: &mut PgConnection, newest: i32, now: OffsetDateTime) -> Result<Vec<i32>> {
    let old = sqlx::query_scalar!(
        "select p.pepper_id from peppers p
         where p.pepper_id < $1
           and exists (select 1 from peppers n where n.pepper_id = $1 and n.create_time <= $3)
           and not exists (
               select 1 from codes c
               where c.pepper_id = p.pepper_id and c.end_time is null and c.expire_time > $2)
         order by p.pepper_id",
        newest,
        now,
        now - SETTLED
    );
    let mut unused = old.fetch_all(&mut *db).await?;
    if unused.is_empty() {
        return Ok(unused);
    }
    let of_tokens = sqlx::query_scalar!(
        r#"select distinct s.pepper_id as "pepper_id!" from token_secrets s
         join tokens t on t.org_id = s.org_id and t.token_id = s.token_id
         where s.pepper_id = any($1) and t.revoke_time is null
           and (t.expire_time is null or t.expire_time > $2)
           and (s.expire_time is null or s.expire_time > $2)"#,
        &unused,
        now
    );
    let of_tokens = of_tokens.fetch_all(&mut *db).await?;
    unused.retain(|pepper| !of_tokens.contains(pepper));
    let of_sessions = sqlx::query_scalar!(
        "select distinct pepper_id from sessions
         where pepper_id = any($1) and end_time is null and expire_time > $2",
        &unused,
        now
    );
    let of_sessions = of_sessions.fetch_all(&mut *db).await?;
    unused.retain(|pepper| !of_sessions.contains(pepper));
    Ok(unused)
}

/// Deletes these peppers. Returns those that existed.
pub async fn delete(tx: &mut PgConnection, numbers: &[i32]) -> Result<Vec<i32>> {
    let query =
        sqlx::query_scalar!("delete from peppers where pepper_id = any($1) returning pepper_id", numbers);
    Ok(query.fetch_all(tx).await?)
}
