//! Invitations: who is asked to join, who may accept, and what they get.

use std::time::Duration;

use countersign::clock::random;
use countersign::domain::values::ids::{AccountId, TokenId};
use countersign::domain::values::token_string::{TokenString, TokenStringKind};
use countersign::grpc::pb;
use pb::InvitationState::{Accepted, Expired, Pending, Revoked};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::harness::{
    Client, LIMITS, Org, PASSWORD, SmtpServer, TestServer, accept, by_text, claims, grant, hides_secrets,
    invite, reason, refused, sign_up, token_for, until, violated, watch,
};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A duration that no test reaches, so that real time moves nothing across a limit.
const MARGIN: Duration = Duration::from_secs(300);

async fn look(server: &TestServer, code: &str) -> Result<pb::GetInvitationResponse, Status> {
    let request = pb::GetInvitationRequest { code: code.into() };
    Ok(server.anonymous().orgs().get_invitation(request).await?.into_inner())
}

async fn list(client: &Client, org_id: &str, state: pb::InvitationState) -> Vec<pb::Invitation> {
    let request =
        pb::ListInvitationsRequest { org_id: org_id.into(), state: state.into(), ..Default::default() };
    client.orgs().list_invitations(request).await.unwrap().into_inner().invitations
}

async fn get(server: &TestServer, org: &Org, id: &str) -> pb::Invitation {
    let all = list(&server.operator, &org.id, pb::InvitationState::Unspecified).await;
    all.into_iter().find(|invitation| invitation.id == id).unwrap()
}

async fn resend(client: &Client, invitation: &pb::Invitation) -> Result<pb::Invitation, Status> {
    let (org_id, invitation_id) = (invitation.org_id.clone(), invitation.id.clone());
    let request = pb::ResendInvitationRequest { org_id, invitation_id };
    Ok(client.orgs().resend_invitation(request).await?.into_inner().invitation.unwrap())
}

async fn revoke(client: &Client, invitation: &pb::Invitation) -> Result<pb::Invitation, Status> {
    let (org_id, invitation_id) = (invitation.org_id.clone(), invitation.id.clone());
    let request = pb::RevokeInvitationRequest { org_id, invitation_id };
    Ok(client.orgs().revoke_invitation(request).await?.into_inner().invitation.unwrap())
}

async fn code_for(server: &TestServer, email: &str) -> String {
    server.code_for(email).await.unwrap()
}

/// The rights that an account holds in the org, as `right on node`, sorted.
async fn held(server: &TestServer, org: &Org, account_id: &str) -> Vec<String> {
    let filter = Some(pb::list_grants_request::Filter::AccountId(account_id.into()));
    let request = pb::ListGrantsRequest { org_id: org.id.clone(), filter, ..Default::default() };
    let grants = server.operator.accounts().list_grants(request).await.unwrap().into_inner().grants;
    let mut held = named(&grants);
    held.sort();
    held
}

fn named(grants: &[pb::Grant]) -> Vec<String> {
    let right = |grant: &pb::Grant| match grant.right.clone().unwrap() {
        pb::grant::Right::RoleId(role) => role,
        pb::grant::Right::Permission(permission) => permission,
    };
    grants.iter().map(|grant| format!("{} on {}", right(grant), grant.resource)).collect()
}

async fn events(server: &TestServer, id: &str) -> Vec<String> {
    let query = "select type from events where resource_ids @> array[$1] order by event_id";
    sqlx::query_scalar(query).bind(id).fetch_all(&server.state.db).await.unwrap()
}

