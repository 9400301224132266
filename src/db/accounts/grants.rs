//! `grants`: the rights that accounts hold, and the nodes that they hold them on.

use std::collections::HashMap;

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::damaged;
use crate::domain::access::rights::{HeldGrant, HeldGrants};
use crate::domain::access::roles::Roles;
use crate::domain::accounts::AccountState;
use crate::domain::accounts::owners::OtherOwners;
use crate::domain::limits::Limit;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, GrantId, OrgId};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::permissions::{Permission, PermissionSet, Right};
use crate::domain::values::resources::Node;
use crate::domain::values::subject::Subject;
use crate::error::{Error, Result};

/// A grant, as it is stored.
#[derive(Clone, Debug)]
pub struct Grant {
    pub grant_id: Uuid,
    pub account_id: Uuid,
    pub right_id: String,
    pub resource: Option<String>,
    pub create_time: OffsetDateTime,
}

impl Grant {
    /// The id of the grant.
    pub fn id(&self) -> GrantId {
        self.grant_id.into()
    }

    /// The right that it grants.
    pub fn right(&self) -> Result<Right> {
        Right::parse(&self.right_id).map_err(damaged("right"))
    }

    /// The node that the right is granted on.
    pub fn node(&self) -> Result<Node> {
        Node::parse(self.resource.as_deref().unwrap_or("*")).map_err(damaged("resource path"))
    }
}

/// Which grants to list.
pub enum GrantFilter {
    Account(AccountId),
    /// Any of these rights.
    Rights(Vec<Right>),
    Node(Node),
}

/// A page of grants, oldest first.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    filter: &GrantFilter,
    after: Option<GrantId>,
    size: i64,
) -> Result<Page<Grant>> {
    let (mut account, mut rights, mut path, mut on_org) = (None, None, None, false);
    match filter {
        GrantFilter::Account(id) => account = Some(id.uuid()),
        GrantFilter::Rights(wanted) => rights = Some(wanted.iter().map(Right::to_string).collect::<Vec<_>>()),
        GrantFilter::Node(node) => {
            (path, on_org) = (node.path().map(ToString::to_string), node.path().is_none())
        }
    }
    let rows = sqlx::query_as!(
        Grant,
        "select grant_id, account_id, right_id, resource, create_time from grants
         where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::text[] is null or right_id = any($3))
           and ($4::text is null or resource = $4) and (not $5 or resource is null) and ($6::uuid is null or grant_id > $6)
         order by grant_id limit $7",
        org_id.uuid(),
        account,
        rights.as_deref(),
        path,
        on_org,
        after.map(GrantId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from grants
               where org_id = $1 and ($2::uuid is null or account_id = $2) and ($3::text[] is null or right_id = any($3))
                 and ($4::text is null or resource = $4) and (not $5 or resource is null) limit $6
           ) few"#,
        org_id.uuid(),
        account,
        rights.as_deref(),
        path,
        on_org,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |grant| grant.id().to_string()))
}

/// Finds all grants of an account, oldest first.
pub async fn find_of(db: impl PgExecutor<'_>, org_id: OrgId, account_id: AccountId) -> Result<Vec<Grant>> {
    let query = sqlx::query_as!(
        Grant,
        "select grant_id, account_id, right_id, resource, create_time from grants
         where org_id = $1 and account_id = $2 order by grant_id",
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_all(db).await?)
}

/// Finds those of these grants that the account has.
pub async fn find_by_ids(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    account_id: AccountId,
    grant_ids: &[GrantId],
) -> Result<Vec<Grant>> {
    if grant_ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = grant_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query_as!(
        Grant,
        "select grant_id, account_id, right_id, resource, create_time from grants
         where org_id = $1 and account_id = $2 and grant_id = any($3)",
        org_id.uuid(),
        account_id.uuid(),
        &ids
    );
    Ok(query.fetch_all(db).await?)
}

