//! `WatchRevocations`: what ends JWTs before they expire, for those who verify them offline.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::keys;
use crate::db::events::feed::{self, Position};
use crate::db::events::revocations::{self, Ends, Orgs, Since};
use crate::domain::access::caller::Caller;
use crate::domain::tokens::revocations::{IN_FORCE, Revocation, Revoked};
use crate::domain::values::ids::{OrgId, SYSTEM_ORG};
use crate::domain::values::names::DisplayName;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::pb::revocation::Subject;
use crate::grpc::pb::watch_revocations_response::Item;
use crate::grpc::streams::cursor::{Binding, Cursor};
use crate::grpc::streams::frames::Frames;
use crate::grpc::streams::{self, Over, Session};
use crate::grpc::wire::convert;
use crate::state::State;
use crate::state::streams::{Mark, News};

/// The name of the RPC, to which cursors are bound.
pub(super) const RPC: &str = "WatchRevocations";
/// How many changes are read from the database at once.
const PAGE: i64 = 500;
/// What is read before what is in force: a change is visible a little after its time.
const LATE: Duration = Duration::from_secs(60);

/// The orgs of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    All,
    These(BTreeSet<OrgId>),
}

impl Watched {
    /// The orgs that a caller asks for and may watch. None named: that of its credential, or all where it may
    /// verify in all.
    ///
    /// # Errors
    /// `PERMISSION_MISSING`; `RESOURCE_NOT_FOUND` for an org that it may not see; `INVALID_FIELD`.
    async fn of(state: &State, call: &Call, org_ids: &[String]) -> Result<Self> {
        let caller = call.caller()?;
        let everywhere = caller.holds_platform(&Permission::PLATFORM_VERIFY);
        if org_ids.is_empty() {
            if everywhere {
                return Ok(Self::All);
            }
            may_watch(caller)?;
            return Ok(Self::These(BTreeSet::from([caller.home()])));
        }
        // A session may hold the right elsewhere alone.
        if !caller.has_signed_in() {
            may_watch(caller)?;
        }
        let mut violations = Violations::default();
        let orgs = violations.check_each("org_ids", org_ids, org_ids.len(), OrgId::parse);
        violations.finish()?;
        for org_id in orgs.iter().filter(|_| !everywhere) {
            let acting = call.acting_in(state, &org_id.to_string()).await?;
            acting.require(&Permission::TOKENS_INTROSPECT, &Node::Org)?;
        }
        Ok(Self::These(orgs.into_iter().collect()))
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::All => vec!["*".to_owned()],
            Self::These(orgs) => orgs.iter().map(OrgId::to_string).collect(),
        }
    }

    fn has(&self, org_id: OrgId) -> bool {
        match self {
            Self::All => true,
            Self::These(orgs) => orgs.contains(&org_id),
        }
    }

    /// Whether a revocation of a change in this org, told also in those, is for the stream.
    fn concerns(&self, org_id: OrgId, told: &[OrgId], revocation: &Revocation) -> bool {
        self.has(org_id)
            || matches!(revocation.subject, Revoked::Key(_))
            || (revocation.is_of_session() && told.iter().any(|org_id| self.has(*org_id)))
            // Operators act in every org.
            || (org_id == SYSTEM_ORG && revocation.subject != Revoked::Org)
    }

    fn orgs<'a>(&self, listed: &'a [OrgId]) -> Orgs<'a> {
        match self {
            Self::All => Orgs::All,
            Self::These(_) => Orgs::These(listed),
        }
    }
}

/// Requires that the caller may watch in the org of its credential.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub(super) fn may_watch(caller: &Caller) -> Result<()> {
    if caller.holds_platform(&Permission::PLATFORM_VERIFY) {
        return Ok(());
    }
    caller.acting_in(None)?.require(&Permission::TOKENS_INTROSPECT, &Node::Org)
}

pub(in crate::grpc) async fn watch_revocations(
    state: &Arc<State>,
    call: &Call,
    request: pb::WatchRevocationsRequest,
) -> Result<Frames> {
    let watched = Watched::of(state, call, &request.org_ids).await?;
    let mut violations = Violations::default();
    violations.check("verifier_name", convert::optional(&request.verifier_name, DisplayName::parse));
    violations.finish()?;
    let binding = Binding::new(RPC, call.caller()?.home(), watched.names());
    let cursor = binding.open(state, &request.cursor)?;
    let (reader, mark) = match &cursor {
        Some(cursor) => match state.streams.resume(&cursor.position, Some(cursor.ends))? {
            Some(reader) => (reader, None),
            None => some(state.streams.reader()),
        },
        None => some(state.streams.reader()),
    };
    streams::begin(state, call, reader, |session| {
        let watch = Watch { session, watched, org_ids: request.org_ids, binding, after: None, keys: None };
        Box::pin(watch.run(cursor, mark))
    })
}

fn some<T, U>((reader, mark): (T, U)) -> (T, Option<U>) {
    (reader, Some(mark))
}

