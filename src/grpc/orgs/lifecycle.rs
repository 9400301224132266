//! `SuspendOrg`, `ResumeOrg`, `DeleteOrg` and `UndeleteOrg`. With these an operator disables
//! everything in an org, and enables it again.

use time::OffsetDateTime;

use crate::db;
use crate::db::events::{Actor, Change, EventValue, FieldChange};
use crate::domain::orgs::OrgTransition;
use crate::domain::values::ids::{OrgId, SYSTEM_ORG};
use crate::domain::values::names::Description;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::OrgRef;
use crate::error::{Error, Result, Violations};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::update_mask::check_etag;
use crate::grpc::wire::{convert, org};
use crate::state::State;

pub async fn suspend_org(
    state: &State,
    call: &Call,
    request: pb::SuspendOrgRequest,
) -> Result<pb::SuspendOrgResponse> {
    let org = take(state, call, (OrgTransition::Suspend, ""), &request.org_id, &request.reason).await?;
    Ok(pb::SuspendOrgResponse { org: Some(org) })
}

pub async fn resume_org(
    state: &State,
    call: &Call,
    request: pb::ResumeOrgRequest,
) -> Result<pb::ResumeOrgResponse> {
    let org = take(state, call, (OrgTransition::Resume, ""), &request.org_id, &request.reason).await?;
    Ok(pb::ResumeOrgResponse { org: Some(org) })
}

pub async fn delete_org(
    state: &State,
    call: &Call,
    request: pb::DeleteOrgRequest,
) -> Result<pb::DeleteOrgResponse> {
    let org =
        take(state, call, (OrgTransition::Delete, &request.etag), &request.org_id, &request.reason).await?;
    Ok(pb::DeleteOrgResponse { org: Some(org) })
}

pub async fn undelete_org(
    state: &State,
    call: &Call,
    request: pb::UndeleteOrgRequest,
) -> Result<pb::UndeleteOrgResponse> {
    let org = take(state, call, (OrgTransition::Undelete, ""), &request.org_id, &request.reason).await?;
    Ok(pb::UndeleteOrgResponse { org: Some(org) })
}

/// Applies the transition, if it changes anything.
async fn take(
    state: &State,
    call: &Call,
    (step, etag): (OrgTransition, &str),
    org_id: &str,
    reason: &str,
) -> Result<pb::Org> {
    let caller = call.caller()?;
    caller.require_platform(&Permission::PLATFORM_ORGS)?;
    let mut violations = Violations::default();
    let named = violations.check("org_id", OrgRef::parse(org_id));
    let reason = violations.check("reason", convert::optional(reason, Description::parse));
    let (named, reason) = violations.all((named, reason))?;
    let org_id = target(state, call, &named).await?;

    transact!(state, Actor::from(caller).in_org(org_id), |mut tx| {
        let now = tx.now();
        let before = tx.lock_org().await?;
        check_etag(etag, before.revision)?;
        let lifecycle = before.lifecycle().after(step, now);
        if lifecycle == before.lifecycle() {
            return org::message(&before, &state.ceilings);
        }
        let org = db::orgs::set_lifecycle(&mut tx, org_id, lifecycle, step.stops(), now).await?;
        if step.stops() {
            db::sign_in::sessions::end_for_org(&mut tx, org_id, now).await?;
        }
        let text = |time: Option<OffsetDateTime>| time.map(|time| time.event_value());
        let fields = [
            FieldChange::between("suspend_time", text(before.suspend_time), text(org.suspend_time)),
            FieldChange::between("delete_time", text(before.delete_time), text(org.delete_time)),
            reason.as_ref().map(|reason| FieldChange::set("reason", reason)),
        ];
        let change =
            Change::of(step.event(), [org_id]).fields(fields.into_iter().flatten()).subjects([org_id]);
        tx.record(change).await?;
        tx.commit().await?;
        org::message(&org, &state.ceilings)
    })
}

/// The org to disable or enable again. Never the system org: without it, nothing could be undone.
async fn target(state: &State, call: &Call, named: &OrgRef) -> Result<OrgId> {
    let mut db = call.read(state).await?;
    let org_id = db::references::org(&mut *db, named).await?;
    if org_id == SYSTEM_ORG {
        let why = "must not be the system org, which is never suspended or deleted";
        return Err(Error::invalid("org_id", why));
    }
    match db::orgs::find(&mut *db, org_id).await? {
        Some(_) => Ok(org_id),
        None => Err(Error::not_found("org", named)),
    }
}
