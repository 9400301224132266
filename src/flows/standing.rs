//! Whether a caller that waited may still act: the check with which its transaction begins.
//!
//! The locks are taken in the order of all transactions: orgs, then credentials. The org of the call stays
//! locked, so that what narrows rights there waits for the transaction or comes before the check; the
//! credential is held, so that its revocation is answered after the transaction, or found by the check. What
//! only stops something is checked before it waits for its org, and again when it has the lock.

use sqlx::PgConnection;

use crate::db::orgs::Org;
use crate::db::{federation, orgs, tokens};
use crate::domain::access::standing::{Standing, StoredCredential, Verdict};
use crate::domain::values::client_address::ClientAddress;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};
use crate::state::State;

/// Locks the org of the call, and holds that of the caller if it is another one; then holds the credential. Returns
/// the org of the call, if there is one, and what is stored of the credential.
pub async fn lock(
    tx: &mut PgConnection,
    standing: &Standing,
    org_id: OrgId,
) -> Result<(Option<Org>, Option<StoredCredential>)> {
    let own = standing.account.org_id;
    if own != org_id {
        orgs::hold(tx, own).await?;
    } else if standing.credential_org == org_id
        && let Some((org, held)) =
            tokens::credentials::hold_with_org(tx, org_id, standing.credential_id).await?
    {
        return Ok((Some(org), held));
    }
    // An org that is to be made does not exist yet; one that does not is for the call to refuse.
    let org = orgs::lock_existing(tx, org_id).await?;
    Ok((org, hold(tx, standing).await?))
}

/// Holds the credential of the caller. Returns what is stored of it.
pub async fn hold(tx: &mut PgConnection, standing: &Standing) -> Result<Option<StoredCredential>> {
    tokens::credentials::hold(tx, standing.credential_org, standing.credential_id).await
}

/// Checks the credential of the caller, which is held, and the accounts that it acts as.
///
/// # Errors
/// Those of [`Standing::check`]; `CONFLICT` when a caller that authenticated with a token string has lost
/// rights since.
pub async fn check(
    state: &State,
    tx: &mut PgConnection,
    standing: &Standing,
    credential: Option<StoredCredential>,
) -> Result<()> {
    let now = state.clock.now();
    if let (CredentialId::Rule(rule_id), Some(version)) = (standing.credential_id, standing.rule_version)
        && federation::credentials::find_version(&mut *tx, standing.credential_org, rule_id).await?
            != Some(version)
    {
        return Err(credential
            .filter(|held| !held.revoked)
            .map_or(Reason::TokenRevoked, |_| Reason::AccessTokenStale)
            .into());
    }
    let secret = match standing.credential_id {
        CredentialId::Token(token_id) => standing.secret.map(|number| (token_id, number)),
        CredentialId::Session(_) | CredentialId::Rule(_) => None,
    };
    let account_id = standing.account.account_id;
    let account =
        orgs::memberships::find_stored(&mut *tx, (standing.account.org_id, account_id), secret, now).await?;
    let impersonated = match standing.impersonated {
        None => None,
        Some(target) => {
            let place = (target.org_id, target.account_id);
            orgs::memberships::find_stored(tx, place, None, now).await?
        }
    };
    match standing.check(credential, account, impersonated, now)? {
        Verdict::Unchanged => Ok(()),
        Verdict::CompareRights => compare(state, standing).await,
    }
}

/// Refuses a caller that has lost rights. Rights were narrowed in its org: often those of others.
async fn compare(state: &State, standing: &Standing) -> Result<()> {
    let account = &standing.account;
    // What is cached is from before. The lock keeps what is loaded now from changing.
    state.principals.invalidate(&[
        Subject::Credential(standing.credential_id),
        Subject::Account(account.account_id),
        Subject::Org(account.org_id),
    ]);
    let found = state.principals.credential(standing.credential_id, ClientAddress::UNKNOWN).await?;
    let mut credential = found.ok_or(Reason::TokenRevoked)?.credential;
    if credential.account.org_id != account.org_id {
        let there = state.authenticator.within(&credential, account.org_id).await?;
        credential = there.ok_or(Reason::AccountDeactivated)?;
    }
    if !standing.exceeds(credential.effective_rights()) {
        return Ok(());
    }
    let message = "the caller has lost rights while the call waited: try again";
    Err(Error::with_message(Reason::Conflict, message))
}
