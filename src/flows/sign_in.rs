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

use std::sync::Arc;

use super::reading::Reading;
use super::transaction::{Transaction, transact};
use crate::crypto::password_hash::{PasswordRecord, Verdict};
use crate::crypto::password_places::Asker;
use crate::crypto::peppers::{Blinded, Peppers};
use crate::db;
use crate::db::events::{Actor, Change, FieldChange};
use crate::db::sign_in::login_buckets::{AddressKeys, Admission, Counted, Key, Keys};
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::db::sign_in::{Candidate, login_buckets};
use crate::domain::access::call_facts::LoggedCaller;
use crate::domain::access::request_context::RequestContext;
use crate::domain::mail::Mail;
use crate::domain::sign_in::password::TypedPassword;
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{AccountId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::networks::{Neighbourhood, Reach, neighbourhoods};
use crate::error::{Error, Reason, Result};
use crate::flows::notify;
use crate::state::State;

/// An account that may act, whose password was given correctly.
pub struct SignedIn {
    /// The home of the account.
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    /// The credential that the password comes from.
    pub maker: PasswordMaker,
    admission: Admission,
    record: PasswordRecord,
    /// The hash to store instead: the parameters rose.
    renewed: Option<PasswordRecord>,
}

/// Compares a password with that of the account of this username.
///
/// `session_of` is the home of the account, where a session of it asks: then the client is known,
/// wherever it is.
///
/// # Errors
/// `LOGIN_FAILED`, whatever is wrong with username, password, account or org; `THROTTLED` after
/// too many failures; `OVERLOADED` when too many wait to be compared, and then nothing is counted.
pub async fn with_password(
    state: &Arc<State>,
    username: &Email,
    typed: &TypedPassword,
    origin: &Arc<RequestContext>,
    session_of: Option<OrgId>,
) -> Result<SignedIn> {
    let keys = keys(&state.keyring.peppers.load(), username, origin.address);
    let stranger = Asker::Stranger(origin.address);
    // Shed before it writes; an attempt that finds no place later is not counted either.
    if session_of.is_none() && !state.passwords.places.have_room(stranger) {
        let mut db = Reading::anonymously(state, origin).await?;
        if !login_buckets::is_at_known_address(&mut *db, &keys, state.clock.now()).await? {
            return Err(state.passwords.shed(stranger));
        }
    }
    let admission = transact!(state, Actor::unknown(origin).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        let admission = login_buckets::admit(&mut tx, &keys, now).await?;
        tx.commit().await?;
        Ok(admission)
    });
    let counts = &state.metrics.credentials;
    let admission = admission.inspect_err(|error| {
        if error.reason() == Reason::Throttled {
            counts.throttled_logins.one();
        }
    })?;
    let of_org = |home| match session_of {
        Some(org_id) => Asker::Known(org_id),
        // The address has succeeded with the username, so that this reveals no account.
        None if admission.is_at_known_address() => Asker::Known(home),
        None => stranger,
    };
    match compare(state, (username, typed), of_org, origin).await {
        Ok(Ok((candidate, record, verdict))) => {
            let owner = (candidate.org_id, candidate.account_id);
            let renewed = match verdict {
                // If there is no place for it now, it is done at the next sign-in.
                Verdict::RightButOutdated => state.passwords.rehash(owner, typed).await.ok(),
                Verdict::Right | Verdict::Wrong => None,
            };
            let Candidate { org_id, account_id, kind, maker, .. } = candidate;
            counts.passwords_right.one();
            let signs_in = LoggedCaller { credential_id: None, account_id, org_id, actor_id: None };
            origin.facts.set_caller(signs_in);
            Ok(SignedIn { org_id, account_id, kind, maker, admission, record, renewed })
        }
        Ok(Err(candidate)) => {
            counts.passwords_wrong.one();
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

async fn compare(
    state: &State,
    (username, typed): (&Email, &TypedPassword),
    of_org: impl Fn(OrgId) -> Asker,
    origin: &RequestContext,
) -> Result<Compared> {
    let mut db = Reading::anonymously(state, origin).await?;
    let mut candidate = db::sign_in::find(&mut db, username, state.clock.now()).await?;
    drop(db);
    let record = candidate.as_mut().and_then(|found| found.record.take());
    let owned = candidate.as_ref().map(|found| (found.org_id, found.account_id)).zip(record.as_ref());
    let asker = of_org(candidate.as_ref().map_or(SYSTEM_ORG, |found| found.org_id));
    let verdict = state.passwords.verify(asker, typed, owned).await?;
    Ok(match (candidate, record, verdict) {
        (Some(found), Some(record), Verdict::Right | Verdict::RightButOutdated) if found.may_act => {
            Ok((found, record, verdict))
        }
        (candidate, ..) => Err(candidate),
    })
}

async fn withdraw(state: &State, admission: &Admission, origin: &Arc<RequestContext>) -> Result<()> {
    transact!(state, Actor::unknown(origin).in_org(SYSTEM_ORG), |mut tx| {
        let now = tx.now();
        login_buckets::withdraw(&mut tx, admission, now).await?;
        tx.commit().await
    })
}

/// The keys under which an attempt is counted. Names and addresses are stored as HMACs: the table
/// does not reveal who tried to sign in.
fn keys(peppers: &Peppers, username: &Email, address: ClientAddress) -> Keys {
    let username = username.as_str();
    let address = address.known().map(|known| {
        let host = Neighbourhood::of_host(known).first;
        // Neither has a space in it.
        let both = format!("{host} {username}");
        AddressKeys {
            any_name: address_keys(peppers, Blinded::LoginAddress, address),
            with_name: peppers.blind(Blinded::LoginKnownAddress, &both),
        }
    });
    Keys { name: peppers.blind(Blinded::LoginName, username), address }
}

/// The keys under which the attempts of an address are counted: none where it is not known, since
/// other clients would be refused for its failures.
pub fn address_keys(peppers: &Peppers, purpose: Blinded, address: ClientAddress) -> Vec<(Key, Reach)> {
    let networks = address.known().map(neighbourhoods).unwrap_or_default();
    networks.iter().map(|network| (peppers.blind(purpose, &network.to_string()), network.reach)).collect()
}

/// Writes the event of each back-off that begins to the log of the account's org, and a notice to
/// its recipient. Runs apart from the answer: response times must not reveal whether an account
/// exists.
fn tell(
    state: &Arc<State>,
    candidate: Option<Candidate>,
    admission: &Admission,
    origin: &Arc<RequestContext>,
) {
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
    let mut begun: Vec<_> = begins.iter().map(|counted| counted.name()).collect();
    // Several networks of one address may have exceeded their counts at once.
    begun.dedup();
    let change = Change::of("login.throttled", [candidate.account_id])
        .fields(begun.iter().map(|name| FieldChange::set("throttled", name)));
    tx.record(change).await?;
    // Where only the address exceeded its count, it tried many names: none of their owners is
    // notified.
    if begins.iter().any(|counted| !matches!(counted, Counted::Address(_))) {
        let address = tx.actor().address.clone();
        let say = |org, account| Mail::sign_in_throttled(org, account, address);
        notify::send_rarely(&mut tx, candidate.org_id, candidate.account_id, say).await?;
    }
    tx.commit().await
}

impl SignedIn {
    /// Withdraws the count of an attempt whose password was right, and that nothing follows.
    pub async fn abandon(&self, state: &State, origin: &Arc<RequestContext>) {
        if let Err(error) = withdraw(state, &self.admission, origin).await {
            tracing::warn!(?error, "unprocessed login stays counted as a failure");
        }
    }

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
