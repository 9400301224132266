//! `SetPassword`: an administrator sets the password of a technical user. `ChangePassword`: a
//! caller changes their own.

use std::sync::Arc;

use sqlx::PgConnection;

use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Actor, Change, EventValue, FieldChange};
use crate::db::references;
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::domain::access::acting::Acting;
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::sign_in::password::{Password, TypedPassword};
use crate::domain::values::ids::AccountId;
use crate::domain::values::names::Email;
use crate::domain::values::permissions::Permission;
use crate::domain::values::references::AccountRef;
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::new_password::Rehearsed;
use crate::flows::sign_in;
use crate::flows::transaction::transact;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::state::State;

pub async fn set_password(
    state: &State,
    call: &Call,
    request: pb::SetPasswordRequest,
) -> Result<pb::SetPasswordResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::ACCOUNTS_WRITE, &Node::Org)?;
    let maker = maker(&acting)?;
    let mut violations = Violations::default();
    let named = violations.check("account_id", AccountRef::parse(&request.account_id));
    let password = violations.check("password", Password::required(&request.password));
    let (named, password) = violations.all((named, password))?;
    let org_id = acting.org_id;
    // Nothing is locked during hashing.
    let rehearsal = async {
        transact!(state, &acting, |mut tx| {
            let account_id = references::account(&mut tx, &acting, &named).await?;
            lock(&mut tx, &acting, account_id, &named).await?;
            Ok(account_id)
        })
    };
    let (account_id, rehearsed) = Rehearsed::by(state, org_id, rehearsal).await?;
    let record = rehearsed.hash(state, (org_id, account_id), &password).await?;
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let account = lock(&mut tx, &acting, account_id, &named).await?;
        db::sign_in::passwords::set(&mut tx, org_id, account_id, &record, maker, now).await?;
        let before = account.password_time.map(|time| time.event_value());
        let change = Change::of("account.password_set", [account_id])
            .fields(FieldChange::between("password_time", before, Some(now.event_value())))
            .subjects([account_id]);
        tx.record(change).await?;
        tx.commit().await?;
        Ok(pb::SetPasswordResponse {})
    })
}

/// The credential that a password comes from which the caller sets, if it may set one.
pub(super) fn maker(acting: &Acting<'_>) -> Result<PasswordMaker> {
    let ends_with = acting.may_give_password()?;
    Ok(PasswordMaker { made_by: Some(acting.caller.credential_id().uuid()), ends_with })
}

/// Locks the account, if the caller may set its password.
async fn lock(
    tx: &mut PgConnection,
    acting: &Acting<'_>,
    account_id: AccountId,
    named: &AccountRef,
) -> Result<Account> {
    let account = db::accounts::lock(&mut *tx, acting.org_id, account_id).await?;
    let account = account.ok_or_else(|| Error::not_found("account", named))?;
    let held = db::accounts::grants::find_held(tx, acting.org_id, account_id).await?;
    acting.may_set_password(account.kind()?, &held)?;
    Ok(account)
}

pub async fn change_password(
    state: &Arc<State>,
    call: &Call,
    request: pb::ChangePasswordRequest,
) -> Result<pb::ChangePasswordResponse> {
    let caller = call.caller()?;
    if caller.is_narrowed() || caller.actor_id().is_some() {
        let message = "a password cannot be changed by a credential with scopes or resources, by a JWT with less than all \
                       rights, or by an administrator who impersonates the account";
        return Err(Error::with_message(Reason::PermissionMissing, message));
    }
    let mut violations = Violations::default();
    if request.current_password.is_empty() {
        violations.add("current_password", "is required");
    }
    let password = violations.check("new_password", Password::required(&request.new_password));
    let (password,) = violations.all((password,))?;
    let typed = TypedPassword::new(&request.current_password);
    drop(request);

    let owner = (caller.account_home(), caller.account_id());
    let account = db::accounts::find(&mut *call.read(state).await?, owner.0, owner.1).await?;
    let account = account.ok_or_else(|| Error::not_found("account", owner.1))?;
    let username = Email::parse(&account.username).map_err(|_| Error::internal("a username is damaged"))?;
    let proof = sign_in::with_password(state, &username, &typed, &call.context, Some(caller));
    let (who, rehearsed) = Rehearsed::by(state, owner.0, proof).await?;
    let changing = async {
        let record = rehearsed.hash(state, owner, &password).await?;
        transact!(state, Actor::from(caller).in_org(owner.0), |mut tx| {
            let now = tx.now();
            who.conclude(&mut tx).await?;
            db::sign_in::passwords::change(&mut tx, owner, &record, caller.session(), now).await?;
            // A code from an older email cannot set another password.
            db::sign_in::emailed_codes::end_all(&mut tx, owner.0, owner.1.uuid(), End::Replaced, now).await?;
            let before = account.password_time.map(|time| time.event_value());
            let change = Change::of("account.password_changed", [owner.1])
                .fields(FieldChange::between("password_time", before, Some(now.event_value())))
                .subjects([owner.1]);
            tx.record(change).await?;
            tx.commit().await?;
            Ok(pb::ChangePasswordResponse {})
        })
    };
    let changed = changing.await;
    who.finish(changed).await
}
