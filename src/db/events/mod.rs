//! `events`, the audit log of each org, and `feed`, which nodes follow. Both are
//! written in the transaction of the change.

pub mod feed;
pub mod log;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::one_row;
use crate::domain::access::acting::Acting;
use crate::domain::access::caller::Caller;
use crate::domain::values::ids::{AccountId, CredentialId, EventId, OrgId, SYSTEM_ORG};
use crate::error::Result;

/// Who makes a change, and from where.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// None for the server itself and its command line.
    pub account_id: Option<AccountId>,
    /// Who impersonates that account, if anybody.
    pub impersonator_id: Option<AccountId>,
    pub credential_id: Option<CredentialId>,
    pub operator: bool,
    pub address: Option<String>,
    pub request_id: Option<String>,
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self {
            account_id: Some(caller.account_id()),
            impersonator_id: caller.actor_id(),
            credential_id: Some(caller.credential_id()),
            operator: caller.credential_org() == SYSTEM_ORG,
            address: caller.context.address.map(|address| address.to_string()),
            request_id: Some(caller.context.request_id.clone()),
        }
    }
}

impl From<&Acting<'_>> for Actor {
    fn from(acting: &Acting<'_>) -> Self {
        acting.caller.as_ref().into()
    }
}

/// One field that a change gave another value. Never a secret.
#[derive(Clone, Debug, Serialize)]
pub struct FieldChange {
    pub field: &'static str,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

impl FieldChange {
    /// A field that had no value before.
    pub fn set(field: &'static str, new_value: impl ToString) -> Self {
        Self { field, old_value: None, new_value: Some(new_value.to_string()) }
    }

    /// A field that had another value before; none when it had the same.
    pub fn between(
        field: &'static str,
        old_value: Option<String>,
        new_value: Option<String>,
    ) -> Option<Self> {
        (old_value != new_value).then_some(Self { field, old_value, new_value })
    }

    /// A field that has no value any more.
    pub fn cleared(field: &'static str, old_value: impl ToString) -> Self {
        Self { field, old_value: Some(old_value.to_string()), new_value: None }
    }

    /// A list: one for each value that was taken out or put in.
    pub fn of_lists<'a, T: PartialEq + ToString>(
        field: &'static str,
        old: &'a [T],
        new: &'a [T],
    ) -> impl Iterator<Item = Self> + 'a {
        let gone =
            old.iter().filter(|value| !new.contains(value)).map(move |v| Self::cleared(field, v.to_string()));
        let come =
            new.iter().filter(|value| !old.contains(value)).map(move |v| Self::set(field, v.to_string()));
        gone.chain(come)
    }
}

/// One change: a line of the org's log, and what it touches in caches.
pub struct Change {
    pub event_id: EventId,
    pub org_id: OrgId,
    /// `noun.verb` in the past tense, such as `token.revoked`.
    pub kind: &'static str,
    /// The ids of all that the call touched.
    pub resource_ids: Vec<String>,
    pub fields: Vec<FieldChange>,
    /// The cache keys that it touches: ids of tokens, accounts, orgs.
    pub subjects: Vec<String>,
}

/// Writes the event and the feed row of each change. All changes of one transaction
/// come here together: a feed row's place is its index among them.
pub async fn record(
    tx: &mut PgConnection,
    actor: &Actor,
    changes: &[Change],
    now: OffsetDateTime,
) -> Result<()> {
    for (seq, change) in changes.iter().enumerate() {
        let event = sqlx::query!(
            "insert into events (org_id, event_id, type, actor_id, impersonator_id, operator, credential_id,
                                 resource_ids, changes, address, request_id, create_time)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            change.org_id.uuid(),
            change.event_id.uuid(),
            change.kind,
            actor.account_id.map(AccountId::uuid),
            actor.impersonator_id.map(AccountId::uuid),
            actor.operator,
            actor.credential_id.map(CredentialId::uuid),
            &change.resource_ids,
            Json(&change.fields) as _,
            actor.address,
            actor.request_id,
            now
        );
        one_row(&event.execute(&mut *tx).await?, "writing an event")?;
        let named = sqlx::query!(
            "insert into event_resources (org_id, resource_id, create_time, event_id)
             select $1, resource_id, $3, $4 from unnest($2::text[]) as named (resource_id)
             on conflict on constraint event_resources_pk do nothing",
            change.org_id.uuid(),
            &change.resource_ids,
            now,
            change.event_id.uuid()
        );
        named.execute(&mut *tx).await?;
        // Plain VALUES: elsewhere a sharded engine would put in a worker's transaction number.
        let row = sqlx::query!(
            "insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time)
             values ((select feed_epoch from deployment), pg_current_xact_id()::text::bigint, $1, $2, $3, $4, $5, $6)",
            seq as i32,
            change.org_id.uuid(),
            change.event_id.uuid(),
            change.kind,
            &change.subjects,
            now
        );
        one_row(&row.execute(&mut *tx).await?, "writing to the feed")?;
    }
    Ok(())
}
