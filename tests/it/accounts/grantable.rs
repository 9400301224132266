//! `ListGrantableAccess`: what the caller could give, and what is held already.

use std::collections::BTreeMap;

use countersign::grpc::pb;
use tonic::{Code, Status};

use crate::harness::{Client, TestServer, grant, refused, violated};

/// For each thing: held, grantable.
type Answers = BTreeMap<String, (bool, bool)>;

async fn ask(
    client: &Client,
    request: pb::ListGrantableAccessRequest,
) -> Result<(Answers, Answers, Answers), Status> {
    let answer = client.accounts().list_grantable_access(request).await?.into_inner();
    let roles = answer.roles.into_iter().map(|role| (role.name, (role.held, role.grantable)));
    let permissions = answer.permissions.into_iter().map(|one| (one.permission, (one.held, one.grantable)));
    let resources = answer.resources.into_iter().map(|node| (node.path, (node.held, node.grantable)));
    Ok((roles.collect(), permissions.collect(), resources.collect()))
}

fn about(account_id: &str, resource: &str) -> pb::ListGrantableAccessRequest {
    pb::ListGrantableAccessRequest {
        account_id: account_id.into(),
        resource: resource.into(),
        ..Default::default()
    }
}

async fn role(client: &Client, name: &str, permissions: &[&str], kinds: &[pb::AccountKind]) -> String {
    let role = pb::Role {
        name: name.into(),
        permissions: permissions.iter().map(|text| (*text).to_owned()).collect(),
        account_kinds: kinds.iter().map(|kind| *kind as i32).collect(),
        ..Default::default()
    };
    let request = pb::CreateRoleRequest { role: Some(role), ..Default::default() };
    client.orgs().create_role(request).await.unwrap().into_inner().role.unwrap().id
}

async fn give(client: &Client, account_id: &str, right: &str, on: &str) -> Result<(), Status> {
    let grants = vec![grant(right, on)];
    let request = pb::GrantAccessRequest { account_id: account_id.into(), grants, ..Default::default() };
    client.accounts().grant_access(request).await.map(|_| ())
}

#[tokio::test]
async fn it_says_what_is_held_and_what_could_be_given() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "c"]).await;
    let billing = role(&org.owner, "billing", &["invoices.read", "accounts.read"], &[]).await;
    role(&org.owner, "people", &["accounts.read"], &[pb::AccountKind::User]).await;
    let (bot, _) = server.account(&org.id, "bot", &[(&billing, "a"), ("auditor", "*"), ("x.y", "c")]).await;
    let (_, manager) = server.account(&org.id, "boss", &[("manager", "*"), ("invoices.read", "a")]).await;

    let (roles, permissions, resources) = ask(&manager, about(&bot.id, "")).await.unwrap();
    assert_eq!(
        roles,
        Answers::from([
            ("owner".into(), (false, false)),
            ("manager".into(), (false, true)),
            ("auditor".into(), (true, true)),
            ("member".into(), (true, true)),
            ("billing".into(), (false, false)),
            ("people".into(), (false, false)),
        ])
    );
    assert_eq!(permissions["tokens.read"], (true, true));
    assert_eq!(permissions["tokens.write"], (false, true));
    assert_eq!(permissions["orgs.write"], (false, false));
    assert_eq!(permissions["invoices.read"], (false, false), "held on `a` alone, by both");
    assert_eq!(permissions["x.y"], (false, false));
    assert!(!permissions.keys().any(|name| name.starts_with("platform.")));
    assert_eq!(permissions.len(), 17 + 2);
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["a", "a/b", "c"]);
    assert!(resources.values().all(|answer| *answer == (true, true)), "the auditor is one everywhere");

    // On `a` and below it.
    let (roles, permissions, resources) = ask(&manager, about(&bot.id, "a/b")).await.unwrap();
    assert_eq!(roles["billing"], (true, true));
    assert_eq!(roles["people"], (false, false), "not for service accounts");
    assert_eq!(permissions["invoices.read"], (true, true));
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["a/b"]);

    // One yet to be created holds nothing; its kind says which roles are for it.
    let of_kind = |kind: pb::AccountKind| pb::ListGrantableAccessRequest {
        account_kind: kind as i32,
        ..Default::default()
    };
    for (kind, grantable) in [
        (pb::AccountKind::Unspecified, true),
        (pb::AccountKind::User, true),
        (pb::AccountKind::ServiceAccount, false),
    ] {
        let (roles, permissions, _) = ask(&manager, of_kind(kind)).await.unwrap();
        assert_eq!(roles["people"], (false, grantable), "{kind:?}");
        assert!(roles.values().chain(permissions.values()).all(|(held, _)| !held));
    }
    // An owner gives everything but the platform.
    let (roles, permissions, _) = ask(&org.owner, about("", "")).await.unwrap();
    assert!(roles.values().chain(permissions.values()).all(|(_, grantable)| *grantable));
    // In the system org, what is of the platform is listed.
    let (_, permissions, _) = ask(&server.operator, about("", "")).await.unwrap();
    assert_eq!(permissions["platform.accounts"], (false, true));
    let abroad = pb::ListGrantableAccessRequest { org_id: org.id.clone(), ..Default::default() };
    let (_, permissions, _) = ask(&server.operator, abroad).await.unwrap();
    assert!(!permissions.contains_key("platform.accounts"));
}

