//! `requests`: idempotency of creates that carry a `request_id`, which are carried out once.

use std::fmt::Display;

use aws_lc_rs::digest;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::one_row;
use crate::domain::access::acting::Acting;
use crate::error::{Error, Reason, Result};

/// How long a request is stored.
pub const RETENTION: time::Duration = time::Duration::hours(24);

/// A create that must not happen twice: its caller, its method and body, and its id.
pub struct IdempotentRequest<'a> {
    acting: &'a Acting<'a>,
    method: &'static str,
    request_id: Uuid,
    body_hash: Vec<u8>,
}

/// The outcome of an earlier request with the same id.
pub struct Replay {
    /// The id or path of the object that was created.
    pub made: String,
    /// The response that was sent, without its secret.
    pub response: Vec<u8>,
}

impl<'a> IdempotentRequest<'a> {
    /// Identifies a create. `body` is the encoded request without its `request_id`.
    pub fn new(acting: &'a Acting<'a>, method: &'static str, request_id: Uuid, body: &[u8]) -> Self {
        let body_hash = digest::digest(&digest::SHA256, body).as_ref().to_vec();
        Self { acting, method, request_id, body_hash }
    }

    /// The same create, bound to what its names were found to be.
    pub fn bound_to<T: Display>(&self, found: impl IntoIterator<Item = T>) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.body_hash);
        for each in found {
            hash.update(each.to_string().as_bytes());
            hash.update(b"\0");
        }
        Self { body_hash: hash.finish().as_ref().to_vec(), ..*self }
    }

    /// Claims the request for this transaction, or returns its outcome from the last 24 h.
    ///
    /// Waits for another transaction that has claimed the same request.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED` when the id belongs to a request with another body.
    pub async fn claim(&self, tx: &mut PgConnection, now: OffsetDateTime) -> Result<Option<Replay>> {
        let (account, actor) = self.account_and_actor();
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
            now - RETENTION
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

    /// The account that the request is made as, and the one that makes it.
    ///
    /// They differ under impersonation only.
    fn account_and_actor(&self) -> (Uuid, Uuid) {
        let account = self.acting.caller.account_id();
        (account.uuid(), self.acting.caller.actor_id().unwrap_or(account).uuid())
    }

    /// Stores the outcome, in the transaction that claimed the request.
    pub async fn finish(&self, tx: &mut PgConnection, made: &str, response: &[u8]) -> Result<()> {
        let (account, actor) = self.account_and_actor();
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
        one_row(&query.execute(tx).await?, "storing the outcome of a request")
    }
}

impl Replay {
    /// The error for a create whose response held a secret, which is not stored.
    pub fn secret_is_gone(self) -> Error {
        Error::new(Reason::RequestReplayed).with_metadata("id", self.made)
    }
}
