//! `request_id`: a repeated create returns the first response and is not executed again.

use std::fmt::Display;

use prost::Message;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::requests::{IdempotentRequest, Replay};
use crate::domain::access::acting::Acting;
use crate::error::{Error, Result};

/// A create with its `request_id`, if any.
pub struct Idempotency<'a>(Option<IdempotentRequest<'a>>);

/// Parses a `request_id`; empty is none.
pub fn parse(request_id: &str) -> Result<Option<Uuid>, &'static str> {
    match request_id {
        "" => Ok(None),
        text => Uuid::try_parse(text).map(Some).map_err(|_| "must be a UUID"),
    }
}

impl<'a> Idempotency<'a> {
    /// A create whose `body` is the request without its `request_id`.
    pub fn new(
        acting: &'a Acting<'a>,
        method: &'static str,
        request_id: Option<Uuid>,
        body: &impl Message,
    ) -> Self {
        Self(request_id.map(|id| IdempotentRequest::new(acting, method, id, &body.encode_to_vec())))
    }

    /// The same create, bound to what its names were found to be: another account of the same name is
    /// another request.
    pub fn bound_to<T: Display>(&self, found: impl IntoIterator<Item = T>) -> Self {
        Self(self.0.as_ref().map(|request| request.bound_to(found)))
    }

    /// Claims the request in this transaction, or returns its earlier result.
    pub async fn claim(&self, tx: &mut PgConnection, now: OffsetDateTime) -> Result<Option<Replay>> {
        match &self.0 {
            Some(request) => request.claim(tx, now).await,
            None => Ok(None),
        }
    }

    /// The response that was returned before, if this is a replay.
    pub async fn replayed<T: Message + Default>(
        &self,
        tx: &mut PgConnection,
        now: OffsetDateTime,
    ) -> Result<Option<T>> {
        let Some(replay) = self.claim(tx, now).await? else {
            return Ok(None);
        };
        T::decode(replay.response.as_slice()).map(Some).map_err(Error::internal)
    }

    /// Stores the response for a replay.
    pub async fn finish(&self, tx: &mut PgConnection, made: &str, response: &impl Message) -> Result<()> {
        match &self.0 {
            Some(request) => request.finish(tx, made, &response.encode_to_vec()).await,
            None => Ok(()),
        }
    }
}
