//! `requests`: creates that carried a `request_id` are carried out once.

use aws_lc_rs::digest;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::one_row;
use crate::domain::access::acting::Acting;
use crate::error::{Error, Reason, Result};

/// How long a request is remembered.
pub const KEPT: time::Duration = time::Duration::hours(24);

/// A create that must not happen twice: who asked, what for, and under which id.
pub struct IdempotentRequest<'a> {
    acting: &'a Acting<'a>,
    method: &'static str,
    request_id: Uuid,
    body_hash: Vec<u8>,
}

/// What became of the same request before.
pub struct Replay {
    /// The id or path of what was made.
    pub made: String,
    /// The answer that was sent, without a secret.
    pub response: Vec<u8>,
}

impl<'a> IdempotentRequest<'a> {
    /// Names a create. `body` is the encoded request without its `request_id`.
    pub fn new(acting: &'a Acting<'a>, method: &'static str, request_id: Uuid, body: &[u8]) -> Self {
        let body_hash = digest::digest(&digest::SHA256, body).as_ref().to_vec();
        Self { acting, method, request_id, body_hash }
    }

    /// Claims the request for this transaction, waiting for another one that is about
    /// the same; or gives what came of it before, within 24 h.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when it was another request.
    pub async fn claim(&self, tx: &mut PgConnection, now: OffsetDateTime) -> Result<Option<Replay>> {
        let (account, actor) = self.asked_by();
        let claim = sqlx::query!(
            "insert into requests (org_id, account_id, actor_id, method, request_id, body_hash, made, response, create_time)
             values ($1, $2, $3, $4, $5, $6, '', '', $7)
             on conflict on constraint requests_pk do update
             set body_hash = excluded.body_hash, made = '', response = '', create_time = excluded.create_time
             where requests.create_time <= $8",
            self.acting.org_id.uuid(),
            account,
            actor,
            self.method,
            self.request_id,
            self.body_hash,
            now,
            now - KEPT
        );
        if claim.execute(&mut *tx).await?.rows_affected() == 1 {
            return Ok(None);
        }
        let before = sqlx::query!(
            "select body_hash, made, response from requests
             where org_id = $1 and account_id = $2 and actor_id = $3 and method = $4 and request_id = $5",
            self.acting.org_id.uuid(),
            account,
            actor,
            self.method,
            self.request_id
        );
        let before = before.fetch_one(tx).await?;
        if before.body_hash != self.body_hash {
            return Err(Reason::RequestIdReused.into());
        }
        Ok(Some(Replay { made: before.made, response: before.response }))
    }

    /// The account that asked, and who did: another one under impersonation.
    fn asked_by(&self) -> (Uuid, Uuid) {
        let account = self.acting.caller.account_id();
        (account.uuid(), self.acting.caller.actor_id().unwrap_or(account).uuid())
    }

    /// Notes what came of it, in the transaction that claimed it.
    pub async fn finish(&self, tx: &mut PgConnection, made: &str, response: &[u8]) -> Result<()> {
        let (account, actor) = self.asked_by();
        let query = sqlx::query!(
            "update requests set made = $6, response = $7
             where org_id = $1 and account_id = $2 and actor_id = $3 and method = $4 and request_id = $5",
            self.acting.org_id.uuid(),
            account,
            actor,
            self.method,
            self.request_id,
            made,
            response
        );
        one_row(&query.execute(tx).await?, "noting a request")
    }
}

impl Replay {
    /// The error for a create whose answer held a secret, which is gone.
    pub fn secret_is_gone(self) -> Error {
        Error::new(Reason::RequestReplayed).with_metadata("id", self.made)
    }
}
