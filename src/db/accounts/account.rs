//! `accounts`, `usernames`, `memberships` and `account_orgs`.

use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::links;
use crate::db::{constraint, damaged, one_row};
use crate::domain::accounts::lifecycle::AccountLifecycle;
use crate::domain::accounts::search::Searchable;
use crate::domain::accounts::{AccountState, Attributes, Details, Link, Settings};
use crate::domain::values::ids::{AccountId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Description, Email, LinkKind, LinkSlug, Profile};
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
    pub email_notifications: Option<bool>,
    pub attributes: Option<Json<Map<String, Value>>>,
    /// The kind, enabled and slug of each link.
    pub links: Option<Json<Vec<(String, bool, String)>>>,
    pub password_time: Option<OffsetDateTime>,
    /// When a code that was emailed to the username was last used.
    pub email_proved_time: Option<OffsetDateTime>,
    /// The credential that created it, or that sent the invitation to it.
    pub made_by: Option<Uuid>,
    pub revision: i64,
    pub deactivate_time: Option<OffsetDateTime>,
    pub delete_time: Option<OffsetDateTime>,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
}

impl Account {
    /// The id of the account.
    pub fn id(&self) -> AccountId {
        self.account_id.into()
    }

    /// Whether it is a user or a service account.
    pub fn kind(&self) -> Result<AccountKind> {
        AccountKind::parse(&self.kind).ok_or_else(|| Error::internal("a stored account kind is unknown"))
    }

    /// The state of the account.
    pub fn state(&self) -> Result<AccountState> {
        let (deactivated, deleted) = (self.deactivate_time.is_some(), self.delete_time.is_some());
        Ok(AccountState::of(self.kind()?, self.password_time.is_some(), deactivated, deleted))
    }

    /// When the account was deactivated and deleted.
    pub fn lifecycle(&self) -> AccountLifecycle {
        AccountLifecycle { deactivate_time: self.deactivate_time, delete_time: self.delete_time }
    }

    /// The details of the account.
    pub fn details(&self) -> Result<Details> {
        let name = self.name.as_deref().map(AccountName::parse).transpose();
        let contact_email = self.contact_email.as_deref().map(Email::parse).transpose();
        let description = self.description.as_deref().map(Description::parse).transpose();
        Ok(Details {
            name: name.map_err(damaged("account name"))?,
            username: Email::parse(&self.username).map_err(damaged("username"))?,
            profile: self.profile(),
            contact_email: contact_email.map_err(damaged("address"))?,
            description: description.map_err(damaged("description"))?,
            settings: self.settings()?,
        })
    }

    /// The settings of the account, for itself and for applications.
    pub fn settings(&self) -> Result<Settings> {
        let links = self.links.as_ref().map_or(&[][..], |links| links.0.as_slice());
        let link = |(kind, enabled, slug): &(String, bool, String)| {
            let kind = LinkKind::parse(kind).map_err(damaged("kind of link"))?;
            let slug = LinkSlug::parse(slug).map_err(damaged("slug of a link"))?;
            Ok((kind, Link { enabled: *enabled, slug }))
        };
        let attributes = self.attributes.as_ref().map(|stored| stored.0.clone()).unwrap_or_default();
        Ok(Settings {
            email_notifications: self.email_notifications,
            links: links.iter().map(link).collect::<Result<_>>()?,
            attributes: Attributes::from_stored(attributes),
        })
    }

    /// The OIDC claims about the account.
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

/// A query for the columns of [`Account`], with the SQL after `from accounts a`.
macro_rules! select_accounts {
    ($rest:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            Account,
            r#"select org_id, account_id, kind, name, username, display_name, given_name, family_name, phone_number,
                      locale, zoneinfo, contact_email, description, email_notifications,
                      attributes as "attributes: Json<Map<String, Value>>",
                      (select jsonb_agg(jsonb_build_array(l.kind, l.enabled, l.slug) order by l.kind)
                       from account_links l where l.org_id = $1 and l.account_id = a.account_id)
                          as "links: Json<Vec<(String, bool, String)>>",
                      password_time, email_proved_time, made_by, revision, deactivate_time, delete_time, create_time, update_time
               from accounts a "# + $rest,
            $($arg),*
        )
    };
}

