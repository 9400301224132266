//! The org's catalogue: what is returned of a node, and when it can be deleted.

use countersign::db;
use countersign::domain::values::ids::OrgId;
use countersign::domain::values::resources::ResourcePath;
use countersign::grpc::pb;
use prost_types::FieldMask;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Client, TestServer, by_id, grant, refused, token_for, violated};

async fn rename(client: &Client, resource: pb::Resource, mask: &[&str]) -> Result<pb::Resource, Status> {
    let paths: Vec<_> = mask.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(FieldMask { paths });
    let request = pb::UpdateResourceRequest { resource: Some(resource), update_mask, ..Default::default() };
    Ok(client.orgs().update_resource(request).await?.into_inner().resource.unwrap())
}

fn named(path: &str, display_name: &str) -> pb::Resource {
    pb::Resource { path: path.into(), display_name: Some(display_name.into()), ..Default::default() }
}

async fn create(client: &Client, path: &str) -> Result<pb::Resource, Status> {
    let request = pb::CreateResourceRequest { path: path.into(), ..Default::default() };
    Ok(client.orgs().create_resource(request).await?.into_inner().resource.unwrap())
}

async fn delete(client: &Client, path: &str, etag: &str) -> Result<(), Status> {
    let request = pb::DeleteResourceRequest { path: path.into(), etag: etag.into(), ..Default::default() };
    client.orgs().delete_resource(request).await.map(|_| ())
}

async fn restricted(client: &Client, account_id: &str, path: &str) -> Result<String, Status> {
    let request = pb::CreateTokenRequest { resources: vec![path.into()], ..token_for("", account_id) };
    Ok(client.tokens().create_token(request).await?.into_inner().token.unwrap().id)
}