/// What it says is what `GrantAccess` does.
#[tokio::test]
async fn what_is_called_grantable_is_granted_and_nothing_else() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "c"]).await;
    role(&org.owner, "billing", &["invoices.read", "tokens.read"], &[]).await;
    role(&org.owner, "people", &["accounts.read"], &[pb::AccountKind::User]).await;
    role(&org.owner, "orgs", &["orgs.write"], &[]).await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (_, manager) = server.account(&org.id, "boss", &[("manager", "*"), ("invoices.read", "a")]).await;
    let (_, local) = server.account(&org.id, "local", &[("manager", "a"), ("invoices.read", "a/b")]).await;
    let (_, reader) = server.account(&org.id, "reader", &[("auditor", "*")]).await;
    for (caller, nodes) in [
        (&manager, &["*", "a", "c"][..]),
        (&local, &["a", "a/b"]),
        (&reader, &["*", "a"]),
        (&org.owner, &["*"]),
    ] {
        for node in nodes {
            let answer =
                caller.accounts().list_grantable_access(about(&bot.id, node)).await.unwrap().into_inner();
            let roles = answer.roles.into_iter().map(|role| (role.role_id, role.grantable));
            let permissions = answer.permissions.into_iter().map(|one| (one.permission, one.grantable));
            for (right, grantable) in roles.chain(permissions) {
                let given = give(caller, &bot.id, &right, node).await;
                assert_eq!(given.is_ok(), grantable, "{right} on {node}: {given:?}");
            }
            for resource in answer.resources {
                let given = give(caller, &bot.id, "member", &resource.path).await;
                assert_eq!(given.is_ok(), resource.grantable, "{}: {given:?}", resource.path);
            }
        }
    }
}

#[tokio::test]
async fn it_is_asked_where_one_may_read() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "c"]).await;
    let (bot, member) = server.account(&org.id, "bot", &[("x.y", "*")]).await;
    let (_, local) = server.account(&org.id, "local", &[("manager", "a")]).await;
    let missing = "PERMISSION_MISSING";
    // One's own, too: it lists what one could give, which is nothing.
    refused(ask(&member, about(&bot.id, "")).await, Code::PermissionDenied, missing);
    for node in ["", "*", "c", "nowhere", "A"] {
        refused(ask(&local, about(&bot.id, node)).await, Code::PermissionDenied, missing);
    }
    let (roles, permissions, resources) = ask(&local, about(&bot.id, "a")).await.unwrap();
    assert_eq!((roles["manager"], roles["owner"]), ((false, true), (false, false)));
    assert_eq!(permissions["x.y"], (true, false), "held everywhere, and so here");
    assert_eq!(resources.keys().collect::<Vec<_>>(), ["a", "a/b"]);

    let other = server.org().await;
    for account in [other.owner_id.as_str(), "acct_00000000000000000000000001"] {
        refused(ask(&org.owner, about(account, "")).await, Code::NotFound, "RESOURCE_NOT_FOUND");
    }
    let user = pb::AccountKind::User as i32;
    for (bad, fields) in [
        (about("acct_1", "A"), &["resource", "account_id"][..]),
        (about("", "nowhere"), &["resource"]),
        (pb::ListGrantableAccessRequest { account_kind: 9, ..Default::default() }, &["account_kind"]),
        (pb::ListGrantableAccessRequest { account_kind: user, ..about(&bot.id, "") }, &["account_kind"]),
        (pb::ListGrantableAccessRequest { page_size: -1, ..Default::default() }, &["page_size"]),
        (pb::ListGrantableAccessRequest { page_token: "x".into(), ..Default::default() }, &["page_token"]),
    ] {
        let refusal = refused(ask(&org.owner, bad).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields);
    }
}

#[tokio::test]
async fn it_is_bounded_and_paged() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a/b", "c", "d"]).await;
    let mut found = Vec::new();
    let mut request = pb::ListGrantableAccessRequest { page_size: 3, ..Default::default() };
    loop {
        let page = org.owner.accounts().list_grantable_access(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.total_size, Some(4));
        // Roles and permissions come once.
        let first = request.page_token.is_empty();
        assert_eq!((!page.roles.is_empty(), !page.permissions.is_empty()), (first, first));
        found.extend(page.resources.into_iter().map(|node| node.path));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, ["a", "a/b", "c", "d"]);
    // The place in one list is none in another.
    let other = pb::ListGrantableAccessRequest { resource: "a".into(), ..request };
    refused(ask(&org.owner, other).await, Code::InvalidArgument, "INVALID_FIELD");

    let names = async || {
        let request = pb::ListGrantableAccessRequest::default();
        let answer = org.owner.accounts().list_grantable_access(request).await.unwrap().into_inner();
        let names: Vec<_> = answer.permissions.into_iter().map(|one| one.permission).collect();
        assert!(names.is_sorted());
        (names.len(), answer.more_permissions)
    };
    let insert = async |from: i32, to: i32| {
        sqlx::query(
            "insert into roles (org_id, role_id, name, name_key, permissions, account_kinds, revision, create_time, update_time)
             select org_id, gen_random_uuid(), 'r' || n, 'r' || n, array['x.y' || n], '{}', 1, now(), now()
             from orgs, generate_series($2, $3) n where slug = $1",
        )
        .bind(&org.slug)
        .bind(from)
        .bind(to)
        .execute(&server.state.db)
        .await
        .unwrap();
    };
    insert(1, 1_000).await;
    assert_eq!(names().await, (1_017, false));
    insert(1_001, 1_001).await;
    assert_eq!(names().await, (1_017, true));
}
