//! `external_id`, the fields of `CreateUser`, lists of what changed, and etags of deletes.

use std::time::Duration;

use countersign::grpc::pb;
use prost_types::Timestamp;
use tonic::Code;

use crate::contract::proto::{messages, rpcs};
use crate::harness::{LIMITS, TestServer, refused, violated};

#[tokio::test]
async fn a_user_has_what_it_is_created_with() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let links = [("dropzone".to_owned(), pb::AccountLink { enabled: true, slug: "ann".into() })];
    let create = |email: &str, external_id: &str| pb::CreateUserRequest {
        email: email.into(),
        external_id: external_id.into(),
        description: "the boss".into(),
        contact_email: "office@example.org".into(),
        settings: Some(pb::AccountSettings { links: links.clone().into(), ..Default::default() }),
        suppress_email: true,
        ..Default::default()
    };
    let made = org.owner.accounts().create_user(create("ann@example.org", "00u1")).await;
    let user = made.unwrap().into_inner().account.unwrap();
    assert_eq!(user.external_id.as_deref(), Some("00u1"));
    assert_eq!((user.description(), user.contact_email()), ("the boss", "office@example.org"));
    assert_eq!(user.settings.unwrap().links["dropzone"].slug, "ann");
    assert_eq!(user.state, i32::from(pb::AccountState::Invited));
    assert_eq!(server.code_for("ann@example.org").await, None);
    let find =
        |external_id: &str| pb::ListAccountsRequest { external_id: external_id.into(), ..Default::default() };
    let found = org.owner.accounts().list_accounts(find("00u1")).await.unwrap().into_inner();
    assert_eq!(found.accounts.iter().map(|account| &account.id).collect::<Vec<_>>(), [&user.id]);
    assert!(org.owner.accounts().list_accounts(find("00u")).await.unwrap().into_inner().accounts.is_empty());
    // It is the org's own, and unique there, also while a deleted account has it.
    let twice = create("bea@example.org", "00u1");
    let twice = pb::CreateUserRequest { settings: None, ..twice };
    refused(org.owner.accounts().create_user(twice.clone()).await, Code::AlreadyExists, "RESOURCE_EXISTS");
    let other = server.org().await;
    other.owner.accounts().create_user(twice.clone()).await.unwrap();
    let delete = |etag: &str| pb::DeleteAccountRequest {
        account_id: user.id.clone(),
        etag: etag.into(),
        ..Default::default()
    };
    refused(org.owner.accounts().delete_account(delete("0")).await, Code::Aborted, "ETAG_MISMATCH");
    org.owner.accounts().delete_account(delete(&user.etag)).await.unwrap();
    let again = pb::CreateUserRequest { email: "cleo@example.org".into(), ..twice };
    refused(
        org.owner.accounts().create_user(again).await,
        Code::AlreadyExists,
        "NAME_HELD_BY_DELETED_ACCOUNT",
    );
}

#[tokio::test]
async fn an_external_id_changes_only_by_permission() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let (bot, client) = server.account(&org.id, "bot", &[]).await;
    let set = |external_id: &str| pb::UpdateAccountRequest {
        account: Some(pb::Account {
            id: bot.id.clone(),
            external_id: Some(external_id.into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    refused(client.accounts().update_account(set("x")).await, Code::PermissionDenied, "PERMISSION_MISSING");
    let changed = org.owner.accounts().update_account(set("x")).await.unwrap().into_inner().account.unwrap();
    assert_eq!(changed.external_id.as_deref(), Some("x"));
    for wrong in ["a b".to_owned(), "é".into(), "x".repeat(256)] {
        let status = refused(
            org.owner.accounts().update_account(set(&wrong)).await,
            Code::InvalidArgument,
            "INVALID_FIELD",
        );
        assert_eq!(violated(&status), ["account.external_id"]);
    }
    let cleared = org.owner.accounts().update_account(set("")).await.unwrap().into_inner().account.unwrap();
    assert_eq!(cleared.external_id, None);
    // A clone has none.
    org.owner.accounts().update_account(set("x")).await.unwrap();
    let clone =
        pb::CloneAccountRequest { account_id: bot.id.clone(), name: "clone".into(), ..Default::default() };
    let clone = org.owner.accounts().clone_account(clone).await.unwrap().into_inner().account.unwrap();
    assert_eq!(clone.external_id, None);
}

#[tokio::test]
async fn what_changed_since_a_time_comes_in_the_order_of_the_changes() {
    let server = TestServer::at_standing_time(LIMITS).await;
    let org = server.org().await;
    let mut bots = Vec::new();
    for n in 0..4 {
        bots.push(server.account(&org.id, &format!("bot-{n}"), &[]).await.0);
    }
    let second = || server.state.clock.advance(Duration::from_secs(1));
    second();
    let since = server.state.clock.now();
    let owner = server.client(org.owner.token());
    for bot in [&bots[2], &bots[0]] {
        let account =
            pb::Account { id: bot.id.clone(), description: Some("new".into()), ..Default::default() };
        let request = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
        owner.accounts().update_account(request).await.unwrap();
        second();
    }
    let revoke = pb::RevokeAccountTokensRequest { account_id: bots[3].id.clone(), ..Default::default() };
    owner.tokens().revoke_account_tokens(revoke).await.unwrap();
    let delete = pb::DeleteAccountRequest { account_id: bots[3].id.clone(), ..Default::default() };
    owner.accounts().delete_account(delete).await.unwrap();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAccountsRequest {
            updated_since: Some(Timestamp {
                seconds: since.unix_timestamp(),
                nanos: since.nanosecond() as i32,
            }),
            page_size: 1,
            page_token,
            ..Default::default()
        };
        let page = owner.accounts().list_accounts(request).await.unwrap().into_inner();
        assert_eq!(page.total_size, Some(3));
        seen.extend(page.accounts.into_iter().map(|account| account.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    // The deleted one is among them.
    assert_eq!(seen, [&bots[2], &bots[0], &bots[3]].map(|bot| bot.id.clone()));
}

/// By the descriptor: each RPC that deletes takes the revision that the caller saw.
#[test]
fn every_delete_takes_an_etag() {
    let deletes: Vec<_> = rpcs().into_iter().filter(|rpc| rpc.contains("/Delete")).collect();
    assert!(deletes.len() >= 4);
    for rpc in deletes {
        let (request, _) = messages(&rpc);
        assert!(request.field.iter().any(|field| field.name() == "etag"), "{rpc} takes no etag");
    }
}

#[tokio::test]
async fn an_org_is_deleted_at_the_revision_that_was_seen() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let delete =
        |etag: &str| pb::DeleteOrgRequest { org_id: org.id.clone(), etag: etag.into(), ..Default::default() };
    refused(server.operator.orgs().delete_org(delete("0")).await, Code::Aborted, "ETAG_MISMATCH");
    let get = pb::GetOrgRequest { org_id: org.id.clone() };
    let etag = server.operator.orgs().get_org(get).await.unwrap().into_inner().org.unwrap().etag;
    server.operator.orgs().delete_org(delete(&etag)).await.unwrap();
}