pub(super) use select_accounts;

/// An account to be inserted.
pub struct NewAccount<'a> {
    pub account_id: AccountId,
    pub org_id: OrgId,
    /// Without a name it is a user.
    pub details: &'a Details,
    pub deactivated: bool,
    /// The credential that creates it, or that sent the invitation to it; none for the command line.
    pub made_by: Option<Uuid>,
}

/// Finds the accounts that these credentials created, or sent the invitations to.
///
/// Searches all orgs, as the search for what a compromised token made does.
pub async fn find_made_by(db: impl PgExecutor<'_>, makers: &[Uuid]) -> Result<Vec<(OrgId, AccountId)>> {
    let query = sqlx::query!("select org_id, account_id from accounts where made_by = any($1)", makers);
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.account_id.into())).collect())
}

/// Finds the account, unless it is deleted.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, account_id: AccountId) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = $2 and delete_time is null",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Finds the account, deleted or not.
pub async fn find_any(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    account_id: AccountId,
) -> Result<Option<Account>> {
    let query = select_accounts!("where org_id = $1 and account_id = $2", org_id.uuid(), account_id.uuid());
    Ok(query.fetch_optional(db).await?)
}

/// Finds the account of this name, whatever its case, deleted or not.
pub async fn find_by_name(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    name: &AccountName,
) -> Result<Option<Account>> {
    let query = select_accounts!("where org_id = $1 and name_key = $2", org_id.uuid(), name.key());
    Ok(query.fetch_optional(db).await?)
}

/// Locks the account until the transaction ends; none if there is no such account.
///
/// What refers to it can then be counted, and it is not deleted meanwhile.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = $2 and delete_time is null for no key update",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?)
}

/// Locks the account, deleted or not, as [`lock`] does.
pub async fn lock_any(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and account_id = $2 for no key update",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(tx).await?)
}

/// Inserts an account, with its username, its links and its membership in its home org.
///
/// # Errors
/// `RESOURCE_EXISTS` or `NAME_HELD_BY_DELETED_ACCOUNT` for its name or username, `USE_INVITATION` for a
/// user who has an account in another org, `RESOURCE_EXISTS` for the slug of a link.
pub async fn insert(tx: &mut PgConnection, new: &NewAccount<'_>, now: OffsetDateTime) -> Result<Account> {
    let (org_id, account_id) = (new.org_id.uuid(), new.account_id.uuid());
    let Details { name, username, profile, contact_email, description, settings } = new.details;
    if let Some(name) = name {
        check_name_available(&mut *tx, new.org_id, name).await?;
    }
    take_username(&mut *tx, new.org_id, new.account_id, new.details).await?;
    let searchable = Searchable::of_details(new.org_id, new.details);
    let query = sqlx::query!(
        "insert into accounts (org_id, account_id, kind, name, name_key, username, display_name, given_name,
                family_name, phone_number, locale, zoneinfo, contact_email, description, email_notifications,
                attributes, search_text, search_pieces, revision, deactivate_time, create_time, update_time, made_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, 1, $19, $20, $20, $21)",
        org_id,
        account_id,
        new.details.kind().name(),
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
        searchable.text,
        &searchable.pieces,
        new.deactivated.then_some(now),
        now,
        new.made_by
    );
    one_row(&query.execute(&mut *tx).await.map_err(name_taken)?, "inserting an account")?;
    let member = sqlx::query!(
        "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
         values ($1, $2, $1, $3, 1, $4)",
        org_id,
        account_id,
        new.details.title(),
        now
    );
    one_row(&member.execute(&mut *tx).await?, "inserting a membership")?;
    let listed =
        sqlx::query!("insert into account_orgs (account_id, org_id) values ($1, $2)", account_id, org_id);
    one_row(&listed.execute(&mut *tx).await?, "listing a membership")?;
    links::replace(&mut *tx, new.org_id, new.account_id, &settings.links).await?;
    find(tx, new.org_id, new.account_id)
        .await?
        .ok_or_else(|| Error::internal("the inserted account is missing"))
}

