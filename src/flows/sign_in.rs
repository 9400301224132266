//! From a username and a password to an account, for whoever asks for both: `Login`, and who
//! proves once more that they are themselves.
//!
//! 1. The attempt is counted as a failure before anything is known, or refused (`db::login_buckets`): of
//!    many at once none slips past the count.
//! 2. The account is looked up, in as many statements whether there is one or not.
//! 3. The password is compared, with a dummy where there is none.
//! 4. Only then is it said whether all of that was good, and **what was not is one answer**:
//!    `LOGIN_FAILED`.
//! 5. Whoever succeeds takes the count back in the transaction of what they do
//!    ([`SignedIn::conclude`]), which finds account and password as they were compared.

use std::net::IpAddr;
use std::sync::Arc;

use time::OffsetDateTime;

use super::transaction::Transaction;
use crate::crypto::password_hash::{PasswordRecord, Verdict};
use crate::crypto::peppers::{Blinded, Peppers};
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::retrying;
use crate::db::sign_in::Candidate;
use crate::db::sign_in::login_buckets;
use crate::db::sign_in::login_buckets::{AddressKeys, Admission, Counted, Keys};
use crate::domain::access::request_context::RequestContext;
use crate::domain::mail::Mail;
use crate::domain::sign_in::password::TypedPassword;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::networks::neighbourhood;
use crate::error::{Error, Reason, Result};
use crate::flows::notify;
use crate::state::State;

/// Somebody who gave the right password of an account that may act.
pub struct SignedIn {
    /// The home of the account.
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    admission: Admission,
    record: PasswordRecord,
    /// To be kept instead: the parameters rose.
    renewed: Option<PasswordRecord>,
}

/// Compares a password with that of the account of this username.
///
/// # Errors
/// `LOGIN_FAILED`, whatever is wrong with username, password, account or org; `THROTTLED` after too
/// many failures; `OVERLOADED` when no place is free to hash, and then nothing is counted.
pub async fn with_password(
    state: &Arc<State>,
    username: &Email,
    typed: &TypedPassword,
    origin: &RequestContext,
) -> Result<SignedIn> {
    // Shed before it costs anything; who finds the place gone later is not counted either.
    state.passwords.has_room()?;
    let keys = keys(&state.keyring.peppers.load(), username, origin.address);
    let now = state.clock.now();
    let admission = retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        let admission = login_buckets::admit(&mut tx, keys, now).await?;
        tx.commit().await?;
        Ok(admission)
    })
    .await?;
    match compare(state, username, typed).await {
        Ok(Ok((candidate, record, verdict))) => {
            let owner = (candidate.org_id, candidate.account_id);
            let renewed = match verdict {
                // Without a place for it now it is done the next time.
                Verdict::RightButOld => state.passwords.hash_again(owner, typed).await.ok(),
                Verdict::Right | Verdict::Wrong => None,
            };
            let Candidate { org_id, account_id, kind, .. } = candidate;
            Ok(SignedIn { org_id, account_id, kind, admission, record, renewed })
        }
        Ok(Err(candidate)) => {
            tell(state, candidate, &admission, origin);
            Err(Reason::LoginFailed.into())
        }
        Err(error) => {
            // Nothing was compared: it was no failure.
            if let Err(error) = withdraw(state, &admission).await {
                tracing::warn!(?error, "a login that was not looked at stays counted as a failure");
            }
            Err(error)
        }
    }
}

/// The account with its record, where all is good; else the account that has the username, if one has.
type Compared = Result<(Candidate, PasswordRecord, Verdict), Option<Candidate>>;

