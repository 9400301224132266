//! `ListAccounts` in full: kind, state, role and text together, in small and large lists.

use std::collections::BTreeSet;

use countersign::domain::values::ids::{OrgId, RoleId};
use countersign::grpc::pb;
use countersign::jobs::fill_searchable;
use tonic::{Code, Status};

use crate::harness::{Client, Org, TestServer, grant, refused, violated};

type Filter = pb::ListAccountsRequest;

async fn page(client: &Client, filter: &Filter) -> Result<pb::ListAccountsResponse, Status> {
    Ok(client.accounts().list_accounts(filter.clone()).await?.into_inner())
}

/// The names (of users, the usernames) of all that match, which one page holds.
async fn names(client: &Client, filter: Filter) -> Vec<String> {
    let answer = page(client, &filter).await.unwrap();
    assert_eq!(
        (answer.total_size, answer.next_page_token.as_str()),
        (Some(answer.accounts.len() as i32), "")
    );
    let name = |account: pb::Account| if account.name.is_empty() { account.username } else { account.name };
    answer.accounts.into_iter().map(name).collect()
}

fn query(text: &str) -> Filter {
    Filter { query: text.into(), ..Default::default() }
}

async fn create(client: &Client, name: &str, display_name: &str, grants: &[(&str, &str)]) -> pb::Account {
    let request = pb::CreateServiceAccountRequest {
        name: name.into(),
        profile: Some(pb::Profile { display_name: Some(display_name.into()), ..Default::default() }),
        grants: grants.iter().map(|(right, resource)| grant(right, resource)).collect(),
        ..Default::default()
    };
    client.accounts().create_service_account(request).await.unwrap().into_inner().account.unwrap()
}

/// Converts a service account into a user; there is a password where it is `active`.
async fn make_user(server: &TestServer, username: &str, active: bool) {
    let sql = "update accounts set kind = 'USER', name = null, name_key = null,
                      password_time = case when $2 then create_time end
               where username = $1";
    let done = sqlx::query(sql).bind(username).bind(active).execute(&server.state.db).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

#[tokio::test]
async fn text_is_part_of_a_name_whatever_its_case() {
    let server = TestServer::start().await;
    let org = server.org().await;
    create(&org.owner, "Nightly-Sync", "Zoë's 100% Job", &[]).await;
    create(&org.owner, "billing", "Sync of Invoices", &[]).await;
    // Another org's accounts are never found here.
    let other = server.org().await;
    create(&other.owner, "sync", "Zoë", &[]).await;
    let both = ["Nightly-Sync", "billing"];
    for (text, expected) in [
        ("sync", &both[..]),
        ("SYNC", &both),
        ("nightly-sync@", &both[..1]),
        ("ly-sy", &both[..1]),
        ("ZOË'S", &both[..1]),
        ("0% j", &both[..1]),
        ("lling", &both[1..]),
        // One or two characters are a beginning: of a name, of a display name.
        ("b", &both[1..]),
        ("N", &both[..1]),
        ("zo", &both[..1]),
        ("sy", &both[1..]),
        ("yn", &[]),
        // There are no wildcard characters.
        ("%", &[]),
        ("b_lling", &[]),
        ("sync zoë", &[]),
        ("nothing", &[]),
    ] {
        assert_eq!(names(&org.owner, query(text)).await, expected, "{text:?}");
    }
}

#[tokio::test]
async fn an_account_is_found_by_the_names_that_it_has_now() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = create(&org.owner, "before", "Old Title", &[]).await;
    let profile = pb::Profile { display_name: Some("New Label".into()), ..Default::default() };
    let account =
        pb::Account { id: made.id, name: "renamed".into(), profile: Some(profile), ..Default::default() };
    let request = pb::UpdateAccountRequest { account: Some(account), ..Default::default() };
    org.owner.accounts().update_account(request).await.unwrap();
    for (text, expected) in
        [("new label", &["renamed"][..]), ("renam", &["renamed"]), ("old title", &[]), ("re", &["renamed"])]
    {
        assert_eq!(names(&org.owner, query(text)).await, expected, "{text:?}");
    }
    // Its username stays, and is a name that it is found by.
    assert_eq!(names(&org.owner, query("before@")).await, ["renamed"]);
}

