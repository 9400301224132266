//! `resources`: the catalogue of the resources of an org.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{damaged, one_row};
use crate::domain::limits::Limit;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::OrgId;
use crate::domain::values::names::DisplayName;
use crate::domain::values::resources::{Node, ResourcePath};
use crate::error::{Error, Result};

/// A node, as it is stored.
#[derive(Clone, Debug)]
pub struct Resource {
    pub path: String,
    pub display_name: Option<String>,
    pub revision: i64,
    pub create_time: OffsetDateTime,
    pub update_time: OffsetDateTime,
}

impl Resource {
    /// The path of the resource, as a node.
    pub fn node(&self) -> Result<Node> {
        Node::parse(&self.path).map_err(damaged("resource path"))
    }
}

/// A page of the catalogue, ordered by path; with a parent, only the parent and what is below it.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    parent: Option<&ResourcePath>,
    after: Option<&ResourcePath>,
    size: i64,
) -> Result<Page<Resource>> {
    let parent = parent.map(ResourcePath::as_str);
    let rows = sqlx::query_as!(
        Resource,
        "select path, display_name, revision, create_time, update_time from resources
         where org_id = $1 and ($2::text is null or path = $2 or starts_with(path, $2 || '/'))
           and ($3::text is null or path > $3)
         order by path limit $4",
        org_id.uuid(),
        parent,
        after.map(ResourcePath::as_str),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from resources
               where org_id = $1 and ($2::text is null or path = $2 or starts_with(path, $2 || '/')) limit $3
           ) few"#,
        org_id.uuid(),
        parent,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |resource| resource.path.clone()))
}

/// Finds the node at this path.
pub async fn find(db: impl PgExecutor<'_>, org_id: OrgId, path: &ResourcePath) -> Result<Option<Resource>> {
    let query = sqlx::query_as!(
        Resource,
        "select path, display_name, revision, create_time, update_time from resources
         where org_id = $1 and path = $2",
        org_id.uuid(),
        path.as_str()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Locks the node until the transaction ends.
///
/// A transaction that is about to refer to it waits, and then finds it deleted; or it came first, and
/// what it has inserted is found.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, path: &ResourcePath) -> Result<Option<Resource>> {
    let query = sqlx::query_as!(
        Resource,
        "select path, display_name, revision, create_time, update_time from resources
         where org_id = $1 and path = $2 for update",
        org_id.uuid(),
        path.as_str()
    );
    Ok(query.fetch_optional(tx).await?)
}

/// Finds which of the paths exist, and keeps them from being deleted until the transaction ends.
///
/// What is inserted with a reference to them then never refers to a missing node.
pub async fn hold(tx: &mut PgConnection, org_id: OrgId, paths: &[ResourcePath]) -> Result<Vec<String>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let paths: Vec<String> = paths.iter().map(ResourcePath::to_string).collect();
    let query = sqlx::query_scalar!(
        "select path from resources where org_id = $1 and path = any($2) order by path for key share",
        org_id.uuid(),
        &paths
    );
    Ok(query.fetch_all(tx).await?)
}

/// What prevents the deletion of a node.
#[derive(Clone, Debug)]
pub enum ResourceUse {
    /// A node below it, by its path.
    Below(String),
    Grant(Uuid),
    Token(Uuid),
    Rule(Uuid),
}

