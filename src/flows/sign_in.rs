//! From a username and a password to an account, for callers that take both: `Login`, and accounts
//! that prove their identity once more.
//!
//! 1. The account is looked up, with the same number of statements whether it exists or not. That
//!    comes first: a call that finds no place to read was no attempt.
//! 2. The attempt is counted as a failure before anything is compared, or refused
//!    (`db::login_buckets`): concurrent attempts cannot bypass the count.
//! 3. The password is compared, with a dummy where there is none.
//! 4. Only then is the result returned, and **every failure has the same answer**: `LOGIN_FAILED`.
//! 5. A successful attempt withdraws its count in the transaction of the operation that follows
//!    ([`SignedIn::conclude`]), which checks that account and password are still those that were
//!    compared; or by itself, where that operation fails or is given up ([`SignedIn::finish`]).

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::reading::Reading;
use super::transaction::{Transaction, transact};
use crate::crypto::password_hash::{PasswordRecord, Verdict};
use crate::crypto::password_places::Asker;
use crate::crypto::peppers::{Blinded, Peppers};
use crate::db;
use crate::db::events::{Actor, Author, Change, FieldChange};
use crate::db::sign_in::login_buckets::{AddressKeys, Admission, Counted, Key, Keys};
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::db::sign_in::{Candidate, login_buckets};
use crate::domain::access::call_facts::LoggedCaller;
use crate::domain::access::caller::Caller;
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
///
/// What follows ends with [`finish`](Self::finish). Dropped before that, the count of the attempt is withdrawn.
pub struct SignedIn {
    /// The home of the account.
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    /// The credential that the password comes from.
    pub maker: PasswordMaker,
    attempt: Attempt,
    /// Whether the attempt still counts as a failure.
    is_counted: bool,
    record: PasswordRecord,
    /// The hash to store instead: the parameters rose.
    renewed: Option<PasswordRecord>,
}

/// An attempt that was counted as a failure.
#[derive(Clone)]
struct Attempt {
    state: Arc<State>,
    admission: Admission,
    /// Who counts it, in whose share.
    author: Author,
}