#[tokio::test]
async fn filters_hold_together() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b"]).await;
    let (ann, bob, job, old) = (
        create(&org.owner, "ann", "Team One", &[("auditor", "*")]).await,
        create(&org.owner, "bob", "Team One", &[("auditor", "a/b")]).await,
        create(&org.owner, "job", "Team One", &[("auditor", "a"), ("auditor", "*"), ("x.y", "*")]).await,
        create(&org.owner, "old", "Team Two", &[("manager", "*")]).await,
    );
    let gone = create(&org.owner, "gone", "Team One", &[("auditor", "*")]).await;
    make_user(&server, &ann.username, true).await;
    make_user(&server, &bob.username, false).await;
    let stop = pb::DeactivateAccountRequest { account_id: old.id.clone(), ..Default::default() };
    org.owner.accounts().deactivate_account(stop).await.unwrap();
    let delete = pb::DeleteAccountRequest { account_id: gone.id, ..Default::default() };
    org.owner.accounts().delete_account(delete).await.unwrap();

    use pb::AccountKind::{ServiceAccount, Unspecified as AnyKind, User};
    use pb::AccountState::{Active, Deactivated, Deleted, Invited, Unspecified as AnyState};
    let (ann, bob, root) = (ann.username.as_str(), bob.username.as_str(), "root");
    let (job, old) = (job.name.as_str(), old.name.as_str());
    for (kind, state, role_id, text, expected) in [
        (AnyKind, AnyState, "", "", &[root, ann, bob, job, old][..]),
        (User, AnyState, "", "", &[ann, bob]),
        (ServiceAccount, AnyState, "", "", &[root, job, old]),
        (AnyKind, Invited, "", "", &[bob]),
        (AnyKind, Active, "", "", &[root, ann, job]),
        (AnyKind, Deactivated, "", "", &[old]),
        (AnyKind, Deleted, "", "", &["gone"]),
        (User, Deleted, "", "", &[]),
        (ServiceAccount, Active, "", "", &[root, job]),
        // Held wherever, and listed once.
        (AnyKind, AnyState, "auditor", "", &[ann, bob, job]),
        (AnyKind, AnyState, "manager", "", &[old]),
        (AnyKind, AnyState, "owner", "", &[root]),
        (AnyKind, AnyState, "member", "", &[root, ann, bob, job, old]),
        (AnyKind, Deleted, "auditor", "", &["gone"]),
        (AnyKind, AnyState, "", "team", &[ann, bob, job, old]),
        (AnyKind, Deleted, "", "team", &["gone"]),
        (User, Active, "auditor", "team one", &[ann]),
        (User, Active, "auditor", "team two", &[]),
        (User, Active, "manager", "team one", &[]),
        (User, Deactivated, "auditor", "team one", &[]),
        (ServiceAccount, Active, "auditor", "team one", &[job]),
    ] {
        let filter = Filter {
            kind: kind.into(),
            state: state.into(),
            role_id: role_id.into(),
            query: text.into(),
            ..Default::default()
        };
        assert_eq!(names(&org.owner, filter).await, expected, "{kind:?} {state:?} {role_id} {text:?}");
    }
    let unknown = Filter { role_id: RoleId::from_u128(7).to_string(), ..Default::default() };
    assert_eq!(names(&org.owner, unknown).await, [""; 0]);
}

#[tokio::test]
async fn filtered_pages_neither_skip_nor_repeat_while_accounts_are_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    for n in 0..5 {
        create(&org.owner, &format!("bot-{n}"), "Robot", &[("auditor", "*")]).await;
        create(&org.owner, &format!("other-{n}"), "Other", &[]).await;
    }
    let mut filter = Filter { page_size: 2, role_id: "auditor".into(), ..query("robot") };
    let mut seen = Vec::new();
    for late in 0.. {
        let answer = page(&org.owner, &filter).await.unwrap();
        assert_eq!(answer.total_size, Some(5 + late));
        seen.extend(answer.accounts.into_iter().map(|account| account.name));
        filter.page_token = answer.next_page_token;
        if filter.page_token.is_empty() {
            break;
        }
        // One that matches and one that does not.
        create(&org.owner, &format!("late-{late}"), "Robot", &[("auditor", "*")]).await;
        create(&org.owner, &format!("later-{late}"), "Robot", &[]).await;
        if late == 3 {
            break;
        }
    }
    assert_eq!(seen[..5], ["bot-0", "bot-1", "bot-2", "bot-3", "bot-4"]);
    assert!(seen[5..].iter().all(|name| name.starts_with("late-")), "{seen:?}");
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len());
    // The token is only for this filter.
    let mut first = Filter { page_size: 2, ..query("robot") };
    let token = page(&org.owner, &first).await.unwrap().next_page_token;
    first.page_token = token;
    page(&org.owner, &first).await.unwrap();
    for other in [
        Filter { query: "bot-".into(), ..first.clone() },
        Filter { role_id: "auditor".into(), ..first.clone() },
        Filter { kind: pb::AccountKind::ServiceAccount.into(), ..first.clone() },
        Filter { state: pb::AccountState::Active.into(), ..first.clone() },
    ] {
        let refusal = refused(page(&org.owner, &other).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["page_token"]);
    }
}

