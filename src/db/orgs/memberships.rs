//! `memberships` and `account_orgs`: the accounts that may act in an org.

use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::accounts::grants::{Grant, described, subjects, touched};
use crate::db::events::{Change, FieldChange};
use crate::db::one_row;
use crate::domain::access::standing::StoredMember;
use crate::domain::paging::{COUNTED, Page};
use crate::domain::values::ids::{AccountId, OrgId, TokenId};
use crate::domain::values::kinds::AccountKind;
use crate::error::{Error, Result};

/// A member, as it is stored.
#[derive(Clone, Debug)]
pub struct MemberRow {
    pub org_id: Uuid,
    pub account_id: Uuid,
    pub home_org_id: Uuid,
    /// None for a guest, whose account is stored with another org.
    pub kind: Option<String>,
    pub title: String,
    pub create_time: OffsetDateTime,
}

impl MemberRow {
    /// The id of the account.
    pub fn id(&self) -> AccountId {
        self.account_id.into()
    }

    /// Whether the member is a user or a service account. Guests are always users.
    pub fn kind(&self) -> Result<AccountKind> {
        let Some(kind) = &self.kind else { return Ok(AccountKind::User) };
        AccountKind::parse(kind).ok_or_else(|| Error::internal("a stored account kind is unknown"))
    }
}

/// A page of the org's members, ordered by account, without deleted accounts.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    after: Option<AccountId>,
    size: i64,
) -> Result<Page<MemberRow>> {
    let rows = sqlx::query_as!(
        MemberRow,
        r#"select m.org_id, m.account_id, m.home_org_id, a.kind as "kind?", m.title, m.create_time
           from memberships m left join accounts a on a.org_id = $1 and a.account_id = m.account_id
           where m.org_id = $1 and m.remove_time is null and a.delete_time is null
             and ($2::uuid is null or m.account_id > $2)
           order by m.account_id limit $3"#,
        org_id.uuid(),
        after.map(AccountId::uuid),
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from memberships m left join accounts a on a.org_id = $1 and a.account_id = m.account_id
               where m.org_id = $1 and m.remove_time is null and a.delete_time is null limit $2
           ) few"#,
        org_id.uuid(),
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |member| member.id().to_string()))
}

/// Finds a member. Deleted accounts of the org and guests that were removed are not members.
pub async fn find(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    account_id: AccountId,
) -> Result<Option<MemberRow>> {
    let query = sqlx::query_as!(
        MemberRow,
        r#"select m.org_id, m.account_id, m.home_org_id, a.kind as "kind?", m.title, m.create_time
           from memberships m left join accounts a on a.org_id = $1 and a.account_id = m.account_id
           where m.org_id = $1 and m.account_id = $2 and m.remove_time is null and a.delete_time is null"#,
        org_id.uuid(),
        account_id.uuid()
    );
    Ok(query.fetch_optional(db).await?)
}

/// Finds what is stored of an account in an org, whatever its state, and of a secret of its token.
///
/// The org is locked or held.
pub async fn find_stored(
    db: impl PgExecutor<'_>,
    (org_id, account_id): (OrgId, AccountId),
    secret: Option<(TokenId, i32)>,
    now: OffsetDateTime,
) -> Result<Option<StoredMember>> {
    let query = sqlx::query!(
        r#"select o.version as org_version, m.version as account_version,
                  (a.deactivate_time is not null or a.delete_time is not null or m.remove_time is not null)
                      as "account_stopped!",
                  (o.suspend_time is not null or o.delete_time is not null) as "org_stopped!",
                  exists (select 1 from token_secrets s
                          where s.org_id = $1 and s.token_id = $3 and s.secret_number = $4
                            and (s.expire_time is null or s.expire_time > $5)) as "secret_is_active!"
           from memberships m
           join orgs o on o.org_id = $1
           left join accounts a on a.org_id = $1 and a.account_id = m.account_id
           where m.org_id = $1 and m.account_id = $2"#,
        org_id.uuid(),
        account_id.uuid(),
        secret.map(|(token_id, _)| token_id.uuid()),
        secret.map(|(_, number)| number),
        now
    );
    Ok(query.fetch_optional(db).await?.map(|row| StoredMember {
        account_stopped: row.account_stopped,
        org_stopped: row.org_stopped,
        org_version: row.org_version,
        account_version: row.account_version,
        secret_is_active: secret.map(|_| row.secret_is_active),
    }))
}

/// Finds a member, and locks its account until the transaction ends if that is stored with this org.
///
/// The org is locked, so that no member is added or removed meanwhile.
pub async fn lock(tx: &mut PgConnection, org_id: OrgId, account_id: AccountId) -> Result<Option<MemberRow>> {
    crate::db::accounts::lock(&mut *tx, org_id, account_id).await?;
    find(tx, org_id, account_id).await
}

/// Makes an account of another org a member.
///
/// An account that was a member before continues with the version that it left with, so that its
/// earlier access tokens stay stale.
pub async fn join(
    tx: &mut PgConnection,
    org_id: OrgId,
    (home, account_id): (OrgId, AccountId),
    title: &str,
    now: OffsetDateTime,
) -> Result<()> {
    let member = sqlx::query!(
        "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
         values ($1, $2, $3, $4, 1, $5)
         on conflict on constraint memberships_pk do update
         set remove_time = null, title = excluded.title, create_time = excluded.create_time
         where memberships.remove_time is not null and memberships.home_org_id = excluded.home_org_id",
        org_id.uuid(),
        account_id.uuid(),
        home.uuid(),
        title,
        now
    );
    one_row(&member.execute(&mut *tx).await?, "inserting a guest")?;
    let listed = sqlx::query!(
        "insert into account_orgs (account_id, org_id) values ($1, $2)",
        account_id.uuid(),
        org_id.uuid()
    );
    one_row(&listed.execute(tx).await?, "listing a guest")
}

/// Ends a membership.
///
/// Its row stays, because the tokens that were revoked in it refer to it, and because of its version:
/// should the guest come back, access tokens from before stay stale.
pub async fn remove(
    tx: &mut PgConnection,
    org_id: OrgId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let member = sqlx::query!(
        "update memberships set remove_time = $3, version = version + 1
         where org_id = $1 and account_id = $2 and remove_time is null",
        org_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&member.execute(&mut *tx).await?, "ending a membership")?;
    let listed = sqlx::query!(
        "delete from account_orgs where account_id = $1 and org_id = $2",
        account_id.uuid(),
        org_id.uuid()
    );
    one_row(&listed.execute(tx).await?, "unlisting a membership")
}

/// The event of an org that a guest has left, with the grants that the guest has lost.
pub fn removed(org_id: OrgId, (home, account_id): (OrgId, AccountId), lost: &[Grant]) -> Change {
    let left = FieldChange::cleared("home_org_id", home);
    let lost_grants = lost.iter().map(|grant| FieldChange::cleared("grants", described(grant)));
    Change::of("member.removed", touched(account_id, lost))
        .in_org(org_id)
        .fields(std::iter::once(left).chain(lost_grants))
        .subjects(subjects(org_id, account_id, lost))
}
