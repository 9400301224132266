//! `invitations` to join an org. Every transaction that changes one has locked the row of the org.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::db::{damaged, one_row};
use crate::domain::paging::{COUNTED, Page};
use crate::domain::sign_in::invitations::{InvitationState, RETENTION, SEND_WINDOW};
use crate::domain::values::ids::{AccountId, InvitationId, OrgId, TokenId};
use crate::domain::values::names::Email;
use crate::domain::values::permissions::Right;
use crate::domain::values::resources::Node;
use crate::error::Result;

/// An invitation, as it is stored.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub org_id: Uuid,
    pub invitation_id: Uuid,
    pub email: String,
    /// The right and the node of each grant.
    grants: Json<Vec<(String, String)>>,
    inviter_id: Uuid,
    inviter_org_id: Uuid,
    impersonator_id: Option<Uuid>,
    impersonator_org_id: Option<Uuid>,
    credential_id: Uuid,
    pub create_time: OffsetDateTime,
    pub send_time: OffsetDateTime,
    pub expire_time: OffsetDateTime,
    pub accept_time: Option<OffsetDateTime>,
    account_id: Option<Uuid>,
    pub revoke_time: Option<OffsetDateTime>,
}

impl Invitation {
    /// The id of the invitation.
    pub fn id(&self) -> InvitationId {
        self.invitation_id.into()
    }

    /// The address that is invited.
    pub fn email(&self) -> Result<Email> {
        Email::parse(&self.email).map_err(damaged("address"))
    }

    /// The grants that the account gets when it accepts.
    pub fn grants(&self) -> Result<Vec<(Right, Node)>> {
        let grant = |(right, node): &(String, String)| {
            let right = Right::parse(right).map_err(damaged("right"))?;
            Ok((right, Node::parse(node).map_err(damaged("resource path"))?))
        };
        self.grants.iter().map(grant).collect()
    }

    /// The account that sent the invitation last.
    pub fn inviter(&self) -> AccountId {
        self.inviter_id.into()
    }

    /// The accounts behind the invitation, each with its home org: the inviter and its impersonator.
    ///
    /// The rights of each of them cover what is granted.
    pub fn senders(&self) -> Vec<(OrgId, AccountId)> {
        let inviter = (self.inviter_org_id, self.inviter_id);
        let impersonator = self.impersonator_org_id.zip(self.impersonator_id);
        let all = std::iter::once(inviter).chain(impersonator);
        all.map(|(org_id, account_id)| (org_id.into(), account_id.into())).collect()
    }

    /// The home org and the id of the token that the invitation was sent with, if it was a token.
    pub fn sent_with(&self) -> (OrgId, TokenId) {
        (self.impersonator_org_id.unwrap_or(self.inviter_org_id).into(), self.credential_id.into())
    }

    /// The token or session that the invitation was sent with last.
    pub fn credential(&self) -> Uuid {
        self.credential_id
    }

    /// The account that accepted the invitation.
    pub fn accepted_by(&self) -> Option<AccountId> {
        self.account_id.map(AccountId::from)
    }

    /// The state of the invitation.
    pub fn state(&self, now: OffsetDateTime) -> InvitationState {
        let (accepted, revoked) = (self.accept_time.is_some(), self.revoke_time.is_some());
        InvitationState::of(accepted, revoked, self.expire_time, now)
    }
}

/// A query for the columns of [`Invitation`], with the rest of its SQL.
macro_rules! select_invitations {
    ($rest:tt, $($arg:expr),* $(,)?) => {
        sqlx::query_as!(
            Invitation,
            r#"select org_id, invitation_id, email, grants as "grants: Json<Vec<(String, String)>>", inviter_id,
                      inviter_org_id, impersonator_id, impersonator_org_id, credential_id, create_time, send_time, expire_time, accept_time, account_id, revoke_time
               from invitations "# + $rest,
            $($arg),*
        )
    };
}