/// Accounts as a binary wrote them that knew of no search: `count`, of which each holds `auditor`.
async fn old_accounts(server: &TestServer, org: &Org, from: i32, count: i32) {
    let org_id = OrgId::parse(&org.id).unwrap().uuid();
    for sql in [
        "insert into accounts (org_id, account_id, kind, name, name_key, username, display_name, revision,
                               create_time, update_time)
         select $1, ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'SERVICE_ACCOUNT',
                'Bulk-' || n, 'bulk-' || n, 'bulk-' || n || '@example.org', 'Machine ' || n, 1, $4, $4
         from generate_series($2::integer, $2 + $3 - 1) n",
        "insert into memberships (org_id, account_id, home_org_id, title, version, create_time)
         select $1, ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, $1, 'bulk', 1, $4
         from generate_series($2::integer, $2 + $3 - 1) n",
        "insert into grants (org_id, grant_id, account_id, right_id, create_time)
         select $1, ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
                ('ffffffff-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'auditor', $4
         from generate_series($2::integer, $2 + $3 - 1) n",
    ] {
        let query = sqlx::query(sql).bind(org_id).bind(from).bind(count);
        query.bind(server.state.clock.now()).execute(&server.state.db).await.unwrap();
    }
}

/// Walks all pages; gives how many accounts there were, each once and in order.
async fn walk(client: &Client, mut filter: Filter, total: Option<i32>) -> usize {
    let mut ids: Vec<String> = Vec::new();
    filter.page_size = 200;
    loop {
        let answer = page(client, &filter).await.unwrap();
        assert_eq!(answer.total_size, total);
        ids.extend(answer.accounts.into_iter().map(|account| account.id));
        filter.page_token = answer.next_page_token;
        if filter.page_token.is_empty() {
            break;
        }
    }
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    ids.len()
}

#[tokio::test]
async fn long_lists_are_whole_too_and_old_accounts_are_found_before_they_are_filled_in() {
    let server = TestServer::start().await;
    let org = server.org().await;
    old_accounts(&server, &org, 1, 10_000).await;
    let role = || Filter { role_id: "auditor".into(), ..Default::default() };
    let kind = pb::AccountKind::ServiceAccount.into();
    for filled in [false, true] {
        assert_eq!(walk(&org.owner, query("machine 12"), Some(111)).await, 111, "filled: {filled}");
        assert_eq!(walk(&org.owner, query("lk-77"), Some(111)).await, 111, "filled: {filled}");
        let one = Filter { kind, role_id: "auditor".into(), ..query("BULK-7777@") };
        assert_eq!(walk(&org.owner, one, Some(1)).await, 1, "filled: {filled}");
        if !filled {
            // The server's own job does it, too, when it starts and each ten minutes.
            fill_searchable(&server.state).await.unwrap();
            let sql = "select count(*) from accounts where search_text is null or search_pieces is null";
            let left: i64 = sqlx::query_scalar(sql).fetch_one(&server.state.db).await.unwrap();
            assert_eq!(left, 0);
        }
    }
    // Exactly as many as are counted, and one more.
    let total = async |filter: Filter| page(&org.owner, &filter).await.unwrap().total_size;
    assert_eq!(total(query("bulk")).await, Some(10_000));
    assert_eq!(total(role()).await, Some(10_000));
    old_accounts(&server, &org, 10_001, 1).await;
    assert_eq!(walk(&org.owner, query("bulk"), None).await, 10_001);
    for many in [role(), Filter { kind, ..query("bu") }, Filter { kind, ..role() }] {
        assert_eq!(total(many.clone()).await, None);
        // The first page is that of the role, which the first account lacks.
        let first = &page(&org.owner, &Filter { page_size: 1, ..many }).await.unwrap().accounts[0];
        assert_eq!(first.name, "Bulk-1");
    }
    assert_eq!(total(Filter { kind, ..Default::default() }).await, None);
    assert_eq!(walk(&org.owner, Filter { role_id: "owner".into(), ..query("ro") }, Some(1)).await, 1);
}

#[tokio::test]
async fn bad_filters() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let wrong =
        Filter { kind: 7, state: 9, role_id: "a boss".into(), query: "é".repeat(255), ..Default::default() };
    let refusal = refused(page(&org.owner, &wrong).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(violated(&refusal), ["kind", "state", "query", "role_id"]);
    for (filter, field) in [
        (query("a\nb"), "query"),
        (query("\0"), "query"),
        (Filter { role_id: org.id.clone(), ..Default::default() }, "role_id"),
        (Filter { role_id: "invoices.read".into(), ..Default::default() }, "role_id"),
        (Filter { kind: -1, ..Default::default() }, "kind"),
    ] {
        let refusal = refused(page(&org.owner, &filter).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), [field]);
    }
    assert_eq!(names(&org.owner, query(&"é".repeat(254))).await, [""; 0]);
    // The right is checked before any of it.
    let (_, member) = server.account(&org.id, "member", &[]).await;
    refused(page(&member, &wrong).await, Code::PermissionDenied, "PERMISSION_MISSING");
}
