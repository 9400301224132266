//! Who signs in: from a username to the account with its password, and the hold on both while
//! a session is made.

pub mod emailed_codes;
pub mod login_buckets;
pub mod passwords;
pub mod reset_requests;
pub mod sessions;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::crypto::password_hash::PasswordRecord;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::error::{Error, Result};

/// An account by its username, as far as signing in needs it.
pub struct Candidate {
    pub org_id: OrgId,
    pub account_id: AccountId,
    pub kind: AccountKind,
    /// None for who cannot sign in: a service account without a password, a user who is invited.
    pub record: Option<PasswordRecord>,
    /// Neither the account nor its org is stopped.
    pub may_act: bool,
}

/// The account that has this username; deleted ones too. Looks twice whether there is one or not.
pub async fn find(db: &PgPool, username: &Email) -> Result<Option<Candidate>> {
    let narrow =
        sqlx::query!("select org_id, account_id from usernames where username = $1", username.as_str());
    let narrow = narrow.fetch_optional(db).await?;
    let (org_id, account_id) =
        narrow.map_or((Uuid::nil(), Uuid::nil()), |narrow| (narrow.org_id, narrow.account_id));
    let query = sqlx::query!(
        r#"select a.kind, p.sealed as "sealed?",
                  (a.deactivate_time is null and a.delete_time is null
                   and o.suspend_time is null and o.delete_time is null) as "may_act!"
           from accounts a
           join orgs o on o.org_id = a.org_id
           left join passwords p on p.org_id = a.org_id and p.account_id = a.account_id
           where a.org_id = $1 and a.account_id = $2"#,
        org_id,
        account_id
    );
    let Some(row) = query.fetch_optional(db).await? else { return Ok(None) };
    Ok(Some(Candidate {
        org_id: org_id.into(),
        account_id: account_id.into(),
        kind: AccountKind::parse(&row.kind)
            .ok_or_else(|| Error::internal("a stored account kind is unknown"))?,
        record: row.sealed.map(PasswordRecord::from_sealed),
        may_act: row.may_act,
    }))
}

/// Keeps the account, its org and its password as they are until the transaction ends. False when
/// one of them was stopped or changed since the password was compared with the record.
pub async fn hold(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    record: &PasswordRecord,
) -> Result<bool> {
    // The org first, as whoever stops it or the account does.
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
    // Whoever sets another password has locked the account.
    Ok(crate::db::sign_in::passwords::find(tx, org_id, account_id).await?.as_ref() == Some(record))
}

/// Keeps the record of the same password anew, unless it was changed meanwhile.
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

/// The orgs in which the account may act, with their names: its home first. At most 1 000.
pub async fn find_orgs(db: &PgPool, home: OrgId, account_id: AccountId) -> Result<Vec<(OrgId, String)>> {
    let query = sqlx::query!(
        "select o.org_id, o.display_name from account_orgs m join orgs o on o.org_id = m.org_id
         where m.account_id = $1 and o.suspend_time is null and o.delete_time is null
         order by o.org_id <> $2, o.org_id limit 1000",
        account_id.uuid(),
        home.uuid()
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.display_name)).collect())
}
