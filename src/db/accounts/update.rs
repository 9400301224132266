//! Updates of the details of an account.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::account::{
    Account, attributes_json, check_external_id_available, check_name_available, find, name_taken,
    take_username,
};
use super::links;
use crate::db::one_row;
use crate::domain::accounts::Details;
use crate::domain::accounts::search::Searchable;
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::names::{AccountName, Description, Email, ExternalId};
use crate::error::{Error, Result};

/// In which orgs a changed title of an account is shown.
///
/// Members of an org see their guests by their titles. They must not change by what another org writes
/// about its account, but by what the account's owner writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// The account itself, or an operator, names it: in all orgs.
    Everywhere,
    /// Its home org names it: nowhere else.
    AtHome,
}

/// Changes the details of an account, and with them its kind. Returns the changed account.
///
/// An account without a name is a user. The account is locked, and has the details of `before`.
///
/// # Errors
/// Those of [`insert`](super::account::insert), for a new name, username or link.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    before: &Details,
    after: &Details,
    renames: Renames,
    now: OffsetDateTime,
) -> Result<Account> {
    let key = |details: &Details| details.name.as_ref().map(AccountName::key);
    if let Some(name) = &after.name
        && key(before) != key(after)
    {
        check_name_available(&mut *tx, org_id, name).await?;
    }
    if let Some(external_id) = after.external_id.as_ref().filter(|_| before.external_id != after.external_id)
    {
        check_external_id_available(&mut *tx, org_id, external_id).await?;
    }
    if before.username != after.username {
        take_username(&mut *tx, org_id, account_id, after).await?;
        release_username(&mut *tx, org_id, account_id, &before.username).await?;
    }
    write(&mut *tx, org_id, account_id, after, now).await?;
    if before.title() != after.title() {
        update_titles(&mut *tx, org_id, account_id, &after.title(), renames).await?;
    }
    if before.settings.links != after.settings.links {
        links::replace(&mut *tx, org_id, account_id, &after.settings.links).await?;
    }
    find(tx, org_id, account_id).await?.ok_or_else(|| Error::internal("the changed account is missing"))
}

async fn write(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    details: &Details,
    now: OffsetDateTime,
) -> Result<()> {
    let Details { name, username, profile, contact_email, description, settings, external_id } = details;
    let searchable = Searchable::of_details(org_id, details);
    let query = sqlx::query!(
        "update accounts set kind = $3, name = $4, name_key = $5, username = $6, display_name = $7, given_name = $8,
                family_name = $9, phone_number = $10, locale = $11, zoneinfo = $12, contact_email = $13,
                description = $14, email_notifications = $15, attributes = $16, search_text = $18,
                search_pieces = $19, external_id = $20,
                -- Another username is another mailbox.
                email_proved_time = case when username = $6 then email_proved_time end, revision = revision + 1, update_time = $17
         where org_id = $1 and account_id = $2 and delete_time is null",
        org_id.uuid(),
        account_id.uuid(),
        details.kind().name(),
        name.as_ref().map(AccountName::as_str),
        name.as_ref().map(AccountName::key),
        username.as_str(),
        profile.display_name,
        profile.given_name,
        profile.family_name,
        profile.phone_number,
        profile.locale,
        profile.zoneinfo,
        contact_email.as_ref().map(Email::as_str),
        description.as_ref().map(Description::as_str),
        settings.email_notifications,
        attributes_json(&settings.attributes) as _,
        now,
        searchable.text,
        &searchable.pieces,
        external_id.as_ref().map(ExternalId::as_str)
    );
    one_row(&query.execute(tx).await.map_err(name_taken)?, "changing an account")
}

async fn release_username(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    username: &Email,
) -> Result<()> {
    let query = sqlx::query!(
        "delete from usernames where username = $1 and org_id = $2 and account_id = $3",
        username.as_str(),
        org_id.uuid(),
        account_id.uuid()
    );
    one_row(&query.execute(tx).await?, "releasing a username")
}

/// Updates the title of an account in its memberships.
async fn update_titles(
    tx: &mut PgConnection,
    home: OrgId,
    account_id: AccountId,
    title: &str,
    renames: Renames,
) -> Result<()> {
    let orgs = match renames {
        Renames::AtHome => vec![home.uuid()],
        Renames::Everywhere => {
            let orgs = sqlx::query_scalar!(
                "select org_id from account_orgs where account_id = $1",
                account_id.uuid()
            );
            orgs.fetch_all(&mut *tx).await?
        }
    };
    let query = sqlx::query!(
        "update memberships set title = $3 where org_id = any($1) and account_id = $2",
        &orgs,
        account_id.uuid(),
        title
    );
    let touched = query.execute(tx).await?.rows_affected();
    if touched == orgs.len() as u64 {
        Ok(())
    } else {
        Err(Error::internal(format!("updating titles touched {touched} of {} memberships", orgs.len())))
    }
}