/// Finds the grants of an account, with the permissions of custom roles, and the rights that they give.
pub async fn find_held(db: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<HeldGrants> {
    let grants = find_of(&mut *db, org_id, account_id).await?;
    let pairs: Vec<_> =
        grants.iter().map(|grant| Ok((grant.right()?, grant.node()?))).collect::<Result<_>>()?;
    let roles = crate::db::orgs::roles::find_named(db, org_id, pairs.iter().map(|(right, _)| right)).await?;
    Ok(HeldGrants::new(pairs.into_iter().map(|(right, node)| held(right, node, &roles)).collect()))
}

/// The same of many accounts; one that is not listed holds nothing.
pub async fn find_held_of_all(
    db: &mut PgConnection,
    org_id: OrgId,
    account_ids: &[AccountId],
) -> Result<HashMap<AccountId, HeldGrants>> {
    if account_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = account_ids.iter().map(|id| id.uuid()).collect();
    let query = sqlx::query_as!(
        Grant,
        "select grant_id, account_id, right_id, resource, create_time from grants
         where org_id = $1 and account_id = any($2) order by grant_id",
        org_id.uuid(),
        &ids
    );
    let mut of_accounts: HashMap<AccountId, Vec<(Right, Node)>> = HashMap::new();
    for grant in query.fetch_all(&mut *db).await? {
        of_accounts.entry(grant.account_id.into()).or_default().push((grant.right()?, grant.node()?));
    }
    let rights = of_accounts.values().flatten().map(|(right, _)| right);
    let roles = crate::db::orgs::roles::find_named(db, org_id, rights).await?;
    let held_by = |(account_id, pairs): (AccountId, Vec<(Right, Node)>)| {
        let grants = pairs.into_iter().map(|(right, node)| held(right, node, &roles)).collect();
        (account_id, HeldGrants::new(grants))
    };
    Ok(of_accounts.into_iter().map(held_by).collect())
}

/// A grant with the permissions of its role.
pub fn held(right: Right, node: Node, roles: &Roles) -> HeldGrant {
    let role_permissions = match &right {
        Right::Custom(id) => roles.get(id).map(|role| role.permissions.clone()).unwrap_or_default(),
        _ => PermissionSet::default(),
    };
    HeldGrant { right, node, role_permissions }
}

/// Finds at most `limit` application permissions that the grants and roles of the org name, sorted.
pub async fn find_named_permissions(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    limit: usize,
) -> Result<Vec<Permission>> {
    let own: Vec<String> = Permission::OWN.iter().map(Permission::to_string).collect();
    // The recursion skips from one right to the next along an index, however many grants there are, and goes on
    // no further than the rest of the query reads.
    let query = sqlx::query_scalar!(
        r#"with recursive named (right_id) as (
               (select right_id from grants where org_id = $1 order by right_id limit 1)
               union all
               select (select g.right_id from grants g where g.org_id = $1 and g.right_id > n.right_id
                       order by g.right_id limit 1)
               from named n where n.right_id is not null
           )
           select permission as "permission!" from (
               (select right_id as permission from named where strpos(right_id, '.') > 0 and right_id <> all($2)
                limit $3)
               union
               select unnest(permissions) from roles where org_id = $1
           ) every
           where permission <> all($2) order by permission limit $3"#,
        org_id.uuid(),
        &own,
        limit as i64
    );
    let texts = query.fetch_all(db).await?;
    texts.iter().map(|text| Permission::parse(text).map_err(damaged("permission"))).collect()
}

