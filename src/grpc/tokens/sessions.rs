//! `Logout` and `RevokeAccountSessions`: end sessions.

use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::references;
use crate::domain::values::ids::SessionId;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn logout(state: &State, call: &Call, _: pb::LogoutRequest) -> Result<pb::LogoutResponse> {
    let caller = call.caller()?;
    // An impersonating caller has a session that is not the account's.
    let Some(session_id) = caller.session().filter(|_| caller.actor_id().is_none()) else {
        let message = "the call has no session: use RevokeToken for a token";
        return Err(Error::with_message(Reason::PermissionMissing, message));
    };
    let org_id = caller.credential_org();
    transact!(state, Actor::from(caller).in_org(org_id), |mut tx| {
        let now = tx.now();
        if db::sign_in::sessions::end(&mut tx, org_id, session_id, now).await? {
            let fields = vec![FieldChange::set("end_time", now)];
            let change = change("session.ended", session_id, fields);
            tx.record(change).await?;
            tx.commit().await?;
        }
        Ok(pb::LogoutResponse {})
    })
}

/// A change of one session.
pub fn change(kind: &'static str, session_id: SessionId, fields: Vec<FieldChange>) -> Change {
    Change::of(kind, [session_id]).fields(fields).subjects([session_id])
}

pub async fn revoke_account_sessions(
    state: &State,
    call: &Call,
    request: pb::RevokeAccountSessionsRequest,
) -> Result<pb::RevokeAccountSessionsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let named = AccountRef::parse(&request.account_id);
    let known = named.as_ref().map(|named| acting.before_look_up(named));
    let own = known.is_ok_and(|account_id| acting.may_change_self(account_id, &Permission::ACCOUNTS_WRITE));
    if !own {
        acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    }
    let named = named.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    let org_id = acting.org_id;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account_id = references::account(&mut tx, &acting, &named).await?;
        // Locked, so that no sign-in happens meanwhile.
        let account = db::accounts::lock(&mut tx, org_id, account_id).await?;
        account.ok_or_else(|| Error::not_found("account", &named))?;
        if !own {
            acting.may_stop(&db::accounts::grants::find_held(&mut tx, org_id, account_id).await?)?;
        }
        let ended = db::sign_in::sessions::end_for_account(&mut tx, org_id, account_id, None, now).await?;
        if ended > 0 {
            let change = Change::of("session.revoked", [account_id])
                .fields([FieldChange::cleared("sessions", ended)])
                .subjects([account_id]);
            tx.record(change).await?;
            tx.commit().await?;
        }
        Ok(pb::RevokeAccountSessionsResponse { revoked_count: ended as i32 })
    })
}
