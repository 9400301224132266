//! Notices: emails about an account that inform its owner and need no action.

use time::Duration;

use super::transaction::Transaction;
use crate::db;
use crate::db::outbox;
use crate::domain::mail::Mail;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::error::Result;
use crate::mail::OutgoingEmail;

/// The minimum interval between notices that other people can trigger as often as they like.
const RARELY: Duration = Duration::days(1);

/// Writes a notice about an account to the outbox, if it has a recipient. `say` is given the names
/// of the org and of the account.
pub async fn send(
    tx: &mut Transaction<'_>,
    org_id: OrgId,
    account_id: AccountId,
    say: impl FnOnce(String, String) -> Mail,
) -> Result<()> {
    if let Some(email) = email(tx, org_id, account_id, say).await? {
        tx.mail(&email).await?;
    }
    Ok(())
}

/// The same, unless the mailbox was sent a notice of the same kind within a day.
pub async fn send_rarely(
    tx: &mut Transaction<'_>,
    org_id: OrgId,
    account_id: AccountId,
    say: impl FnOnce(String, String) -> Mail,
) -> Result<()> {
    let since = tx.now() - RARELY;
    if let Some(email) = email(tx, org_id, account_id, say).await?
        && !outbox::has_since(&mut *tx, email.recipient().as_str(), email.mail(), since).await?
    {
        tx.mail(&email).await?;
    }
    Ok(())
}

async fn email(
    tx: &mut Transaction<'_>,
    org_id: OrgId,
    account_id: AccountId,
    say: impl FnOnce(String, String) -> Mail,
) -> Result<Option<OutgoingEmail>> {
    // A guest's account belongs to another org.
    let Some(member) = db::orgs::memberships::find(&mut **tx, org_id, account_id).await? else {
        return Ok(None);
    };
    let account = db::accounts::find(&mut **tx, member.home_org_id.into(), account_id).await?;
    let org = db::orgs::find(&mut **tx, org_id).await?;
    let (Some(account), Some(org)) = (account, org) else { return Ok(None) };
    let mail = say(org.display_name, member.title);
    let proved = account.email_proved_time.is_some();
    Ok(OutgoingEmail::notice(org_id, &account.details()?, account.state()?, proved, mail))
}
