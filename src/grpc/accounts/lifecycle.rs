//! `ActivateAccount`, `DeactivateAccount`, `DeleteAccount` and `UndeleteAccount`.

use time::OffsetDateTime;

use super::messages;
use super::owners::{keep_one, refuse_live_tokens};
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::domain::accounts::lifecycle::{AccountLifecycle, AccountTransition};
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::values::ids::AccountId;
use crate::domain::values::names::Description;
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Result, Violations};
use crate::flows::emailed_codes::send_first_password;
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

/// The account that the transition applies to, and the reason.
struct TransitionRequest {
    org_id: String,
    account_id: String,
    reason: String,
}

pub async fn activate_account(
    state: &State,
    call: &Call,
    request: pb::ActivateAccountRequest,
) -> Result<pb::ActivateAccountResponse> {
    let pb::ActivateAccountRequest { org_id, account_id, reason } = request;
    let account =
        take(state, call, TransitionRequest { org_id, account_id, reason }, AccountTransition::Activate)
            .await?;
    Ok(pb::ActivateAccountResponse { account: Some(account) })
}

pub async fn deactivate_account(
    state: &State,
    call: &Call,
    request: pb::DeactivateAccountRequest,
) -> Result<pb::DeactivateAccountResponse> {
    let pb::DeactivateAccountRequest { org_id, account_id, reason } = request;
    let account =
        take(state, call, TransitionRequest { org_id, account_id, reason }, AccountTransition::Deactivate)
            .await?;
    Ok(pb::DeactivateAccountResponse { account: Some(account) })
}

pub async fn delete_account(
    state: &State,
    call: &Call,
    request: pb::DeleteAccountRequest,
) -> Result<pb::DeleteAccountResponse> {
    let pb::DeleteAccountRequest { org_id, account_id } = request;
    let request = TransitionRequest { org_id, account_id, reason: String::new() };
    let account = take(state, call, request, AccountTransition::Delete).await?;
    Ok(pb::DeleteAccountResponse { account: Some(account) })
}

pub async fn undelete_account(
    state: &State,
    call: &Call,
    request: pb::UndeleteAccountRequest,
) -> Result<pb::UndeleteAccountResponse> {
    let pb::UndeleteAccountRequest { org_id, account_id } = request;
    let request = TransitionRequest { org_id, account_id, reason: String::new() };
    let account = take(state, call, request, AccountTransition::Undelete).await?;
    Ok(pb::UndeleteAccountResponse { account: Some(account) })
}

/// Applies a transition to an account. One that was applied before changes nothing.
async fn take(
    state: &State,
    call: &Call,
    request: TransitionRequest,
    step: AccountTransition,
) -> Result<pb::Account> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let mut violations = Violations::default();
    let account_id = violations.check("account_id", AccountId::parse(&request.account_id));
    let reason = violations.check("reason", convert::optional(&request.reason, Description::parse));
    let (account_id, reason) = violations.all((account_id, reason))?;
    if acting.is_self(account_id) {
        step.refuse_self()?;
    }
    let org_id = acting.org_id;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let org = tx.lock_org().await?;
        let found = db::accounts::lock_any(&mut tx, org_id, account_id).await?;
        let stepped = found.and_then(|account| Some((step.apply(account.lifecycle(), now)?, account)));
        let (lifecycle, account) = stepped.ok_or_else(|| Error::not_found("account", account_id))?;
        let held = db::accounts::grants::find_held(&mut tx, org_id, account_id).await?;
        acting.may_take(step, &held)?;
        if lifecycle == account.lifecycle() {
            return messages::account(&account);
        }
        if step == AccountTransition::Delete {
            let mut orgs = db::accounts::find_guest_orgs(&mut *tx, org_id, account_id).await?;
            orgs.push(org_id);
            refuse_live_tokens(&mut tx, &orgs, account_id, now).await?;
        }
        let after = db::accounts::set_lifecycle(&mut tx, org_id, account_id, lifecycle, now).await?;
        if step.stops() {
            keep_one(&mut tx, org_id, &account, &held, Some(after.state()?)).await?;
            db::accounts::raise_version(&mut tx, org_id, account_id).await?;
            db::sign_in::sessions::end_for_account(&mut tx, org_id, account_id, None, now).await?;
        }
        match step {
            AccountTransition::Delete => {
                db::sign_in::emailed_codes::end_all(&mut tx, org_id, account_id.uuid(), End::Revoked, now)
                    .await?;
            }
            // The earlier link was revoked with the deletion.
            AccountTransition::Undelete => send_first_password(state, &mut tx, &org, &after).await?,
            AccountTransition::Activate | AccountTransition::Deactivate => {}
        }
        let reason = reason.as_ref().map(|reason| FieldChange::set("reason", reason));
        let change = Change::of(step.event(), [account_id])
            .in_org(org_id)
            .fields(changes(account.lifecycle(), lifecycle).into_iter().chain(reason))
            .subjects([account_id]);
        tx.record(change).await?;
        tx.commit().await?;
        messages::account(&after)
    })
}

fn changes(before: AccountLifecycle, after: AccountLifecycle) -> Vec<FieldChange> {
    let text = |time: Option<OffsetDateTime>| time.map(|time| time.to_string());
    let deactivated =
        FieldChange::between("deactivate_time", text(before.deactivate_time), text(after.deactivate_time));
    let deleted = FieldChange::between("delete_time", text(before.delete_time), text(after.delete_time));
    deactivated.into_iter().chain(deleted).collect()
}