#[tokio::test]
async fn whoever_has_no_account_signs_up_and_signs_in() {
    let smtp = SmtpServer::start().await;
    let server = TestServer::with_mail(&smtp, LIMITS).await;
    let org = server.org().await;
    server.resources(&org.id, &["customers/acme"]).await;
    let rights = [("auditor", "*"), ("invoices.read", "customers/acme")];
    let invitation = invite(&org.owner, "", "Ann@Example.org", &rights).await.unwrap();
    assert_eq!((invitation.state(), invitation.email.as_str()), (Pending, "ann@example.org"));
    assert_eq!(
        (&invitation.org_id, &invitation.inviter_id, invitation.account_id.as_str()),
        (&org.id, &org.owner_id, "")
    );
    assert_eq!(named(&invitation.grants), ["auditor on *", "invoices.read on customers/acme"]);
    let mail = smtp.mail_to("ann@example.org").await;
    assert!(mail.header("Subject").contains(&org.slug), "{}", mail.header("Subject"));
    let code = mail.code();

    // Reading it does not use it up.
    for _ in 0..2 {
        let shown = look(&server, &code).await.unwrap();
        assert_eq!(
            (shown.org_display_name.as_str(), shown.email.as_str(), shown.needs_sign_up),
            (&*org.slug, "ann@example.org", true)
        );
    }
    // Bad names or a bad password do not use up the code.
    let request = pb::AcceptInvitationRequest { code: code.clone(), ..Default::default() };
    let status = server.anonymous().orgs().accept_invitation(request.clone()).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert_eq!(violated(&status), ["given_name", "family_name", "password"]);
    let bad = pb::AcceptInvitationRequest {
        given_name: "https://evil.example".into(),
        family_name: "x".repeat(101),
        password: "passwordpassword".into(),
        ..request
    };
    let status = server.anonymous().orgs().accept_invitation(bad).await.unwrap_err();
    assert_eq!(violated(&status), ["given_name", "family_name", "password"]);

    let joined = sign_up(&server, &code).await.unwrap();
    let ann = joined.account.unwrap();
    assert_eq!(
        (ann.kind(), ann.state(), &ann.org_id),
        (pb::AccountKind::User, pb::AccountState::Active, &org.id)
    );
    assert_eq!(
        (ann.username.as_str(), ann.title.as_str(), ann.login_enabled),
        ("ann@example.org", "Ann Ruiz", true)
    );
    assert!(joined.dropped_grants.is_empty());
    assert_eq!(held(&server, &org, &ann.id).await, named(&invitation.grants));
    let after = get(&server, &org, &invitation.id).await;
    assert_eq!((after.state(), &after.account_id), (Accepted, &ann.id));
    assert!(after.accept_time.is_some() && after.revoke_time.is_none());
    assert_eq!(events(&server, &invitation.id).await, ["invitation.created", "invitation.accepted"]);
    assert_eq!(events(&server, &ann.id).await, ["invitation.accepted"]);

    let me = server.session("ann@example.org").await.caller().await.unwrap();
    assert_eq!(me.account.unwrap().id, ann.id);
    assert!(me.permissions.contains(&"events.read".to_owned()));
    // Once.
    let status = refused(sign_up(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert!(status.message().contains("used"), "{status:?}");
    refused(look(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    let told: Vec<String> =
        sqlx::query_scalar("select e::text from events e").fetch_all(&server.state.db).await.unwrap();
    told.iter().for_each(|event| hides_secrets(event));
}

#[tokio::test]
async fn whoever_has_an_account_accepts_while_signed_in() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    let bea = server.proved_person(&home.id, "bea@example.org").await;
    let invitation = invite(&org.owner, "", "bea@example.org", &[("manager", "*")]).await.unwrap();
    let code = code_for(&server, "bea@example.org").await;
    assert!(!look(&server, &code).await.unwrap().needs_sign_up);

    // A code is no login.
    refused(accept(&server.anonymous(), &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    refused(accept(&server.client("rubbish"), &code).await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(accept(&server.client(&code), &code).await, Code::Unauthenticated, "TOKEN_INVALID");
    // Nor does it admit any other person.
    server.proved_person(&home.id, "eve@example.org").await;
    let eve = server.session("eve@example.org").await;
    refused(accept(&eve, &code).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
    let bot = server.technical(&home.id, "bot", &[]).await;
    let bot = server.session(&bot.username).await;
    refused(accept(&bot, &code).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
    // A token accepts nothing, whichever account it belongs to.
    for token in [&home.owner, &org.owner, &server.operator] {
        refused(accept(token, &code).await, Code::PermissionDenied, "PERMISSION_MISSING");
    }
    // Nor does a JWT with fewer rights than the account has.
    let session = server.session("bea@example.org").await;
    let narrow = pb::ExchangeTokenRequest { scopes: vec!["x.y".into()], ..Default::default() };
    assert_eq!(reason(&session.tokens().exchange_token(narrow).await.unwrap_err()), "SCOPE_NOT_HELD");
    // What belongs to a sign-up is refused, all at once.
    let more = pb::AcceptInvitationRequest {
        code: code.clone(),
        given_name: "Bea".into(),
        family_name: "Ruiz".into(),
        password: PASSWORD.into(),
    };
    let status = session.orgs().accept_invitation(more).await.unwrap_err();
    assert_eq!(violated(&status), ["given_name", "family_name", "password"]);
    assert_eq!(get(&server, &org, &invitation.id).await.state(), Pending);

    let joined = accept(&session.with_jwt().await, &code).await.unwrap();
    assert_eq!((joined.account.unwrap().id, joined.dropped_grants.len()), (bea.id.clone(), 0));
    assert_eq!(held(&server, &org, &bea.id).await, ["manager on *"]);
    refused(accept(&session, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    // The session acts there, and in its home org it is unchanged.
    let members = pb::ListMembersRequest { org_id: org.id.clone(), ..Default::default() };
    let members = session.orgs().list_members(members).await.unwrap().into_inner().members;
    let listed = members.iter().find(|member| member.account_id == bea.id).unwrap();
    assert_eq!((&listed.home_org_id, listed.title.as_str()), (&home.id, "bea@example.org"));
    let members = pb::ListMembersRequest::default();
    assert_eq!(reason(&session.orgs().list_members(members).await.unwrap_err()), "PERMISSION_MISSING");
    let orgs = server.login("bea@example.org", PASSWORD, None).await.unwrap().orgs;
    assert_eq!(orgs.iter().map(|org| &org.org_id).collect::<Vec<_>>(), [&home.id, &org.id]);
    let exchange = pb::ExchangeTokenRequest { org_id: org.id.clone(), ..Default::default() };
    let jwt = session.tokens().exchange_token(exchange).await.unwrap().into_inner().access_token;
    assert_eq!(
        (&claims(&jwt)["org"], &claims(&jwt)["sub"]),
        (&org.id.as_str().into(), &bea.id.as_str().into())
    );
    let query = "select actor_id, credential_id is not null from events where type = 'invitation.accepted'";
    let (actor, by_credential): (uuid::Uuid, bool) =
        sqlx::query_as(query).fetch_one(&server.state.db).await.unwrap();
    assert_eq!((AccountId::from(actor).to_string(), by_credential), (bea.id, true));
}

#[tokio::test]
async fn a_mailbox_that_was_never_proved_accepts_nothing() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    // A password, and no emailed code: a person who claims an address.
    server.person(&home.id, "claims@example.org", &[]).await;
    invite(&org.owner, "", "claims@example.org", &[("owner", "*")]).await.unwrap();
    let code = code_for(&server, "claims@example.org").await;
    let session = server.session("claims@example.org").await;
    refused(accept(&session, &code).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
    // Proved, and then given another address: that one is not.
    let moved = server.proved_person(&home.id, "before@example.org").await;
    let account =
        pb::Account { id: moved.id.clone(), username: "after@example.org".into(), ..Default::default() };
    let update =
        pb::UpdateAccountRequest { org_id: home.id.clone(), account: Some(account), update_mask: None };
    server.operator.accounts().update_account(update).await.unwrap();
    invite(&org.owner, "", "after@example.org", &[]).await.unwrap();
    let code = code_for(&server, "after@example.org").await;
    let session = server.session("after@example.org").await;
    refused(accept(&session, &code).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
    // A change of the name only leaves it proved.
    let kept = server.proved_person(&home.id, "kept@example.org").await;
    let profile = pb::Profile { given_name: Some("Kit".into()), ..Default::default() };
    let account = pb::Account { id: kept.id.clone(), profile: Some(profile), ..Default::default() };
    let update =
        pb::UpdateAccountRequest { org_id: home.id.clone(), account: Some(account), update_mask: None };
    server.operator.accounts().update_account(update).await.unwrap();
    invite(&org.owner, "", "kept@example.org", &[]).await.unwrap();
    let code = code_for(&server, "kept@example.org").await;
    accept(&server.session("kept@example.org").await, &code).await.unwrap();

    // A person who was created elsewhere and has no password yet may set it by the email of that org first.
    server.user(&home, "new@example.org").await;
    let own = code_for(&server, "new@example.org").await;
    invite(&org.owner, "", "new@example.org", &[]).await.unwrap();
    let code = code_for(&server, "new@example.org").await;
    assert!(look(&server, &code).await.unwrap().needs_sign_up);
    for (wrong, kind) in [(&code, "reset"), (&own, "accept")] {
        let outcome = match kind {
            "reset" => {
                let request = pb::ResetPasswordRequest { code: wrong.clone(), new_password: PASSWORD.into() };
                server.anonymous().accounts().reset_password(request).await.map(drop)
            }
            _ => look(&server, wrong).await.map(drop),
        };
        refused(outcome, Code::Unauthenticated, "TOKEN_INVALID");
    }
    let request = pb::ResetPasswordRequest { code: own, new_password: PASSWORD.into() };
    server.anonymous().accounts().reset_password(request).await.unwrap();
    accept(&server.session("new@example.org").await, &code).await.unwrap();
}

#[tokio::test]
async fn nobody_invites_with_more_than_they_hold() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let role = pb::Role {
        name: "bots".into(),
        permissions: vec!["x.y".into()],
        account_kinds: vec![pb::AccountKind::ServiceAccount.into()],
        ..Default::default()
    };
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    let bots = org.owner.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id;
    let (_, manager) = server.account(&org.id, "manager", &[("manager", "*"), ("x.y", "a")]).await;
    let (_, inviter) = server.account(&org.id, "inviter", &[("invitations.write", "*")]).await;
    for (who, right, node, good) in [
        (&manager, "manager", "*", true),
        (&manager, "x.y", "a/b", true),
        (&manager, "x.y", "*", false),
        (&manager, "owner", "*", false),
        (&manager, "orgs.write", "a", false),
        (&inviter, "member", "*", true),
        (&inviter, "invitations.write", "a", true),
        (&inviter, "invitations.read", "*", false),
        (&inviter, "platform.accounts", "*", false),
    ] {
        let email = format!("{}@example.org", format!("{right}-{node}").replace(['*', '/', '.', '_'], "-"));
        let email = email.replace("-@", "@");
        let outcome = invite(who, "", &email, &[(right, node)]).await;
        match good {
            true => drop(outcome.unwrap()),
            false => drop(refused(outcome, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER")),
        }
    }
    let unknown = "role_00000000000000000000000007";
    let status =
        invite(&org.owner, "", "z@example.org", &[(unknown, "*"), (&bots, "*"), ("x.y", "nowhere")]).await;
    let status = refused(status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&status), ["grants[0].role_id", "grants[1].role_id", "grants[2].resource"]);
    // The sender of the repeat vouches for it, and so must hold the rights.
    let owners = invite(&org.owner, "", "boss@example.org", &[("owner", "*")]).await.unwrap();
    refused(resend(&manager, &owners).await, Code::PermissionDenied, "GRANT_EXCEEDS_CALLER");
    // The system org has no guests.
    let system = server.operator.caller().await.unwrap().org.unwrap().id;
    let status = invite(&server.operator, &system, "boss@example.org", &[]).await;
    assert_eq!(violated(&refused(status, Code::InvalidArgument, "INVALID_FIELD")), ["org_id"]);
}

#[tokio::test]
async fn what_the_sender_lost_meanwhile_is_dropped_and_named() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "gone"]).await;
    let role = |name: &str| {
        let permissions = vec!["x.y".into()];
        let role = Some(pb::Role { name: name.into(), permissions, ..Default::default() });
        pb::CreateRoleRequest { role, ..Default::default() }
    };
    let mut roles = Vec::new();
    for name in ["kept", "gone", "bots"] {
        let made = org.owner.orgs().create_role(role(name)).await.unwrap().into_inner();
        roles.push(made.role.unwrap().id);
    }
    let [kept, gone, bots] = &roles[..] else { unreachable!() };
    let (boss, sender) =
        server.account(&org.id, "boss", &[("manager", "*"), ("x.y", "*"), ("lost.right", "*")]).await;
    let rights = [
        (kept.as_str(), "a"),
        ("lost.right", "*"),
        (gone, "*"),
        ("x.y", "gone"),
        (bots, "*"),
        ("lost.right", "a/b"),
        ("auditor", "a"),
    ];
    let invitation = invite(&sender, "", "ann@example.org", &rights).await.unwrap();
    assert_eq!(invitation.grants.len(), rights.len());

    let take = pb::RevokeAccessRequest {
        account_id: boss.id.clone(),
        grants: vec![grant("lost.right", "*")],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(take).await.unwrap();
    let delete = pb::DeleteRoleRequest { role_id: gone.clone(), ..Default::default() };
    org.owner.orgs().delete_role(delete).await.unwrap();
    let account_kinds = vec![pb::AccountKind::ServiceAccount.into()];
    let narrowed = pb::Role { id: bots.clone(), account_kinds, ..Default::default() };
    let update = pb::UpdateRoleRequest { role: Some(narrowed), ..Default::default() };
    org.owner.orgs().update_role(update).await.unwrap();
    let delete = pb::DeleteResourceRequest { path: "gone".into(), ..Default::default() };
    org.owner.orgs().delete_resource(delete).await.unwrap();

    let joined = sign_up(&server, &code_for(&server, "ann@example.org").await).await.unwrap();
    let (gone, bots) = (format!("{gone} on *"), format!("{bots} on *"));
    assert_eq!(
        named(&joined.dropped_grants),
        ["lost.right on *", &gone, "x.y on gone", &bots, "lost.right on a/b"]
    );
    assert_eq!(
        held(&server, &org, &joined.account.unwrap().id).await,
        ["auditor on a".to_owned(), format!("{kept} on a")]
    );
    let query = "select changes::text from events where type = 'invitation.accepted'";
    let told: String = sqlx::query_scalar(query).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(told.matches("dropped_grants").count(), 5, "{told}");
}

#[tokio::test]
async fn a_sender_who_is_stopped_gives_nothing_and_the_member_still_joins() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let stop = async |kind: &str, account: &pb::Account| {
        let (org_id, account_id) = (account.org_id.clone(), account.id.clone());
        let accounts = || server.operator.accounts();
        match kind {
            "deactivated" => {
                let request = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
                accounts().deactivate_account(request).await.map(drop)
            }
            "deleted" => {
                let revoke = pb::RevokeAccountTokensRequest {
                    org_id: org_id.clone(),
                    account_id: account_id.clone(),
                    ..Default::default()
                };
                server.operator.tokens().revoke_account_tokens(revoke).await.unwrap();
                let request = pb::DeleteAccountRequest { org_id, account_id, ..Default::default() };
                accounts().delete_account(request).await.map(drop)
            }
            "removed" => {
                let request = pb::RemoveMemberRequest { org_id: org.id.clone(), account_id };
                server.operator.orgs().remove_member(request).await.map(drop)
            }
            _ => {
                let request = pb::SuspendOrgRequest { org_id, ..Default::default() };
                server.operator.orgs().suspend_org(request).await.map(drop)
            }
        }
        .unwrap();
    };
    for kind in ["", "deactivated", "deleted", "removed", "suspended"] {
        let guest = matches!(kind, "removed" | "suspended");
        let (account, sender) = if guest {
            let account = server.guest(&org.id, &[("manager", "*")]).await;
            let session = server.session(&account.username).await;
            (account, session)
        } else {
            server.account(&org.id, &format!("sender{kind}"), &[("manager", "*")]).await
        };
        let email = format!("by-{kind}@example.org").replace("-@", "@");
        invite(&sender, &org.id, &email, &[("auditor", "*")]).await.unwrap();
        if !kind.is_empty() {
            stop(kind, &account).await;
        }
        let joined = sign_up(&server, &code_for(&server, &email).await).await.unwrap();
        let dropped: &[&str] = if kind.is_empty() { &[] } else { &["auditor on *"] };
        assert_eq!(named(&joined.dropped_grants), dropped, "{kind}");
        let held = held(&server, &org, &joined.account.unwrap().id).await;
        assert_eq!(held.is_empty(), !kind.is_empty(), "{kind}");
    }
    // An operator is no member, and gives what an owner could, for as long as it is an operator.
    invite(&server.operator, &org.id, "boss@example.org", &[("owner", "*")]).await.unwrap();
    let joined = sign_up(&server, &code_for(&server, "boss@example.org").await).await.unwrap();
    assert!(joined.dropped_grants.is_empty());
    let system = server.operator.caller().await.unwrap().org.unwrap().id;
    let (other, operator) = server.account(&system, "second", &[("platform.accounts", "*")]).await;
    invite(&operator, &org.id, "late@example.org", &[("owner", "*")]).await.unwrap();
    let grants = vec![grant("platform.accounts", "*")];
    let take = pb::RevokeAccessRequest { org_id: system, account_id: other.id, grants };
    server.operator.accounts().revoke_access(take).await.unwrap();
    let joined = sign_up(&server, &code_for(&server, "late@example.org").await).await.unwrap();
    assert_eq!(named(&joined.dropped_grants), ["owner on *"]);
}

#[tokio::test]
async fn an_invitation_ends_by_its_time_by_a_newer_one_and_by_revocation() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let operator = &server.operator;
    let ann = invite(operator, &org.id, "ann@example.org", &[]).await.unwrap();
    let first = code_for(&server, "ann@example.org").await;
    // One for one address.
    let other = invite(operator, &org.id, "ANN@example.org", &[("auditor", "*")]).await;
    let status = refused(other, Code::AlreadyExists, "RESOURCE_EXISTS");
    assert!(status.message().contains(&ann.id), "{status:?}");

    server.state.clock.advance(DAY);
    let operator = &server.fresh_operator().await;
    let again = resend(operator, &ann).await.unwrap();
    assert_eq!((&again.id, again.state(), again.create_time), (&ann.id, Pending, ann.create_time));
    assert!(again.send_time.unwrap().seconds > ann.send_time.unwrap().seconds);
    let second = code_for(&server, "ann@example.org").await;
    for outcome in [look(&server, &first).await.map(drop), sign_up(&server, &first).await.map(drop)] {
        let status = refused(outcome, Code::Unauthenticated, "TOKEN_REVOKED");
        assert!(status.message().contains("newer"), "{status:?}");
    }
    let mails = "select count(*) from outbox where recipient = 'ann@example.org'";
    let mails: i64 = sqlx::query_scalar(mails).fetch_one(&server.state.db).await.unwrap();
    assert_eq!(mails, 1, "the mail with the dead link is taken back");

    server.state.clock.advance(DAY * 7 - MARGIN);
    look(&server, &second).await.unwrap();
    server.state.clock.advance(MARGIN);
    let operator = &server.fresh_operator().await;
    refused(look(&server, &second).await, Code::Unauthenticated, "TOKEN_EXPIRED");
    refused(sign_up(&server, &second).await, Code::Unauthenticated, "TOKEN_EXPIRED");
    assert_eq!(list(operator, &org.id, Pending).await, []);
    assert_eq!(list(operator, &org.id, Expired).await[0].id, ann.id);
    // An expired one makes room for another, and is valid again unless that is there.
    let other = invite(operator, &org.id, "ann@example.org", &[]).await.unwrap();
    refused(resend(operator, &ann).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let revoked = revoke(operator, &other).await.unwrap();
    assert!(revoked.state() == Revoked && revoked.revoke_time.is_some());
    assert_eq!(revoke(operator, &other).await.unwrap(), revoked, "once more is no error");
    refused(resend(operator, &other).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    resend(operator, &ann).await.unwrap();
    let third = code_for(&server, "ann@example.org").await;
    let told = ["invitation.created", "invitation.resent", "invitation.resent"];
    assert_eq!(events(&server, &ann.id).await, told);
    sign_up(&server, &third).await.unwrap();
    refused(resend(operator, &ann).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(revoke(operator, &ann).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    refused(invite(operator, &org.id, "ann@example.org", &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");

    // By a caller with the code, without revealing whether it was one.
    let bea = invite(operator, &org.id, "bea@example.org", &[]).await.unwrap();
    let code = code_for(&server, "bea@example.org").await;
    for _ in 0..2 {
        server.anonymous().tokens().revoke_token(by_text(&code)).await.unwrap();
    }
    refused(look(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    assert_eq!(list(operator, &org.id, Revoked).await.len(), 2);
    assert_eq!(events(&server, &bea.id).await, ["invitation.created", "invitation.revoked"]);
}

#[tokio::test]
async fn what_is_no_code_of_an_invitation_is_none() {
    let server = TestServer::start().await;
    let org = server.org().await;
    invite(&org.owner, "", "ann@example.org", &[]).await.unwrap();
    let code = code_for(&server, "ann@example.org").await;
    let id = TokenString::parse(&code).unwrap().id();
    let made = |kind, id| {
        let text = TokenString::new(kind, id, random()).expose().to_owned();
        watch(&text);
        text
    };
    for guess in [
        String::new(),
        "rubbish".into(),
        code[..82].into(),
        format!("{code}0"),
        code.to_uppercase(),
        code.replacen("_inv_", "_rst_", 1),
        made(TokenStringKind::Invitation, id),
        made(TokenStringKind::PasswordCode, id),
        made(TokenStringKind::Session, id),
        made(TokenStringKind::Invitation, server.state.clock.new_id::<TokenId>()),
        org.owner.token().to_owned(),
        "x".repeat(1 << 19),
    ] {
        refused(look(&server, &guess).await, Code::Unauthenticated, "TOKEN_INVALID");
        refused(sign_up(&server, &guess).await, Code::Unauthenticated, "TOKEN_INVALID");
    }
    // A code is no credential.
    let bearer = server.client(code.clone());
    refused(bearer.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
    refused(bearer.exchange().await, Code::Unauthenticated, "TOKEN_INVALID");
    // A caller that guesses has to wait. At once, and again where that took longer than failures count.
    until(async || {
        let mut guesses = JoinSet::new();
        for _ in 0..120 {
            let code = made(TokenStringKind::Invitation, server.state.clock.new_id::<TokenId>());
            let client = server.anonymous();
            let request = pb::GetInvitationRequest { code };
            guesses.spawn(async move { client.orgs().get_invitation(request).await.unwrap_err() });
        }
        guesses.join_all().await.iter().any(|status| reason(status) == "THROTTLED")
    })
    .await;
}

#[tokio::test]
async fn of_many_that_accept_at_once_one_does() {
    let server = TestServer::start().await;
    let org = server.org().await;
    invite(&org.owner, "", "ann@example.org", &[("auditor", "*")]).await.unwrap();
    let code = code_for(&server, "ann@example.org").await;
    let (a, b, c) = tokio::join!(sign_up(&server, &code), sign_up(&server, &code), sign_up(&server, &code));
    let outcomes = [a, b, c];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let lost: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(reason).collect();
    // The code was used, or the address has had an account since: that one has to sign in.
    assert!(
        lost.iter().all(|why| ["TOKEN_REVOKED", "CREDENTIAL_MISSING"].contains(&why.as_str())),
        "{lost:?}"
    );
    let made = "select count(*) from accounts where username = 'ann@example.org'";
    assert_eq!(sqlx::query_scalar::<_, i64>(made).fetch_one(&server.state.db).await.unwrap(), 1);
}

#[tokio::test]
async fn two_orgs_invite_one_person_and_both_get_them() {
    let server = TestServer::start().await;
    let (a, b) = (server.org().await, server.org().await);
    let mut codes = Vec::new();
    for org in [&a, &b] {
        invite(&org.owner, "", "ann@example.org", &[]).await.unwrap();
        codes.push(code_for(&server, "ann@example.org").await);
    }
    // Both led to a sign-up; the second then finds an account.
    let (one, two) = tokio::join!(sign_up(&server, &codes[0]), sign_up(&server, &codes[1]));
    let (rest, lost) = if one.is_ok() { (&codes[1], two) } else { (&codes[0], one) };
    let lost = reason(&lost.unwrap_err());
    assert!(["CREDENTIAL_MISSING", "USE_INVITATION"].contains(&lost.as_str()), "{lost}");
    accept(&server.session("ann@example.org").await, rest).await.unwrap();
    assert_eq!(server.login("ann@example.org", PASSWORD, None).await.unwrap().orgs.len(), 2);
}

#[tokio::test]
async fn an_org_sends_a_hundred_in_a_day() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let mut sent = Vec::new();
    for n in 0..98 {
        sent.push(invite(&org.owner, "", &format!("p{n}@example.org"), &[]).await.unwrap());
    }
    // Those sent again count, and those revoked.
    revoke(&org.owner, &sent[1]).await.unwrap();
    resend(&org.owner, &sent[0]).await.unwrap();
    resend(&org.owner, &sent[0]).await.unwrap();
    let more = invite(&org.owner, "", "more@example.org", &[]).await;
    refused(more, Code::FailedPrecondition, "LIMIT_REACHED");
    refused(resend(&org.owner, &sent[2]).await, Code::FailedPrecondition, "LIMIT_REACHED");
    // Another org sends its own.
    let other = server.org().await;
    invite(&other.owner, "", "more@example.org", &[]).await.unwrap();
    server.state.clock.advance(DAY);
    let operator = server.fresh_operator().await;
    invite(&operator, &org.id, "more@example.org", &[]).await.unwrap();
}

#[tokio::test]
async fn who_is_a_member_is_not_invited_and_who_is_elsewhere_is_not_told_of() {
    let server = TestServer::start().await;
    let (org, other) = (server.org().await, server.org().await);
    let here = server.user(&org, "here@example.org").await;
    server.user(&other, "there@example.org").await;
    let guest = server.guest(&org.id, &[]).await;
    for email in ["here@example.org", &guest.username] {
        refused(invite(&org.owner, "", email, &[]).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    }
    let delete = pb::DeleteAccountRequest { account_id: here.id, ..Default::default() };
    org.owner.accounts().delete_account(delete).await.unwrap();
    let status = invite(&org.owner, "", "here@example.org", &[]).await;
    refused(status, Code::AlreadyExists, "NAME_HELD_BY_DELETED_ACCOUNT");
    let known = invite(&org.owner, "", "there@example.org", &[]).await.unwrap();
    let unknown = invite(&org.owner, "", "nobody@example.org", &[]).await.unwrap();
    assert_eq!((known.state(), known.grants), (unknown.state(), unknown.grants));
    for bad in
        ["", "nobody", "a@b", "a b@example.org", "a@example.org\r\nBcc: b@example.org", &"x".repeat(300)]
    {
        let status = refused(invite(&org.owner, "", bad, &[]).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&status), ["email"], "{bad:?}");
    }
    // A person becomes a member in another way while the email is on its way.
    invite(&org.owner, "", "soon@example.org", &[]).await.unwrap();
    let code = code_for(&server, "soon@example.org").await;
    server.proved_person(&org.id, "soon@example.org").await;
    let session = server.session("soon@example.org").await;
    refused(accept(&session, &code).await, Code::AlreadyExists, "RESOURCE_EXISTS");
}

#[tokio::test]
async fn a_stopped_org_or_account_takes_nobody_in() {
    let server = TestServer::start().await;
    let (home, org) = (server.org().await, server.org().await);
    invite(&org.owner, "", "ann@example.org", &[]).await.unwrap();
    let code = code_for(&server, "ann@example.org").await;
    let suspend = pb::SuspendOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().suspend_org(suspend).await.unwrap();
    refused(look(&server, &code).await, Code::Unauthenticated, "ORG_SUSPENDED");
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "ORG_SUSPENDED");
    let resume = pb::ResumeOrgRequest { org_id: org.id.clone(), ..Default::default() };
    server.operator.orgs().resume_org(resume).await.unwrap();
    sign_up(&server, &code).await.unwrap();

    let bea = server.proved_person(&home.id, "bea@example.org").await;
    invite(&server.operator, &org.id, "bea@example.org", &[]).await.unwrap();
    let code = code_for(&server, "bea@example.org").await;
    let session = server.session("bea@example.org").await;
    let (org_id, account_id) = (home.id.clone(), bea.id.clone());
    let stop = pb::DeactivateAccountRequest { org_id, account_id, ..Default::default() };
    server.operator.accounts().deactivate_account(stop).await.unwrap();
    assert!(accept(&session, &code).await.is_err());
    let delete = pb::DeleteAccountRequest {
        org_id: home.id.clone(),
        account_id: bea.id.clone(),
        ..Default::default()
    };
    server.operator.accounts().delete_account(delete).await.unwrap();
    assert!(accept(&session, &code).await.is_err());
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
}

#[tokio::test]
async fn a_guest_leaves_comes_back_and_ends_with_the_account_at_home() {
    let server = TestServer::start().await;
    let node = server.beside(LIMITS).await;
    let org = server.org().await;
    let guest = server.guest(&org.id, &[("invoices.read", "*")]).await;
    let session = server.session(&guest.username).await;
    let there = |client: &Client| {
        let client = client.clone();
        let request = pb::ExchangeTokenRequest { org_id: org.id.clone(), ..Default::default() };
        async move { client.tokens().exchange_token(request).await.map(|answer| answer.into_inner().access_token) }
    };
    let version = |jwt: &str| claims(jwt)["acct_ver"].as_i64().unwrap();
    let before = there(&session).await.unwrap();
    let remove = pb::RemoveMemberRequest { org_id: org.id.clone(), account_id: guest.id.clone() };
    org.owner.orgs().remove_member(remove).await.unwrap();
    refused(there(&session).await, Code::NotFound, "RESOURCE_NOT_FOUND");

    invite(&org.owner, "", &guest.username, &[("invoices.write", "*")]).await.unwrap();
    accept(&session, &code_for(&server, &guest.username).await).await.unwrap();
    let after = there(&session).await.unwrap();
    assert!(version(&after) > version(&before), "what was stale stays so");
    assert_eq!(held(&server, &org, &guest.id).await, ["invoices.write on *"]);
    assert_eq!(claims(&after)["scope"], "invoices.write");
    refused(server.client(&before).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");

    // Rights of a guest are given and revoked like those of every account.
    let account_id = guest.id.clone();
    let give = pb::GrantAccessRequest { account_id, grants: vec![grant("owner", "*")], ..Default::default() };
    assert_eq!(org.owner.accounts().grant_access(give).await.unwrap().into_inner().account_grants.len(), 1);
    let account_id = guest.id.clone();
    let take =
        pb::RevokeAccessRequest { account_id, grants: vec![grant("owner", "*")], ..Default::default() };
    assert_eq!(org.owner.accounts().revoke_access(take).await.unwrap().into_inner().account_grants.len(), 1);
    let account_id = guest.id.clone();
    let could = pb::ListGrantableAccessRequest { account_id, ..Default::default() };
    assert!(!org.owner.accounts().list_grantable_access(could).await.unwrap().into_inner().roles.is_empty());
    // Settings of the home org are read there.
    let get = pb::GetAccountRequest { account_id: guest.id.clone(), ..Default::default() };
    refused(org.owner.accounts().get_account(get).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    // `GetCaller` in this org.
    refused(server.client(&after).caller().await, Code::Unauthenticated, "ACCESS_TOKEN_STALE");
    let after = there(&session).await.unwrap();
    let me = server.client(&after).caller().await.unwrap();
    assert_eq!((me.account.unwrap().id, me.org.unwrap().id), (guest.id.clone(), org.id.clone()));
    let get = pb::GetAccountRequest { org_id: org.id.clone(), account_id: guest.id.clone() };
    let own = session.accounts().get_account(get).await.unwrap().into_inner().account.unwrap();
    assert_eq!((own.id, own.org_id), (guest.id.clone(), guest.org_id.clone()));
    // Its tokens would be a user's, which no one creates here.
    let token = org.owner.tokens().create_token(token_for(&org.id, &guest.id)).await;
    refused(token, Code::InvalidArgument, "TARGET_NOT_SERVICE_ACCOUNT");

    // Removed in the home org, at once and on all nodes; and for good when it is purged.
    let on_node = node.client(session.token());
    there(&on_node).await.unwrap();
    let delete = pb::DeleteAccountRequest {
        org_id: guest.org_id.clone(),
        account_id: guest.id.clone(),
        ..Default::default()
    };
    server.operator.accounts().delete_account(delete).await.unwrap();
    assert!(there(&session).await.is_err());
    node.hear().await;
    assert!(there(&on_node).await.is_err());
    refused(node.client(&after).caller().await, Code::Unauthenticated, "TOKEN_REVOKED");
    server.state.clock.advance(DAY * 30 + MARGIN);
    assert_eq!(countersign::jobs::purge(&server.state).await.unwrap(), 1);
    let operator = server.fresh_operator().await;
    let members = pb::ListMembersRequest { org_id: org.id.clone(), ..Default::default() };
    let members = operator.orgs().list_members(members).await.unwrap().into_inner().members;
    assert!(members.iter().all(|member| member.account_id != guest.id));
    let told = events(&server, &guest.id).await;
    let removed = told.iter().filter(|kind| *kind == "member.removed").count();
    assert!(removed == 2 && told.contains(&"account.purged".to_owned()), "{told:?}");
}

#[tokio::test]
async fn an_invitation_is_made_once_for_one_request_and_swept_when_it_is_old() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let request = pb::CreateInvitationRequest {
        request_id: "0190f3c2-7b2a-7c3e-8d4f-5a6b7c8d9eaf".into(),
        email: "ann@example.org".into(),
        ..Default::default()
    };
    let make = async |request: &pb::CreateInvitationRequest| {
        org.owner.orgs().create_invitation(request.clone()).await.map(|answer| answer.into_inner())
    };
    let first = make(&request).await.unwrap();
    assert_eq!(make(&request).await.unwrap(), first);
    let other = pb::CreateInvitationRequest { email: "bea@example.org".into(), ..request.clone() };
    refused(make(&other).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    server.state.clock.advance(DAY * 97 - MARGIN);
    let sweep = async || {
        countersign::db::sweep::sweep(&server.state.db, server.state.clock.now()).await.unwrap();
        let query = "select count(*) from invitations";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&server.state.db).await.unwrap()
    };
    assert_eq!(sweep().await, 1);
    server.state.clock.advance(MARGIN * 2);
    assert_eq!(sweep().await, 0);
}

#[tokio::test]
async fn what_a_stolen_token_has_sent_is_accepted_by_nobody() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (_, stolen) = server.account(&org.id, "stolen", &[("manager", "*")]).await;
    let invitation = invite(&stolen, "", "thief@example.org", &[("auditor", "*")]).await.unwrap();
    let code = code_for(&server, "thief@example.org").await;
    look(&server, &code).await.unwrap();
    let revoke =
        pb::RevokeTokenRequest { reason: pb::RevokeReason::KeyCompromise.into(), ..by_text(stolen.token()) };
    server.anonymous().tokens().revoke_token(revoke).await.unwrap();
    refused(look(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
    // It was revoked with the token. With another token an invitation is meant.
    refused(resend(&org.owner, &invitation).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    invite(&org.owner, "", "thief@example.org", &[("auditor", "*")]).await.unwrap();
    let joined = sign_up(&server, &code_for(&server, "thief@example.org").await).await.unwrap();
    assert!(joined.dropped_grants.is_empty());
}

#[tokio::test]
async fn whoever_impersonates_stands_behind_what_is_sent_so() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, _) = server.account(&org.id, "bot", &[("manager", "*")]).await;
    let (boss, client) = server.account(&org.id, "boss", &[("owner", "*")]).await;
    let acting = client.impersonating(&bot.id).await;
    for email in ["ann@example.org", "bea@example.org"] {
        let invitation = invite(&acting, "", email, &[("auditor", "*")]).await.unwrap();
        assert_eq!(invitation.inviter_id, bot.id);
    }
    let joined = sign_up(&server, &code_for(&server, "ann@example.org").await).await.unwrap();
    assert!(joined.dropped_grants.is_empty());
    let take = pb::RevokeAccessRequest {
        account_id: boss.id.clone(),
        grants: vec![grant("owner", "*")],
        ..Default::default()
    };
    org.owner.accounts().revoke_access(take).await.unwrap();
    let joined = sign_up(&server, &code_for(&server, "bea@example.org").await).await.unwrap();
    assert_eq!(named(&joined.dropped_grants), ["auditor on *"]);
}
