//! `roles`: the custom roles of an org.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{constraint, damaged, one_row};
use crate::domain::access::roles::{CustomRole, Roles};
use crate::domain::limits::Limit;
use crate::domain::values::ids::{AccountId, OrgId, RoleId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::{AccountName, Description, DisplayName};
use crate::domain::values::permissions::{Permission, Right};
use crate::error::{Error, Result};

/// A custom role, as it is stored.
#[derive(Clone, Debug)]
pub struct Role {
    pub role_id: Uuid,
    pub name: String,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub permissions: Vec<String>,
    pub account_kinds: Vec<String>,
    pub revision: i64,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
}

impl Role {
    /// The id of the role.
    pub fn id(&self) -> RoleId {
        self.role_id.into()
    }

    /// All fields of the role that a caller can set.
    pub fn fields(&self) -> Result<RoleFields> {
        Ok(RoleFields {
            name: AccountName::parse(&self.name).map_err(damaged("role name"))?,
            display_name: self.display_name.as_deref().map(DisplayName::from_stored),
            description: self.description.as_deref().map(Description::from_stored),
            terms: terms(&self.permissions, &self.account_kinds)?,
        })
    }
}

fn terms(permissions: &[String], account_kinds: &[String]) -> Result<CustomRole> {
    let permission = |text: &String| Permission::parse(text).map_err(damaged("permission"));
    let kind = |text: &String| {
        AccountKind::parse(text).ok_or_else(|| Error::internal("a stored account kind is unknown"))
    };
    Ok(CustomRole::new(
        permissions.iter().map(permission).collect::<Result<_>>()?,
        account_kinds.iter().map(kind).collect::<Result<_>>()?,
    ))
}

/// All fields of a role that a caller can set, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFields {
    pub name: AccountName,
    pub display_name: Option<DisplayName>,
    pub description: Option<Description>,
    pub terms: CustomRole,
}

impl RoleFields {
    /// # Errors
    /// `LIMIT_REACHED`.
    fn permissions(&self) -> Result<Vec<String>> {
        Limit::PERMISSIONS_OF_ROLE.refuse_above(self.terms.permissions.len() as i64)?;
        Ok(self.terms.permissions.iter().map(Permission::to_string).collect())
    }

    fn account_kinds(&self) -> Vec<String> {
        self.terms.account_kinds.iter().map(|kind| kind.name().to_owned()).collect()
    }
}

/// A query for the columns of [`Role`], between `$before` and `$after`.
macro_rules! roles {
    ($before:tt, $after:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            Role,
            $before + " role_id, name, display_name, description, permissions, account_kinds, revision, create_time,
             update_time " + $after,
            $($arg),*
        )
    };
}

/// Finds the role of this id.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, role_id: RoleId) -> Result<Option<Role>> {
    let query =
        roles!("select", "from roles where org_id = $1 and role_id = $2", org_id.uuid(), role_id.uuid());
    Ok(query.fetch_optional(db).await?)
}

/// Finds the roles of the org after this one, oldest first.
pub async fn find_after(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    after: Option<RoleId>,
    limit: i64,
) -> Result<Vec<Role>> {
    let query = roles!(
        "select",
        "from roles where org_id = $1 and ($2::uuid is null or role_id > $2) order by role_id limit $3",
        org_id.uuid(),
        after.map(RoleId::uuid),
        limit
    );
    Ok(query.fetch_all(db).await?)
}

/// The custom roles of the org that carry the permission.
pub async fn find_with(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    permission: &Permission,
) -> Result<Vec<RoleId>> {
    let query = sqlx::query_scalar!(
        "select role_id from roles where org_id = $1 and $2 = any(permissions)",
        org_id.uuid(),
        permission.as_str()
    );
    Ok(query.fetch_all(db).await?.into_iter().map(RoleId::from).collect())
}

