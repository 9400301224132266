//! `resources`: the org's catalogue.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;

use crate::domain::ids::OrgId;
use crate::domain::names::DisplayName;
use crate::domain::pages::{COUNTED, Page};
use crate::domain::resources::ResourcePath;
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

/// A page of the catalogue, ordered by path; with a parent, of it and what is below.
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

/// Those of the paths that exist.
pub async fn find_paths(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    paths: &[ResourcePath],
) -> Result<Vec<String>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let paths: Vec<String> = paths.iter().map(ResourcePath::to_string).collect();
    let query = sqlx::query_scalar!(
        "select path from resources where org_id = $1 and path = any($2)",
        org_id.uuid(),
        &paths
    );
    Ok(query.fetch_all(db).await?)
}

/// A new node, with what is missing above it; the paths of the latter come back too.
///
/// # Errors
/// `RESOURCE_EXISTS` when it is there.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    path: &ResourcePath,
    display_name: Option<&DisplayName>,
    now: OffsetDateTime,
) -> Result<(Resource, Vec<String>)> {
    let lineage: Vec<String> = path.lineage().iter().map(ResourcePath::to_string).collect();
    let (above, _) = lineage.split_at(lineage.len() - 1);
    let parents: Vec<Option<String>> = std::iter::once(None).chain(above.iter().cloned().map(Some)).collect();
    let query = sqlx::query_scalar!(
        "insert into resources (org_id, path, parent, revision, create_time, update_time)
         select $1, path, parent, 1, $4, $4 from unnest($2::text[], $3::text[]) as missing (path, parent)
         on conflict on constraint resources_pk do nothing returning path",
        org_id.uuid(),
        above,
        &parents[..above.len()] as &[Option<String>],
        now
    );
    let made_above = query.fetch_all(&mut *tx).await?;
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
    let resource = query.fetch_optional(tx).await?.ok_or_else(|| Error::exists("resource", path))?;
    Ok((resource, made_above))
}
