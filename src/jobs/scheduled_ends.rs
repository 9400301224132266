//! Tells the streams of this node of scheduled ends when they come about: that of a secret whose overlap is over, or
//! of a token whose life was shortened.
//!
//! Each node does it for its own streams, from the feed row of the change that scheduled it. Whether it has come about
//! is read then: a rotation may have been cancelled since.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::{sleep, timeout};

use super::context::JobContext;
use crate::db::events::revocations::{self, Ends, Orgs};
use crate::error::{Reason, Result};
use crate::state::State;
use crate::state::streams::AHEAD;

/// What is read again of what has been due: a change may become visible a little after its end.
const BEHIND: Duration = Duration::from_secs(60);
/// How long before the end of what was read it is read on.
const EARLY: Duration = Duration::from_secs(60);
/// How long the database may take.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) async fn run(context: JobContext, period: Duration) {
    let state = &context.state;
    let mut read_until = None;
    loop {
        let outcome = timeout(TIMEOUT, round(state, &mut read_until)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Reason::DatabaseUnavailable.into()));
        context.ran(&outcome);
        let pause = match outcome {
            Ok(next) => {
                let until = |next: OffsetDateTime| next - state.clock.now();
                next.map_or(period, |next| until(next).max(time::Duration::ZERO).unsigned_abs())
            }
            Err(error) => {
                // An outage is logged by the reader of the feed.
                if state.feed.answers() {
                    tracing::warn!(?error, "scheduled ends not read; it is retried");
                }
                sleep(context.jitter.spread(period)).await;
                continue;
            }
        };
        let _ = timeout(pause.min(period), state.streams.scheduled.notified()).await;
    }
}

/// Reads what is due soon, where that is not known yet, and tells what has come about. Returns when the next one is
/// due.
async fn round(state: &State, read_until: &mut Option<OffsetDateTime>) -> Result<Option<OffsetDateTime>> {
    let now = state.clock.now();
    if read_until.is_none_or(|until| now + EARLY > until) {
        let span = (read_until.map_or(now, |until| until.min(now)) - BEHIND, now + AHEAD);
        let all = revocations::scheduled(&state.feed.db(), span, Orgs::All).await?;
        state.streams.schedule(&all);
        *read_until = Some(span.1);
    }
    let (due, next) = state.streams.due(now);
    let came: Vec<Ends> = if due.is_empty() {
        Vec::new()
    } else {
        let mut db = state.feed.db().acquire().await?;
        revocations::that_came_about(&mut db, due, now).await?
    };
    state.streams.ended(came, now);
    Ok(next)
}