/// A sending of an invitation: its sender, its credential, and until when it can be accepted.
pub struct Sending {
    /// The account that sends it, after its home org.
    pub inviter: (OrgId, AccountId),
    /// The account that impersonates the inviter, after its home org.
    pub impersonator: Option<(OrgId, AccountId)>,
    /// The token or session that it is sent with.
    pub credential_id: Uuid,
    pub expire_time: OffsetDateTime,
}

/// Inserts an invitation, which is sent now.
pub async fn insert(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_id: InvitationId,
    email: &Email,
    grants: &[(Right, Node)],
    sending: &Sending,
    now: OffsetDateTime,
) -> Result<()> {
    let grants: Vec<_> = grants.iter().map(|(right, node)| (right.to_string(), node.to_string())).collect();
    let query = sqlx::query!(
        "insert into invitations (org_id, invitation_id, email, grants, inviter_id, inviter_org_id, impersonator_id,
                impersonator_org_id, credential_id, sent_times, create_time, send_time, expire_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, array[$10::timestamptz], $10, $10, $11)",
        org_id.uuid(),
        invitation_id.uuid(),
        email.as_str(),
        Json(grants) as _,
        sending.inviter.1.uuid(),
        sending.inviter.0.uuid(),
        sending.impersonator.map(|(_, account_id)| account_id.uuid()),
        sending.impersonator.map(|(org_id, _)| org_id.uuid()),
        sending.credential_id,
        now,
        sending.expire_time
    );
    one_row(&query.execute(tx).await?, "inserting an invitation")
}

/// Stores another sending of an invitation, which is neither accepted nor revoked.
pub async fn resend(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_id: InvitationId,
    sending: &Sending,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update invitations
         set inviter_id = $3, inviter_org_id = $4, impersonator_id = $5, impersonator_org_id = $6, credential_id = $7,
             send_time = $8, expire_time = $9,
             sent_times = array(select sent from unnest(sent_times) sent where sent > $10) || $8::timestamptz
         where org_id = $1 and invitation_id = $2 and accept_time is null and revoke_time is null",
        org_id.uuid(),
        invitation_id.uuid(),
        sending.inviter.1.uuid(),
        sending.inviter.0.uuid(),
        sending.impersonator.map(|(_, account_id)| account_id.uuid()),
        sending.impersonator.map(|(org_id, _)| org_id.uuid()),
        sending.credential_id,
        now,
        sending.expire_time,
        now - SEND_WINDOW
    );
    one_row(&query.execute(tx).await?, "sending an invitation again")
}

/// How many invitations the org has sent within the time in which their number is limited.
pub async fn count_sent(tx: &mut PgConnection, org_id: OrgId, now: OffsetDateTime) -> Result<i64> {
    let query = sqlx::query_scalar!(
        r#"select count(*) as "n!" from invitations, unnest(sent_times) sent
           where org_id = $1 and send_time > $2 and sent > $2"#,
        org_id.uuid(),
        now - SEND_WINDOW
    );
    Ok(query.fetch_one(tx).await?)
}

/// Finds the invitation of this id.
pub async fn find(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    invitation_id: InvitationId,
) -> Result<Option<Invitation>> {
    let query =
        select_invitations!("where org_id = $1 and invitation_id = $2", org_id.uuid(), invitation_id.uuid());
    Ok(query.fetch_optional(db).await?)
}

/// Finds the invitation that an address can accept now.
pub async fn find_pending(
    db: impl PgExecutor<'_>,
    org_id: OrgId,
    email: &Email,
    now: OffsetDateTime,
) -> Result<Option<Invitation>> {
    let query = select_invitations!(
        "where org_id = $1 and email = $2 and accept_time is null and revoke_time is null and expire_time > $3
         order by invitation_id limit 1",
        org_id.uuid(),
        email.as_str(),
        now
    );
    Ok(query.fetch_optional(db).await?)
}

