//! What a change of a federation rule would do, tried with what was presented to the rule.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::messages::presentation_without_claims;
use crate::db::federation::presentations;
use crate::domain::federation::evaluation::{Effect, RuleChange};
use crate::domain::values::ids::{OrgId, RuleId};
use crate::error::Result;
use crate::grpc::pb;

/// At most this many presentations are listed that a change would stop, or start.
const MAX_LISTED: usize = 100;

/// The presentations of the last 30 days that a change of a rule would stop, each with the check that it would fail,
/// and those that it would start, each with the check that it failed.
pub(super) async fn tried(
    tx: &mut PgConnection,
    (org_id, rule_id): (OrgId, RuleId),
    change: &RuleChange<'_>,
    now: OffsetDateTime,
) -> Result<(Vec<pb::Presentation>, Vec<pb::Presentation>)> {
    let (mut stopped, mut started) = (Vec::new(), Vec::new());
    for stored in presentations::find_recent(tx, org_id, rule_id, now).await? {
        if stopped.len() == MAX_LISTED && started.len() == MAX_LISTED {
            break;
        }
        let (outcome, message) = (stored.outcome()?, presentation_without_claims(&stored)?);
        let claims = stored.into_recorded().into_claims();
        match change.effect(&claims, outcome, &message.failed_check) {
            Effect::Stops(failed) if stopped.len() < MAX_LISTED => {
                let failed_check = failed.map(|check| check.name(Some(change.after))).unwrap_or_default();
                stopped.push(pb::Presentation { failed_check, ..message });
            }
            Effect::Starts if started.len() < MAX_LISTED => started.push(message),
            Effect::Stops(_) | Effect::Starts | Effect::None => {}
        }
    }
    Ok((stopped, started))
}