/// What a refused deletion names, sorted.
fn uses(refusal: &Status) -> Vec<(String, String)> {
    let listed = refusal.get_details_precondition_failure().unwrap().violations;
    let mut listed: Vec<_> = listed.into_iter().map(|one| (one.r#type, one.subject)).collect();
    listed.sort();
    listed
}

#[tokio::test]
async fn what_is_shown_of_a_node_changes() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let made = create(&org.owner, "customers/acme").await.unwrap();
    assert_eq!(made.display_name, None);
    let change = pb::Resource { etag: made.etag.clone(), ..named("customers/acme", "Acme") };
    let changed = rename(&org.owner, change.clone(), &[]).await.unwrap();
    assert_eq!(changed.display_name(), "Acme");
    assert_ne!(changed.etag, made.etag);
    refused(rename(&org.owner, change, &[]).await, Code::Aborted, "ETAG_MISMATCH");
    let same = rename(&org.owner, named("customers/acme", "Acme"), &["display_name"]).await.unwrap();
    assert_eq!(same, changed, "nothing changes, the revision included");
    let cleared = rename(&org.owner, pb::Resource { display_name: None, ..changed }, &["display_name"]);
    assert_eq!(cleared.await.unwrap().display_name, None);
    let listed = pb::ListResourcesRequest { parent: "customers/acme".into(), ..Default::default() };
    let listed = org.owner.orgs().list_resources(listed).await.unwrap().into_inner().resources;
    assert_eq!(listed[0].display_name, None);
    let events: i64 = sqlx::query_scalar("select count(*) from events where type = 'resource.updated'")
        .fetch_one(&server.state.db)
        .await
        .unwrap();
    assert_eq!(events, 2);

    for (bad, mask, fields) in [
        (named("", "x"), &[][..], &["resource.path"][..]),
        (named("a/b/c/d/e/f/g/h/i", "x"), &[], &["resource.path"]),
        (named("customers/acme", "x://"), &[], &["resource.display_name"]),
        (named("customers/acme", &"x".repeat(101)), &[], &["resource.display_name"]),
        (named("customers/acme", "x"), &["path"], &["update_mask"]),
        (named("customers/acme", "x"), &["*"], &["update_mask"]),
        (pb::Resource { display_name: None, ..named("A", "") }, &[], &["resource.path", "update_mask"]),
    ] {
        let refusal = refused(rename(&org.owner, bad, mask).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), fields);
    }
    refused(rename(&org.owner, named("nowhere", "x"), &[]).await, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn the_right_is_held_on_the_node_or_above_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["subscriptions/yuno/perimeters/emea", "subscriptions/yuno2"]).await;
    let (_, local) = server.account(&org.id, "local", &[("manager", "subscriptions/yuno")]).await;
    for client in [&local, &local.with_jwt().await] {
        rename(client, named("subscriptions/yuno/perimeters", "Perimeters"), &[]).await.unwrap();
        rename(client, named("subscriptions/yuno", "Yuno"), &[]).await.unwrap();
        // Whether it is there or not: a caller without write access there does not learn it.
        for path in ["subscriptions/yuno2", "subscriptions", "nowhere", "", "A"] {
            let refusal = rename(client, named(path, "x"), &[]).await;
            refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
            let refusal = delete(client, path, "").await;
            refused(refusal, Code::PermissionDenied, "PERMISSION_MISSING");
        }
    }
    delete(&local, "subscriptions/yuno/perimeters/emea", "").await.unwrap();
    // Nothing of another org is read or changed.
    let other = server.org().await;
    refused(delete(&other.owner, "subscriptions/yuno2", "").await, Code::NotFound, "RESOURCE_NOT_FOUND");
    let refusal = rename(&other.owner, named("subscriptions/yuno2", "x"), &[]).await;
    refused(refusal, Code::NotFound, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn a_node_goes_when_nothing_hangs_on_it() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let owner = &org.owner;
    server.resources(&org.id, &["a/b", "a/c", "ab"]).await;
    let (bot, _) = server.account(&org.id, "bot", &[("x.y", "a"), ("x.y", "ab")]).await;
    let token = restricted(owner, &bot.id, "a").await.unwrap();
    restricted(owner, &bot.id, "ab").await.unwrap();
    let in_use =
        |refusal: Result<(), Status>| uses(&refused(refusal, Code::FailedPrecondition, "RESOURCE_IN_USE"));
    let found = in_use(delete(owner, "a", "").await);
    let kinds: Vec<_> = found.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["GRANT", "RESOURCE", "RESOURCE", "TOKEN"]);
    assert!(found[0].1.starts_with("grant_"));
    assert_eq!((found[1].1.as_str(), found[2].1.as_str(), &found[3].1), ("a/b", "a/c", &token));

    // They are deleted one after the other.
    delete(owner, "a/b", "").await.unwrap();
    delete(owner, "a/c", "").await.unwrap();
    assert_eq!(in_use(delete(owner, "a", "").await).len(), 2);
    let request = pb::RevokeAccessRequest {
        account_id: bot.id.clone(),
        grants: vec![grant("x.y", "a")],
        ..Default::default()
    };
    owner.accounts().revoke_access(request).await.unwrap();
    assert_eq!(in_use(delete(owner, "a", "").await), [("TOKEN".to_owned(), token.clone())]);
    // A deactivated account's tokens work again with it: they count. A revoked one never does.
    sqlx::query("update accounts set deactivate_time = now() where name = 'bot'")
        .execute(&server.state.db)
        .await
        .unwrap();
    assert_eq!(in_use(delete(owner, "a", "").await).len(), 1);
    owner.tokens().revoke_token(by_id("", &token)).await.unwrap();
    refused(delete(owner, "a", "7").await, Code::Aborted, "ETAG_MISMATCH");
    delete(owner, "a", "1").await.unwrap();
    refused(delete(owner, "a", "").await, Code::NotFound, "RESOURCE_NOT_FOUND");
    assert_eq!(in_use(delete(owner, "ab", "").await).len(), 2, "what hangs on its neighbour is there");
    // An expired one no longer works, either.
    server.resources(&org.id, &["old"]).await;
    sqlx::query("update accounts set deactivate_time = null").execute(&server.state.db).await.unwrap();
    restricted(owner, &bot.id, "old").await.unwrap();
    assert_eq!(in_use(delete(owner, "old", "").await).len(), 1);
    sqlx::query("update tokens set expire_time = now() - interval '1 s' where resources = '{old}'")
        .execute(&server.state.db)
        .await
        .unwrap();
    delete(owner, "old", "").await.unwrap();

    for bad in ["", "/", "A", "a/", "a/b/c/d/e/f/g/h/i", "*"] {
        let refusal = refused(delete(owner, bad, "").await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(violated(&refusal), ["path"], "{bad:?}");
    }
    let changes: Vec<String> = sqlx::query_scalar(
        "select resource_ids[1] from events where type = 'resource.deleted' order by event_id",
    )
    .fetch_all(&server.state.db)
    .await
    .unwrap();
    assert_eq!(changes, ["a/b", "a/c", "a", "old"]);
}

#[tokio::test]
async fn of_many_uses_those_are_named_that_fit() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    sqlx::query(
        "insert into resources (org_id, path, parent, revision, create_time, update_time)
         select org_id, 'a/n' || n, 'a', 1, now(), now() from orgs, generate_series(1, 150) n where slug = $1",
    )
    .bind(&org.slug)
    .execute(&server.state.db)
    .await
    .unwrap();
    let refusal = refused(delete(&org.owner, "a", "").await, Code::FailedPrecondition, "RESOURCE_IN_USE");
    assert!(refusal.message().contains("100 or more dependents"), "{}", refusal.message());
    assert!(uses(&refusal).len() >= 40, "as many as fit into the headers that clients take");
}

