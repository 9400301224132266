//! `Login`: a username and a password give a session, and a first JWT.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{exchange, sessions};
use crate::clock::random;
use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Actor, FieldChange};
use crate::db::sign_in::sessions::NewSession;
use crate::domain::access::credential::Credential;
use crate::domain::access::exchange::ExchangeRequest;
use crate::domain::sign_in::password::TypedPassword;
use crate::domain::sign_in::sessions::lifetime;
use crate::domain::values::ids::{OrgId, SessionId};
use crate::domain::values::names::{Email, Invalid};
use crate::domain::values::references::OrgRef;
use crate::domain::values::token_string::{TokenString, TokenStringKind};
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::sign_in;
use crate::flows::sign_in::SignedIn;
use crate::flows::transaction::transact;
use crate::grpc::accounts::messages::account as account_message;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::convert;
use crate::state::State;

pub async fn login(state: &Arc<State>, call: &Call, request: pb::LoginRequest) -> Result<pb::LoginResponse> {
    let mut violations = Violations::default();
    let username = violations.check("username", required_username(&request.username));
    if request.password.is_empty() {
        violations.add("password", "is required");
    }
    let org_id = violations.check("org_id", convert::optional(&request.org_id, OrgRef::parse));
    let (username, org_id) = violations.all((username, org_id))?;
    let typed = TypedPassword::new(&request.password);
    drop(request);
    // Before the attempt is counted: a call that finds no place to read was none.
    let named = match org_id {
        Some(slug @ OrgRef::Slug(_)) => {
            Some(db::references::org(&mut *call.read(state).await?, &slug).await?)
        }
        Some(OrgRef::Id(org_id)) => Some(org_id),
        None => None,
    };
    let who = sign_in::with_password(state, &username, &typed, &call.context, None).await?;
    let there = named.unwrap_or(who.org_id);
    let begun = begin(state, call, &who, there).await;
    let begun = who.finish(begun).await?;
    answer(state, call, begun, there).await
}

fn required_username(text: &str) -> Result<Email, Invalid> {
    if text.is_empty() { Err(Invalid("is required")) } else { Email::parse(text) }
}

/// Whether the account may act in the org.
async fn acts_in(state: &State, who: &SignedIn, org_id: OrgId) -> Result<bool> {
    let member = state.principals.member(org_id, who.account_id).await?;
    Ok(member.is_some_and(|member| member.check_active().is_ok()))
}

/// A session that was just created, with what the response says of its account.
struct StartedSession {
    text: TokenString<'static>,
    expire_time: OffsetDateTime,
    account: Account,
    orgs: Vec<(OrgId, String)>,
}

/// Begins a session, if the account may act in the org.
async fn begin(state: &State, call: &Call, who: &SignedIn, there: OrgId) -> Result<StartedSession> {
    if !acts_in(state, who, there).await? {
        return Err(Reason::LoginFailed.into());
    }
    let session_id: SessionId = state.clock.new_id();
    let text = TokenString::new(TokenStringKind::Session, session_id, random());
    let secret = state.keyring.peppers.load().record(&text);
    let SignedIn { org_id, account_id, kind, .. } = *who;
    let actor = Actor::account(account_id, Some(session_id.into()), &call.context);
    let (expire_time, account, orgs) = transact!(state, actor.in_org(org_id), |mut tx| {
        let now = tx.now();
        let expire_time = now + lifetime(kind);
        who.conclude(&mut tx).await?;
        // Here, and not once it is committed: a place among reads may be refused, and the token string is returned
        // once.
        let account = db::accounts::find(&mut *tx, org_id, account_id).await?;
        let account = account.ok_or_else(|| Error::from(Reason::LoginFailed))?;
        let orgs = db::sign_in::find_orgs(&mut tx, org_id, account_id).await?;
        let maker = who.maker;
        let row = NewSession { session_id, org_id, account_id, secret: &secret, expire_time, maker };
        db::sign_in::sessions::insert(&mut tx, &row, now).await?;
        let fields =
            vec![FieldChange::set("account_id", account_id), FieldChange::set("expire_time", expire_time)];
        tx.record(sessions::change("session.created", session_id, fields).resources([account_id])).await?;
        tx.commit().await?;
        Ok((expire_time, account, orgs))
    })?;
    Ok(StartedSession { text, expire_time, account, orgs })
}

async fn answer(
    state: &State,
    call: &Call,
    session: StartedSession,
    there: OrgId,
) -> Result<pb::LoginResponse> {
    let text = session.text.expose();
    let found = state.authenticator.by_string(text, call.context.address, state.clock.now()).await?;
    let there = match there == found.credential.account.org_id {
        true => found.credential,
        false => {
            let there = state.authenticator.within(&found.credential, there).await?;
            there.ok_or_else(|| Error::from(Reason::LoginFailed))?
        }
    };
    let (access_token, expire_time) = access_token(state, &there)?;
    let org =
        |(org_id, display_name): (OrgId, String)| pb::LoginOrg { org_id: org_id.to_string(), display_name };
    Ok(pb::LoginResponse {
        session_token: text.to_owned(),
        session_expire_time: Some(convert::timestamp(session.expire_time)),
        access_token,
        expire_time,
        account: Some(account_message(&session.account)?),
        orgs: session.orgs.into_iter().map(org).collect(),
    })
}

/// A JWT for the issuer with all rights. None if it would be too large: the session can be
/// exchanged for one with fewer rights.
fn access_token(state: &State, credential: &Credential) -> Result<(String, Option<prost_types::Timestamp>)> {
    match exchange::issue(state, credential, &ExchangeRequest::default(), state.clock.now()) {
        Ok(issued) => Ok((issued.access_token, Some(issued.expire_time))),
        Err(error) if error.reason() == Reason::ScopeTooWide => Ok((String::new(), None)),
        Err(error) => Err(error),
    }
}
