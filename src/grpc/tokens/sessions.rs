//! `Logout` and `RevokeAccountSessions`: the end of sessions.

use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::domain::values::ids::{AccountId, OrgId, SessionId};
use crate::domain::values::permissions::Permission;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result};
use crate::flows::transaction::Transaction;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn logout(state: &State, call: &Call, _: pb::LogoutRequest) -> Result<pb::LogoutResponse> {
    let caller = call.caller()?;
    // Whoever impersonates has a session that is not the account's.
    let Some(session_id) = caller.session().filter(|_| caller.actor_id().is_none()) else {
        let message = "there is no session behind the call: a token is ended by RevokeToken";
        return Err(Error::with_message(Reason::PermissionMissing, message));
    };
    let (org_id, now) = (caller.credential_org(), state.clock.now());
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        if db::sign_in::sessions::end(&mut tx, org_id, session_id, now).await? {
            let fields = vec![FieldChange::set("end_time", now)];
            let change = change(state, "session.ended", (org_id, session_id), fields);
            tx.record(&Actor::from(caller), &[change], now).await?;
            tx.commit().await?;
        }
        Ok(pb::LogoutResponse {})
    })
    .await
}

/// A change of one session.
pub fn change(
    state: &State,
    kind: &'static str,
    (org_id, session_id): (OrgId, SessionId),
    fields: Vec<FieldChange>,
) -> Change {
    let id = session_id.to_string();
    Change {
        event_id: state.clock.new_id(),
        org_id,
        kind,
        resource_ids: vec![id.clone()],
        fields,
        subjects: vec![id],
    }
}

pub async fn revoke_account_sessions(
    state: &State,
    call: &Call,
    request: pb::RevokeAccountSessionsRequest,
) -> Result<pb::RevokeAccountSessionsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    let account_id = AccountId::parse(&request.account_id);
    let own =
        account_id.is_ok_and(|account_id| acting.may_change_self(account_id, &Permission::ACCOUNTS_WRITE));
    if !own {
        acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    }
    let account_id = account_id.map_err(|wrong| Error::invalid("account_id", wrong.to_string()))?;
    let (org_id, now) = (acting.org_id, state.clock.now());
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        // Locked, so that nobody signs in meanwhile.
        let account = db::accounts::lock(&mut tx, org_id, account_id).await?;
        account.ok_or_else(|| Error::not_found("account", account_id))?;
        if !own {
            acting.may_stop(&db::accounts::grants::find_held(&mut tx, org_id, account_id).await?)?;
        }
        let ended = db::sign_in::sessions::end_of_account(&mut tx, org_id, account_id, None, now).await?;
        if ended > 0 {
            let change = Change {
                event_id: state.clock.new_id(),
                org_id,
                kind: "session.revoked",
                resource_ids: vec![account_id.to_string()],
                fields: vec![FieldChange::cleared("sessions", ended)],
                subjects: vec![account_id.to_string()],
            };
            tx.record(&Actor::from(&acting), &[change], now).await?;
            tx.commit().await?;
        }
        Ok(pb::RevokeAccountSessionsResponse { revoked_count: ended as i32 })
    })
    .await
}
