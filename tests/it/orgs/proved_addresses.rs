//! Addresses that an account claims and never proved: they give way to an invitation that proves them.

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{
    Client, Org, PASSWORD, TestServer, accept, create_org, invite, refused, sign_up, watch,
};

const ANN: &str = "ann@example.org";

async fn look(server: &TestServer, code: &str) -> pb::GetInvitationResponse {
    let request = pb::GetInvitationRequest { code: code.into() };
    server.anonymous().orgs().get_invitation(request).await.unwrap().into_inner()
}

async fn create(by: &Client, email: &str) -> Result<pb::Account, Status> {
    let request = pb::CreateUserRequest { email: email.into(), ..Default::default() };
    Ok(by.accounts().create_user(request).await?.into_inner().account.unwrap())
}

async fn delete(by: &Client, account_id: &str) {
    let request = pb::DeleteAccountRequest { account_id: account_id.into(), ..Default::default() };
    by.accounts().delete_account(request).await.unwrap();
}

async fn state(org: &Org, account_id: &str) -> Result<pb::AccountState, Status> {
    let request = pb::GetAccountRequest { account_id: account_id.into(), ..Default::default() };
    Ok(org.owner.accounts().get_account(request).await?.into_inner().account.unwrap().state())
}

/// The code of the invitation, which is not the newest email to the address.
async fn invited(server: &TestServer, org: &Org, email: &str) -> String {
    invite(&org.owner, "", email, &[("auditor", "*")]).await.unwrap();
    server.code_for(email).await.unwrap()
}

