//! `CreateInvitation`, `ListInvitations`, `ResendInvitation` and `RevokeInvitation`: called by
//! those who invite.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::db;
use crate::db::accounts::grants::held;
use crate::db::events::{Change, EventValue, FieldChange};
use crate::db::orgs::Org;
use crate::db::orgs::invitations::{Invitation, Sending};
use crate::db::{named_permissions, references};
use crate::domain::access::acting::Acting;
use crate::domain::limits::Limit;
use crate::domain::mail::Mail;
use crate::domain::sign_in::emailed_codes::{CodePurpose, End};
use crate::domain::sign_in::invitations::InvitationState;
use crate::domain::values::ids::{InvitationId, OrgId, SYSTEM_ORG};
use crate::domain::values::kinds::AccountKind;
use crate::domain::values::names::Email;
use crate::domain::values::permissions::{Permission, Right};
use crate::domain::values::resources::Node;
use crate::error::{Error, Reason, Result, Violations};
use crate::flows::emailed_codes;
use crate::flows::emailed_codes::ToSend;
use crate::flows::transaction::{Transaction, transact};
use crate::grpc::accounts::details;
use crate::grpc::accounts::grants::givable;
use crate::grpc::layers::auth::Call;
use crate::grpc::pb;
use crate::grpc::wire::idempotency::Idempotency;
use crate::grpc::wire::page_token::Paging;
use crate::grpc::wire::{convert, idempotency};
use crate::state::State;

pub async fn create_invitation(
    state: &State,
    call: &Call,
    mut request: pb::CreateInvitationRequest,
) -> Result<pb::CreateInvitationResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::INVITATIONS_WRITE, &Node::Org)?;
    acting.may_send_code()?;
    let mut violations = Violations::default();
    if acting.org_id == SYSTEM_ORG {
        violations
            .add("org_id", "must not be the system org, whose members are operators: create them there");
    }
    let email = violations.check("email", details::mailbox(state, &request.email));
    let grants = convert::grants(&mut violations, &request.grants);
    let request_id =
        violations.check("request_id", idempotency::parse(&std::mem::take(&mut request.request_id)));
    let (email, request_id) = violations.all((email, request_id))?;

    request.org_id.clear();
    request.grants.clear();
    let once = Idempotency::new(&acting, "CreateInvitation", request_id, &request);
    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let grants = references::rights(&mut tx, acting.org_id, &grants).await?;
        let once = once.bound_to(grants.iter().map(|(right, node)| format!("{right} on {node}")));
        let org = tx.lock_org().await?;
        givable(&mut tx, &acting, Some(AccountKind::User), &grants).await?;
        if let Some(before) = once.replayed(&mut tx, now).await? {
            return Ok(before);
        }
        refuse_member(&mut tx, acting.org_id, &email).await?;
        refuse_invited(&mut tx, acting.org_id, &email, now).await?;
        refuse_too_many(&mut tx, acting.org_id, now).await?;
        let invitation_id: InvitationId = state.clock.new_id();
        let sending = sending(&acting, now);
        db::orgs::invitations::insert(&mut tx, acting.org_id, invitation_id, &email, &grants, &sending, now)
            .await?;
        let mut fields = vec![FieldChange::set("email", &email)];
        let named =
            grants.iter().map(|(right, node)| FieldChange::set("grants", format!("{right} on {node}")));
        fields.extend(named);
        fields.push(FieldChange::set("expire_time", sending.expire_time));
        let change = change("invitation.created", invitation_id, fields);
        tx.record(change).await?;
        let invitation = send(state, &acting, &mut tx, &org, invitation_id).await?;
        let response = pb::CreateInvitationResponse {
            invitation: Some(shown(&invitation, now)?),
            first_seen_permissions: named_permissions::note_grants(&mut tx, acting.org_id, &grants).await?,
        };
        once.finish(&mut tx, &invitation_id.to_string(), &response).await?;
        tx.commit().await?;
        Ok(response)
    })
}

pub async fn list_invitations(
    state: &State,
    call: &Call,
    request: pb::ListInvitationsRequest,
) -> Result<pb::ListInvitationsResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::INVITATIONS_READ, &Node::Org)?;
    let wanted = read_state(request.state).map_err(|wrong| Error::invalid("state", wrong))?;
    let same = pb::ListInvitationsRequest { state: request.state, ..Default::default() };
    let paging =
        Paging::read(state, &acting, "ListInvitations", &same, request.page_size, &request.page_token)?;
    let now = state.clock.now();
    let mut db = call.read(state).await?;
    let after = paging.after(InvitationId::parse);
    let page = db::orgs::invitations::page(&mut db, acting.org_id, wanted, after, paging.size, now).await?;
    let page = paging.answer(state, page, |row| shown(&row, now))?;
    Ok(pb::ListInvitationsResponse {
        invitations: page.items,
        next_page_token: page.next_page_token,
        total_size: page.total_size,
    })
}