/// A token or a grant on a node is created, or the node is deleted, and never both.
#[tokio::test]
async fn nothing_is_bound_to_a_node_that_goes() {
    let server = TestServer::start().await;
    let org = server.org().await;
    let owner = &org.owner;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let (mut made, mut gone) = (0, 0);
    for n in 0..30 {
        let path = format!("node-{n}");
        create(owner, &path).await.unwrap();
        let (token, deleted) = tokio::join!(restricted(owner, &bot.id, &path), delete(owner, &path, ""));
        match (token, deleted) {
            (Ok(id), Err(status)) => {
                let refusal = refused::<()>(Err(status), Code::FailedPrecondition, "RESOURCE_IN_USE");
                assert_eq!(uses(&refusal), [("TOKEN".to_owned(), id)]);
                made += 1;
            }
            (Err(status), Ok(())) => {
                let refusal = refused::<()>(Err(status), Code::InvalidArgument, "INVALID_FIELD");
                assert_eq!(violated(&refusal), ["resources[0]"]);
                gone += 1;
            }
            both => panic!("{both:?}"),
        }
        let path = format!("other-{n}");
        create(owner, &path).await.unwrap();
        let request = pb::GrantAccessRequest {
            account_id: bot.id.clone(),
            grants: vec![grant("x.y", &path)],
            ..Default::default()
        };
        let (given, deleted) =
            tokio::join!(async { owner.accounts().grant_access(request).await }, delete(owner, &path, ""));
        assert!(given.is_ok() != deleted.is_ok());
    }
    assert_eq!(made + gone, 30);
}

/// The order that the race above may not hit: the token is there, and not committed.
#[tokio::test]
async fn a_deletion_waits_for_a_token_that_is_being_made() {
    let server = TestServer::start().await;
    let org = server.org().await;
    server.resources(&org.id, &["a"]).await;
    let (bot, _) = server.account(&org.id, "bot", &[]).await;
    let token = restricted(&org.owner, &bot.id, "a").await.unwrap();
    // What CreateToken does, half-way: it has locked the node, and its token is not there yet.
    let hide = "update tokens set resources = '{}', display_name = 'half' where resources = '{a}'";
    sqlx::query(hide).execute(&server.state.db).await.unwrap();
    let mut half = server.state.db.begin().await.unwrap();
    // However long a busy machine takes until the deletion waits.
    let unlimited = "set local idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(unlimited).execute(&mut *half).await.unwrap();
    let org_id = OrgId::parse(&org.id).unwrap();
    let path = ResourcePath::parse("a").unwrap();
    let held = db::orgs::resources::hold(&mut half, org_id, &[path]).await.unwrap();
    assert_eq!(held, ["a"]);
    let insert = "update tokens set resources = '{a}' where display_name = 'half'";
    sqlx::query(insert).execute(&mut *half).await.unwrap();
    let owner = org.owner.clone();
    let deletion = tokio::spawn(async move { delete(&owner, "a", "").await });
    // It waits for a lock: then, and only then, the token is committed.
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    while sqlx::query_scalar::<_, i64>(waits).fetch_one(&server.state.db).await.unwrap() == 0 {
        assert!(!deletion.is_finished(), "the deletion did not wait");
        tokio::task::yield_now().await;
    }
    half.commit().await.unwrap();
    let refusal = refused(deletion.await.unwrap(), Code::FailedPrecondition, "RESOURCE_IN_USE");
    assert_eq!(uses(&refusal), [("TOKEN".to_owned(), token)]);
}