/// A page of the org's invitations, oldest first; only those in this state, if one is given.
pub async fn page(
    db: &mut PgConnection,
    org_id: OrgId,
    state: Option<InvitationState>,
    after: Option<InvitationId>,
    size: i64,
    now: OffsetDateTime,
) -> Result<Page<Invitation>> {
    let rows = select_invitations!(
        "where org_id = $1 and ($2::uuid is null or invitation_id > $2)
           and ($3::text is null or $3 = case when accept_time is not null then 'ACCEPTED'
                                              when revoke_time is not null then 'REVOKED'
                                              when expire_time <= $4 then 'EXPIRED' else 'PENDING' end)
         order by invitation_id limit $5",
        org_id.uuid(),
        after.map(InvitationId::uuid),
        state.map(InvitationState::name),
        now,
        size + 1
    );
    let rows = rows.fetch_all(&mut *db).await?;
    let counted = sqlx::query_scalar!(
        r#"select count(*) as "n!" from (
               select 1 from invitations
               where org_id = $1
                 and ($2::text is null or $2 = case when accept_time is not null then 'ACCEPTED'
                                                    when revoke_time is not null then 'REVOKED'
                                                    when expire_time <= $3 then 'EXPIRED' else 'PENDING' end)
               limit $4) few"#,
        org_id.uuid(),
        state.map(InvitationState::name),
        now,
        COUNTED + 1
    );
    let counted = counted.fetch_one(db).await?;
    Ok(Page::of(rows, size, counted, |invitation| invitation.id().to_string()))
}

/// Finds the invitations that were sent with these credentials, and that are neither accepted nor revoked.
///
/// Searches all orgs, as the search for what a compromised token made does.
pub async fn find_open_sent_with(
    db: impl PgExecutor<'_>,
    credentials: &[Uuid],
) -> Result<Vec<(OrgId, InvitationId)>> {
    let query = sqlx::query!(
        "select org_id, invitation_id from invitations
         where credential_id = any($1) and accept_time is null and revoke_time is null",
        credentials
    );
    let rows = query.fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.org_id.into(), row.invitation_id.into())).collect())
}

/// Revokes an invitation that is neither accepted nor revoked.
pub async fn revoke(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_id: InvitationId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update invitations set revoke_time = $3
         where org_id = $1 and invitation_id = $2 and accept_time is null and revoke_time is null",
        org_id.uuid(),
        invitation_id.uuid(),
        now
    );
    one_row(&query.execute(tx).await?, "revoking an invitation")
}

/// Revokes those of these invitations that are neither accepted nor revoked, and returns them.
pub async fn revoke_all(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_ids: &[Uuid],
    now: OffsetDateTime,
) -> Result<Vec<InvitationId>> {
    let query = sqlx::query_scalar!(
        "update invitations set revoke_time = $3
         where org_id = $1 and invitation_id = any($2) and accept_time is null and revoke_time is null
         returning invitation_id",
        org_id.uuid(),
        invitation_ids,
        now
    );
    Ok(query.fetch_all(tx).await?.into_iter().map(InvitationId::from).collect())
}

/// Marks an invitation, which is neither accepted nor revoked, as accepted by this account.
pub async fn accept(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_id: InvitationId,
    account_id: AccountId,
    now: OffsetDateTime,
) -> Result<()> {
    let query = sqlx::query!(
        "update invitations set accept_time = $4, account_id = $3
         where org_id = $1 and invitation_id = $2 and accept_time is null and revoke_time is null",
        org_id.uuid(),
        invitation_id.uuid(),
        account_id.uuid(),
        now
    );
    one_row(&query.execute(tx).await?, "accepting an invitation")
}

/// Deletes the invitations that expired before their retention. Returns how many there were.
pub async fn sweep(db: impl PgExecutor<'_>, now: OffsetDateTime) -> Result<u64> {
    let query = sqlx::query!("delete from invitations where expire_time < $1", now - RETENTION);
    Ok(query.execute(db).await?.rows_affected())
}