/// A stream under way.
struct Watch {
    session: Session,
    watched: Watched,
    /// As they were asked for.
    org_ids: Vec<String>,
    binding: Binding,
    /// What was told before, where the news begin earlier.
    after: Option<Position>,
    /// The key set that was sent last, and how often keys had been loaded then.
    keys: Option<(u64, String)>,
}

impl Watch {
    async fn run(mut self, cursor: Option<Cursor>, mark: Option<Mark>) -> Over {
        match self.follow(cursor, mark).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    async fn follow(
        &mut self,
        cursor: Option<Cursor>,
        mark: Option<Mark>,
    ) -> Result<std::convert::Infallible, Over> {
        self.send_keys().await?;
        // The news begin where the mark was made. Without one they hold all that comes after the cursor.
        let mut mark = match mark {
            Some(mark) => {
                match &cursor {
                    Some(cursor) => self.catch_up(cursor).await?,
                    None => self.send_what_is_in_force().await?,
                }
                mark
            }
            None => {
                self.after = cursor.map(|cursor| cursor.position);
                self.session.reader.mark()
            }
        };
        let mut to_checkpoint = true;
        loop {
            self.send_keys().await?;
            let news = self.session.reader.take()?;
            let is_touched = news.iter().any(|news| match &**news {
                News::Change(row) => self.session.is_touched_by(row),
                News::Ended(_) => true,
            });
            if is_touched {
                self.authorise_again().await?;
            }
            let now = self.session.state.clock.now();
            for news in &news {
                self.send_news(news, now).await?;
            }
            if !to_checkpoint && self.session.is_checkpoint_due() {
                (mark, to_checkpoint) = (self.session.reader.mark(), true);
            }
            if to_checkpoint && self.session.reader.has_reached(&mark) {
                self.authorise_again().await?;
                self.send_checkpoint(&mark).await?;
                to_checkpoint = false;
            }
            self.session.flush().await?;
            if news.is_empty() && !to_checkpoint {
                self.session.wait().await?;
            }
        }
    }

    /// Authenticates the caller again, who must be allowed to watch the same orgs as before.
    async fn authorise_again(&mut self) -> Result<()> {
        self.session.authenticate_again().await?;
        let watched = Watched::of(&self.session.state, &self.session.call, &self.org_ids).await;
        match watched {
            Ok(watched) if watched == self.watched => Ok(()),
            Ok(_) => {
                let message = format!("the caller needs {}", Permission::PLATFORM_VERIFY);
                Err(Error::with_message(Reason::PermissionMissing, message)
                    .with_metadata("permission", Permission::PLATFORM_VERIFY.as_str()))
            }
            Err(error) if error.reason() == Reason::DatabaseUnavailable => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn send_news(&mut self, news: &News, now: OffsetDateTime) -> Result<(), Over> {
        match news {
            News::Change(row) if self.after.is_none_or(|after| row.position.order() > after.order()) => {
                let at_once = row.revocations.iter().filter(|revocation| !revocation.scheduled);
                self.send_all(row.org_id, &row.told, at_once, now).await
            }
            News::Change(_) => Ok(()),
            News::Ended(ends) => self.send_ends(ends, now).await,
        }
    }

    async fn send_ends(&mut self, ends: &Ends, now: OffsetDateTime) -> Result<(), Over> {
        self.send_all(ends.org_id, &ends.told, ends.revocations.iter(), now).await
    }

    async fn send_all(
        &mut self,
        org_id: OrgId,
        told: &[OrgId],
        revocations: impl Iterator<Item = &Revocation>,
        now: OffsetDateTime,
    ) -> Result<(), Over> {
        for revocation in revocations {
            if revocation.is_in_force(now) && self.watched.concerns(org_id, told, revocation) {
                let item = Item::Revocation(message(revocation));
                self.session.send(&pb::WatchRevocationsResponse { item: Some(item) }).await?;
            }
        }
        Ok(())
    }

    /// Sends the key set, unless it is the one that was sent last.
    async fn send_keys(&mut self) -> Result<(), Over> {
        let keyring = &self.session.state.keyring;
        let loaded = keyring.reloads();
        if self.keys.as_ref().is_some_and(|(before, _)| *before == loaded) {
            return Ok(());
        }
        let json = keyring.signer.jwks_json();
        let is_same = self.keys.as_ref().is_some_and(|(_, before)| *before == json);
        self.keys = Some((loaded, json));
        if is_same {
            return Ok(());
        }
        let item = Item::KeySet(keys::key_set(keyring)?);
        self.session.send(&pb::WatchRevocationsResponse { item: Some(item) }).await
    }

    async fn send_checkpoint(&mut self, mark: &Mark) -> Result<(), Over> {
        let state = &self.session.state;
        let cursor = Cursor { position: mark.settled, ends: mark.ends, time: state.clock.now() };
        let cursor = self.binding.seal(state, &cursor);
        let item = Item::Checkpoint(self.session.checkpoint(cursor));
        self.session.send(&pb::WatchRevocationsResponse { item: Some(item) }).await
    }

    /// Sends every revocation that is in force.
    async fn send_what_is_in_force(&mut self) -> Result<(), Over> {
        let now = self.session.state.clock.now();
        let listed = self.listed();
        let mut from = Some(Since::from(now - IN_FORCE - LATE));
        while let Some(since) = from {
            let mut db = self.session.read().await?;
            let page = revocations::since(&mut db, since, self.watched.orgs(&listed), PAGE).await?;
            drop(db);
            self.send_changes(&page.changes, now).await?;
            from = page.next;
        }
        let keys = revocations::revoked_keys(&mut *self.session.read().await?).await?;
        for (kid, revoke_time) in keys {
            let revocation = Revocation {
                org_id: SYSTEM_ORG,
                subject: Revoked::Key(kid),
                min_version: 0,
                reason: Reason::AccessTokenInvalid,
                from: revoke_time.unwrap_or(now),
                scheduled: false,
            };
            self.send_all(SYSTEM_ORG, &[], [&revocation].into_iter(), now).await?;
        }
        self.send_scheduled(now - IN_FORCE).await
    }

    /// Sends what came after a cursor, from the database.
    async fn catch_up(&mut self, cursor: &Cursor) -> Result<(), Over> {
        let now = self.session.state.clock.now();
        let listed = self.listed();
        let mut db = self.session.read().await?;
        if feed::newest(&mut db, &cursor.position).await?.is_none() {
            return Err(Error::from(Reason::CursorExpired).into());
        }
        drop(db);
        let mut from = Some(revocations::place(&cursor.position));
        while let Some(at) = from {
            let mut db = self.session.read().await?;
            let page = revocations::after(&mut db, at, self.watched.orgs(&listed), PAGE).await?;
            drop(db);
            self.send_changes(&page.changes, now).await?;
            // What was scheduled meanwhile and is due, whatever its time.
            self.send_what_came_about(revocations::within(page.changes, OffsetDateTime::UNIX_EPOCH, now))
                .await?;
            from = page.next;
        }
        self.send_scheduled(cursor.ends).await
    }

    /// Sends the scheduled ends since a time, as far as they have come about.
    async fn send_scheduled(&mut self, since: OffsetDateTime) -> Result<(), Over> {
        let now = self.session.state.clock.now();
        let listed = self.listed();
        let since = since.max(now - IN_FORCE);
        // A change names its first end: the others come within the life of a JWT after it.
        let mut from = Some(Since::from(since - IN_FORCE));
        while let Some(at) = from {
            let mut db = self.session.read().await?;
            let page = revocations::scheduled(&mut db, (at, now), self.watched.orgs(&listed), PAGE).await?;
            drop(db);
            self.send_what_came_about(revocations::within(page.changes, since, now)).await?;
            from = page.next;
        }
        Ok(())
    }

    /// Sends those of these scheduled ends that have come about.
    async fn send_what_came_about(&mut self, due: Vec<Ends>) -> Result<(), Over> {
        if due.is_empty() {
            return Ok(());
        }
        let now = self.session.state.clock.now();
        let mut db = self.session.read().await?;
        let came = revocations::that_came_about(&mut db, due, now).await?;
        drop(db);
        for ends in &came {
            self.send_ends(ends, now).await?;
        }
        Ok(())
    }

    async fn send_changes(&mut self, changes: &[Ends], now: OffsetDateTime) -> Result<(), Over> {
        for ends in changes {
            let at_once = ends.revocations.iter().filter(|revocation| !revocation.scheduled);
            self.send_all(ends.org_id, &ends.told, at_once, now).await?;
        }
        Ok(())
    }

    fn listed(&self) -> Vec<OrgId> {
        match &self.watched {
            Watched::All => Vec::new(),
            Watched::These(orgs) => orgs.iter().copied().collect(),
        }
    }
}

fn message(revocation: &Revocation) -> pb::Revocation {
    let is_key = matches!(revocation.subject, Revoked::Key(_));
    let subject = match &revocation.subject {
        Revoked::Token(id) => Subject::TokenId(id.to_string()),
        Revoked::Secret(id, number) => {
            Subject::Secret(pb::RevokedSecret { token_id: id.to_string(), number: *number })
        }
        Revoked::Session(id) => Subject::SessionId(id.to_string()),
        Revoked::Rule(id) => Subject::RuleId(id.to_string()),
        Revoked::Account(id) => Subject::AccountId(id.to_string()),
        Revoked::Org => Subject::Org(true),
        Revoked::Key(kid) => Subject::KeyId(kid.clone()),
    };
    let reason = pb::ErrorReason::from_str_name(&format!("ERROR_REASON_{}", revocation.reason.name()));
    pb::Revocation {
        org_id: if is_key { String::new() } else { revocation.org_id.to_string() },
        subject: Some(subject),
        min_version: revocation.min_version,
        reason: reason.unwrap_or_default().into(),
        expire_time: revocation.expire_time().map(convert::timestamp),
    }
}
