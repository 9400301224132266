//! Pages of lists: complete and counted. What page tokens are good for is walked over all
//! lists in `list_walk.rs`.

use countersign::grpc::pb;
use tonic::Status;

use crate::harness::{Client, TestServer};

async fn page(client: &Client, page_size: i32, page_token: &str) -> Result<pb::ListAccountsResponse, Status> {
    let request = pb::ListAccountsRequest { page_size, page_token: page_token.into(), ..Default::default() };
    Ok(client.accounts().list_accounts(request).await?.into_inner())
}

#[tokio::test]
async fn pages_neither_skip_nor_repeat_while_rows_are_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for n in 0..5 {
        server.account(&org.id, &format!("bot-{n}"), &[]).await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let answer = page(&org.owner, 2, &token).await.unwrap();
        assert!(answer.accounts.len() <= 2);
        names.extend(answer.accounts.into_iter().map(|account| account.name));
        if answer.next_page_token.is_empty() {
            break;
        }
        token = answer.next_page_token;
        if names.len() < 6 {
            server.account(&org.id, &format!("late-{}", names.len()), &[]).await;
        }
    }
    assert_eq!(names, ["root", "bot-0", "bot-1", "bot-2", "bot-3", "bot-4", "late-2", "late-4"]);
    let all = page(&org.owner, 0, "").await.unwrap();
    assert_eq!((all.total_size, all.next_page_token.as_str()), (Some(8), ""));
}

#[tokio::test]
async fn the_other_lists_have_pages_too() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.org().await;
    server.resources(&org.id, &["a", "b"]).await;
    server.account(&org.id, "bot", &[("x.y", "*"), ("x.y", "a"), ("x.z", "b")]).await;

    let list = |page_token: String| pb::ListOrgsRequest { page_size: 1, page_token };
    let first = server.operator.orgs().list_orgs(list(String::new())).await.unwrap().into_inner();
    assert_eq!((first.orgs[0].slug.as_str(), first.total_size), ("system", Some(3)));
    let second = server.operator.orgs().list_orgs(list(first.next_page_token)).await.unwrap().into_inner();
    assert_eq!(second.orgs[0].id, org.id);
    let own = org.owner.orgs().list_orgs(list(String::new())).await.unwrap().into_inner();
    assert_eq!(
        (own.orgs.len(), own.next_page_token.as_str(), own.orgs[0].id.as_str()),
        (1, "", org.id.as_str())
    );

    let filter = Some(pb::list_grants_request::Filter::Resource("*".into()));
    let list = |page_token: String| pb::ListGrantsRequest {
        page_size: 1,
        page_token,
        filter: filter.clone(),
        ..Default::default()
    };
    let first = org.owner.accounts().list_grants(list(String::new())).await.unwrap().into_inner();
    let second = org.owner.accounts().list_grants(list(first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((first.total_size, second.next_page_token.as_str()), (Some(2), ""));
    assert_ne!(first.grants, second.grants);

    let list = |page_token: String| pb::ListTokensRequest { page_size: 1, page_token, ..Default::default() };
    let first = org.owner.tokens().list_tokens(list(String::new())).await.unwrap().into_inner();
    let second = org.owner.tokens().list_tokens(list(first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((first.total_size, second.tokens.len()), (Some(2), 1));
}
