//! `events`, the audit log of each org, and `feed`, which nodes follow. Both are
//! written in the transaction of the change.

mod ends;
pub mod feed;
pub mod follower;
pub mod log;
pub mod revocations;

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use self::feed::CHANNEL;
use super::distribution::Engine;
use crate::clock::Clock;
use crate::domain::access::acting::Acting;
use crate::domain::access::caller::Caller;
use crate::domain::access::request_context::RequestContext;
use crate::domain::access::standing::Standing;
use crate::domain::access::work::Work;
use crate::domain::event_types::EVENT_TYPES;
use crate::domain::federation::issuer_name::IssuerName;
use crate::domain::signing_keys::KeyState;
use crate::domain::values::client_certificate::AllowedCertificate;
use crate::domain::values::ids::{AccountId, CredentialId, EventId, IssuerId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::{AccountKind, TokenKind};
use crate::domain::values::names::{
    AccountName, Audience, Description, DisplayName, Email, ExternalId, Purpose, Slug,
};
use crate::domain::values::networks::Network;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::ResourcePath;
use crate::domain::values::subject::Subject;
use crate::domain::values::web_origin::WebOrigin;
use crate::error::Result;

/// Who makes a change, and from where.
#[derive(Clone, Debug, Default)]
pub struct Actor {
    /// None for the server itself and its command line.
    pub account_id: Option<AccountId>,
    /// The account that impersonates that account, if any.
    pub impersonator_id: Option<AccountId>,
    pub credential_id: Option<CredentialId>,
    pub operator: bool,
    pub address: Option<String>,
    pub request_id: Option<String>,
    /// What its call does to the database; none for the server itself and its command line, which
    /// have no share of the connections.
    pub work: Option<Work>,
    /// The caller of the API that it is, whose transactions begin with a check of it.
    pub standing: Option<Arc<Standing>>,
    /// Its call, which takes down for the log the events that it caused.
    pub call: Option<Arc<RequestContext>>,
}

impl Actor {
    /// A client that has not authenticated.
    pub fn unknown(context: &Arc<RequestContext>) -> Self {
        Self {
            address: context.address.shown().map(|address| address.to_string()),
            request_id: Some(context.request_id.to_string()),
            work: Some(context.work),
            call: Some(context.clone()),
            ..Self::default()
        }
    }

    /// An account that acts without being a caller of the API, and the credential that it
    /// presented in the message or gets by the call.
    pub fn account(
        account_id: AccountId,
        credential_id: Option<CredentialId>,
        context: &Arc<RequestContext>,
    ) -> Self {
        Self { account_id: Some(account_id), credential_id, ..Self::unknown(context) }
    }

    /// The author of changes in this org.
    pub fn in_org(self, org_id: OrgId) -> Author {
        Author { actor: self, org_id }
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self {
            account_id: Some(caller.account_id()),
            impersonator_id: caller.actor_id(),
            credential_id: Some(caller.credential_id()),
            operator: caller.credential_org() == SYSTEM_ORG,
            standing: Some(Arc::new(caller.standing())),
            ..Self::unknown(&caller.context)
        }
    }
}

/// The actor of a transaction, with the org whose log its changes go to.
#[derive(Clone, Debug)]
pub struct Author {
    pub actor: Actor,
    pub org_id: OrgId,
}

impl Author {
    /// The server itself, or its command line.
    pub fn server(org_id: OrgId) -> Self {
        Actor::default().in_org(org_id)
    }
}

impl From<&Acting<'_>> for Author {
    fn from(acting: &Acting<'_>) -> Self {
        Actor::from(acting.caller.as_ref()).in_org(acting.org_id)
    }
}

/// A value in an event, as the API spells it: times in RFC 3339, enums by their full names.
///
/// A type without this does not get into an event by its `Display`, which may be another spelling.
pub trait EventValue {
    fn event_value(&self) -> String;
}

impl<T: EventValue + ?Sized> EventValue for &T {
    fn event_value(&self) -> String {
        (**self).event_value()
    }
}

impl EventValue for OffsetDateTime {
    fn event_value(&self) -> String {
        // The years that RFC 3339 can write are those that the API accepts.
        self.format(&Rfc3339).unwrap_or_default()
    }
}

impl EventValue for AccountKind {
    fn event_value(&self) -> String {
        format!("ACCOUNT_KIND_{}", self.name())
    }
}

impl EventValue for TokenKind {
    fn event_value(&self) -> String {
        format!("TOKEN_KIND_{}", self.name())
    }
}