/// Finds at most `limit` uses of the node: nodes below it, grants on it, and tokens and federation rules
/// restricted to it.
///
/// Only tokens and rules that are neither revoked nor expired count. The node is locked, so that no use is added
/// meanwhile.
pub async fn find_uses(
    tx: &mut PgConnection,
    org_id: OrgId,
    path: &ResourcePath,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Vec<ResourceUse>> {
    let query = sqlx::query!(
        r#"(select path, null::uuid as grant_id, null::uuid as token_id, null::uuid as rule_id from resources
            where org_id = $1 and parent = $2 order by path limit $3)
           union all
           (select null, grant_id, null, null from grants where org_id = $1 and resource = $2
            order by grant_id limit $3)
           union all
           (select null, null, token_id, null from tokens
            where org_id = $1 and resources @> array[$2] and resources <> '{}'
              and revoke_time is null and (expire_time is null or expire_time > $4) limit $3)
           union all
           (select null, null, null, rule_id from federation_rules
            where org_id = $1 and resources @> array[$2] and resources <> '{}'
              and revoke_time is null and (expire_time is null or expire_time > $4) limit $3)
           limit $3"#,
        org_id.uuid(),
        path.as_str(),
        limit,
        now
    );
    let rows = query.fetch_all(tx).await?;
    let uses = rows.into_iter().map(|row| match (row.path, row.grant_id, row.token_id, row.rule_id) {
        (Some(path), _, _, _) => Ok(ResourceUse::Below(path)),
        (_, Some(id), _, _) => Ok(ResourceUse::Grant(id)),
        (_, _, Some(id), _) => Ok(ResourceUse::Token(id)),
        (_, _, _, Some(id)) => Ok(ResourceUse::Rule(id)),
        (None, None, None, None) => Err(Error::internal("a use of a resource without a name")),
    });
    uses.collect()
}

/// Inserts a node, with its missing ancestors. Returns the node, and the paths of those ancestors.
///
/// The org is locked.
///
/// # Errors
/// `RESOURCE_EXISTS` when the node exists; `LIMIT_REACHED` when the org has too many with these.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    path: &ResourcePath,
    display_name: Option<&DisplayName>,
    now: OffsetDateTime,
) -> Result<(Resource, Vec<String>)> {
    let lineage: Vec<String> = path.lineage().iter().map(ResourcePath::to_string).collect();
    let (ancestors, _) = lineage.split_at(lineage.len() - 1);
    let parents: Vec<Option<String>> =
        std::iter::once(None).chain(ancestors.iter().cloned().map(Some)).collect();
    let query = sqlx::query_scalar!(
        "insert into resources (org_id, path, parent, revision, create_time, update_time)
         select $1, path, parent, 1, $4, $4 from unnest($2::text[], $3::text[]) as missing (path, parent)
         on conflict on constraint resources_pk do nothing returning path",
        org_id.uuid(),
        ancestors,
        &parents[..ancestors.len()] as &[Option<String>],
        now
    );
    let inserted_ancestors = query.fetch_all(&mut *tx).await?;
    let query = sqlx::query_as!(
        Resource,
        "insert into resources (org_id, path, parent, display_name, revision, create_time, update_time)
         values ($1, $2, $3, $4, 1, $5, $5) on conflict on constraint resources_pk do nothing
         returning path, display_name, revision, create_time, update_time",
        org_id.uuid(),
        path.as_str(),
        parents.last().and_then(Option::as_deref),
        display_name.map(DisplayName::as_str),
        now
    );
    let resource = query.fetch_optional(&mut *tx).await?.ok_or_else(|| Error::exists("resource", path))?;
    let query =
        sqlx::query_scalar!(r#"select count(*) as "n!" from resources where org_id = $1"#, org_id.uuid());
    Limit::RESOURCES_OF_ORG.refuse_above(query.fetch_one(tx).await?)?;
    Ok((resource, inserted_ancestors))
}

/// Changes the display name of the node, which is locked.
pub async fn update(
    tx: &mut PgConnection,
    org_id: OrgId,
    path: &ResourcePath,
    display_name: Option<&DisplayName>,
    now: OffsetDateTime,
) -> Result<Resource> {
    let query = sqlx::query_as!(
        Resource,
        "update resources set display_name = $3, revision = revision + 1, update_time = $4
         where org_id = $1 and path = $2
         returning path, display_name, revision, create_time, update_time",
        org_id.uuid(),
        path.as_str(),
        display_name.map(DisplayName::as_str),
        now
    );
    Ok(query.fetch_one(tx).await?)
}

/// Deletes a node that is not in use.
pub async fn delete(tx: &mut PgConnection, org_id: OrgId, path: &ResourcePath) -> Result<()> {
    let query =
        sqlx::query!("delete from resources where org_id = $1 and path = $2", org_id.uuid(), path.as_str());
    one_row(&query.execute(tx).await?, "deleting a resource")
}