/// How many roles the org has. Their number is limited.
pub async fn count(db: impl PgExecutor<'_>, org_id: OrgId) -> Result<i64> {
    let query = sqlx::query_scalar!(r#"select count(*) as "n!" from roles where org_id = $1"#, org_id.uuid());
    Ok(query.fetch_one(db).await?)
}

/// How many permissions the roles of the org have together, and how many of them are this role's.
async fn count_permissions(tx: &mut PgConnection, org_id: OrgId, role_id: RoleId) -> Result<(i64, i64)> {
    let query = sqlx::query!(
        r#"select coalesce(sum(cardinality(permissions)), 0) as "all!",
                  coalesce(sum(cardinality(permissions)) filter (where role_id = $2), 0) as "own!"
           from roles where org_id = $1"#,
        org_id.uuid(),
        role_id.uuid()
    );
    let row = query.fetch_one(tx).await?;
    Ok((row.all, row.own))
}

/// Finds the custom roles that these rights name. Those that do not exist are left out.
pub async fn find_named<'a>(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    rights: impl IntoIterator<Item = &'a Right>,
) -> Result<Roles> {
    let custom = |right: &Right| {
        if let Right::Custom(id) = right { Some(id.uuid()) } else { None }
    };
    let ids: Vec<Uuid> = rights.into_iter().filter_map(custom).collect();
    if ids.is_empty() {
        return Ok(Roles::new());
    }
    let query = sqlx::query!(
        "select role_id, permissions, account_kinds from roles where org_id = $1 and role_id = any($2)",
        org_id.uuid(),
        &ids
    );
    let rows = query.fetch_all(db).await?;
    rows.into_iter()
        .map(|row| Ok((row.role_id.into(), terms(&row.permissions, &row.account_kinds)?)))
        .collect()
}

/// Finds accounts of these kinds that hold the role, deleted ones included; a hundred at most.
///
/// The account of a guest is stored with another org; it is always a user.
pub async fn find_holders(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    role_id: RoleId,
    kinds: &[AccountKind],
) -> Result<Vec<AccountId>> {
    let kinds: Vec<String> = kinds.iter().map(|kind| kind.name().to_owned()).collect();
    let query = sqlx::query_scalar!(
        r#"select distinct account_id as "account_id!" from (
               select g.account_id
               from grants g left join accounts a on a.org_id = $1 and a.account_id = g.account_id
               where g.org_id = $1 and g.role_id = $2 and coalesce(a.kind, 'USER') = any($3) limit 100
           ) few"#,
        org_id.uuid(),
        role_id.uuid(),
        &kinds
    );
    Ok(query.fetch_all(db).await?.into_iter().map(AccountId::from).collect())
}

fn name_taken(name: &AccountName) -> impl Fn(sqlx::Error) -> Error {
    move |error| match constraint(&error) {
        Some("roles_name_unique") => Error::exists("role", name),
        _ => error.into(),
    }
}

/// Inserts a role. The org is locked.
///
/// # Errors
/// `RESOURCE_EXISTS` when another role has the name; `LIMIT_REACHED`.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    role_id: RoleId,
    fields: &RoleFields,
    now: OffsetDateTime,
) -> Result<Role> {
    let query = roles!(
        "insert into roles (org_id, role_id, name, name_key, display_name, description, permissions, account_kinds,
                            revision, create_time, update_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9) returning",
        "",
        org_id.uuid(),
        role_id.uuid(),
        fields.name.as_str(),
        fields.name.key(),
        fields.display_name.as_ref().map(DisplayName::as_str),
        fields.description.as_ref().map(Description::as_str),
        &fields.permissions()?,
        &fields.account_kinds(),
        now
    );
    let role = query.fetch_one(&mut *tx).await.map_err(name_taken(&fields.name))?;
    Limit::ROLES_OF_ORG.refuse_above(count(&mut *tx, org_id).await?)?;
    let (all, _) = count_permissions(tx, org_id, role_id).await?;
    Limit::PERMISSIONS_OF_ORG.refuse_above(all)?;
    Ok(role)
}

/// Changes the fields of the role. The org is locked, and the role was found.
///
/// # Errors
/// `RESOURCE_EXISTS` when another role has the name; `LIMIT_REACHED`.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    role_id: RoleId,
    fields: &RoleFields,
    now: OffsetDateTime,
) -> Result<Role> {
    let (all, before) = count_permissions(tx, org_id, role_id).await?;
    let permissions = fields.permissions()?;
    let grown = permissions.len() as i64 - before;
    // An org that has had too many since before there was the limit may still remove some.
    if grown > 0 {
        Limit::PERMISSIONS_OF_ORG.refuse_above(all + grown)?;
    }
    let query = roles!(
        "update roles
         set name = $3, name_key = $4, display_name = $5, description = $6, permissions = $7, account_kinds = $8,
             revision = revision + 1, update_time = $9
         where org_id = $1 and role_id = $2 returning",
        "",
        org_id.uuid(),
        role_id.uuid(),
        fields.name.as_str(),
        fields.name.key(),
        fields.display_name.as_ref().map(DisplayName::as_str),
        fields.description.as_ref().map(Description::as_str),
        &permissions,
        &fields.account_kinds(),
        now
    );
    query.fetch_one(tx).await.map_err(name_taken(&fields.name))
}

/// Deletes a role that no account holds.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, role_id: RoleId) -> Result<()> {
    let query =
        sqlx::query!("delete from roles where org_id = $1 and role_id = $2", org_id.uuid(), role_id.uuid());
    one_row(&query.execute(tx).await?, "deleting a role")
}
