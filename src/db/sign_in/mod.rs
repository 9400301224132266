//! Sign-in: finding the account and password of a username, and locking both while a session is made.

pub mod emailed_codes;
pub mod login_buckets;
pub mod password_maker;
pub mod passwords;
pub mod reset_requests;
pub mod sessions;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crypto::password_hash::PasswordRecord;
use crate::db::orgs;
use crate::db::sign_in::password_maker::PasswordMaker;
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::error::{Error, Result};

/// An account as it is found by its username, with what sign-in needs of it.
pub struct Candidate {
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    /// None if the account cannot sign in: a service account without a password, an invited user.
    pub record: Option<PasswordRecord>,
    /// Whether the account is neither deactivated nor deleted, its org neither suspended nor deleted, and the
    /// token active with which the password ends.
    pub may_act: bool,
    /// The credential that the password comes from.
    pub maker: PasswordMaker,
}

/// Finds the account that has this username, deleted or not.
///
/// Makes two queries in any case, so that the time does not tell whether there is such an account.
pub async fn find(db: &mut PgConnection, username: &Email, now: OffsetDateTime) -> Result<Option<Candidate>> {
    let narrow =
        sqlx::query!("select org_id, account_id from usernames where username = $1", username.as_str());
    let narrow = narrow.fetch_optional(&mut *db).await?;
    let (org_id, account_id) =
        narrow.map_or((Uuid::nil(), Uuid::nil()), |narrow| (narrow.org_id, narrow.account_id));
    let query = sqlx::query!(
        r#"select a.kind, p.sealed as "sealed?", p.made_by as "made_by?", p.ends_with as "ends_with?",
                  (p.ends_with is null
                   or (t.revoke_time is null and t.token_id is not null
                       and (t.expire_time is null or t.expire_time > $3))) as "is_active!",
                  (a.deactivate_time is null and a.delete_time is null
                   and o.suspend_time is null and o.delete_time is null) as "may_act!"
           from accounts a
           join orgs o on o.org_id = $1
           left join passwords p on p.org_id = $1 and p.account_id = a.account_id
           left join tokens t on t.org_id = $1 and t.token_id = p.ends_with
           where a.org_id = $1 and a.account_id = $2"#,
        org_id,
        account_id,
        now
    );
    let Some(row) = query.fetch_optional(db).await? else { return Ok(None) };
    Ok(Some(Candidate {
        org_id: org_id.into(),
        account_id: account_id.into(),
        kind: AccountKind::parse(&row.kind)
            .ok_or_else(|| Error::internal("a stored account kind is unknown"))?,
        // One that ended with its token is compared all the same: it takes as long.
        record: row.sealed.map(PasswordRecord::from_sealed),
        may_act: row.may_act && row.is_active,
        maker: PasswordMaker { made_by: row.made_by, ends_with: row.ends_with.map(TokenId::from) },
    }))
}

/// Keeps the account, its org and its password from being changed until the transaction ends.
///
/// False if the account was deactivated or deleted, its org suspended or deleted, or the password
/// changed, since the password was compared with the record.
pub async fn hold(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    record: &PasswordRecord,
) -> Result<bool> {
    // The org first, in the order of the transactions that suspend it, or that deactivate the account.
    let org = sqlx::query_scalar!(
        "select org_id from orgs
         where org_id = $1 and suspend_time is null and delete_time is null for share",
        org_id.uuid()
    );
    if org.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(false);
    }
    let account = sqlx::query_scalar!(
        "select account_id from accounts
         where org_id = $1 and account_id = $2 and deactivate_time is null and delete_time is null for share",
        org_id.uuid(),
        account_id.uuid()
    );
    if account.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(false);
    }
    // A transaction that sets another password locks the account first.
    Ok(crate::db::sign_in::passwords::find(tx, org_id, account_id).await?.as_ref() == Some(record))
}

/// Stores a re-hashed record of the same password, unless the password was changed meanwhile.
pub async fn renew(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    (before, after): (&PasswordRecord, &PasswordRecord),
) -> Result<()> {
    let query = sqlx::query!(
        "update passwords set sealed = $4 where org_id = $1 and account_id = $2 and sealed = $3",
        org_id.uuid(),
        account_id.uuid(),
        before.sealed(),
        after.sealed()
    );
    query.execute(tx).await?;
    Ok(())
}

/// The orgs in which the account may act, with their names, its home first; at most 1 000.
pub async fn find_orgs(
    db: &mut PgConnection,
    home: OrgId,
    account_id: AccountId,
) -> Result<Vec<(OrgId, String)>> {
    let member_of = orgs::orgs_of(&mut *db, account_id).await?;
    let query = sqlx::query!(
        "select org_id, display_name from orgs
         where org_id = any($1) and suspend_time is null and delete_time is null
         order by org_id <> $2, org_id limit 1000",
        &member_of,
        home.uuid()
    );
    let rows = query.fetch_all(&mut *db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.display_name)).collect())
}