pub async fn resend_invitation(
    state: &State,
    call: &Call,
    request: pb::ResendInvitationRequest,
) -> Result<pb::ResendInvitationResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::INVITATIONS_WRITE, &Node::Org)?;
    acting.may_send_code()?;
    let invitation_id = invitation_id(&request.invitation_id)?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        let org = tx.lock_org().await?;
        let found = db::orgs::invitations::find(&mut *tx, acting.org_id, invitation_id).await?;
        let invitation = found.ok_or_else(|| Error::not_found("invitation", invitation_id))?;
        // The sender must be allowed to pass on the grants. Grants whose role or resource is gone
        // give no rights to any account.
        let grants = invitation.grants()?;
        let rights = grants.iter().map(|(right, _)| right);
        let roles = db::orgs::roles::find_named(&mut *tx, acting.org_id, rights).await?;
        let opened: Vec<_> = grants.into_iter().map(|(right, node)| held(right, node, &roles)).collect();
        acting.may_pass_on(&opened)?;
        let email = invitation.email()?;
        match invitation.state(now) {
            InvitationState::Accepted | InvitationState::Revoked => {
                return Err(Error::not_found("open invitation", invitation_id));
            }
            InvitationState::Expired => refuse_invited(&mut tx, acting.org_id, &email, now).await?,
            InvitationState::Pending => {}
        }
        refuse_member(&mut tx, acting.org_id, &email).await?;
        refuse_too_many(&mut tx, acting.org_id, now).await?;
        let sending = sending(&acting, now);
        db::orgs::invitations::resend(&mut tx, acting.org_id, invitation_id, &sending, now).await?;
        let text = |value: String| Some(value);
        let (before, after) = (invitation.inviter().to_string(), sending.inviter.1.to_string());
        let ends = (invitation.expire_time.event_value(), sending.expire_time.event_value());
        let fields = [
            FieldChange::between("inviter_id", text(before), text(after)),
            FieldChange::between("expire_time", text(ends.0), text(ends.1)),
        ];
        let fields = fields.into_iter().flatten().collect();
        let change = change("invitation.resent", invitation_id, fields);
        tx.record(change).await?;
        let invitation = send(state, &acting, &mut tx, &org, invitation_id).await?;
        tx.commit().await?;
        Ok(pb::ResendInvitationResponse { invitation: Some(shown(&invitation, now)?) })
    })
}

pub async fn revoke_invitation(
    state: &State,
    call: &Call,
    request: pb::RevokeInvitationRequest,
) -> Result<pb::RevokeInvitationResponse> {
    let acting = call.acting_in(state, &request.org_id).await?;
    acting.require(&Permission::INVITATIONS_WRITE, &Node::Org)?;
    let invitation_id = invitation_id(&request.invitation_id)?;

    transact!(state, &acting, |mut tx| {
        let now = tx.now();
        tx.lock_org().await?;
        let found = db::orgs::invitations::find(&mut *tx, acting.org_id, invitation_id).await?;
        let before = found.ok_or_else(|| Error::not_found("invitation", invitation_id))?;
        match before.state(now) {
            InvitationState::Accepted => return Err(Error::not_found("open invitation", invitation_id)),
            InvitationState::Revoked => {
                return Ok(pb::RevokeInvitationResponse { invitation: Some(shown(&before, now)?) });
            }
            InvitationState::Pending | InvitationState::Expired => {}
        }
        db::sign_in::emailed_codes::end_all(&mut tx, acting.org_id, invitation_id.uuid(), End::Revoked, now)
            .await?;
        db::orgs::invitations::revoke(&mut tx, acting.org_id, invitation_id, now).await?;
        let fields = vec![FieldChange::set("revoke_time", now)];
        let change = change("invitation.revoked", invitation_id, fields);
        tx.record(change).await?;
        let after = found_again(&mut tx, acting.org_id, invitation_id).await?;
        tx.commit().await?;
        Ok(pb::RevokeInvitationResponse { invitation: Some(shown(&after, now)?) })
    })
}

fn invitation_id(text: &str) -> Result<InvitationId> {
    InvitationId::parse(text).map_err(|wrong| Error::invalid("invitation_id", wrong.to_string()))
}

/// The sender, the credential used, and the expiry of the new code.
fn sending(acting: &Acting<'_>, now: OffsetDateTime) -> Sending {
    let caller = &acting.caller;
    Sending {
        inviter: (caller.account_home(), caller.account_id()),
        impersonator: caller.actor_id().map(|account_id| (caller.credential_org(), account_id)),
        credential_id: caller.credential_id().uuid(),
        expire_time: now + CodePurpose::Invitation.lifetime(),
    }
}

