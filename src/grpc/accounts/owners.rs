//! What prevents removing an account from an org, in every operation that does so.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::db::accounts::Account;
use crate::domain::access::rights::{HeldGrant, is_owner, owning_right};
use crate::domain::accounts::AccountState;
use crate::domain::limits::Limit;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::{Error, Precondition, Reason, Result};

/// Refuses to remove the org's last owner. `held` is what the account holds in the org now. It
/// `becomes` an owner in another state, or none. The org is locked, so that two calls run one
/// after the other. An owner whose home is another org does not count: an org keeps one of its
/// own.
///
/// # Errors
/// `LAST_OWNER`.
pub async fn keep_one(
    tx: &mut PgConnection,
    org_id: OrgId,
    account: &Account,
    held: &[HeldGrant],
    becomes: Option<AccountState>,
) -> Result<()> {
    keep_another(tx, org_id, account.id(), account.state()?, held, becomes).await
}

/// The same for a guest who leaves. Only its home org knows whether the guest is active. The org
/// must keep an active owner of its own in either case.
///
/// # Errors
/// `LAST_OWNER`.
pub async fn keep_one_without_guest(
    tx: &mut PgConnection,
    org_id: OrgId,
    guest: AccountId,
    held: &[HeldGrant],
) -> Result<()> {
    keep_another(tx, org_id, guest, AccountState::Active, held, None).await
}

async fn keep_another(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    was: AccountState,
    held: &[HeldGrant],
    becomes: Option<AccountState>,
) -> Result<()> {
    if !is_owner(org_id, held) {
        return Ok(());
    }
    let others =
        db::accounts::grants::find_other_owners(tx, org_id, owning_right(org_id), account_id).await?;
    Ok(others.suffice(was, becomes)?)
}

/// Refuses an operation that would invalidate active tokens unexpectedly: they must be reassigned
/// or revoked first; federation rules revoked or disabled. The account is locked, so that no token is created meanwhile. For an account
/// that leaves permanently, the caller passes all orgs that it is a member of.
///
/// # Errors
/// `ACCOUNT_OWNS_TOKENS`, naming them.
pub async fn refuse_live_tokens(
    tx: &mut PgConnection,
    orgs: &[OrgId],
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let most = Limit::ACTIVE_TOKENS_OF_ACCOUNT.most;
    let live = db::tokens::find_active(&mut *tx, orgs, account_id, now, most).await?;
    let rules = db::federation::rules::find_enabled_of_account(tx, orgs, account_id, now, most).await?;
    if live.is_empty() && rules.is_empty() {
        return Ok(());
    }
    let message = format!("{} ({} in all)", Reason::AccountOwnsTokens.message(), live.len() + rules.len());
    let listed =
        |kind, subject: String, why: &'static str| Precondition { kind, subject, description: why.into() };
    let tokens = live.iter().map(|id| listed("TOKEN", id.to_string(), "is live"));
    let rules = rules.iter().map(|id| listed("FEDERATION_RULE", id.to_string(), "is enabled"));
    Err(Error::with_message(Reason::AccountOwnsTokens, message).with_preconditions(tokens.chain(rules)))
}
