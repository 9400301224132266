//! Whose a mailbox is: proved by a code that was emailed to it, and to it alone.
//!
//! Any org may create a user with any address, so an address that was never proved is a claim. It gives
//! way to the proof: an account of another org that holds the address and never proved it is removed at
//! once. So no org keeps a person, by creating an account for them, from joining another one.

use sqlx::PgConnection;

use super::transaction::Transaction;
use crate::db;
use crate::db::accounts::Account;
use crate::db::events::{Change, FieldChange};
use crate::db::sign_in::emailed_codes::EmailedCode;
use crate::domain::access::rights::{is_owner, owning_right};
use crate::domain::limits::Limit;
use crate::domain::sign_in::emailed_codes::End;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Reason, Result};

/// Why the tokens of an account that loses its address are revoked (RFC 5280).
const REVOKE_REASON: &str = "CESSATION_OF_OPERATION";

/// The account that has an address, as a code of an org finds it.
pub enum Holder {
    /// No account has the address.
    None,
    /// An account has it, and keeps it.
    Owner,
    /// An account of another org claims it, and loses it to whom the code proves that it is theirs.
    Claimant { home: OrgId, account_id: AccountId },
}

/// Finds the account that has the address of a code.
pub async fn holder(db: &mut PgConnection, code: &EmailedCode, address: &Email) -> Result<Holder> {
    let Some((home, account_id)) = db::accounts::find_holder(&mut *db, address.as_str()).await? else {
        return Ok(Holder::None);
    };
    let account = db::accounts::find_any(&mut *db, home, account_id).await?;
    let account = account.ok_or_else(|| Error::internal("the holder of a username is missing"))?;
    let claims = code.proves_mailbox && home != code.org() && is_claim(db, &account).await?;
    Ok(if claims { Holder::Claimant { home, account_id } } else { Holder::Owner })
}

/// Whether the account only claims its address. The last owner of an org keeps it, as on every path: it
/// proves its mailbox with its own email.
async fn is_claim(db: &mut PgConnection, account: &Account) -> Result<bool> {
    if account.kind()? != AccountKind::User || account.email_proved_time.is_some() {
        return Ok(false);
    }
    let (home, account_id) = (OrgId::from(account.org_id), account.id());
    let held = db::accounts::grants::find_held(&mut *db, home, account_id).await?;
    if !is_owner(home, &held) {
        return Ok(true);
    }
    let others = db::accounts::grants::find_other_owners(db, home, owning_right(home), account_id).await?;
    Ok(others.suffice(account.state()?, None).is_ok())
}

/// An account that loses its address, with the orgs in which it is a guest. All of its orgs are locked.
pub struct Claim {
    home: OrgId,
    account_id: AccountId,
    guest_in: Vec<OrgId>,
}

/// Locks the org of a code, and those of an account that loses its address to it, in the order of all
/// locks of orgs.
pub async fn lock(tx: &mut Transaction<'_>, code: &EmailedCode, address: &Email) -> Result<Option<Claim>> {
    let mut orgs = vec![code.org()];
    let claim = match holder(&mut *tx, code, address).await? {
        Holder::Claimant { home, account_id } => {
            let guest_in = db::accounts::find_guest_orgs(&mut **tx, home, account_id).await?;
            orgs.push(home);
            orgs.extend(&guest_in);
            Some(Claim { home, account_id, guest_in })
        }
        Holder::None | Holder::Owner => None,
    };
    db::orgs::lock_all(tx, orgs).await?;
    Ok(claim)
}

/// Takes the address from the account that only claims it, and removes that account. Returns the changes
/// to record: none where no account loses the address, because it has been proved since, for instance.
///
/// # Errors
/// `CONFLICT` when another account claims the address by now, or this one is in other orgs.
pub async fn take_address(
    tx: &mut Transaction<'_>,
    code: &EmailedCode,
    address: &Email,
    claim: Option<&Claim>,
) -> Result<Vec<Change>> {
    let Holder::Claimant { home, account_id } = holder(&mut *tx, code, address).await? else {
        return Ok(Vec::new());
    };
    let locked = claim.filter(|claim| (claim.home, claim.account_id) == (home, account_id));
    let guest_in = &locked.ok_or(Reason::Conflict)?.guest_in;
    if db::accounts::find_guest_orgs(&mut **tx, home, account_id).await? != *guest_in {
        return Err(Reason::Conflict.into());
    }
    db::accounts::lock_any(&mut *tx, home, account_id).await?;
    let now = tx.now();
    db::sign_in::emailed_codes::end_all(&mut *tx, home, account_id.uuid(), End::Revoked, now).await?;
    let most = Limit::ACTIVE_TOKENS_OF_ACCOUNT.most;
    let tokens = db::tokens::find_active(&mut *tx, &[home], account_id, now, most).await?;
    db::tokens::revoke(&mut *tx, home, &tokens, REVOKE_REASON, now).await?;
    let left = db::accounts::leave(&mut *tx, account_id, guest_in, now).await?;
    db::accounts::remove(&mut *tx, home, account_id).await?;
    // The org learns that the address is lost, and not who has proved it, where or from which network.
    let lost = Change::of("account.address_lost", [account_id])
        .in_org(home)
        .by_the_server()
        .resources(tokens.iter().copied())
        .fields([FieldChange::cleared("username", address)])
        .subjects([Subject::from(account_id), Subject::Owners(home)])
        .subjects(tokens);
    let guests = left.iter().map(|(host, grants)| {
        db::orgs::memberships::removed(*host, (home, account_id), grants).by_the_server()
    });
    Ok(std::iter::once(lost).chain(guests).collect())
}

/// Stores that the account has proved its mailbox, if the code went to that alone.
pub async fn prove(tx: &mut Transaction<'_>, code: &EmailedCode, account_id: AccountId) -> Result<()> {
    let now = tx.now();
    if code.proves_mailbox {
        db::accounts::prove_mailbox(tx, code.org(), account_id, now).await?;
    }
    Ok(())
}
