//! `accounts`, `usernames`, `memberships` and `account_orgs`.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{constraint, one_row};
use crate::domain::ids::{AccountId, OrgId};
use crate::domain::names::{AccountName, Description, Email, Profile};
use crate::domain::pages::{COUNTED, Page};
use crate::domain::principal::AccountKind;
use crate::error::{Error, Reason, Result};

/// An account, as it is stored.
#[derive(Clone, Debug)]
pub struct Account {
    pub org_id: Uuid,
    pub account_id: Uuid,
    pub kind: String,
    pub name: Option<String>,
    pub username: String,
    pub display_name: Option<String>,
    pub given_name: Option<String>,
    pub family_name: Option<String>,
    pub phone_number: Option<String>,
    pub locale: Option<String>,
    pub zoneinfo: Option<String>,
    pub contact_email: Option<String>,
    pub description: Option<String>,
    pub revision: i64,
    pub deactivate_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
}

impl Account {
    /// Its id.
    pub fn id(&self) -> AccountId {
        self.account_id.into()
    }

    /// A person or a workload.
    pub fn kind(&self) -> Result<AccountKind> {
        AccountKind::parse(&self.kind).ok_or_else(|| Error::internal("a stored account kind is unknown"))
    }

    /// OIDC claims about it.
    pub fn profile(&self) -> Profile {
        Profile {
            display_name: self.display_name.clone(),
            given_name: self.given_name.clone(),
            family_name: self.family_name.clone(),
            phone_number: self.phone_number.clone(),
            locale: self.locale.clone(),
            zoneinfo: self.zoneinfo.clone(),
        }
    }
}

/// The columns of [`Account`], with what comes after `from accounts`.
macro_rules! select_accounts {
    ($rest:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            Account,
            "select org_id, account_id, kind, name, username, display_name, given_name, family_name, phone_number,
                    locale, zoneinfo, contact_email, description, revision, deactivate_time, delete_time,
                    create_time, update_time
             from accounts " + $rest,
            $($arg),*
        )
    };
}

/// A service account to be made.
pub struct NewServiceAccount<'a> {
    pub account_id: AccountId,
    pub org_id: OrgId,
    pub name: &'a AccountName,
    pub username: &'a Email,
    pub profile: &'a Profile,
    pub contact_email: Option<&'a Email>,
    pub description: Option<&'a Description>,
    pub deactivated: bool,
}

/// The account, deleted ones not.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, account_id: AccountId) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = $2 and delete_time is null",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// The account by its name, whatever its case; deleted ones too.
pub async fn find_by_name(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    name: &AccountName,
) -> Result<Option<Account>> {
    let query = select_accounts!("where org_id = $1 and name_key = $2", org_id.uuid(), name.key());
    Ok(query.fetch_optional(db).await?)
}

/// A page of the org's accounts, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    after: Option<AccountId>,
    size: i64,
) -> Result<Page<Account>> {
    let rows = select_accounts!(
        "where org_id = $1 and delete_time is null and ($2::uuid is null or account_id > $2)
         order by account_id limit $3",
        org_id.uuid(),
        after.map(AccountId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from accounts where org_id = $1 and delete_time is null limit $2
           ) few"#,
        org_id.uuid(),
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |account| account.id().to_string()))
}

/// Locks the account until the transaction ends, so that what hangs on it can be
/// counted, and it is not deleted meanwhile. None when there is no such account.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = $2 and delete_time is null for no key update",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?)
}

/// A new service account, with its username and its membership at home.
///
/// # Errors
/// `RESOURCE_EXISTS` or `NAME_HELD_BY_DELETED_ACCOUNT` for its name, `RESOURCE_EXISTS` for its username.
pub async fn insert(
    tx: &mut PgConnection,
    new: &NewServiceAccount<'_>,
    now: OffsetDateTime,
) -> Result<Account> {
    let (org_id, account_id) = (new.org_id.uuid(), new.account_id.uuid());
    if let Some(held) = find_by_name(&mut *tx, new.org_id, new.name).await? {
        return Err(match held.delete_time {
            Some(_) => Reason::NameHeldByDeletedAccount.into(),
            None => Error::exists("account", new.name),
        });
    }
    let taken = sqlx::query!(
        "insert into usernames (username, org_id, account_id) values ($1, $2, $3)",
        new.username.as_str(),
        org_id,
        account_id
    );
    let taken = taken.execute(&mut *tx).await.map_err(|error| match constraint(&error) {
        Some("usernames_pk") => Error::exists("username", new.username),
        _ => error.into(),
    })?;
    one_row(&taken, "taking a username")?;
    let query = sqlx::query_as!(
        Account,
        "insert into accounts (org_id, account_id, kind, name, name_key, username, display_name, given_name,
                family_name, phone_number, locale, zoneinfo, contact_email, description, revision, deactivate_time,
                create_time, update_time)
         values ($1, $2, 'SERVICE_ACCOUNT', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 1, $14, $15, $15)
         returning org_id, account_id, kind, name, username, display_name, given_name, family_name, phone_number,
                locale, zoneinfo, contact_email, description, revision, deactivate_time, delete_time, create_time,
                update_time",
        org_id,
        account_id,
        new.name.as_str(),
        new.name.key(),
        new.username.as_str(),
        new.profile.display_name,
        new.profile.given_name,
        new.profile.family_name,
        new.profile.phone_number,
        new.profile.locale,
        new.profile.zoneinfo,
        new.contact_email.map(Email::as_str),
        new.description.map(Description::as_str),
        new.deactivated.then_some(now),
        now
    );
    let account = query.fetch_one(&mut *tx).await.map_err(|error| match constraint(&error) {
        Some("accounts_name_unique") => Error::exists("account", new.name),
        _ => error.into(),
    })?;
    let member = sqlx::query!(
        "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
         values ($1, $2, $1, $3, 1, $4)",
        org_id,
        account_id,
        new.profile.title(new.username.as_str()),
        now
    );
    one_row(&member.execute(&mut *tx).await?, "making a membership")?;
    let listed =
        sqlx::query!("insert into account_orgs (account_id, org_id) values ($1, $2)", account_id, org_id);
    one_row(&listed.execute(tx).await?, "listing a membership")?;
    Ok(account)
}

/// Makes an account active again, whether it was deactivated or deleted.
pub async fn reinstate(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update accounts set deactivate_time = null, delete_time = null, revision = revision + 1, update_time = $3
         where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&query.execute(tx).await?, "reinstating an account")
}

/// Raises the version of the account in the org: JWTs from before are stale.
pub async fn raise_version(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let query = sqlx::query!(
        "update memberships set version = version + 1 where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    one_row(&query.execute(tx).await?, "raising a version")
}