impl EventValue for KeyState {
    fn event_value(&self) -> String {
        format!("SIGNING_KEY_STATE_{}", self.name())
    }
}

macro_rules! as_displayed {
    ($($kind:ty),* $(,)?) => {$(
        impl EventValue for $kind {
            fn event_value(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

as_displayed!(
    IssuerId,
    IssuerName,
    str,
    String,
    bool,
    i16,
    i32,
    i64,
    u64,
    usize,
    AccountId,
    OrgId,
    AccountName,
    AllowedCertificate,
    Audience,
    Description,
    DisplayName,
    Email,
    ExternalId,
    Network,
    Permission,
    Purpose,
    ResourcePath,
    Slug,
    WebOrigin,
);

/// One field whose value a change replaced. Never a secret.
#[derive(Clone, Debug, Serialize)]
pub struct FieldChange {
    pub field: &'static str,
    pub old_value: Option<String>,
    pub new_value: Option<String>,
}

impl FieldChange {
    /// A field that had no value before.
    pub fn set(field: &'static str, new_value: impl EventValue) -> Self {
        Self { field, old_value: None, new_value: Some(new_value.event_value()) }
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
    pub fn cleared(field: &'static str, old_value: impl EventValue) -> Self {
        Self { field, old_value: Some(old_value.event_value()), new_value: None }
    }

    /// A list: one change for each value that was removed or added.
    pub fn of_lists<'a, T: Eq + Hash + EventValue>(
        field: &'static str,
        old: &'a [T],
        new: &'a [T],
    ) -> impl Iterator<Item = Self> + 'a {
        let (had, has): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
        let gone = old.iter().filter(move |value| !has.contains(value));
        let gone = gone.map(move |value| Self::cleared(field, value));
        let come = new.iter().filter(move |value| !had.contains(value));
        let come = come.map(move |value| Self::set(field, value));
        gone.chain(come)
    }
}

/// One change: a line of the org's log, and what it touches in caches.
pub struct Change {
    /// None: that of the transaction's author.
    org_id: Option<OrgId>,
    kind: &'static str,
    /// Whether its event names the server, and not the transaction's author.
    by_the_server: bool,
    resource_ids: Vec<String>,
    fields: Vec<FieldChange>,
    subjects: Vec<Subject>,
}

impl Change {
    /// A change of all that these ids name. `kind` is `noun.verb` in the past tense, such as
    /// `token.revoked`.
    pub fn of(kind: &'static str, resources: impl IntoIterator<Item: ToString>) -> Self {
        debug_assert!(EVENT_TYPES.contains(&kind), "{kind} is not among the event types");
        let resource_ids = resources.into_iter().map(|id| id.to_string()).collect();
        Self {
            org_id: None,
            kind,
            by_the_server: false,
            resource_ids,
            fields: Vec::new(),
            subjects: Vec::new(),
        }
    }

    /// In another org than the transaction's.
    pub fn in_org(self, org_id: OrgId) -> Self {
        Self { org_id: Some(org_id), ..self }
    }

    /// An event without the author of the transaction, where that acts in another org and is none of this
    /// one's business: it names no account, address or request.
    pub fn by_the_server(self) -> Self {
        Self { by_the_server: true, ..self }
    }

    /// Adds these resources to those that it names.
    pub fn resources(mut self, resources: impl IntoIterator<Item: ToString>) -> Self {
        self.resource_ids.extend(resources.into_iter().map(|id| id.to_string()));
        self
    }

    /// Adds these fields to those that it has.
    pub fn fields(mut self, fields: impl IntoIterator<Item = FieldChange>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// Adds these cache keys to those that it touches.
    pub fn subjects(mut self, subjects: impl IntoIterator<Item: Into<Subject>>) -> Self {
        self.subjects.extend(subjects.into_iter().map(Into::into));
        self
    }

    /// Its org, where that is another one than the transaction's.
    pub fn org_id(&self) -> Option<OrgId> {
        self.org_id
    }

    pub fn kind(&self) -> &'static str {
        self.kind
    }

    pub fn resource_ids(&self) -> &[String] {
        &self.resource_ids
    }

    /// The cache keys that it touches.
    pub fn touched(&self) -> &[Subject] {
        &self.subjects
    }
}

/// Writes the event and the feed row of each change, and wakes the other nodes where something cached is touched. All
/// changes of one transaction come here together: a feed row's place is its index among them. Returns the ids of the
/// events.
pub async fn record(
    tx: &mut PgConnection,
    engine: Engine,
    author: &Author,
    changes: &[Change],
    clock: &Clock,
    now: OffsetDateTime,
) -> Result<Vec<EventId>> {
    let mut events = Vec::with_capacity(changes.len());
    let server = Actor::default();
    for (seq, change) in changes.iter().enumerate() {
        let org_id = change.org_id.unwrap_or(author.org_id);
        let ended = ends::Recorded {
            kind: change.kind,
            subjects: &change.subjects,
            resource_ids: &change.resource_ids,
        };
        let told = ends::find(&mut *tx, org_id, ended, now).await?;
        let event_id = clock.new_id::<EventId>();
        let row = Row {
            seq: seq as i32,
            org_id: org_id.uuid(),
            event_id: event_id.uuid(),
            actor: if change.by_the_server { &server } else { &author.actor },
            subjects: change.subjects.iter().map(Subject::to_string).collect(),
            change,
            told,
            now,
        };
        match engine {
            Engine::Plain => row.write(&mut *tx).await?,
            Engine::Distributed => row.write_apart(&mut *tx).await?,
        }
        events.push(event_id);
    }
    Ok(events)
}

/// What is written of a change.
struct Row<'a> {
    seq: i32,
    org_id: Uuid,
    event_id: Uuid,
    actor: &'a Actor,
    subjects: Vec<String>,
    change: &'a Change,
    told: ends::Told,
    now: OffsetDateTime,
}

/// Writes the event and its resources: a statement that goes on with `$open` before the resources, and with `$rest`
/// behind them.
macro_rules! event {
    ($row:expr, $open:literal, $rest:literal $(, $more:expr)*) => {
        sqlx::query!(
            "with written as (
                 insert into events (org_id, event_id, type, actor_id, impersonator_id, operator, credential_id,
                                     resource_ids, changes, address, request_id, create_time)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                 returning org_id, event_id, create_time
             )" + $open + "
             insert into event_resources (org_id, resource_id, create_time, event_id)
             select written.org_id, named.resource_id, written.create_time, written.event_id
             from written cross join unnest($8::text[]) as named (resource_id)
             on conflict on constraint event_resources_pk do nothing" + $rest,
            $row.org_id,
            $row.event_id,
            $row.change.kind,
            $row.actor.account_id.map(AccountId::uuid),
            $row.actor.impersonator_id.map(AccountId::uuid),
            $row.actor.operator,
            $row.actor.credential_id.map(CredentialId::uuid),
            &$row.change.resource_ids,
            Json(&$row.change.fields) as _,
            $row.actor.address,
            $row.actor.request_id,
            $row.now
            $(, $more)*
        )
    };
}

impl Row<'_> {
    /// Writes the event, its resources and the feed row in one statement: a change is one round trip shorter.
    async fn write(&self, tx: &mut PgConnection) -> Result<()> {
        let query = event!(
            self,
            ", named as (",
            r#")
               insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time, revocations, told,
                                 effective_time)
               values ((select feed_epoch from deployment), pg_current_xact_id()::text::bigint, $13, $1, $2, $3, $14,
                       $12, $15, $16, $17)
               returning case when $18 then pg_notify($19, '')::text end as "woken?""#,
            self.seq,
            &self.subjects,
            self.told.stored_revocations().map(Json) as _,
            self.told.other_orgs(),
            self.told.effective_time(),
            !self.subjects.is_empty(),
            CHANNEL
        );
        query.fetch_one(tx).await?;
        Ok(())
    }

    /// The same where the tables of orgs are distributed, and the feed is not: a sharded engine does not write both in
    /// one statement.
    async fn write_apart(&self, tx: &mut PgConnection) -> Result<()> {
        // The second part is a COPY, by which the commit of a change becomes one in two phases, also where its other
        // rows are on one shard.
        event!(self, "", "").execute(&mut *tx).await?;
        // Plain VALUES: elsewhere a sharded engine would put in a worker's transaction number.
        let row = sqlx::query!(
            r#"insert into feed (epoch, xid, seq, org_id, event_id, kind, subjects, create_time, revocations, told,
                                 effective_time)
               values ((select feed_epoch from deployment), pg_current_xact_id()::text::bigint, $1, $2, $3, $4, $5, $6,
                       $7, $8, $9)
               returning case when $10 then pg_notify($11, '')::text end as "woken?""#,
            self.seq,
            self.org_id,
            self.event_id,
            self.change.kind,
            &self.subjects,
            self.now,
            self.told.stored_revocations().map(Json) as _,
            self.told.other_orgs(),
            self.told.effective_time(),
            !self.subjects.is_empty(),
            CHANNEL
        );
        row.fetch_one(tx).await?;
        Ok(())
    }
}