/// Compares a password with that of the account of this username.
///
/// `session_of` is the caller, where it is a session of the account: then the client is known, wherever it is,
/// and reads and counts in the share of its org.
///
/// # Errors
/// `LOGIN_FAILED`, whatever is wrong with username, password, account or org; `THROTTLED` after
/// too many failures; `OVERLOADED` when too many wait to read or to be compared, and then nothing is counted.
pub async fn with_password(
    state: &Arc<State>,
    username: &Email,
    typed: &TypedPassword,
    origin: &Arc<RequestContext>,
    session_of: Option<&Caller>,
) -> Result<SignedIn> {
    let keys = keys(&state.keyring.peppers.load(), username, origin.address);
    let stranger = Asker::Stranger(origin.address);
    let (mut db, author) = match session_of {
        None => (Reading::anonymously(state, origin).await?, Actor::unknown(origin).in_org(SYSTEM_ORG)),
        Some(caller) => {
            let actor = Actor::account(caller.account_id(), Some(caller.credential_id()), origin);
            (Reading::by(state, caller).await?, actor.in_org(caller.account_home()))
        }
    };
    // Shed before it writes; an attempt that finds no place later is not counted either.
    if session_of.is_none()
        && !state.passwords.places.have_room(stranger)
        && !login_buckets::is_at_known_address(&mut *db, &keys, state.clock.now()).await?
    {
        return Err(state.passwords.shed(stranger));
    }
    let candidate = db::sign_in::find(&mut db, username, state.clock.now()).await?;
    // Before the transaction, which takes a place of its own.
    drop(db);
    let admission = transact!(state, author.clone(), |mut tx| {
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
    let home = candidate.as_ref().map_or(SYSTEM_ORG, |found| found.org_id);
    let asker = match session_of {
        Some(caller) => Asker::Known(caller.account_home()),
        // The address has succeeded with the username, so that this reveals no account.
        None if admission.is_at_known_address() => Asker::Known(home),
        None => stranger,
    };
    let attempt = Attempt { state: state.clone(), admission, author };
    match compare(state, candidate, typed, asker).await {
        Ok(Ok((candidate, record, verdict))) => {
            let Candidate { org_id, account_id, kind, maker, .. } = candidate;
            counts.passwords_right.one();
            let signs_in = LoggedCaller { credential_id: None, account_id, org_id, actor_id: None };
            origin.facts.set_caller(signs_in);
            let mut who = SignedIn {
                org_id,
                account_id,
                kind,
                maker,
                attempt,
                is_counted: true,
                record,
                renewed: None,
            };
            if verdict == Verdict::RightButOutdated {
                // If there is no place for it now, it is done at the next sign-in.
                who.renewed = state.passwords.rehash((org_id, account_id), typed).await.ok();
            }
            Ok(who)
        }
        Ok(Err(candidate)) => {
            counts.passwords_wrong.one();
            tell(state, candidate, &attempt.admission, origin);
            Err(Reason::LoginFailed.into())
        }
        Err(error) => {
            // Nothing was compared, so it was no failure.
            let _ = attempt.withdraw().await;
            Err(error)
        }
    }
}

/// The account with its record, where all is good; else the account that has the username, if one has.
type Compared = Result<(Candidate, PasswordRecord, Verdict), Option<Candidate>>;

async fn compare(
    state: &State,
    mut candidate: Option<Candidate>,
    typed: &TypedPassword,
    asker: Asker,
) -> Result<Compared> {
    let record = candidate.as_mut().and_then(|found| found.record.take());
    let owned = candidate.as_ref().map(|found| (found.org_id, found.account_id)).zip(record.as_ref());
    let verdict = state.passwords.verify(asker, typed, owned).await?;
    Ok(match (candidate, record, verdict) {
        (Some(found), Some(record), Verdict::Right | Verdict::RightButOutdated) if found.may_act => {
            Ok((found, record, verdict))
        }
        (candidate, ..) => Err(candidate),
    })
}

impl Attempt {
    /// Withdraws its count, in a task of its own: it is done also where the call has gone.
    fn withdraw(self) -> JoinHandle<()> {
        tokio::spawn(async move {
            let Self { state, admission, author } = self;
            let withdrawn = transact!(&state, author.clone(), |mut tx| {
                let now = tx.now();
                login_buckets::withdraw(&mut tx, &admission, now).await?;
                tx.commit().await
            });
            if let Err(error) = withdrawn {
                tracing::warn!(?error, "unprocessed login stays counted as a failure");
            }
        })
    }
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
    /// Ends the attempt with the outcome of what followed. Where that failed its count is withdrawn: the password
    /// was right.
    pub async fn finish<T>(mut self, outcome: Result<T>) -> Result<T> {
        self.is_counted = false;
        if outcome.is_err() {
            let _ = self.attempt.clone().withdraw().await;
        }
        outcome
    }

    /// Keeps the account signed in until the transaction ends, and counts the attempt as a
    /// success.
    ///
    /// # Errors
    /// `LOGIN_FAILED` when account, org or password changed meanwhile.
    pub async fn conclude(&self, tx: &mut Transaction<'_>) -> Result<()> {
        let now = tx.now();
        login_buckets::succeed(tx, &self.attempt.admission, now).await?;
        if !db::sign_in::hold(tx, self.org_id, self.account_id, &self.record).await? {
            return Err(Error::new(Reason::LoginFailed));
        }
        if let Some(renewed) = &self.renewed {
            db::sign_in::renew(tx, self.org_id, self.account_id, (&self.record, renewed)).await?;
        }
        Ok(())
    }
}

impl Drop for SignedIn {
    /// The call has gone: its deadline passed, for example, in the transaction that follows.
    fn drop(&mut self) {
        // Without a runtime the process ends.
        if self.is_counted && Handle::try_current().is_ok() {
            self.attempt.clone().withdraw();
        }
    }
}
