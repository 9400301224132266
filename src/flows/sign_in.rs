//! From a username and a password to an account, for callers that take both: `Login`, and accounts
//! that prove their identity once more.
//!
//! 1. The attempt is counted as a failure before anything is known, or refused
//!    (`db::login_buckets`): concurrent attempts cannot bypass the count.
//! 2. The account is looked up, with the same number of statements whether it exists or not.
//! 3. The password is compared, with a dummy where there is none.
//! 4. Only then is the result returned, and **every failure has the same answer**: `LOGIN_FAILED`.
//! 5. A successful attempt withdraws its count in the transaction of the operation that follows
//!    ([`SignedIn::conclude`]), which checks that account and password are still those that were
//!    compared.

use std::net::IpAddr;
use std::sync::Arc;

use super::transaction::{Transaction, transact};
use crate::crypto::password_hash::{PasswordRecord, Verdict};
use crate::crypto::peppers::{Blinded, Peppers};
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::sign_in::login_buckets::{AddressKeys, Admission, Counted, Keys};
use crate::db::sign_in::{Candidate, login_buckets};
use crate::domain::access::request_context::RequestContext;
use crate::domain::mail::Mail;
use crate::domain::sign_in::password::TypedPassword;
use crate::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::networks::neighbourhood;
use crate::error::{Error, Reason, Result};
use crate::flows::notify;
use crate::state::State;

/// An account that may act, whose password was given correctly.
pub struct SignedIn {
    /// The home of the account.
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    admission: Admission,
    record: PasswordRecord,
    /// The hash to store instead: the parameters rose.
    renewed: Option<PasswordRecord>,
}

/// Compares a password with that of the account of this username.
///
/// # Errors
/// `LOGIN_FAILED`, whatever is wrong with username, password, account or org; `THROTTLED` after
/// too many failures; `OVERLOADED` when no place is free to hash, and then nothing is counted.
pub async fn with_password(
    state: &Arc<State>,
    username: &Email,
    typed: &TypedPassword,
    origin: &RequestContext,
) -> Result<SignedIn> {
    // Shed before it costs anything; an attempt that finds the place taken later is not counted
    // either.
    state.passwords.has_room()?;
    let keys = keys(&state.keyring.peppers.load(), username, origin.address);
    let admission = transact!(state, Actor::unknown(origin).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        let admission = login_buckets::admit(&mut tx, keys, now).await?;
        tx.commit().await?;
        Ok(admission)
    })?;
    match compare(state, username, typed).await {
        Ok(Ok((candidate, record, verdict))) => {
            let owner = (candidate.org_id, candidate.account_id);
            let renewed = match verdict {
                // If there is no place for it now, it is done at the next sign-in.
                Verdict::RightButOutdated => state.passwords.rehash(owner, typed).await.ok(),
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
            // Nothing was compared, so it was no failure.
            if let Err(error) = withdraw(state, &admission, origin).await {
                tracing::warn!(?error, "unprocessed login stays counted as a failure");
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
        (Some(found), Some(record), Verdict::Right | Verdict::RightButOutdated) if found.may_act => {
            Ok((found, record, verdict))
        }
        (candidate, ..) => Err(candidate),
    })
}

async fn withdraw(state: &State, admission: &Admission, origin: &RequestContext) -> Result<()> {
    transact!(state, Actor::unknown(origin).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        login_buckets::withdraw(&mut tx, admission, now).await?;
        tx.commit().await
    })
}

/// The keys under which an attempt is counted. Names and addresses are stored as HMACs: the table
/// does not reveal who tried to sign in.
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

/// Writes the event of each back-off that begins to the log of the account's org, and a notice to
/// its recipient. Runs apart from the answer: response times must not reveal whether an account
/// exists.
fn tell(state: &Arc<State>, candidate: Option<Candidate>, admission: &Admission, origin: &RequestContext) {
    let (Some(candidate), false) = (candidate, admission.begins.is_empty()) else { return };
    let (state, begins) = (state.clone(), admission.begins.clone());
    let author = Actor::unknown(origin).in_org(candidate.org_id);
    tokio::spawn(async move {
        let told = transact!(&state, author, |tx| { record(tx, &candidate, &begins).await });
        if let Err(error) = told {
            tracing::warn!(?error, "event of throttled logins not written");
        }
    });
}

async fn record(mut tx: Transaction<'_>, candidate: &Candidate, begins: &[Counted]) -> Result<()> {
    // No cached data changes.
    let change = Change::of("login.throttled", [candidate.account_id])
        .fields(begins.iter().map(|counted| FieldChange::set("throttled", counted.name())));
    tx.record(change).await?;
    // Where only the address exceeded its count, it tried many names: none of their owners is
    // notified.
    if begins.iter().any(|counted| *counted != Counted::Address) {
        let address = tx.actor().address.clone();
        let say = |org, account| Mail::sign_in_throttled(org, account, address);
        notify::tell_rarely(&mut tx, candidate.org_id, candidate.account_id, say).await?;
    }
    tx.commit().await
}

impl SignedIn {
    /// Keeps the account signed in until the transaction ends, and counts the attempt as a
    /// success.
    ///
    /// # Errors
    /// `LOGIN_FAILED` when account, org or password changed meanwhile.
    pub async fn conclude(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let now = tx.now();
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