/// Grants rights to an account. Returns the new grants.
///
/// Rights that it holds already change nothing. The org is locked.
///
/// # Errors
/// `LIMIT_REACHED` when the account has too many grants with these.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    new: &[(GrantId, &HeldGrant)],
    now: OffsetDateTime,
) -> Result<Vec<Grant>> {
    let ids: Vec<Uuid> = new.iter().map(|(id, _)| id.uuid()).collect();
    let rights: Vec<String> = new.iter().map(|(_, grant)| grant.right.to_string()).collect();
    let role = |grant: &HeldGrant| {
        if let Right::Custom(id) = grant.right { Some(id.uuid()) } else { None }
    };
    let roles: Vec<Option<Uuid>> = new.iter().map(|(_, grant)| role(grant)).collect();
    let paths: Vec<Option<String>> =
        new.iter().map(|(_, grant)| grant.node.path().map(|path| path.to_string())).collect();
    let query = sqlx::query_as!(
        Grant,
        "insert into grants (org_id, grant_id, account_id, right_id, role_id, resource, create_time)
         select $1, grant_id, $2, right_id, role_id, resource, $7
         from unnest($3::uuid[], $4::text[], $5::uuid[], $6::text[]) as new (grant_id, right_id, role_id, resource)
         on conflict on constraint grants_held_once do nothing
         returning grant_id, account_id, right_id, resource, create_time",
        org_id.uuid(),
        account_id.uuid(),
        &ids,
        &rights,
        &roles as &[Option<Uuid>],
        &paths as &[Option<String>],
        now
    );
    let inserted = query.fetch_all(&mut *tx).await?;
    if !inserted.is_empty() {
        let query = sqlx::query_scalar!(
            r#"select count(*) as "n!" from grants where org_id = $1 and account_id = $2"#,
            org_id.uuid(),
            account_id.uuid()
        );
        Limit::GRANTS_OF_ACCOUNT.refuse_above(query.fetch_one(tx).await?)?;
    }
    Ok(inserted)
}

/// Deletes grants, all or none.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, grant_ids: &[GrantId]) -> Result<()> {
    let ids: Vec<Uuid> = grant_ids.iter().map(|id| id.uuid()).collect();
    let query =
        sqlx::query!("delete from grants where org_id = $1 and grant_id = any($2)", org_id.uuid(), &ids);
    let deleted = query.execute(tx).await?.rows_affected();
    if deleted == ids.len() as u64 {
        Ok(())
    } else {
        Err(Error::internal(format!("deleting {} grants touched {deleted}", ids.len())))
    }
}

/// Finds which other accounts hold this right on the whole org, among the org's own accounts.
///
/// The org is locked, so that the answer stays valid until the transaction ends.
pub async fn find_other_owners(
    tx: &mut PgConnection,
    org_id: OrgId,
    right_id: &str,
    except: AccountId,
) -> Result<OtherOwners> {
    let query = sqlx::query!(
        r#"select distinct a.kind, a.password_time is not null as "has_password!",
                  a.deactivate_time is not null as "deactivated!", a.delete_time is not null as "deleted!"
           from grants g join accounts a on a.org_id = $1 and a.account_id = g.account_id
           where g.org_id = $1 and g.right_id = $2 and g.resource is null and g.account_id <> $3"#,
        org_id.uuid(),
        right_id,
        except.uuid()
    );
    let state = |kind: &str, has_password, deactivated, deleted| {
        let kind =
            AccountKind::parse(kind).ok_or_else(|| Error::internal("a stored account kind is unknown"))?;
        Ok(AccountState::of(kind, has_password, deactivated, deleted))
    };
    let rows = query.fetch_all(tx).await?.into_iter();
    let states = rows.map(|row| state(&row.kind, row.has_password, row.deactivated, row.deleted));
    Ok(OtherOwners::of(states.collect::<Result<Vec<_>>>()?))
}

/// The ids that an event about grants names.
pub fn touched(account_id: AccountId, grants: &[Grant]) -> Vec<String> {
    std::iter::once(account_id.to_string()).chain(grants.iter().map(|grant| grant.id().to_string())).collect()
}

/// The cache keys that a change of grants invalidates: the account, and possibly the owners of the org.
///
/// The list of permissions of an owner holds the application permissions that grants name.
pub fn subjects(org_id: OrgId, account_id: AccountId, grants: &[Grant]) -> Vec<Subject> {
    let names_one =
        grants.iter().any(|grant| matches!(grant.right(), Ok(Right::Permission(p)) if p.is_application()));
    let owners = names_one.then_some(Subject::Owners(org_id));
    std::iter::once(account_id.into()).chain(owners).collect()
}

/// A grant as an event describes it: the right and the node.
pub fn described(grant: &Grant) -> String {
    format!("{} on {}", grant.right_id, grant.resource.as_deref().unwrap_or("*"))
}
