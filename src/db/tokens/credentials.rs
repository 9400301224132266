//! Credentials of every kind: tokens, sessions and federation rules.

use sqlx::PgConnection;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::orgs::Org;
use crate::db::orgs::policies::Stored;
use crate::domain::access::standing::StoredCredential;
use crate::domain::values::ids::{CredentialId, OrgId};
use crate::error::Result;

/// Reads what is stored of a credential, by a statement of its kind.
///
/// The one place that says when a credential counts as revoked in a transaction: a rule also while it is disabled.
macro_rules! by_kind {
    ($id:expr, $read:ident) => {
        match $id {
            CredentialId::Token(_) => $read!(
                r#"select revoke_time is not null as "revoked!", expire_time as "expire_time?" from tokens
                   where org_id = $1 and token_id = $2"#
            ),
            CredentialId::Session(_) => $read!(
                r#"select end_time is not null as "revoked!", expire_time as "expire_time?" from sessions
                   where org_id = $1 and session_id = $2"#
            ),
            CredentialId::Rule(_) => $read!(
                r#"select (revoke_time is not null or disabled) as "revoked!", expire_time as "expire_time?"
                   from federation_rules where org_id = $1 and rule_id = $2"#
            ),
        }
    };
}

/// Keeps the credential of a caller from being changed or revoked until the transaction ends.
///
/// A transaction that revokes or ends it afterwards finds what the caller has created. None if there is
/// no such credential any more.
pub async fn hold(
    tx: &mut PgConnection,
    org_id: OrgId,
    id: CredentialId,
) -> Result<Option<StoredCredential>> {
    let (org, credential) = (org_id.uuid(), id.uuid());
    macro_rules! alone {
        ($stored:literal) => {
            sqlx::query_as!(StoredCredential, $stored + " for share", org, credential)
                .fetch_optional(tx)
                .await?
        };
    }
    Ok(by_kind!(id, alone))
}

/// An org that was locked, with what is stored of a credential of it that is held.
struct HeldWithOrg {
    org_id: Uuid,
    slug: String,
    display_name: String,
    revision: i64,
    token_policy: Option<Json<Stored>>,
    suspend_time: Option<OffsetDateTime>,
    delete_time: Option<OffsetDateTime>,
    create_time: OffsetDateTime,
    update_time: OffsetDateTime,
    /// None if there is no such credential.
    revoked: Option<bool>,
    expire_time: Option<OffsetDateTime>,
}

/// Locks the org as [`lock_existing`](crate::db::orgs::lock_existing) does, if there is one, and then holds a
/// credential of it as [`hold`] does.
///
/// One statement, whose snapshot is from before it waited for the org. A row that it locks it reads again, so that it
/// sees a revocation that was committed while it waited.
pub async fn hold_with_org(
    tx: &mut PgConnection,
    org_id: OrgId,
    id: CredentialId,
) -> Result<Option<(Org, Option<StoredCredential>)>> {
    let (org, credential) = (org_id.uuid(), id.uuid());
    // The credential is read only where there is an org: that is locked first.
    macro_rules! with_org {
        ($stored:literal) => {
            sqlx::query_as!(
                HeldWithOrg,
                r#"with org as materialized (
                       select org_id, slug, display_name, revision, token_policy, suspend_time, delete_time,
                              create_time, update_time
                       from orgs where org_id = $1 for no key update
                   ), held (revoked, expire_time) as materialized ("#
                    + $stored
                    + r#" and exists (select 1 from org) for share
                   )
                   select org.org_id as "org_id!", org.slug as "slug!", org.display_name as "display_name!",
                          org.revision as "revision!", org.token_policy as "token_policy: _", org.suspend_time,
                          org.delete_time, org.create_time as "create_time!", org.update_time as "update_time!",
                          held.revoked as "revoked?", held.expire_time as "expire_time?"
                   from org left join held on true"#,
                org,
                credential
            )
            .fetch_optional(tx)
            .await?
        };
    }
    let row = by_kind!(id, with_org);
    Ok(row.map(|row| {
        let held = row.revoked.map(|revoked| StoredCredential { revoked, expire_time: row.expire_time });
        let org = Org {
            org_id: row.org_id,
            slug: row.slug,
            display_name: row.display_name,
            revision: row.revision,
            token_policy: row.token_policy,
            suspend_time: row.suspend_time,
            delete_time: row.delete_time,
            create_time: row.create_time,
            update_time: row.update_time,
        };
        (org, held)
    }))
}

/// Which of these ids a token, a session or an emailed code has.
///
/// Two reads, because a sharded engine does not read a distributed table together with a local one.
pub async fn find_existing(db: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let credentials =
        sqlx::query_scalar!("select credential_id from credentials where credential_id = any($1)", ids);
    let mut found = credentials.fetch_all(&mut *db).await?;
    let codes = sqlx::query_scalar!("select code_id from codes where code_id = any($1)", ids);
    found.extend(codes.fetch_all(db).await?);
    Ok(found)
}