/// Attributes as they are stored: null if there are none.
pub(super) fn attributes_json(attributes: &Attributes) -> Option<Json<&Map<String, Value>>> {
    (!attributes.is_empty()).then(|| Json(attributes.object()))
}

/// Refuses a name that an account of the org has already, whatever its case.
pub(super) async fn check_name_available(
    tx: &mut PgConnection,
    org_id: OrgId,
    name: &AccountName,
) -> Result<()> {
    match find_by_name(tx, org_id, name).await? {
        None => Ok(()),
        Some(held) if held.delete_time.is_some() => Err(Reason::NameHeldByDeletedAccount.into()),
        Some(_) => Err(Error::exists("account", name)),
    }
}

/// Translates a taken name to `CONFLICT`: another transaction has inserted it since the check.
///
/// The retry then finds the account that has it.
pub(super) fn name_taken(error: sqlx::Error) -> Error {
    match constraint(&error) {
        Some("accounts_name_unique") => Error::new(Reason::Conflict).because(error),
        _ => error.into(),
    }
}

/// Inserts the username of an account: its primary key is the lock.
pub(super) async fn take_username(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    details: &Details,
) -> Result<()> {
    let username = &details.username;
    let held =
        sqlx::query!("select org_id, account_id from usernames where username = $1", username.as_str());
    if let Some(held) = held.fetch_optional(&mut *tx).await? {
        if held.org_id != org_id.uuid() {
            return Err(match details.kind() {
                AccountKind::User => Reason::UseInvitation.into(),
                AccountKind::ServiceAccount => Error::exists("username", username),
            });
        }
        let exists = find(tx, org_id, held.account_id.into()).await?.is_some();
        return Err(if exists {
            Error::exists("username", username)
        } else {
            Reason::NameHeldByDeletedAccount.into()
        });
    }
    let query = sqlx::query!(
        "insert into usernames (username, org_id, account_id) values ($1, $2, $3)",
        username.as_str(),
        org_id.uuid(),
        account_id.uuid()
    );
    let taken = query.execute(tx).await.map_err(|error| match constraint(&error) {
        // As with names: another transaction has inserted it since the check.
        Some("usernames_pk") => Error::new(Reason::Conflict).because(error),
        _ => error.into(),
    })?;
    one_row(&taken, "taking a username")
}

/// Finds the account that has this username. Deleted accounts still have theirs.
pub async fn find_holder(db: impl PgExecutor<'_>, username: &str) -> Result<Option<(OrgId, AccountId)>> {
    let query = sqlx::query!("select org_id, account_id from usernames where username = $1", username);
    Ok(query.fetch_optional(db).await?.map(|row| (row.org_id.into(), row.account_id.into())))
}

/// Stores that a code that was emailed to the username was used.
///
/// It proves that the owner of the account has access to the mailbox.
pub async fn prove_mailbox(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update accounts set email_proved_time = $3 where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&query.execute(tx).await?, "storing the proof of a mailbox")
}

/// Finds the account of an enabled link, unless it is deactivated or deleted.
pub async fn find_by_link(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    kind: &LinkKind,
    slug: &LinkSlug,
) -> Result<Option<Account>> {
    let query = select_accounts!(
        "where org_id = $1 and deactivate_time is null and delete_time is null and account_id = (
             select l.account_id from account_links l
             where l.org_id = $1 and l.kind = $2 and l.slug = $3 and l.enabled)",
        org_id.uuid(),
        kind.as_str(),
        slug.as_str()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Increments the version of the account in the org, which makes its earlier JWTs stale.
pub async fn raise_version(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<()> {
    let query = sqlx::query!(
        "update memberships set version = version + 1 where org_id = $1 and account_id = $2",
        org_id.uuid(),
        account_id.uuid()
    );
    one_row(&query.execute(tx).await?, "raising a version")
}