async fn compare(state: &State, username: &Email, typed: &TypedPassword) -> Result<Compared> {
    let mut candidate = db::sign_in::find(&state.db.pool(), username).await?;
    let record = candidate.as_mut().and_then(|found| found.record.take());
    let owned = candidate.as_ref().map(|found| (found.org_id, found.account_id)).zip(record.as_ref());
    let verdict = state.passwords.verify(typed, owned).await?;
    Ok(match (candidate, record, verdict) {
        (Some(found), Some(record), Verdict::Right | Verdict::RightButOld) if found.may_act => {
            Ok((found, record, verdict))
        }
        (candidate, ..) => Err(candidate),
    })
}

async fn withdraw(state: &State, admission: &Admission) -> Result<()> {
    retrying(|| async {
        let mut tx = Transaction::begin(state).await?;
        login_buckets::withdraw(&mut tx, admission, state.clock.now()).await?;
        tx.commit().await
    })
    .await
}

/// What an attempt counts for. Names and addresses stand in the table as HMACs: it says of nobody that
/// they tried to sign in.
fn keys(peppers: &Peppers, username: &Email, address: Option<IpAddr>) -> Keys {
    let username = username.as_str();
    let address = address.map(|address| {
        let network = neighbourhood(address).to_string();
        // Neither has a space in it.
        let both = format!("{network} {username}");
        AddressKeys {
            any_name: peppers.blind(Blinded::LoginAddress, &network),
            with_name: peppers.blind(Blinded::LoginKnownAddress, &both),
        }
    });
    Keys { name: peppers.blind(Blinded::LoginName, username), address }
}

/// Writes the event of each back-off that begins, into the log of the account's org, and a mail to
/// whoever is to be told. Beside the answer: whether there is an account must not show in how long
/// that takes.
fn tell(state: &Arc<State>, candidate: Option<Candidate>, admission: &Admission, origin: &RequestContext) {
    let (Some(candidate), false) = (candidate, admission.begins.is_empty()) else { return };
    let (state, begins) = (state.clone(), admission.begins.clone());
    let actor = Actor {
        address: origin.address.map(|address| address.to_string()),
        request_id: Some(origin.request_id.clone()),
        ..Actor::default()
    };
    tokio::spawn(async move {
        let told = retrying(|| record(&state, &candidate, &begins, &actor)).await;
        if let Err(error) = told {
            tracing::warn!(?error, "an event of throttled logins could not be written");
        }
    });
}

async fn record(state: &State, candidate: &Candidate, begins: &[Counted], actor: &Actor) -> Result<()> {
    let change = Change {
        event_id: state.clock.new_id(),
        org_id: candidate.org_id,
        kind: "login.throttled",
        resource_ids: vec![candidate.account_id.to_string()],
        fields: begins.iter().map(|counted| FieldChange::set("throttled", counted.name())).collect(),
        // Nothing that is kept of anybody changes.
        subjects: Vec::new(),
    };
    let now = state.clock.now();
    let mut tx = Transaction::begin(state).await?;
    tx.record(actor, &[change], now).await?;
    // Where an address alone has to wait, it tried many names: none of their owners is to blame.
    if begins.iter().any(|counted| *counted != Counted::Address) {
        let say = |org, account| Mail::sign_in_throttled(org, account, actor.address.clone());
        notify::tell_rarely(&mut tx, (candidate.org_id, candidate.account_id), now, say).await?;
    }
    tx.commit().await
}

impl SignedIn {
    /// Goes on to be signed in until the transaction ends, and is counted as a success.
    ///
    /// # Errors
    /// `LOGIN_FAILED` when account, org or password changed meanwhile.
    pub async fn conclude(&self, tx: &mut Transaction<'_>, now: OffsetDateTime) -> Result<()> {
        login_buckets::succeed(tx, &self.admission, now).await?;
        if !db::sign_in::hold(tx, self.org_id, self.account_id, &self.record).await? {
            return Err(Error::new(Reason::LoginFailed));
        }
        if let Some(renewed) = &self.renewed {
            db::sign_in::renew(tx, self.org_id, self.account_id, (&self.record, renewed)).await?;
        }
        Ok(())
    }
}
