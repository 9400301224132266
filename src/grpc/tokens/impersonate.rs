//! `ImpersonateAccount`: an administrator acts as a service account for a limited time.

use uuid::Uuid;

use super::claims::sign;
use crate::db;
use crate::db::events::{Change, FieldChange};
use crate::db::references;
use crate::domain::access::access_token::Act;
use crate::domain::access::impersonation_token;
use crate::domain::values::names::Description;
use crate::domain::values::references::AccountRef;
use crate::error::{Error, Result, Violations};
use crate::flows::transaction::Transaction;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

pub async fn impersonate_account(
    state: &State,
    call: &Call,
    request: pb::ImpersonateAccountRequest,
) -> Result<pb::ImpersonateAccountResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    impersonation_token::authorise(&acting)?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", AccountRef::parse(&request.account_id));
    let reason = violations.check("reason", Description::required(&request.reason));
    let ttl = request.ttl.as_ref().map(convert::duration).transpose();
    let ttl = violations.check("ttl", ttl.and_then(impersonation_token::lifetime));
    let (named, reason, ttl) = violations.all((named, reason, ttl))?;

    let now = state.clock.now();
    let mut db = call.read(state).await?;
    let account_id = references::account(&mut db, &acting, &named).await?;
    let rules = db::orgs::policies::find_rules(&mut *db, acting.org_id, &state.ceilings).await?;
    drop(db);
    // Later changes invalidate the access token when it is used.
    let target = state.principals.member(acting.org_id, account_id).await?;
    let target = target.ok_or_else(|| Error::not_found("account", &named))?;
    let decision =
        impersonation_token::decide(&acting, &target, ttl, &rules, state.keyring.signer.issuer(), now)?;
    let expire_time = prost_types::Timestamp { seconds: decision.expires_at, nanos: 0 };
    let jti = state.clock.new_id::<Uuid>();
    // The administrator, as it is in the org that its credential acts in.
    let actor = &acting.caller.credential().account;
    let act = Act {
        sub: actor.account_id.to_string(),
        org_ver: actor.org_version,
        acct_ver: actor.account_version,
    };
    let access_token = sign(state, decision, jti, Some(act))?;

    let mut tx = Transaction::begin(state, &acting).await?;
    // Nothing that is cached becomes outdated by it.
    let change = Change::of("account.impersonated", [account_id])
        .fields([FieldChange::set("reason", reason), FieldChange::set("access_token.jti", jti.to_string())]);
    tx.record(change).await?;
    tx.commit().await?;
    Ok(pb::ImpersonateAccountResponse { access_token, expire_time: Some(expire_time) })
}