/// Queues the email with a new code, which replaces the previous code. Returns the invitation as
/// it is afterwards.
async fn send(
    state: &State,
    acting: &Acting<'_>,
    tx: &mut Transaction<'_>,
    org: &Org,
    invitation_id: InvitationId,
) -> Result<Invitation> {
    let invitation = found_again(&mut *tx, acting.org_id, invitation_id).await?;
    // An operator is not a member, and is sent without a name.
    let sender = db::orgs::memberships::find(&mut **tx, acting.org_id, acting.caller.account_id()).await?;
    let recipient = invitation.email()?;
    let new = ToSend {
        org_id: acting.org_id,
        subject_id: invitation_id.uuid(),
        purpose: CodePurpose::Invitation,
        asked: false,
        recipient: &recipient,
        mail: Mail::invitation(org.display_name.clone(), sender.map(|member| member.title)),
    };
    emailed_codes::send(state, tx, new).await?;
    Ok(invitation)
}

async fn found_again(
    tx: &mut PgConnection,
    org_id: OrgId,
    invitation_id: InvitationId,
) -> Result<Invitation> {
    let found = db::orgs::invitations::find(tx, org_id, invitation_id).await?;
    found.ok_or_else(|| Error::internal("an invitation just written is gone"))
}

/// Refuses an address of a member, or one that a deleted account of this org holds. Whether it
/// has an account elsewhere is not revealed.
async fn refuse_member(tx: &mut PgConnection, org_id: OrgId, email: &Email) -> Result<()> {
    let Some((home, account_id)) = db::accounts::find_holder(&mut *tx, email.as_str()).await? else {
        return Ok(());
    };
    if db::orgs::memberships::find(tx, org_id, account_id).await?.is_some() {
        return Err(Error::exists("member", email));
    }
    if home == org_id { Err(Reason::NameHeldByDeletedAccount.into()) } else { Ok(()) }
}

/// Refuses an address with a pending invitation: of two emails, it would be unclear which is
/// valid for what.
async fn refuse_invited(
    tx: &mut PgConnection,
    org_id: OrgId,
    email: &Email,
    now: OffsetDateTime,
) -> Result<()> {
    match db::orgs::invitations::find_pending(tx, org_id, email, now).await? {
        Some(other) => Err(Error::exists("invitation", other.id())),
        None => Ok(()),
    }
}

/// Limits invitations, so that an org cannot be used to send email to arbitrary addresses.
async fn refuse_too_many(tx: &mut PgConnection, org_id: OrgId, now: OffsetDateTime) -> Result<()> {
    let with_this_one = db::orgs::invitations::count_sent(tx, org_id, now).await? + 1;
    Limit::INVITATIONS_OF_ORG.refuse_above(with_this_one)
}

fn change(kind: &'static str, invitation_id: InvitationId, fields: Vec<FieldChange>) -> Change {
    Change::of(kind, [invitation_id]).fields(fields).subjects([invitation_id])
}

fn read_state(state: i32) -> Result<Option<InvitationState>, &'static str> {
    Ok(Some(match pb::InvitationState::try_from(state) {
        Ok(pb::InvitationState::Unspecified) => return Ok(None),
        Ok(pb::InvitationState::Pending) => InvitationState::Pending,
        Ok(pb::InvitationState::Accepted) => InvitationState::Accepted,
        Ok(pb::InvitationState::Revoked) => InvitationState::Revoked,
        Ok(pb::InvitationState::Expired) => InvitationState::Expired,
        Err(_) => return Err("must be a state of an invitation"),
    }))
}

/// The message for an invitation, as returned to callers that may read it.
fn shown(invitation: &Invitation, now: OffsetDateTime) -> Result<pb::Invitation> {
    let state = match invitation.state(now) {
        InvitationState::Pending => pb::InvitationState::Pending,
        InvitationState::Accepted => pb::InvitationState::Accepted,
        InvitationState::Revoked => pb::InvitationState::Revoked,
        InvitationState::Expired => pb::InvitationState::Expired,
    };
    let grants = invitation.grants()?;
    Ok(pb::Invitation {
        id: invitation.id().to_string(),
        org_id: OrgId::from(invitation.org_id).to_string(),
        email: invitation.email.clone(),
        grants: grants.iter().map(|(right, node)| asked(right, node)).collect(),
        state: state.into(),
        inviter_id: invitation.inviter().to_string(),
        create_time: Some(convert::timestamp(invitation.create_time)),
        send_time: Some(convert::timestamp(invitation.send_time)),
        expire_time: Some(convert::timestamp(invitation.expire_time)),
        accept_time: invitation.accept_time.map(convert::timestamp),
        account_id: invitation.accepted_by().map(|id| id.to_string()).unwrap_or_default(),
        revoke_time: invitation.revoke_time.map(convert::timestamp),
    })
}

/// A grant that no account holds: the requested right, and where.
pub fn asked(right: &Right, node: &Node) -> pb::Grant {
    pb::Grant { right: Some(convert::shown_right(right)), resource: node.to_string(), ..Default::default() }
}