async fn lost(org: &Org) -> Vec<pb::Event> {
    let request = pb::ListEventsRequest { r#type: "account.address_lost".into(), ..Default::default() };
    org.owner.orgs().list_events(request).await.unwrap().into_inner().events
}

#[tokio::test]
async fn no_org_keeps_a_person_out_by_an_account_with_their_address() {
    let server = TestServer::start().await;
    // Created; created and deleted; created, with a password that no email has set, and a token.
    for (n, squat) in ["invited", "deleted", "active"].iter().enumerate() {
        let (squatter, host) = (server.org().await, server.org().await);
        let email = format!("victim-{n}@example.org");
        let claimed = create(&squatter.owner, &email).await.unwrap();
        match *squat {
            "deleted" => delete(&squatter.owner, &claimed.id).await,
            "active" => server.give_password(&claimed, PASSWORD).await,
            _ => {}
        }
        let session = match *squat {
            "active" => Some(server.session(&email).await),
            _ => None,
        };
        let code = invited(&server, &host, &email).await;
        assert!(look(&server, &code).await.needs_sign_up, "{squat}");
        // Looking takes nothing.
        assert_eq!(lost(&squatter).await.len(), 0);
        if let Some(session) = &session {
            // The account that claims the address does not accept with its own session.
            refused(accept(session, &code).await, Code::PermissionDenied, "INVITATION_EMAIL_MISMATCH");
        }
        let joined = sign_up(&server, &code).await.unwrap();
        let account = joined.account.unwrap();
        assert_eq!((account.org_id.as_str(), joined.dropped_grants.len()), (host.id.as_str(), 0), "{squat}");

        // Gone from the other org, at once and entirely.
        refused(state(&squatter, &claimed.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
        let undelete = pb::UndeleteAccountRequest { account_id: claimed.id.clone(), ..Default::default() };
        refused(
            squatter.owner.accounts().undelete_account(undelete).await,
            Code::NotFound,
            "RESOURCE_NOT_FOUND",
        );
        if let Some(session) = session {
            refused(session.caller().await, Code::Unauthenticated, "TOKEN_INVALID");
        }
        // Its log says that the address is lost, and not to whom, or from where.
        let events = lost(&squatter).await;
        let [event] = &events[..] else { panic!("{squat}: {events:?}") };
        assert_eq!(event.resource_ids, [claimed.id.as_str()]);
        assert_eq!(
            (event.actor_id.as_str(), event.address.as_str(), event.request_id.as_str(), event.operator),
            ("", "", "", false)
        );
        let text = format!("{events:?}");
        assert!(!text.contains(&host.id) && !text.contains(&account.id), "{text}");
        // The person has their account, and the other org may invite it like any other.
        server.session(&email).await.caller().await.unwrap();
        refused(create(&squatter.owner, &email).await, Code::AlreadyExists, "USE_INVITATION");
        let code = invited(&server, &squatter, &email).await;
        assert!(!look(&server, &code).await.needs_sign_up);
        accept(&server.session(&email).await, &code).await.unwrap();
    }
}

#[tokio::test]
async fn a_proved_address_stays_its_accounts() {
    let server = TestServer::start().await;
    let (home, host) = (server.org().await, server.org().await);
    let ann = server.proved_person(&home.id, ANN).await;
    let code = invited(&server, &host, ANN).await;
    assert!(!look(&server, &code).await.needs_sign_up);
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    assert_eq!(state(&home, &ann.id).await.unwrap(), pb::AccountState::Active);
    // Also while it is deleted: it can be undeleted.
    delete(&home.owner, &ann.id).await;
    assert!(!look(&server, &code).await.needs_sign_up);
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    assert_eq!(lost(&home).await.len(), 0);
}

#[tokio::test]
async fn an_account_of_the_org_that_invites_keeps_its_address() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let code = invited(&server, &org, ANN).await;
    create(&org.owner, ANN).await.unwrap();
    assert!(!look(&server, &code).await.needs_sign_up);
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
}

#[tokio::test]
async fn no_org_loses_its_last_owner_to_an_invitation() {
    let server = TestServer::start().await;
    let host = server.org().await;
    let request = pb::CreateOrgRequest {
        owner: Some(pb::create_org_request::Owner::OwnerEmail(ANN.into())),
        ..create_org("young")
    };
    let young = server.operator.orgs().create_org(request).await.unwrap().into_inner();
    let own = server.code_for(ANN).await.unwrap();
    let code = invited(&server, &host, ANN).await;
    assert!(!look(&server, &code).await.needs_sign_up);
    refused(sign_up(&server, &code).await, Code::Unauthenticated, "CREDENTIAL_MISSING");
    // Its way: the password, with the email of its own org, and then the invitation.
    let set = pb::ResetPasswordRequest { code: own, new_password: PASSWORD.into() };
    watch(PASSWORD);
    server.anonymous().accounts().reset_password(set).await.unwrap();
    let joined = accept(&server.session(ANN).await, &code).await.unwrap();
    assert_eq!(joined.account.unwrap().id, young.owner.unwrap().id);
}

#[tokio::test]
async fn of_many_that_accept_at_once_each_has_its_account() {
    let server = TestServer::start().await;
    let (squatter, one, other) = (server.org().await, server.org().await, server.org().await);
    let claimed = create(&squatter.owner, ANN).await.unwrap();
    let codes = [invited(&server, &one, ANN).await, invited(&server, &other, ANN).await];
    let (first, second) = tokio::join!(sign_up(&server, &codes[0]), sign_up(&server, &codes[1]));
    // One of them proves the address; for the other it is proved by then.
    assert_eq!(u8::from(first.is_ok()) + u8::from(second.is_ok()), 1, "{first:?} {second:?}");
    refused(state(&squatter, &claimed.id).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(lost(&squatter).await.len(), 1);
}

#[tokio::test]
async fn a_preview_says_nothing_about_other_orgs() {
    let server = TestServer::start().await;
    let (org, elsewhere) = (server.org().await, server.org().await);
    server.proved_person(&elsewhere.id, "taken@example.org").await;
    let source = create(&org.owner, "source@example.org").await.unwrap();
    let counted = "select (select count(*) from usernames) + (select count(*) from outbox) + (select count(*) from events)";
    let count = async || sqlx::query_scalar::<_, i64>(counted).fetch_one(&server.state.db).await.unwrap();
    let before = count().await;
    let clone = async |email: &str, validate_only| {
        let request = pb::CloneAccountRequest {
            account_id: source.id.clone(),
            email: email.into(),
            validate_only,
            ..Default::default()
        };
        Ok::<_, Status>(org.owner.accounts().clone_account(request).await?.into_inner())
    };
    let [mut taken, mut free] =
        [clone("taken@example.org", true).await.unwrap(), clone("free1@example.org", true).await.unwrap()];
    for response in [&mut taken, &mut free] {
        let account = response.account.as_mut().unwrap();
        account.username.clear();
        account.title.clear();
    }
    assert_eq!(taken, free, "the same whether another org has the address");
    assert_eq!(count().await, before);
    // What is in the org itself is said: it may be read anyway.
    refused(clone("source@example.org", true).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    refused(clone("taken@example.org", false).await, Code::AlreadyExists, "USE_INVITATION");
    // No row of the address is written, not even for as long as the preview takes: another org that
    // creates it meanwhile does not wait.
    let mut tx = server.state.db.begin().await.unwrap();
    sqlx::query("insert into usernames (username, org_id, account_id) select 'free2@example.org', org_id, gen_random_uuid() from orgs limit 1")
        .execute(&mut *tx)
        .await
        .unwrap();
    clone("free2@example.org", true).await.unwrap();
    tx.rollback().await.unwrap();
}

#[tokio::test]
async fn an_org_renames_its_account_at_home_only() {
    let server = TestServer::start().await;
    let host = server.org().await;
    let guest = server.guest(&host.id, &[]).await;
    let home = pb::ListMembersRequest { org_id: guest.org_id.clone(), ..Default::default() };
    let abroad = pb::ListMembersRequest { org_id: host.id.clone(), ..Default::default() };
    let title = async |request: &pb::ListMembersRequest| {
        let members =
            server.operator.orgs().list_members(request.clone()).await.unwrap().into_inner().members;
        members.into_iter().find(|member| member.account_id == guest.id).unwrap().title
    };
    let rename = async |by: &Client, org_id: &str, name: &str| {
        let profile = pb::Profile { display_name: Some(name.into()), ..Default::default() };
        let account = pb::Account { id: guest.id.clone(), profile: Some(profile), ..Default::default() };
        let request =
            pb::UpdateAccountRequest { org_id: org_id.into(), account: Some(account), ..Default::default() };
        by.accounts().update_account(request).await.map(drop)
    };
    let before = title(&abroad).await;
    let owner = server.person(&guest.org_id, "boss@example.org", &[("owner", "*")]).await;
    let boss = server.session(&owner.username).await;
    rename(&boss, "", "Chief of Everything").await.unwrap();
    assert_eq!((title(&home).await, title(&abroad).await), ("Chief of Everything".into(), before));
    // The person names themselves, everywhere; so does an operator, for the deployment.
    rename(&server.session(&guest.username).await, "", "Ann Ruiz").await.unwrap();
    assert_eq!((title(&home).await, title(&abroad).await), ("Ann Ruiz".into(), "Ann Ruiz".into()));
    rename(&server.operator, &guest.org_id, "Ann R.").await.unwrap();
    assert_eq!((title(&home).await, title(&abroad).await), ("Ann R.".into(), "Ann R.".into()));
}

#[tokio::test]
async fn what_a_stolen_session_has_sent_is_accepted_by_nobody() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for ended_before in [false, true] {
        let email = format!("boss-{ended_before}@example.org");
        server.person(&org.id, &email, &[("manager", "*")]).await;
        let session = server.session(&email).await;
        let thief = format!("thief-{ended_before}@example.org");
        invite(&session, "", &thief, &[("auditor", "*")]).await.unwrap();
        let code = server.code_for(&thief).await.unwrap();
        assert!(look(&server, &code).await.needs_sign_up);
        if ended_before {
            session.tokens().logout(pb::LogoutRequest {}).await.unwrap();
            assert!(look(&server, &code).await.needs_sign_up, "a session that merely ended sent it well");
        }
        let revoke = pb::RevokeTokenRequest {
            reason: pb::RevokeReason::KeyCompromise.into(),
            ..crate::harness::by_text(session.token())
        };
        server.anonymous().tokens().revoke_token(revoke).await.unwrap();
        refused(sign_up(&server, &code).await, Code::Unauthenticated, "TOKEN_REVOKED");
        // Where it was meant, another one is sent with another credential.
        invite(&org.owner, "", &thief, &[("auditor", "*")]).await.unwrap();
        sign_up(&server, &server.code_for(&thief).await.unwrap()).await.unwrap();
    }
}
